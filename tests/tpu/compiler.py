"""The TPU compiler without a TPU: an optimizer's update as the program that one chip of a v5e would run.

The package libtpu holds the real compiler and needs no device. Two programs of an update are compiled: the one that
JAX traces from `stateless_apply`, and the one that TensorFlow's XLA bridge makes of the graph of `apply`.
"""

import functools
import math
import re

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

    # The smallest v5e topology that the TPU library knows by name has four chips.
    return topologies.get_topology_desc("v5e:1x1", platform="tpu", chips_per_host_bounds=(1, 1, 1)).devices[0]


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

    def step(*given):
        given = iter(given)
        gradients = [
            tf.IndexedSlices(next(given), next(given), tf.constant(variable.shape)) if place in rows else next(given)
            for place, variable in enumerate(variables)
        ]
        optimizer.apply(gradients, variables)

    described = []
    for place, variable in enumerate(variables):
        if place in rows:
            described += [tf.TensorSpec((rows[place], *variable.shape[1:]), variable.dtype)]
            described += [tf.TensorSpec((rows[place],), "int32")]
        else:
            described += [tf.TensorSpec(variable.shape, variable.dtype)]
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


def hbm_bytes(text):
    """The bytes that a compiled program moves between HBM and the chip, as its instructions are scheduled.

    What an instruction reads and writes counts, unless its layout names a memory of the chip itself (S(1) is VMEM). Of
    a conditional the branch that moves most counts. An instruction that touches a part of an array counts all of it,
    so the figure of a program that picks rows is an upper bound.
    """
    found = re.findall(r"^(ENTRY )?%([\w.-]+) \(.*\{\n((?:  .*\n)+)\}", text, re.MULTILINE)
    computations = {name: body for _, name, body in found}
    (entry,) = (name for is_entry, name, _ in found if is_entry)
    return _moved(computations, entry)


# These name, select or await what another instruction has made.
_MOVES_NOTHING = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id"}


def _moved(computations, name):
    moved, shapes = 0, {}
    for line in computations[name].splitlines():
        target, shape, opcode, operands, attributes = _instruction(line)
        shapes[target] = shape
        if opcode in _MOVES_NOTHING or opcode.endswith("-done"):
            continue
        if opcode in ("conditional", "call"):
            called = re.findall(r"(?:branch_computations=\{|_computation=|to_apply=)([^}=]*)", attributes)
            moved += max(_moved(computations, branch) for branch in re.findall(r"%([\w.-]+)", " ".join(called)))
            continue
        if opcode == "while" or (opcode.endswith("-start") and opcode != "copy-start"):
            raise NotImplementedError(f"How often or how much does it move? {line}")
        # A copy's result is (destination, source, flag).
        results = _arrays(shape)[:1] if opcode == "copy-start" else _arrays(shape)
        moved += sum(results) + sum(sum(_arrays(shapes[operand])) for operand in operands)
    return moved


def _instruction(line):
    """Name, shape, opcode, names of the operands, and the rest."""
    line = re.sub(r"/\*.*?\*/", "", line).removeprefix("  ").removeprefix("ROOT ")
    target, _, rest = line.removeprefix("%").partition(" = ")
    shape, rest = _balanced(rest) if rest.startswith("(") else rest.split(" ", 1)
    opcode, _, _ = rest.lstrip().partition("(")
    operands, attributes = _balanced(rest.lstrip().removeprefix(opcode))
    return target, shape, opcode, re.findall(r"%([\w.-]+)", operands), attributes


def _balanced(text):
    """Splits after the parenthesis that closes the first one."""
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[: place + 1], text[place + 1 :]
    raise ValueError(f"A parenthesis is not closed: {text}")


def _arrays(shape):
    """For each array of a shape its bytes in HBM: none where the layout names another memory."""
    return [
        0 if "S(" in layout else math.prod(int(n) for n in lengths.split(",") if n) * _bits(dtype) // 8
        for dtype, lengths, layout in re.findall(r"(\w+)\[([\d,]*)\](\{[^}]*\})?", shape)
    ]


def _bits(dtype):
    return {"pred": 8, "token": 0}.get(dtype) or int(re.search(r"\d+", dtype)[0])
