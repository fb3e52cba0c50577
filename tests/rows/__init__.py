"""The rows of the table of cases, by family."""

from rows import large_batch, lecture, small_state

LECTURE = lecture.ROWS
CATALOGUE: list = [*large_batch.ROWS, *small_state.ROWS]
