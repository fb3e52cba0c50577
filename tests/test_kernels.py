"""Slots in eight bits on an accelerator under JAX: one kernel over blocks of rows has the numbers of the plain update.

The kernels are interpreted. A compiler contracts a product and a sum to one rounding in one program and not in another.
In float64 the codes are equal all the same, and weights and scales to 1e-12. In float32 a last digit may tip a code, so
there one of a thousand may differ. With other random bits half of the codes do.
"""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import compiled

from keras_adaptive import Adam
from keras_adaptive.core.optimizer import AdaptiveOptimizer

pytestmark = pytest.mark.on("jax")
# Several blocks with a rest; three axes; two long rows; a row of no full tiles, which a TPU stores otherwise.
SHAPES = [(70, 128), (130, 128), (70, 128), (3, 64, 128), (2, 8192), (50, 96)]
ON = {"tpu": set(SHAPES[:-1]), "gpu": set(SHAPES)}
# Joining its axes would copy it on a TPU.
UNEVEN = (5, 10, 128)
# One scale for all; rows shorter than a scale's; a row too long; too small for eight bits.
PLAIN = [(4096,), (256, 8, 8), (2, 16512), (30, 96)]
forms = pytest.mark.parametrize("form", ["tpu", "gpu"])


@pytest.fixture
def in_form(monkeypatch):
    from keras_adaptive.core.backends import jax, jax_blocks

    def set_form(form):
        monkeypatch.setattr(jax, "TARGET", form)
        monkeypatch.setattr(jax_blocks, "INTERPRETED", True)
        # Several blocks, each in several parts.
        monkeypatch.setattr(jax_blocks, "LOADED", 2**13)
        monkeypatch.setattr(jax_blocks, "COMPUTED", 2**12)

    return set_form


@pytest.fixture
def data_parallel():
    keras.distribution.set_distribution(keras.distribution.DataParallel())
    yield
    keras.distribution.set_distribution(None)


def trained(optimizer, shapes, dtype="float32", steps=3, missing=()):
    """The weights and the optimizer's variables, by path, after a few steps from random gradients."""
    rng = np.random.default_rng(31)
    variables = [
        keras.Variable(rng.normal(size=shape), dtype=dtype, name=f"w{place}") for place, shape in enumerate(shapes)
    ]
    apply = compiled(optimizer, variables)
    for _ in range(steps):
        gradients = [ops.convert_to_tensor(rng.normal(size=shape), dtype=dtype) for shape in shapes]
        apply([None if place in missing else g for place, g in enumerate(gradients)])
    found = [*variables, *(v for state in optimizer.plan.states for v in state.stored.values())]
    return {v.path.partition("/")[2] or v.path: np.asarray(v.value) for v in found}


def by_kernels(optimizer):
    """The shapes that kernels updated."""
    return {key[-1] for key in optimizer.plan.update.cache if key[0] == "rows"}


def counted(monkeypatch):
    """A list to which each kernel is added when it is made."""
    from keras_adaptive.core.backends import jax_blocks

    made, mapped = [], jax_blocks.Blocks.mapped
    monkeypatch.setattr(jax_blocks.Blocks, "mapped", lambda self, *given: made.append(self) or mapped(self, *given))
    return made


def same(ours, plain):
    assert ours.keys() == plain.keys()
    exact = any(array.dtype == np.float64 for array in plain.values())
    for name, expected in plain.items():
        gap = np.abs(ours[name].astype("float64") - expected.astype("float64"))
        coded = expected.dtype in (np.int8, np.uint8)
        # bfloat16 has 8 digits, of which a rounding may tip the last.
        tolerance = {"float64": 1e-12, "float32": 2e-6, "bfloat16": 2.0**-6}.get(expected.dtype.name, 0.0)
        assert coded or tolerance
        assert np.mean(gap > tolerance * max(1.0, np.max(np.abs(expected)))) <= (0.0 if exact else 1e-3), name


@each("one", full="classes", where=lambda case: getattr(case.optimizer, "elementwise", False) is True)
@forms
def test_the_numbers_are_those_of_the_plain_update(case, form, in_form, monkeypatch):
    """Also the random bits; there is a kernel for every shape if the slots have scales."""
    plain = trained(case.make(slot_dtype="int8", jit_update=True), SHAPES)
    in_form(form)
    made = counted(monkeypatch)
    optimizer = case.make(slot_dtype="int8", jit_update=True)
    same(trained(optimizer, SHAPES), plain)
    scaled = any(bucket.kind.scaled and bucket.kind.shape is None for bucket in optimizer.plan.update.buckets)
    assert by_kernels(optimizer) == (ON[form] if scaled else set())
    assert len(made) == len(by_kernels(optimizer))


