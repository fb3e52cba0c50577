"""Training with weights and slots rounded to fewer bits: it follows float32, and nothing gets stuck."""

import keras
import ml_dtypes
import numpy as np
import pytest
from cases import each
from keras import ops
from support import MODES, a_weight, difference, in_mode, state, value, values

from keras_adaptive import Group
from keras_adaptive.core.fields import rate
from keras_adaptive.core.optimizer import AdaptiveOptimizer

BOTH = {"slot_dtype": "bfloat16", "stochastic_rounding": True}
EIGHT_BITS = {"slot_dtype": "int8", "stochastic_rounding": True}
OPTIONS = {
    "slots": {"slot_dtype": "bfloat16"},
    "weights": {"stochastic_rounding": True},
    "both": BOTH,
    "int8": {"groups": [Group("", slot_dtype="int8")]},
}
rounded = pytest.mark.parametrize("given", [BOTH, EIGHT_BITS], ids=["bfloat16", "int8"])
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


class Plain(AdaptiveOptimizer):
    def rule(self, h, theta, g):
        return h.eta * g, ()


class MeanSquare(AdaptiveOptimizer):
    learning_rate = rate(0.0)
    slots = ("v",)

    def rule(self, h, theta, g, v):
        return 0.0 * theta, (0.999 * v + 0.001 * g * g,)


def like(gradients, variables):
    """The gradients in the dtypes of the variables."""
    return [ops.convert_to_tensor(g, dtype=v.dtype) for g, v in zip(gradients, variables, strict=True)]


def apply(optimizer, variables, gradients, steps=1):
    given = like(gradients, variables)
    for _ in range(steps):
        optimizer.apply(given, variables)


def test_small_steps_are_not_lost():
    """1 + 1000 x 0.001 is 2, the mean of 64; each step is a quarter of half a spacing.

    Without the option no step does anything, so that a few of them show it.
    """
    ends = {}
    for rounding, steps in ((False, 5), (True, 1000)):
        weights = a_weight(np.ones(64), dtype="bfloat16")
        apply(Plain(1e-3, stochastic_rounding=rounding), [weights], [-np.ones(64)], steps)
        ends[rounding] = value(weights)
    assert np.all(ends[False] == 1.0)
    assert abs(ends[True].mean() - 2.0) <= 0.1


def test_a_moving_average_in_bfloat16_approaches_its_value():
    """1 - 0.999^t, for a squared gradient of 1; rounded to the nearest number it would stand still at a quarter.

    A rounding adds at most the variance of half a spacing, (2^-8 / 2)^2 below 1, and it fades by 0.999^2 a step.
    """
    steps, n = 700, 1024
    nearest = np.array(0, ml_dtypes.bfloat16)
    for _ in range(steps):
        nearest = (np.float32(0.999) * nearest.astype("float32") + np.float32(0.001)).astype(ml_dtypes.bfloat16)
    exact = 1 - 0.999**steps
    assert nearest < 0.3 < 0.5 < exact

    weights, optimizer = a_weight(np.zeros(n)), MeanSquare(slot_dtype="bfloat16")
    apply(optimizer, [weights], [np.ones(n)], steps)
    v = value(optimizer.plan.states[0].stored["v"])
    deviation = 2.0**-9 / np.sqrt(1 - 0.999**2)
    assert abs(v.mean() - exact) <= 5 * deviation / np.sqrt(n)
    assert np.max(np.abs(v - exact)) <= 6 * deviation


@each()
def test_training_in_bfloat16_follows_float32(case):
    """The mean of many weights: each rounding is off by half a spacing at most, independently of the others.

    Within 5 standard deviations of that, and less than a fifth of what the weights moved. The gradients are those of
    bfloat16 in both, and vary, so that no variance is zero.
    """
    case.needs("first steps")
    case.needs("smoothness")
    case.needs("long vectors")
    steps, n, rng = 60, 2**14, np.random.default_rng(91)
    gradients = [(rng.normal(-1.0, 0.5, size=n)).astype(ml_dtypes.bfloat16).astype("float32") for _ in range(steps)]
    ends = {}
    for dtype, given in (("float32", {}), ("bfloat16", BOTH)):
        weights, optimizer = a_weight(np.ones(n), dtype=dtype), case.make(1e-3 * case.shared, **given)
        for gradient in gradients:
            apply(optimizer, [weights], [gradient])
        ends[dtype] = value(weights)
    spacing = 2.0 ** (np.floor(np.log2(ends["float32"].max())) - 7)
    band = 5 * np.sqrt(steps) * spacing / 2 / np.sqrt(n)
    moved = abs(ends["float32"].mean() - 1.0)
    assert band < moved / 5
    # A rule that measures the largest weight sees the largest rounding.
    assert abs(ends["bfloat16"].mean() - ends["float32"].mean()) <= (band if case.elementwise else moved / 5)


