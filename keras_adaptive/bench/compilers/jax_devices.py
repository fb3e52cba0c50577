"""The program of JAX's update for one of several TPU devices that train with data parallelism."""

import time
from typing import Any

import jax
import keras
import numpy as np
from jax.experimental import topologies

from keras_adaptive.bench.compilers.jax import Program


def program(optimizer, variables, topology):
    """The Program of one device.

    Args:
        optimizer: not built.
        variables: makes the Keras variables.
        topology: the name of the devices, such as "v5e:2x4". This process must have as many logical CPUs.
    """
    devices = topologies.get_topology_desc(topology, platform="tpu").devices
    before = keras.distribution.distribution()
    distribution = keras.distribution.DataParallel()
    keras.distribution.set_distribution(distribution)
    try:
        made = variables()
        optimizer.build(made)
        mesh = distribution.device_mesh
        # The logical CPUs hold the variables; what is compiled is for the devices, which are not there.
        mesh._backend_mesh = jax.sharding.Mesh(np.array(devices), mesh.axis_names)
        described = [_described(of_one, mesh) for of_one in (made, optimizer.variables, made)]

        def step(thetas, state, grads):
            return optimizer.stateless_apply(state, grads, thetas)

        lowered = jax.jit(step, donate_argnums=(0, 1)).lower(*described)
        begun = time.perf_counter()
        executable: Any = lowered.compile()
        seconds = time.perf_counter() - begun
    finally:
        keras.distribution.set_distribution(before)
    stored = sum(np.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in described[1])
    planned, operations = executable.memory_analysis(), executable.cost_analysis()["flops"]
    return Program(executable.as_text(), planned.temp_size_in_bytes, seconds, operations, int(stored))


def _described(variables, mesh):
    """The variables' shapes and dtypes, in their layouts over the devices of the mesh."""
    found = []
    for variable in variables:
        layout = getattr(variable, "_layout", None)
        if layout is not None and hasattr(layout, "_backend_layout"):
            # Keras stores it for the mesh of before.
            del layout._backend_layout
        everywhere = jax.sharding.NamedSharding(mesh.backend_mesh, jax.sharding.PartitionSpec())
        sharding = everywhere if layout is None else layout.backend_layout
        found.append(jax.ShapeDtypeStruct(variable.shape, variable.value.dtype, sharding=sharding))
    return found
