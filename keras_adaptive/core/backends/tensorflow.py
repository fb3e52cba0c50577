"""TensorFlow: sparse gradients, replicas of tf.distribute, and programs that XLA compiles inside the user's graph.

Op by op, an update passes over the memory once per operation; XLA makes one loop of it and writes in place. So the
update is one XLA program: of all variables where one device holds them, of each variable where replicas do (there the
assignment has to go through the strategy, variable by variable). It takes the variables themselves as arguments: with
their values as arguments, the new values would be new buffers. Rows of a table are updated op by op, beside it: they
are few, and a program would be compiled anew for every number of them.
"""

import contextlib

import tensorflow as tf

__all__ = [
    "HAS_ROWS",
    "assign",
    "assign_everywhere",
    "beside",
    "check_context",
    "eigh",
    "is_accelerated",
    "is_sparse",
    "jitted",
    "known_shape",
    "mapped",
    "matmul",
    "max_over_replicas",
    "occurrences",
    "opaque",
    "outside_of_steps",
    "rarely",
    "read",
    "rows_and_values",
    "slot_layout",
    "snapshot",
    "sum_over_replicas",
    "transact",
]

HAS_ROWS = True
opaque = tf.autograph.experimental.do_not_convert


def raw(variable):
    """The tf.Variable inside of a Keras variable."""
    return variable if isinstance(variable, tf.Variable) else variable.value


def read(variable, ids=None):
    variable = raw(variable)
    if ids is None:
        return variable.read_value()
    # By its handle, which of a mirrored variable is that of this replica.
    return tf.raw_ops.ResourceGather(resource=variable.handle, indices=ids, dtype=variable.dtype)


def assign(variable, value, ids=None):
    variable = raw(variable)
    if ids is None:
        variable.assign(value)
    else:
        tf.raw_ops.ResourceScatterUpdate(resource=variable.handle, indices=ids, updates=value)


def is_sparse(gradient):
    return isinstance(gradient, tf.IndexedSlices)


def rows_and_values(gradient):
    return gradient.indices, gradient.values


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
    # Of what is not finite XLA says that it is the identity, and TensorFlow without XLA raises.
    finite = tf.reduce_all(tf.math.is_finite(matrix), axis=(-2, -1), keepdims=True)
    matrix = tf.where(finite, matrix, tf.zeros_like(matrix))
    values, vectors = tf.linalg.eigh(matrix)
    if matrix.dtype == tf.float64:
        # XLA leaves off the diagonal what float32 would not show.
        for _ in range(5):
            vectors = _turned(vectors, tf.matmul(vectors, tf.matmul(matrix, vectors), transpose_a=True))
        values = tf.reduce_sum(vectors * tf.matmul(matrix, vectors), axis=-2)
    nan = tf.constant(float("nan"), matrix.dtype)
    return tf.where(finite[..., 0], values, nan), tf.where(finite, vectors, nan)


def _turned(vectors, rest):
    """Jacobi's rotations, all at once, of vectors in whose basis the matrix is `rest`, which is nearly diagonal."""
    values = tf.linalg.diag_part(rest)
    gaps = values[..., tf.newaxis, :] - values[..., tf.newaxis]
    # Not of what is there by rounding alone.
    turns = tf.abs(rest) > 1e-15 * tf.reduce_max(tf.abs(rest), axis=(-2, -1), keepdims=True)
    cotangent = gaps / (2.0 * tf.where(turns, rest, 1.0))
    tangent = tf.where(turns, tf.sign(cotangent) / (tf.abs(cotangent) + tf.sqrt(1.0 + cotangent**2)), 0.0)
    return tf.linalg.qr(vectors + tf.matmul(vectors, tangent))[0]


def is_accelerated():
    return any(found.device_type != "CPU" for found in tf.config.list_physical_devices())


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
            f"Received: a call from outside of it, under {type(strategy).__name__}"
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


def slot_layout(variable, shape, shard):
    if shard:
        raise ValueError(
            "`shard_state` must be False unless the backend is JAX; it needs a keras.distribution. "
            "Received: shard_state=True"
        )
    return getattr(variable, "_layout", None) if shape == tuple(variable.shape) else None


