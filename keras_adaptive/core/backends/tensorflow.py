"""TensorFlow: sparse gradients, replicas of tf.distribute, and what is made and assigned outside of a step."""

import contextlib

import keras
import tensorflow as tf

from keras_adaptive.core.backends.tensorflow_programs import is_accelerated
from keras_adaptive.core.backends.tensorflow_programs import jitted as jitted
from keras_adaptive.core.backends.tensorflow_programs import transact as transact
from keras_adaptive.core.backends.tensorflow_variables import assign as assign
from keras_adaptive.core.backends.tensorflow_variables import raw, read

HAS_ROWS = True
opaque = tf.autograph.experimental.do_not_convert


def is_variable(thing):
    return isinstance(thing, keras.Variable | tf.Variable)


def accepted(gradient):
    """Converts the parts of a `tf.IndexedSlices`, which may be lists or NumPy arrays; makes a SparseTensor dense."""
    if isinstance(gradient, tf.SparseTensor):
        return tf.sparse.to_dense(tf.sparse.reorder(gradient))
    if not is_sparse(gradient):
        return gradient
    parts = gradient.values, gradient.indices, gradient.dense_shape
    if all(part is None or tf.is_tensor(part) for part in parts):
        return gradient
    values, indices, shape = (None if part is None else tf.convert_to_tensor(part) for part in parts)
    return tf.IndexedSlices(values, indices, shape)


def is_sparse(gradient):
    return isinstance(gradient, tf.IndexedSlices)


def fault_of_rows(gradient, shape):
    """What is wrong with the rows of a sparse gradient for this shape; None if nothing is known to be wrong.

    The ids of the rows are known only when the step runs: on a CPU TensorFlow raises for an id beyond the last row, and
    ignores a negative id.
    """
    ids, dense_shape = gradient.indices, gradient.dense_shape
    if not ids.dtype.is_integer or ids.shape.rank not in (None, 1):
        return f"indices of dtype {ids.dtype.name} and shape {ids.shape}, which must be a vector of integers"
    if not gradient.values.shape[:1].is_compatible_with(ids.shape):
        return f"{ids.shape[0]} indices for {gradient.values.shape[0]} rows of values"
    known = None if dense_shape is None else tf.get_static_value(dense_shape)
    if known is not None and tuple(known) != shape:
        return f"the dense_shape {tuple(int(n) for n in known)}"
    return None


def is_symbolic(value):
    is_eager = isinstance(value, tf.__internal__.EagerTensor)
    return isinstance(value, tf.Variable) or (tf.is_tensor(value) and not is_eager)


def rows_and_values(gradient):
    return gradient.indices, gradient.values


# As many lookups as any program updates.
_LENGTHS = [0, *(2**power for power in range(6, 31))]


def lookups(gradient, rows):
    ids, values = gradient.indices, gradient.values
    if not is_accelerated():
        inside = tf.reduce_max(ids) < tf.cast(rows, ids.dtype)
        with tf.control_dependencies([tf.raw_ops.Assert(condition=inside, data=[f"an id is not below {rows}", ids])]):
            ids = tf.identity(ids)
    if ids.shape[0] is not None and not tf.executing_eagerly():
        return ids, values
    length = tf.size(ids)
    added = tf.reduce_min(tf.where(length <= _LENGTHS, _LENGTHS, _LENGTHS[-1])) - length
    ids = tf.concat([ids, tf.repeat(ids[:1], added)], axis=0)
    return ids, tf.pad(values, [[0, added], *[[0, 0]] * (len(values.shape) - 1)])


def occurrences(gradient):
    return gradient.indices if is_sparse(gradient) else None


def known_shape(gradient):
    if is_sparse(gradient):
        row = known_shape(gradient.values)
        return None if row is None else (None, *row[1:])
    shape = tf.TensorShape(gradient.shape)
    return None if shape.rank is None else tuple(shape.as_list())


def mapped(function, gradient):
    if not is_sparse(gradient):
        return function(gradient)
    return tf.IndexedSlices(function(gradient.values), gradient.indices, gradient.dense_shape)


def matmul(a, b):
    return tf.matmul(a, b)


def eigh(matrix):
    # For a matrix that is not finite XLA returns the identity, and TensorFlow without XLA raises.
    finite = tf.reduce_all(tf.math.is_finite(matrix), axis=(-2, -1), keepdims=True)
    matrix = tf.where(finite, matrix, tf.zeros_like(matrix))
    values, vectors = tf.linalg.eigh(matrix)
    if matrix.dtype == tf.float64:
        # XLA stops at float32 precision: what remains off the diagonal is removed here.
        for _ in range(5):
            vectors = _turned(vectors, tf.matmul(vectors, tf.matmul(matrix, vectors), transpose_a=True))
        values = tf.reduce_sum(vectors * tf.matmul(matrix, vectors), axis=-2)
    nan = tf.constant(float("nan"), matrix.dtype)
    return tf.where(finite[..., 0], values, nan), tf.where(finite, vectors, nan)