@each()
def test_the_stored_value_is_a_neighbour_of_the_computed_one(case):
    """For slots and weights of a first step; both neighbours occur."""
    case.needs("first steps")
    rng = np.random.default_rng(92)
    start, gradient = rng.normal(size=500).astype(ml_dtypes.bfloat16), rng.normal(size=500).astype("float32")
    kept = {}
    for dtype, given in (("float32", {}), ("bfloat16", BOTH)):
        weights, optimizer = a_weight(start.astype("float32"), dtype=dtype), case.make(**given)
        optimizer.apply([ops.convert_to_tensor(gradient)], [weights])
        exact = {slot.name for slot in optimizer.slots if slot.exact}
        variables = optimizer.plan.states[0].variables
        kept[dtype] = {role: v for role, v in variables.items() if v.shape == weights.shape and role not in exact}
    assert {v.dtype for v in kept["bfloat16"].values()} == {"bfloat16"}
    assert {v.dtype for v in kept["float32"].values()} == {"float32"}
    for role, exact in kept["float32"].items():
        exact, stored = value(exact), value(kept["bfloat16"][role])
        if np.all(exact == exact.astype(ml_dtypes.bfloat16)):
            assert difference([stored], [exact]) == 0.0, "nothing was computed that has to be rounded"
            continue
        spacing = 2.0 ** (np.floor(np.log2(np.abs(exact))) - 7)
        # An initial value of 0.1 is 0.1001 in bfloat16.
        assert np.all(np.abs(stored - exact) < spacing * 1.001 + 1e-4)
        if len(np.unique(np.abs(exact))) > 100:
            further = np.mean(np.abs(stored - exact) > spacing / 2)
            assert 0.1 < further < 0.4, "a quarter goes to the neighbour that is further off"


@each()
def test_only_slots_have_the_slot_dtype(case):
    """And float64 weights keep slots of float64."""
    given = {"use_ema": True, "gradient_accumulation_steps": 2}
    for dtype, slot_dtype, stored in [
        ("float32", "bfloat16", "bfloat16"),
        ("bfloat16", "bfloat16", "bfloat16"),
        ("bfloat16", "float32", "float32"),
        ("float64", "float32", "float64"),
        ("float64", "bfloat16", "bfloat16"),
    ]:
        optimizer = case.make(slot_dtype=slot_dtype, **given)
        optimizer.build([a_weight(np.ones(3), dtype=dtype)])
        (of_one,) = optimizer.plan.states
        exact = "float64" if dtype == "float64" else "float32"
        slots = [slot for slot in optimizer.slots if slot.name in of_one.stored]
        rounded = [s.name for s in slots if of_one.stored[s.name].shape == of_one.shape and not s.exact]
        assert {of_one.stored[name].dtype for name in rounded} <= {stored}
        assert {of_one.stored[s.name].dtype for s in slots if s.name not in rounded} <= {exact}
        assert of_one.window["accumulator"].dtype == exact
        if not optimizer.use_ema:
            continue
        assert of_one.stored["average"].dtype == dtype
        assert of_one.stored.get("exact_average", of_one.stored["average"]).dtype == exact


# Which bits


def after(case, given, dtype="bfloat16", steps=3, step=apply, n=4096):
    """Weights and slots of two variables that begin alike and have the same gradients; not too small for int8."""
    rng = np.random.default_rng(93)
    start, gradient = rng.normal(size=n), rng.normal(size=n).astype("float32")
    variables = [a_weight(start, dtype=dtype) for _ in range(2)]
    optimizer = case.make(**given)
    optimizer.build(variables)
    step(optimizer, variables, [gradient, gradient], steps)
    return [values(of_one.variables.values()) for of_one in optimizer.plan.states]


def same(left, right):
    """The share of elements that are equal; what is kept in float32 may differ in its last digits."""
    return np.mean(np.concatenate([np.ravel(np.isclose(a, b, 1e-5, 0.0)) for a, b in zip(left, right, strict=True)]))


@each()
@rounded
def test_the_seed_decides(case, given):
    case.needs("first steps")
    ends = [
        [[array for array in of_one if array.shape == (4096,)] for of_one in after(case, given | {"seed": seed})]
        for seed in (0, 0, 1)
    ]
    assert same(ends[0][0], ends[1][0]) == same(ends[0][1], ends[1][1]) == 1.0
    assert same(ends[0][0], ends[2][0]) < 0.9
    assert same(ends[0][0], ends[0][1]) < 0.9, "another variable has other bits"


