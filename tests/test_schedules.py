"""The schedules equal their equations in NumPy float64, everywhere an optimizer uses them."""

import inspect
import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops
from support import MODES, a_weight, in_mode, value

import keras_adaptive
from keras_adaptive import (
    SGD,
    InverseSquareRoot,
    OneCycle,
    PolynomialDecay,
    WarmupSchedule,
    WarmupStableDecay,
    legw,
    recipe,
    scale_learning_rate,
)

PEAK = 0.1


def polynomial(k, eta, steps, end=0.0, power=1.0):
    return end if k >= steps else end + (eta - end) * ((steps - k) / steps) ** power


def stable(k, root, warmup, hold, decay, start, end):
    if k < warmup:
        return start * (1 - k / warmup) + PEAK * k / warmup
    if k < warmup + hold:
        return PEAK
    p = min(k - warmup - hold, decay) / decay
    return end + (PEAK - end) * (1 - (p**0.5 if root else p))


def cycle(k, cosine, *knots):
    for (a, u), (b, v) in itertools.pairwise(knots):
        if k <= b:
            p = (k - a) / (b - a)
            s = math.sin(math.pi / 2 * p) ** 2 if cosine else p
            return u * (1 - s) + v * s
    return knots[-1][1]


def lars(k):
    return PEAK * k / 5 if k < 5 else polynomial(k - 5, PEAK, 15, 1e-4, 2.0)


def bert(k):
    return PEAK * k / 5 if k < 5 else polynomial(k, PEAK, 20)


# A schedule, and the same number for k by separate arithmetic.
SCHEDULES = {
    "polynomial": (PolynomialDecay(PEAK, 20, end=0.01, power=1.5), lambda k: polynomial(k, PEAK, 20, 0.01, 1.5)),
    "lars": (WarmupSchedule(PolynomialDecay(PEAK, 15, 1e-4, 2.0), 5), lars),
    "bert": (WarmupSchedule(PolynomialDecay(PEAK, 20), 5, counts="with"), bert),
    "warm-up to a number": (WarmupSchedule(PEAK, 7, start=0.03), lambda k: min(PEAK, 0.03 + (PEAK - 0.03) * k / 7)),
    "no warm-up": (WarmupSchedule(PolynomialDecay(PEAK, 20), 0), lambda k: polynomial(k, PEAK, 20)),
    "stable": (WarmupStableDecay(PEAK, 4, 9, 7, end=1e-3), lambda k: stable(k, False, 4, 9, 7, 0.0, 1e-3)),
    "stable, root": (
        WarmupStableDecay(PEAK, 4, 9, 7, "1-sqrt", start=0.02),
        lambda k: stable(k, True, 4, 9, 7, 0.02, 0.0),
    ),
    "stable, decay alone": (WarmupStableDecay(PEAK, 0, 0, 7), lambda k: stable(k, False, 0, 0, 7, 0.0, 0.0)),
    "inverse root": (InverseSquareRoot(PEAK, 6), lambda k: PEAK * min((k + 1) / 6, (6 / (k + 1)) ** 0.5)),
    "inverse root, constant": (InverseSquareRoot(PEAK, 6, "constant"), lambda k: PEAK * (6 / max(k + 1, 6)) ** 0.5),
    "one cycle": (
        OneCycle(PEAK, 21),
        lambda k: cycle(k, True, (0, PEAK / 25), (0.3 * 21 - 1, PEAK), (20, PEAK / 25 / 1e4)),
    ),
    "one cycle, linear, three phases": (
        OneCycle(PEAK, 21, 0.4, 10.0, 100.0, "linear", 3),
        lambda k: cycle(k, False, (0, 0.01), (0.4 * 21 - 1, PEAK), (0.8 * 21 - 2, 0.01), (20, 1e-4)),
    ),
}
each_schedule = pytest.mark.parametrize(("schedule", "at"), SCHEDULES.values(), ids=SCHEDULES)
STEPS = range(26)


def off(schedule, at, steps=STEPS):
    """The largest relative error, or the absolute one at the end where the rate is 0."""
    found = [(float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(k, "int32")))), at(k)) for k in steps]
    return max(abs(number - expected) / (abs(expected) or 1.0) for number, expected in found)


@pytest.mark.quick
@each_schedule
def test_a_schedule_equals_its_equation_in_float64(schedule, at, float64):
    assert off(schedule, at) <= 1e-14


