"""Sparse gradients: some rows of a table, in which one row may come several times."""

from keras import ops

from keras_adaptive.core import backends


def combined(gradient, state):
    """The gradient of the whole table; rows that come several times are summed, as the chain rule asks.

    A sorted or unique list of rows would have a length that depends on the data, which XLA cannot compile; a segment
    sum over all rows of the table has not.
    """
    if backends.is_sparse(gradient):
        ids, values = backends.rows_and_values(gradient)
        gradient = ops.segment_sum(values, ids, num_segments=state.shape[0])
    # What TensorFlow sums over replicas or makes dense may have lost its shape, which rules may read.
    return gradient if backends.known_shape(gradient) == state.shape else ops.reshape(gradient, state.shape)


def counts(gradient, state):
    """How often each row of the table occurs in the gradient."""
    ids = backends.occurrences(gradient)
    ones = ops.ones_like(ids, dtype=state.compute_dtype)
    return ops.segment_sum(ones, ids, num_segments=state.shape[0])