@pytest.mark.parametrize(
    "options",
    [
        {"weight_decay": 0.1, "use_ema": True, "ema_overwrite_frequency": 2, "global_clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
        {"beta_1": keras.optimizers.schedules.ExponentialDecay(0.9, 1, 0.9)},
        {"stochastic_rounding": True},
        {"skip_nonfinite": True},
    ],
    ids=lambda options: next(iter(options)),
)
def test_with_options(options, in_form):
    dtype = "bfloat16" if "stochastic_rounding" in options else "float32"
    plain = trained(Adam(slot_dtype="int8", jit_update=True, **options), SHAPES, dtype)
    in_form("tpu")
    optimizer = Adam(slot_dtype="int8", jit_update=True, **options)
    same(trained(optimizer, SHAPES, dtype), plain)
    # `skip_nonfinite` counts over all elements of a variable.
    assert by_kernels(optimizer) == (set() if "skip_nonfinite" in options else ON["tpu"])


def test_in_float64_on_a_gpu_only(float64, in_form):
    plain = trained(Adam(slot_dtype="int8", jit_update=True), SHAPES, "float64")
    for form, shapes in (("gpu", ON["gpu"]), ("tpu", set())):
        in_form(form)
        optimizer = Adam(slot_dtype="int8", jit_update=True)
        same(trained(optimizer, SHAPES, "float64"), plain)
        assert by_kernels(optimizer) == shapes


@forms
def test_other_variables_take_the_plain_update(form, in_form):
    plain = trained(Adam(slot_dtype="int8", jit_update=True), [UNEVEN, *PLAIN], steps=1)
    in_form(form)
    optimizer = Adam(slot_dtype="int8", jit_update=True)
    same(trained(optimizer, [UNEVEN, *PLAIN], steps=1), plain)
    assert by_kernels(optimizer) == ({UNEVEN} if form == "gpu" else set())


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_without_a_gradient_is_not_changed(in_form):
    in_form("gpu")
    optimizer = Adam(slot_dtype="int8", jit_update=True, gradient_accumulation_steps=2)
    found = trained(optimizer, SHAPES[:2], missing=(1,))
    # Whether there was a gradient in the window is known only when the program runs.
    assert by_kernels(optimizer) == {SHAPES[0]}
    assert not np.any(found["w1_m"])


def test_a_cpu_has_no_kernels():
    optimizer = Adam(slot_dtype="int8", jit_update=True)
    trained(optimizer, SHAPES[:1], steps=1)
    assert not by_kernels(optimizer)


@pytest.mark.parametrize("why", ["jit_update", "a GPU", "old", "no triton", "devices"])
def test_no_kernels_where_they_cannot_be(why, in_form, monkeypatch, request):
    from keras_adaptive.core.backends import jax_blocks

    in_form("gpu")
    if why == "old":
        monkeypatch.setattr(jax_blocks, "OLDEST", (10**6,))
    if why == "no triton":
        monkeypatch.setattr(jax_blocks.importlib.util, "find_spec", lambda name: None)
    if why == "devices":
        request.getfixturevalue("data_parallel")
    optimizer = Adam(slot_dtype="int8", jit_update={"jit_update": False, "a GPU": "auto"}.get(why, True))
    trained(optimizer, SHAPES[:1], steps=1)
    assert not by_kernels(optimizer)


# Rules of a user


class Rule(AdaptiveOptimizer):
    """SGD with momentum, whose step is multiplied by a factor."""

    slots = ("m",)
    elementwise = True

    def __init__(self, factor):
        super().__init__(0.1, slot_dtype="int8", jit_update=True)
        self.factor = factor
        self.calls = 0

    def rule(self, h, theta, g, m):
        self.calls += 1
        m = 0.9 * m + g
        return self.factor(h) * h.eta * m, (m,)


def test_a_rule_that_zeros_would_spoil(in_form):
    """A row that is filled up to a power of two holds no other numbers than before."""

    class Signs(Rule):
        def rule(self, h, theta, g, m):
            return h.eta * g, (g / ops.abs(g),)

    plain = trained(Signs(None), SHAPES[-1:])
    in_form("gpu")
    optimizer = Signs(None)
    same(trained(optimizer, SHAPES[-1:]), plain)
    assert by_kernels(optimizer) == {SHAPES[-1]}


def test_a_rule_is_traced_once_for_each_shape(in_form):
    in_form("tpu")
    optimizer = Rule(lambda h: 1.0)
    trained(optimizer, [SHAPES[0]] * 5 + [SHAPES[1]] * 2, steps=2)
    assert optimizer.calls == 2


@forms
@pytest.mark.parametrize(
    ("factor", "kernels"),
    [
        (lambda h: ops.convert_to_tensor([1.0, 2.0, 3.0])[ops.cast(h.t, "int32") % 3], 1),
        (lambda h: ops.convert_to_tensor([2.0]), 0),
    ],
    ids=["of-a-table", "with-an-axis"],
)
def test_a_rule_with_numbers_of_its_own(factor, kernels, form, in_form, monkeypatch):
    plain = trained(Rule(factor), SHAPES[:1])
    in_form(form)
    made = counted(monkeypatch)
    same(trained(Rule(factor), SHAPES[:1]), plain)
    assert len(made) == kernels


def test_it_compiles_for_a_gpu(in_form, monkeypatch):
    """To what JAX hands to Triton: each shape has a kernel, in which the arrays are written in place."""
    import jax

    from keras_adaptive.core.backends import jax_blocks

    in_form("gpu")
    monkeypatch.setattr(jax_blocks, "INTERPRETED", False)
    optimizer = Adam(slot_dtype="int8", jit_update=True)
    variables = [keras.Variable(np.ones(shape), name=f"w{place}") for place, shape in enumerate(SHAPES)]
    optimizer.build(variables)
    old, values = ([v.value for v in some] for some in (optimizer.variables, variables))
    step = jax.jit(lambda *arguments: optimizer.stateless_apply(*arguments))
    text = step.trace(old, values, values).lower(lowering_platforms=("cuda",)).as_text()
    calls = [line for line in text.splitlines() if "xla.gpu.triton" in line]
    assert len(calls) == len(ON["gpu"])
    assert all(line.count("output_operand_alias<") == 5 for line in calls)
