"""The TPU compiler without a TPU: an optimizer's update as the program that one chip of a v5e would run.

The package libtpu holds the real compiler and needs no device. Two programs of an update are compiled: the one that
JAX traces from `stateless_apply`, and the one that TensorFlow's XLA bridge makes of the graph of `apply`.
"""

import functools

# What a process is started with. Without the last three the compiler looks for a TPU on the network, locks out every
# other process that loads it, and writes logs beside the system's temporary files.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_LOG_DIR": "disabled",
}


@functools.cache
def device():
    """One chip of a v5e, of which only the compiler exists."""
    from jax.experimental import topologies

    # Without the bounds the smallest v5e is a host of four chips.
    return topologies.get_topology_desc("v5e:1x1", platform="tpu", chips_per_host_bounds=(1, 1, 1)).devices[0]


def compiled(optimizer, variables, **given):
    """The compiled text of one `apply` by the backend of this process."""
    # Not above: the module is read to learn what must be set before Keras is imported.
    import keras

    if keras.backend.backend() == "jax":
        return compile_jax(optimizer, variables, **given)
    return compile_tensorflow(optimizer, variables, **given)


def compile_jax(optimizer, variables):
    """The compiled text of one `stateless_apply` for dense gradients."""
    import jax

    sharding = jax.sharding.SingleDeviceSharding(device())

    def described(variables):
        return [jax.ShapeDtypeStruct(v.shape, v.value.dtype, sharding=sharding) for v in variables]

    optimizer.build(variables)
    step = jax.jit(lambda kept, grads, thetas: optimizer.stateless_apply(kept, grads, thetas), donate_argnums=(0, 2))
    lowered = step.lower(described(optimizer.variables), described(variables), described(variables))
    return lowered.compile().as_text()


def compile_tensorflow(optimizer, variables, rows=None):
    """The compiled text of one `apply` in a graph.

    Args:
        optimizer: the optimizer.
        variables: the Keras variables.
        rows: by its place, for each variable whose gradient is sparse, how many rows the gradient has. Which ones is
            not known to the compiler, so they may repeat.
    """
    import tensorflow as tf

    rows = rows or {}
    optimizer.build(variables)

    described = []
    for place, variable in enumerate(variables):
        if place in rows:
            described.append(tf.TensorSpec((rows[place], *variable.shape[1:]), variable.dtype))
            described.append(tf.TensorSpec((rows[place],), "int32"))
        else:
            described.append(tf.TensorSpec(variable.shape, variable.dtype))

    def gradient(place, given):
        if place in rows:
            return tf.IndexedSlices(next(given), next(given), tf.constant(tuple(variables[place].shape)))
        return next(given)

    def step(*given):
        given = iter(given)
        optimizer.apply([gradient(place, given) for place in range(len(variables))], variables)

    # The bridge refuses variables when it is asked for a TPU's program; before any optimisation a CPU's is the same.
    step = tf.function(step, jit_compile=True, autograph=False)
    return _compiled(step.experimental_get_compiler_ir(*described)(stage="stablehlo", platform_name="CPU"))


def _compiled(stablehlo):
    from jax.interpreters import mlir
    from jaxlib import _jax
    from jaxlib.mlir import ir

    with mlir.make_ir_context() as context:
        context.allow_unregistered_dialects = True
        module = ir.Module.parse(stablehlo)
        # The bridge writes an operation that JAX's dialects do not have, and that changes no value.
        copies = []

        def collect(operation):
            if operation.name == "mhlo.copy":
                copies.append(operation)
            return ir.WalkResult.ADVANCE

        module.operation.walk(collect)
        for copy in copies:
            copy.results[0].replace_all_uses_with(copy.operands[0])
            copy.erase()
        executable = device().client.compile(module, _jax.DeviceList((device(),)), _jax.CompileOptions())
    return executable.hlo_modules()[0].to_string()
