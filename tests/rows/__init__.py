"""The rows of the table of cases, by family."""

from rows import adam_family, lecture, parameter_free

LECTURE = lecture.ROWS
CATALOGUE = [*adam_family.ROWS, *parameter_free.ROWS]