@pytest.mark.xfail(strict=True, reason="Keras takes its numbers as float32, whatever floatx is")
@pytest.mark.on("tensorflow")
def test_a_keras_schedule_of_the_same_name_is_not_replaced(float64):
    schedule = keras.optimizers.schedules.PolynomialDecay(PEAK, 20, 0.01, 1.5)
    assert off(schedule, SCHEDULES["polynomial"][1]) <= 1e-14


@each_schedule
def test_a_schedule_equals_its_equation_in_float32(schedule, at):
    found = schedule(ops.convert_to_tensor(3, "int32"))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    assert max(abs(float(schedule(k)) - at(k)) for k in STEPS) <= 4e-7 * PEAK


@pytest.mark.parametrize("mode", MODES)
@each_schedule
def test_a_schedule_is_traced_with_a_counter(schedule, at, mode):
    """Like the count of updates: an integer variable, with another value each time."""
    if keras.backend.backend() == "jax":
        import jax

        call = jax.jit(schedule) if mode == "jit" else schedule
        found = [float(call(jax.numpy.asarray(k, "int32"))) for k in STEPS]
    else:
        counter = keras.Variable(0, dtype="int64", trainable=False)
        call, found = in_mode(lambda: schedule(counter), mode), []
        for k in STEPS:
            counter.assign(k)
            found.append(float(ops.convert_to_numpy(call())))
    np.testing.assert_allclose(found, [at(k) for k in STEPS], rtol=0, atol=4e-7 * PEAK)


@each_schedule
def test_the_learning_rate_and_the_decay_follow_a_schedule(schedule, at, float64):
    theta = a_weight(np.ones(3), dtype="float64")
    optimizer = SGD(schedule, weight_decay=schedule)
    expected = np.ones(3)
    for k in range(12):
        optimizer.apply([ops.convert_to_tensor(np.full(3, 0.5))], [theta])
        expected = expected - at(k) * (0.5 + at(k) * expected)
    np.testing.assert_allclose(value(theta), expected, rtol=1e-13, atol=0)


@each_schedule
def test_an_optimizer_is_restored_with_its_schedule(schedule, at):
    """`PolynomialDecay` is the name of a class of Keras too."""
    optimizer = keras.optimizers.serialize(keras_adaptive.Adam(schedule, weight_decay=schedule))
    again = keras.optimizers.deserialize(optimizer)
    for kept in (again._learning_rate, again.weight_decay):
        assert type(kept) is type(schedule)
        assert kept.get_config() == schedule.get_config()
        assert kept(3) == schedule(3)


def test_a_warm_up_can_precede_any_schedule(float64):
    cosine = keras.optimizers.schedules.CosineDecay(0.5, 10)
    # Keras's own numbers are rounded to float32.
    assert off(WarmupSchedule(cosine, 4), lambda k: k / 8 if k < 4 else float(cosine(k - 4))) <= 1e-7
    twice = WarmupSchedule(WarmupSchedule(PEAK, 3, start=0.01), 2)
    assert off(twice, lambda k: 0.005 * k if k < 2 else min(PEAK, 0.01 + 0.03 * (k - 2))) <= 1e-14


@pytest.mark.parametrize("phases", [2, 3])
@pytest.mark.parametrize("shape", ["cosine", "linear"])
@pytest.mark.on("tensorflow", "torch")
def test_one_cycle_matches_torch(phases, shape, float64):
    torch = pytest.importorskip("torch")
    theirs = torch.optim.SGD([torch.zeros(1, dtype=torch.float64)], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        theirs, PEAK, total_steps=37, pct_start=0.35, anneal_strategy=shape[:3].replace("lin", "linear"),
        three_phase=phases == 3, cycle_momentum=False,
    )  # fmt: skip
    rates = []
    for _ in range(37):
        rates.append(theirs.param_groups[0]["lr"])
        theirs.step()
        if len(rates) < 37:
            schedule.step()
    ours = OneCycle(PEAK, 37, 0.35, shape=shape, phases=phases)
    # Near the end torch's linear form takes a small number from a large one.
    np.testing.assert_allclose([float(ours(k)) for k in range(37)], rates, rtol=0, atol=1e-15 * PEAK)


