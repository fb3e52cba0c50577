"""JAX: gradients are dense and already summed over devices, and everything is traced into the caller's program."""

import contextlib
import sys

import jax
import keras
from jax.sharding import NamedSharding, PartitionSpec

HAS_ROWS = False
# The kind of device for which programs are compiled, where this machine has none of it: bench sets it.
TARGET: str | None = None


def read(variable, ids=None):
    return variable.value if ids is None else variable.value[ids]


def assign(variable, value, ids=None):
    variable.assign(value if ids is None else variable.value.at[ids].set(value))


def is_variable(thing):
    return isinstance(thing, keras.Variable)


def accepted(gradient):
    # Importing the module takes time; if there is such a gradient, it has been imported.
    sparse = sys.modules.get("jax.experimental.sparse")
    return gradient.todense() if sparse and isinstance(gradient, sparse.JAXSparse) else gradient


def is_sparse(gradient):
    return False


def fault_of_rows(gradient, shape):
    return None


def is_symbolic(value):
    return isinstance(value, jax.core.Tracer)


def rows_and_values(gradient):
    raise TypeError(f"A JAX gradient has no rows of its own. Received: gradient={gradient!r}")


def lookups(gradient, rows):
    return rows_and_values(gradient)


def occurrences(gradient):
    return None


def known_shape(gradient):
    return tuple(gradient.shape)


def mapped(function, gradient):
    return function(gradient)


def matmul(a, b):
    # A TPU would round the factors to bfloat16.
    return jax.numpy.matmul(a, b, precision="highest")


def eigh(matrix):
    return jax.numpy.linalg.eigh(matrix)


def is_compiling():
    return False


def platform():
    """The kind of device for which programs are compiled, as JAX names it."""
    return TARGET or jax.default_backend()


def is_accelerated():
    return platform() != "cpu"


def multiplies_bfloat16():
    if platform() != "gpu":
        return platform() == "tpu"
    # Of NVIDIA's: "8.0" is the first that does. AMD's has a name, such as "gfx90a".
    capability = getattr(jax.devices()[0], "compute_capability", "")
    return not capability.replace(".", "").isdigit() or float(capability) >= 8.0


def stacks():
    # One TPU's compiler gains nothing by it: for Muon on a transformer 40 bytes of traffic per parameter, not 26.
    return platform() == "gpu" or _data_parallel() is not None


def divided(function, *tensors):
    """Each device computes the places that are its share; then all devices have the result.

    If the devices do not divide the places, the last one is computed several times.
    """
    found, count = _data_parallel(), tensors[0].shape[0]
    if found is None or count < 2:
        return function(*tensors)
    mesh, axis = found
    missing = -count % mesh.shape[axis]

    def laid_out(x, first):
        others = [PartitionSpec.UNCONSTRAINED] * (x.ndim - 1)
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(first, *others)))

    def share(x):
        repeated = [x, *([x[-1:]] * missing)]
        # First for all devices: from stacked operands directly, the compiler makes one transfer for each of them.
        return laid_out(laid_out(jax.numpy.concatenate(repeated) if missing else x, None), axis)

    return jax.tree.map(lambda x: laid_out(x, None)[:count], function(*map(share, tensors)))


def _data_parallel():
    """The mesh and the name of its data-parallel axis; None if there is only one device along it."""
    distribution = keras.distribution.distribution()
    name = getattr(distribution, "batch_dim_name", None)
    if name is None or name not in distribution.device_mesh.axis_names:
        return None
    mesh = distribution.device_mesh.backend_mesh
    return (mesh, name) if mesh.shape[name] > 1 else None


def check_context(optimizer):
    """On JAX the optimizer can be applied in every context."""


def sum_over_replicas(gradients):
    return gradients


def max_over_replicas(tensor):
    return tensor


def beside(variable):
    return contextlib.nullcontext()


def building():
    return contextlib.nullcontext()