def _turned(vectors, rest):
    """The vectors after all of Jacobi's rotations at once; in their basis the matrix is `rest`, nearly diagonal."""
    values = tf.linalg.diag_part(rest)
    gaps = values[..., tf.newaxis, :] - values[..., tf.newaxis]
    # Elements that are only rounding errors are not rotated away.
    turns = tf.abs(rest) > 1e-15 * tf.reduce_max(tf.abs(rest), axis=(-2, -1), keepdims=True)
    cotangent = gaps / (2.0 * tf.where(turns, rest, 1.0))
    tangent = tf.where(turns, tf.sign(cotangent) / (tf.abs(cotangent) + tf.sqrt(1.0 + cotangent**2)), 0.0)
    return tf.linalg.qr(vectors + tf.matmul(vectors, tangent))[0]


def is_compiling():
    return False


def multiplies_bfloat16():
    if tf.config.list_logical_devices("TPU"):
        return True
    gpus = tf.config.list_physical_devices("GPU")
    # NVIDIA's devices from the compute capability 8.0 on.
    details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
    return bool(gpus) and all(one.get("compute_capability", (0, 0)) >= (8, 0) for one in details)


def stacks():
    # On a TPU, under its strategy, each variable has a separate program.
    return bool(tf.config.list_physical_devices("GPU"))


def divided(function, *tensors):
    return function(*tensors)


def check_context(optimizer):
    strategy = tf.distribute.get_strategy()
    if strategy is not optimizer._distribution_strategy:
        raise ValueError(
            "The optimizer must be applied under the distribution strategy that it was made under: make it, and "
            "compile the model, inside `strategy.scope()`. "
            f"Received: made under {type(optimizer._distribution_strategy).__name__}, applied under "
            f"{type(strategy).__name__}"
        )
    if tf.distribute.get_replica_context() is None:
        raise ValueError(
            "`apply` must be called by every replica, inside `strategy.run`. "
            f"Received: a call from outside of `strategy.run`, under {type(strategy).__name__}"
        )


def sum_over_replicas(gradients):
    if not tf.distribute.has_strategy() or not gradients:
        return gradients
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)


def max_over_replicas(tensor):
    if not tf.distribute.has_strategy():
        return tensor
    return tf.reduce_max(tf.distribute.get_replica_context().all_gather(tensor[tf.newaxis], axis=0), axis=0)


def beside(variable):
    return tf.distribute.get_strategy().extended.colocate_vars_with(raw(variable))


def building():
    # Otherwise the first values would be part of the graph that `fit` traces, and a replica cannot compute them in
    # `build`.
    return tf.init_scope()


def slot_layout(variable, shape, shard):
    if shard:
        raise ValueError(
            "`shard_state` must be False unless the backend is JAX; it needs a keras.distribution. "
            "Received: shard_state=True"
        )
    return getattr(variable, "_layout", None) if shape == tuple(variable.shape) else None


def rarely(condition, function, usual):
    # On an accelerator the function joins another pass at no cost, and a branch would store the inputs of that pass.
    return function() if is_accelerated() else tf.cond(condition, function, lambda: usual)


def known(condition):
    return bool(condition) if tf.executing_eagerly() else condition


def at_hand(tensor):
    is_eager = isinstance(tensor, tf.__internal__.EagerTensor)
    return tensor.numpy().item() if is_eager and "CPU" in tensor.device else None


def undifferentiated(function):
    return function


def not_compiled(transaction):
    return {}


@contextlib.contextmanager
def outside_of_steps(optimizer):
    with tf.init_scope():
        strategy = optimizer._distribution_strategy
        if tf.distribute.in_cross_replica_context() or not tf.distribute.has_strategy():
            with contextlib.nullcontext() if tf.distribute.get_strategy() is strategy else strategy.scope():
                yield
        else:
            raise ValueError(
                "State cannot be restored inside `strategy.run`: call `optimizer.build(model.trainable_variables)` "
                f"inside `strategy.scope()` first. Received: a call by one replica of {type(strategy).__name__}"
            )


def snapshot(variable):
    return tf.identity(read(variable))


def assign_everywhere(target, source, projected=None):
    """Each replica of the target gets the value of the source on it; `fit` calls this outside of the strategy."""
    target, source = raw(target), source if tf.is_tensor(source) else raw(source)
    strategy = getattr(target, "distribute_strategy", None) or tf.distribute.get_strategy()

    def assign(a, b):
        a.assign(tf.cast(b if projected is None else projected(tf.convert_to_tensor(b)), a.dtype))

    with strategy.scope():
        strategy.extended.update(target, assign, args=(source,))


class _Description(tf.train.experimental.PythonState):
    """A description that tf.train.Checkpoint saves with an optimizer's variables, and reads before it changes them."""

    def __init__(self, describe, check):
        self._describe, self._check = describe, check

    def serialize(self):
        return self._describe()

    def deserialize(self, string_value):
        self._check(string_value)


def describe_in_checkpoints(optimizer, describe, check):
    """Has tf.train.Checkpoint save the bytes `describe()`, and call `check` with them before it restores anything."""
    optimizer.checkpoint_description = _Description(describe, check)