REFUSED = [
    (WarmupSchedule, {"schedule": PEAK, "warmup_steps": -1}, "warmup_steps", ValueError),
    (WarmupSchedule, {"schedule": "cosine", "warmup_steps": 1}, "schedule", TypeError),
    (WarmupSchedule, {"schedule": PEAK, "warmup_steps": 1, "counts": "before"}, "counts", ValueError),
    (PolynomialDecay, {"learning_rate": PEAK, "decay_steps": 0}, "decay_steps", ValueError),
    (PolynomialDecay, {"learning_rate": PEAK, "decay_steps": 2, "power": 0.0}, "power", ValueError),
    (PolynomialDecay, {"learning_rate": math.nan, "decay_steps": 2}, "learning_rate", ValueError),
    (WarmupStableDecay, {"learning_rate": PEAK, "warmup_steps": 1, "stable_steps": 2.5, "decay_steps": 1},
     "stable_steps", ValueError),
    (InverseSquareRoot, {"learning_rate": PEAK, "warmup_steps": 0}, "warmup_steps", ValueError),
    (OneCycle, {"learning_rate": PEAK, "total_steps": 3}, "warmup_fraction", ValueError),
    (OneCycle, {"learning_rate": PEAK, "total_steps": 40, "warmup_fraction": 0.52, "phases": 3}, "warmup_fraction",
     ValueError),
    (OneCycle, {"learning_rate": PEAK, "total_steps": 40, "phases": 4}, "phases", ValueError),
    (scale_learning_rate, {"base": 0.1, "base_batch": 256, "batch": 0}, "batch", ValueError),
    (scale_learning_rate, {"base": 0.1, "base_batch": 256, "batch": 2, "rule": "log"}, "rule", ValueError),
    (legw, {"learning_rate": 0.1, "warmup_epochs": -1, "base_batch": 1, "batch": 2, "examples": 3}, "warmup_epochs",
     ValueError),
    (recipe, {"name": "bert", "batch": 1536}, "name", ValueError),
    (recipe, {"name": "bert-lamb-mlperf", "batch": 1537}, "batch", ValueError),
    (recipe, {"name": "resnet50-lars-tpu", "batch": 20000}, "batch", ValueError),
]  # fmt: skip


@pytest.mark.quick
@pytest.mark.parametrize(("what", "arguments", "wrong", "error"), REFUSED)
def test_a_wrong_argument_is_named(what, arguments, wrong, error):
    with pytest.raises(error, match=rf"(?s)`{wrong}`.* must .*Received: .*{wrong}="):
        what(**arguments)


@each_schedule
def test_all_arguments_are_checked_and_saved(schedule, at):
    assert set(schedule.get_config()) == set(inspect.signature(type(schedule)).parameters)


# Scaling with the batch


@pytest.mark.parametrize(("batch", "published"), [(1024, 8e-4), (131072, 90.5e-4)])
def test_the_square_root_rule_gives_the_rates_of_cowclip(batch, published):
    """Its README prints three digits for Criteo."""
    assert scale_learning_rate(8e-4, 1024, batch, rule="sqrt") == pytest.approx(published, rel=1e-3)


def test_legw_does_not_change_the_number_of_warm_up_updates():
    examples = 1281167
    for s in (1, 2, 8, 32):
        found = legw(0.5, 0.3125, 1024, 1024 * s, examples)
        assert found.learning_rate == pytest.approx(0.5 * 2 ** (math.log2(s) / 2), rel=1e-15)
        assert found.warmup_epochs == 0.3125 * s
        assert found.warmup_steps == 391


def test_the_recipe_of_lars_makes_the_schedule_of_its_source():
    """lars_util.py of tensorflow/tpu at 32768: peak 34 after 12 epochs, then power 2 over what is left and one step."""
    examples, batch, updates = 1281167, 32768, 3519
    found = recipe("resnet50-lars-tpu", batch)
    warmup = found["warmup_epochs"] * examples // batch
    decay = PolynomialDecay(found["learning_rate"], updates - warmup + 1, end=1e-4, power=found["power"])
    schedule = WarmupSchedule(decay, warmup)
    assert float(schedule(warmup)) == 34.0
    assert float(schedule(warmup // 7)) == pytest.approx(34.0 / 7, rel=1e-6)
    half = (updates - warmup + 1) / 2
    assert float(schedule(warmup + int(half))) == pytest.approx(34.0 / 4, rel=2e-3)