def slot_layout(variable, shape, shard):
    """The weight's layout, or no layout for another shape; to shard it, the data-parallel axis takes the first free
    dimension that it divides."""
    distribution, same = keras.distribution.distribution(), shape == tuple(variable.shape)
    if not shard:
        if same or distribution is None:
            return getattr(variable, "_layout", None) if same else None
        return keras.distribution.TensorLayout([None] * len(shape), distribution.device_mesh)
    if distribution is None or distribution.batch_dim_name not in distribution.device_mesh.axis_names:
        raise ValueError(
            "`shard_state` needs a keras.distribution with a data-parallel axis: call "
            "`keras.distribution.set_distribution(keras.distribution.DataParallel())` before the model is made. "
            f"Received: shard_state=True, with the distribution {distribution}"
        )
    mesh, batch = distribution.device_mesh, distribution.batch_dim_name
    layout = distribution.get_variable_layout(variable)
    # Keras 3.13 stores JAX's own sharding, which may leave out the last dimensions.
    axes = list(layout.axes if isinstance(layout, keras.distribution.TensorLayout) else layout.spec) if same else []
    axes += [None] * (len(shape) - len(axes))
    if batch not in axes:
        devices = mesh.shape[mesh.axis_names.index(batch)]
        for dimension, length in enumerate(shape):
            if axes[dimension] is None and length and length % devices == 0:
                axes[dimension] = batch
                break
    return keras.distribution.TensorLayout(axes, mesh)


def rarely(condition, function, usual):
    if not is_symbolic(condition):
        return function() if condition else usual
    # On an accelerator the function joins another pass at no cost, and a branch would store the inputs of that pass.
    return jax.lax.platform_dependent(
        cpu=lambda: jax.lax.cond(condition, function, lambda: usual),
        default=function,
    )


def known(condition):
    return condition if isinstance(condition, jax.core.Tracer) else bool(condition)


def at_hand(tensor):
    is_there = not is_symbolic(tensor) and all(device.platform == "cpu" for device in tensor.devices())
    return tensor.item() if is_there else None


def jitted(cache, key, function):
    return function


def opaque(function):
    return function


def undifferentiated(function):
    return function


def transact(transaction, go, gradients, scalars):
    variables = [transaction.variables(state) for state in transaction.states]
    variables.append(transaction.common)
    old = [{role: read(variable) for role, variable in of_one.items()} for of_one in variables]

    one = transaction.one
    if is_accelerated():
        # Imported here, because a CPU has no kernels.
        from keras_adaptive.core.backends import jax_rows

        one = jax_rows.Kernels(transaction, scalars, platform()).one

    def compute():
        new, common, _ = transaction.all(gradients, scalars, old[:-1], old[-1], one)
        return [*new, common]

    if not isinstance(go, jax.core.Tracer):
        # In eager steps a `cond` would be compiled again at every call.
        if not go:
            return
        new = compute()
    elif transaction.usually_goes:
        # In one pass: a `cond` would copy the weights and slots, because it may have to return them unchanged.
        new = jax.tree.map(lambda after, before: jax.numpy.where(go, after, before), compute(), old)
    else:
        new = jax.lax.cond(go, compute, lambda: old)
    for of_one, values in zip(variables, new, strict=True):
        for role, variable in of_one.items():
            variable.assign(_in_its_layout(variable, values[role]))


def _in_its_layout(variable, value):
    """The compiler would otherwise choose one, for example shard the weights as their matrices are divided."""
    layout = getattr(variable, "_layout", None)
    if layout is None or _data_parallel() is None:
        return value
    return keras.distribution.distribute_tensor(value, layout)


def not_compiled(transaction):
    return {}


def outside_of_steps(optimizer):
    return contextlib.nullcontext()


def snapshot(variable):
    return read(variable)


def assign_everywhere(target, source, projected=None):
    value = read(source) if isinstance(source, keras.Variable) else source
    value = value if projected is None else projected(value)
    # A copy: if two variables share a buffer, a step that donates both fails.
    target.assign(jax.numpy.array(value, copy=True))


def describe_in_checkpoints(optimizer, describe, check):
    """Only TensorFlow has checkpoints that bypass the optimizer."""
