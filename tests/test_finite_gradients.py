"""Finite gradients whose squares overflow float32: nothing silently becomes infinite or NaN."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import a_weight, compiled, value

START = np.linspace(-1.0, 1.0, 12, dtype="float32").reshape(4, 3)
USUAL = np.sin(np.arange(12, dtype="float32")).reshape(4, 3)


def trained(case, gradients, **options):
    """A matrix after these gradients, and its optimizer."""
    weight = keras.Variable(START, name="kernel")
    optimizer = case.make(**options)
    step = compiled(optimizer, [weight])
    for gradient in gradients:
        step([ops.convert_to_tensor(gradient)])
    return weight, optimizer


def everything(weight, optimizer):
    return [value(variable) for variable in (weight, *optimizer.plan.states[0].stored.values())]


@each(torch="classes")
@pytest.mark.parametrize("size", [2e19, 3e38])
def test_an_element_that_would_become_nonfinite_is_not_changed(case, size):
    """One gradient of that size among usual ones. The other elements continue."""
    large = USUAL.copy()
    large[1, 2] = size
    weight, optimizer = trained(case, [USUAL, USUAL, large, USUAL, USUAL], skip_nonfinite=True)
    assert all(np.all(np.isfinite(x)) for x in everything(weight, optimizer))
    assert int(value(optimizer.skipped_updates)) == 0
    before, _ = trained(case, [USUAL, USUAL, large], skip_nonfinite=True)
    assert np.any(value(weight) != value(before))


@each(torch="classes")
def test_a_row_and_a_column_without_gradients_stay(case):
    """The inputs and units that a ReLU switches off, in the same matrix. An average of 1e-30 stands for each."""
    gradient = USUAL.copy()
    gradient[1, :] = gradient[:, 2] = 0.0
    weight, optimizer = trained(case, [gradient] * 3)
    assert all(np.all(np.isfinite(x)) for x in everything(weight, optimizer))
    assert np.any(value(weight) != START)


@each(torch="classes")
def test_usual_gradients_are_never_skipped(case):
    gradients = [USUAL, -0.5 * USUAL, USUAL]
    skipping, without = (trained(case, gradients, skip_nonfinite=skip) for skip in (True, False))
    assert skipping[1].skipped_elements == 0
    assert without[1].skipped_elements == 0
    np.testing.assert_allclose(value(skipping[0]), value(without[0]), rtol=1e-6, atol=1e-7)


def test_steps_beyond_float16_are_skipped_and_counted():
    """A step of 1e6 from 1, where float16 ends at 65504."""
    from keras_adaptive import SGD

    weight = a_weight([1.0, 1.0], dtype="float16")
    optimizer = SGD(1e6, skip_nonfinite=True, monitor=True)
    for _ in range(2):
        optimizer.apply([ops.convert_to_tensor([1.0, 1e-4], dtype="float32")], [weight])
    assert value(weight)[0] == 1.0
    assert optimizer.skipped_elements == optimizer.metrics["skipped_elements"] == 2
    assert -250 < value(weight)[1] < -150
