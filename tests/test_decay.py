"""Weight decay: its three forms, its schedule, and its place in the step."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import Problem, Ramp, a_weight, difference, value, values

# Where the rule has its own place for the decay, its twin says where.
each_beside = each(where=lambda case: case.optimizer.decay == "core")


class Halving(keras.optimizers.schedules.LearningRateSchedule):
    """0.4, 0.2, 0.1, ..."""

    def __call__(self, step):
        return 0.4 * ops.power(0.5, ops.cast(step, "float32"))

    def get_config(self):
        return {}


def stepped(case, count=4, decayed_by_hand=None, **options):
    """Weights after some updates; what is decayed by hand is added to the gradients."""
    problem = Problem(seed=91, shapes=[(), (4, 3)], steps=count)
    variables, optimizer = problem.variables("float32"), case.make(**options)
    for t in range(1, count + 1):
        thetas = values(variables)
        gradients = problem.gradients(t, thetas)
        if decayed_by_hand:
            gradients = [g + decayed_by_hand * theta for g, theta in zip(gradients, thetas, strict=True)]
        optimizer.apply([ops.convert_to_tensor(g, dtype="float32") for g in gradients], variables)
        yield thetas, values(variables)


@each_beside
@pytest.mark.parametrize("mode", ["decoupled", "independent"])
@pytest.mark.parametrize("decay", [0.2, Halving()], ids=["number", "schedule"])
def test_decoupled_decay_acts_without_a_gradient(case, mode, decay):
    """Without a gradient nothing else moves a weight: it shrinks by eta lambda, or by lambda alone, of this update."""
    case.needs("rest")
    ramp = Ramp(0.5)
    variable = a_weight([4.0, -2.0])
    optimizer = case.make(ramp, weight_decay=decay, weight_decay_mode=mode)
    for t in range(1, 6):
        before = value(variable)
        optimizer.apply([ops.zeros(2)], [variable])
        rate = 0.2 if decay == 0.2 else 0.4 * 0.5 ** (t - 1)
        rate = rate * ramp.at(t) * case.vector_rate if mode == "decoupled" else rate
        assert difference([value(variable)], [before * (1 - rate)]) <= 1e-6


@each_beside
def test_coupled_decay_is_part_of_the_gradient(case):
    ours = list(stepped(case, weight_decay=0.2, weight_decay_mode="coupled"))
    by_hand = list(stepped(case, decayed_by_hand=0.2, weight_decay=None))
    for (_, one), (_, other) in zip(ours, by_hand, strict=True):
        assert difference(one, other) <= 2e-6


@each_beside
def test_coupled_decay_is_added_after_clipping(case):
    """As if gradients were clipped before the optimizer is called."""
    clipped, by_hand = a_weight([3.0, -4.0]), a_weight([3.0, -4.0])
    case.make(weight_decay=0.5, weight_decay_mode="coupled", clipnorm=0.1).apply(
        [ops.convert_to_tensor([6.0, 8.0])], [clipped]
    )
    case.make(weight_decay=None).apply([ops.convert_to_tensor([0.06 + 1.5, 0.08 - 2.0])], [by_hand])
    assert difference(values([clipped]), values([by_hand])) <= 1e-6


@each_beside
def test_a_schedule_of_decay_counts_updates(case):
    """Not the micro-batches of a window."""
    case.needs("rest")
    variable = a_weight([4.0])
    optimizer = case.make(0.5, weight_decay=Halving(), gradient_accumulation_steps=3)
    expected = 4.0
    for t in range(4):
        expected *= 1 - 0.5 * case.vector_rate * 0.4 * 0.5**t
        for _ in range(3):
            optimizer.apply([ops.zeros(1)], [variable])
        assert difference([value(variable)], [np.array([expected])]) <= 1e-6


@each()
def test_wrong_decay_modes_are_refused(case):
    for wrong in ("l2", None, 1):
        with pytest.raises((ValueError, TypeError), match=r"`weight_decay_mode` must be .*'coupled'.*Received"):
            case.make(weight_decay_mode=wrong)
