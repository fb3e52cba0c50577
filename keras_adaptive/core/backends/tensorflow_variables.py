"""The value of a variable, or of some of its rows."""

import tensorflow as tf


def raw(variable):
    """The tf.Variable inside a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def read(variable, ids=None):
    variable = raw(variable)
    if ids is None:
        return variable.read_value()
    # By the handle: for a mirrored variable that is the handle of this replica.
    return tf.raw_ops.ResourceGather(resource=variable.handle, indices=ids, dtype=variable.dtype)


def read_in_program(variable, ids=None):
    """As `read`, for a program that XLA compiles.

    On a CPU, XLA makes a slow loop of a gather alone: it takes twice the time of one with arithmetic, and three times
    if the rows are not in the cache. So the rows are divided by 1, which XLA does not know, and which it does not do
    again for every use. No id is the smallest integer.
    """
    value = read(variable, ids)
    if ids is None or not value.dtype.is_floating:
        return value
    one = tf.where(ids[:1] == ids.dtype.min, tf.constant(2.0, value.dtype), tf.constant(1.0, value.dtype))
    return value / tf.reshape(one, (-1, *[1] * (len(variable.shape) - 1)))


def assign(variable, value, ids=None):
    variable = raw(variable)
    if ids is None:
        variable.assign(value)
    else:
        tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=ids, updates=value)
