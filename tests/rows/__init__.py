"""The rows of the table of cases, by family."""

from rows import adam_family, large_batch, lecture, matrices, parameter_free, small_state

LECTURE = lecture.ROWS
CATALOGUE = [*adam_family.ROWS, *large_batch.ROWS, *matrices.ROWS, *parameter_free.ROWS, *small_state.ROWS]
