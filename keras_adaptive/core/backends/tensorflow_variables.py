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


def assign(variable, value, ids=None):
    variable = raw(variable)
    if ids is None:
        variable.assign(value)
    else:
        tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=ids, updates=value)
