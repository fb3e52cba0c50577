"""The rows of the table of cases, by family."""

from rows import lecture, parameter_free

LECTURE = lecture.ROWS
CATALOGUE: list = [*parameter_free.ROWS]
