"""The rows of the table of cases, by family."""

from rows import lecture, matrices

LECTURE = lecture.ROWS
CATALOGUE = [*matrices.ROWS]
