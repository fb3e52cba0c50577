"""Sparse gradients: some rows of a table, in which one row may come several times."""

from keras import ops

from keras_adaptive.core import backends


def combined(gradient, state):
    """The gradient of the whole table; rows that come several times are summed, as the chain rule asks.

    A sorted or unique list of rows would have a length that depends on the data, which XLA cannot compile; a segment
    sum over all rows of the table has not.
    """
    if not backends.is_sparse(gradient):
        return gradient
    ids, values = backends.rows_and_values(gradient)
    return ops.segment_sum(values, ids, num_segments=state.shape[0])
