"""The rows of the table of cases, by family."""

from rows import lecture, small_state

LECTURE = lecture.ROWS
CATALOGUE: list = [*small_state.ROWS]