@pytest.mark.full_on("tensorflow")
@each()
@rounded
def test_every_mode_gives_the_same_bits(case, given):
    """Nearly all elements: a last digit of float32 that a compiler rounds otherwise may tip a rounding.

    With other bits it would be half of them.
    """

    def jitted(optimizer, variables, gradients, steps):
        import jax

        step = jax.jit(lambda kept, g, thetas: optimizer.stateless_apply(kept, g, thetas)[::-1])
        given = like(gradients, variables)
        kept, thetas = [v.value for v in optimizer.variables], [v.value for v in variables]
        for _ in range(steps):
            kept, thetas = step(kept, given, thetas)
        for variable, new in zip([*optimizer.variables, *variables], [*kept, *thetas], strict=True):
            variable.assign(new)

    def traced(mode):
        def stepping(optimizer, variables, gradients, steps):
            given = like(gradients, variables)
            step = in_mode(lambda: optimizer.apply(given, variables), mode)
            for _ in range(steps):
                step()

        return stepping

    eager = after(case, given)
    for mode in MODES[1:]:
        other = after(case, given, step=jitted if keras.backend.backend() == "jax" else traced(mode))
        for left, right in zip(eager, other, strict=True):
            assert same(left, right) >= (1.0 if mode == "graph" else 0.98)


@each()
@rounded
@pytest.mark.full_on("tensorflow")
def test_a_window_counts_as_one_update(case, given):
    """Two equal halves of a window match the full window, bit for bit."""
    whole = after(case, given, steps=3)
    window = after(case, given | {"gradient_accumulation_steps": 2}, steps=6)
    assert difference([*whole[0], *whole[1]], [*window[0], *window[1]]) == 0.0


@each()
@rounded
def test_update_step_rounds_in_the_same_way(case, given):
    """Nearly all elements, as above."""
    case.needs_steps_of_its_own()

    def step(optimizer, variables, gradients, steps):
        for gradient, variable in zip(like(gradients, variables), variables, strict=True):
            optimizer.update_step(gradient, variable, optimizer.eta())

    for left, right in zip(after(case, given, steps=1), after(case, given, step=step), strict=True):
        assert same(left, right) >= 0.98


# What may be given


@each()
def test_float32_weights_are_not_rounded(case):
    plain, given = (after(case, options, "float32") for options in ({}, {"stochastic_rounding": True}))
    assert difference([*plain[0], *plain[1]], [*given[0], *given[1]]) == 0.0


@each()
def test_float16_weights_are_refused(case):
    """At build, by the name of the variable, and nothing changes."""
    case.needs("first steps")
    wrong, right = keras.Variable(np.ones(3), dtype="float16", name="half"), keras.Variable(np.ones(3))
    optimizer = case.make(stochastic_rounding=True)
    before = state(optimizer)
    with pytest.raises(ValueError, match=r"`stochastic_rounding` must be False unless .* bfloat16.*'half' is float16"):
        apply(optimizer, [right, wrong], [np.ones(3)] * 2)
    assert not optimizer.built
    assert state(optimizer) == before
    assert np.all(value(wrong) == 1.0)
    apply(optimizer, [right], [np.ones(3)])
    optimizer = case.make(slot_dtype="bfloat16")
    for _ in range(2):
        apply(optimizer, [wrong], [np.ones(3)])
    assert np.all(value(wrong) < 1.0)


@each()
@options
def test_a_nonfinite_gradient_shows_in_the_weights(case, options):
    """Infinities and NaN are not rounded away."""
    weights = a_weight(np.ones(4), dtype="bfloat16")
    apply(case.make(clipnorm=1.0, **options), [weights], [np.array([np.nan, 1, 1, 1])])
    assert np.all(np.isnan(value(weights)))


@each()
@pytest.mark.parametrize("average", [{}, {"ema_overwrite_frequency": 1}], ids=["apart", "overwriting"])
def test_an_average_of_rounded_weights_moves(case, average):
    """Where it replaces the weights it is rounded as they are: to the nearest number, both would stand still.

    From the first update on, which it begins with.
    """
    case.needs("first steps")
    case.needs("long vectors")
    case.needs("use_ema")
    weights = a_weight(np.ones(4096), dtype="bfloat16")
    optimizer = case.make(3e-3 * case.shared, weight_decay=None, use_ema=True, ema_momentum=0.9, **BOTH, **average)
    means = []
    for steps in (1, 20):
        apply(optimizer, [weights], [-np.ones(4096)], steps)
        means.append([value(v).mean() for v in (weights, optimizer.plan.states[0].stored["average"])])
    assert np.all(np.subtract(means[1], means[0]) > 3e-4)
