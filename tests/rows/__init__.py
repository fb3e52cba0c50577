"""The rows of the table of cases, by family."""

from rows import lecture

LECTURE = lecture.ROWS
CATALOGUE: list = []