def rarely(condition, function, usual):
    # On an accelerator the function is part of a pass that there is anyway, and a branch would keep what that reads.
    return function() if is_accelerated() else tf.cond(condition, function, lambda: usual)


def jitted(cache, key, function):
    if key not in cache:
        cache[key] = tf.function(function, jit_compile=True, autograph=False)
    return cache[key]


def transact(transaction, go, gradients, scalars):
    scalars = {name: tf.convert_to_tensor(value) for name, value in scalars.items()}
    variables = [
        {role: raw(variable) for role, variable in transaction.variables(state).items()} for state in transaction.states
    ]
    common = {name: raw(variable) for name, variable in transaction.common.items()}
    if tf.distribute.has_strategy():
        _transact_replicated(transaction, go, gradients, scalars, variables, common)
    else:
        whole, tables = _whole(transaction), transaction.tables(gradients)

        def update(variables, gradients, scalars, common, tables):
            dense = [{} if place in tables else of_one for place, of_one in enumerate(variables)]
            shared = whole(dense, gradients, scalars, common)
            for place, gradient in tables.items():
                _one(transaction, transaction.states[place], compiled=False)(
                    variables[place], gradient, scalars, shared
                )

        _if(go, update, variables, transaction.without_rows(gradients), scalars, common, tables)


def _whole(transaction):
    """The transaction as one function of all variables; it returns what is shared."""

    def whole(variables, gradients, scalars, common):
        old, old_common = [_read(of_one) for of_one in variables], _read(common)
        new, new_common, shared = transaction.all(gradients, scalars, old, old_common)
        for of_one, before, after in zip(variables, old, new, strict=True):
            _assign(of_one, before, after)
        _assign(common, old_common, new_common)
        return shared

    return jitted(transaction.cache, "whole", whole) if transaction.compilable else whole


def _one(transaction, state, compiled):
    """The transaction as a function of one variable, or of the rows of it that have a gradient."""

    def one(variables, gradient, scalars, shared):
        transaction.carry_out(state, transaction.clock(scalars), shared, gradient, variables)

    return jitted(transaction.cache, state.index, one) if compiled else one


def _transact_replicated(transaction, go, gradients, scalars, variables, common):
    old = _read(common)
    tables = transaction.tables(gradients)
    # Only numbers for all variables together are made from all of them, and eagerly each read is a copy.
    values = [_read(of_one) if common else {} for of_one in variables]
    shared, new = transaction.measure(gradients, transaction.clock(scalars), values, old)
    for name, variable in common.items():
        variable.assign(tf.where(go, new[name], old[name]))

    def across_replicas(strategy, go, gradients, scalars, shared):
        def on_one_replica(first, of_one, single, go, gradient, scalars, shared):
            _if(go, single, of_one, gradient, scalars, shared)

        for place, (state, of_one, gradient) in enumerate(zip(transaction.states, variables, gradients, strict=True)):
            single = _one(transaction, state, compiled=transaction.compilable and place not in tables)
            first = next(iter(of_one.values()))
            arguments = (of_one, single, go, gradient, scalars, shared)
            strategy.extended.update(first, on_one_replica, args=arguments, group=False)

    tf.__internal__.distribute.interim.maybe_merge_call(
        across_replicas, tf.distribute.get_strategy(), go, gradients, scalars, shared
    )


def _if(go, function, *arguments):
    """Calls the function, for its assignments, if `go`."""
    if go is True:
        function(*arguments)
    else:
        tf.cond(go, lambda: (function(*arguments), True)[1], lambda: False)


def _read(variables):
    return {role: read(variable) for role, variable in variables.items()}


def _assign(variables, before, after):
    for role, variable in variables.items():
        if after[role] is not before[role]:
            variable.assign(after[role])


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
    """Each replica of the target takes the value of the source beside it; `fit` calls this outside of the strategy."""
    target, source = raw(target), source if tf.is_tensor(source) else raw(source)
    strategy = getattr(target, "distribute_strategy", None) or tf.distribute.get_strategy()

    def assign(a, b):
        a.assign(tf.cast(b if projected is None else projected(tf.convert_to_tensor(b)), a.dtype))

    with strategy.scope():
        strategy.extended.update(target, assign, args=(source,))
