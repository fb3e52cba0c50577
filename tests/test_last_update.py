"""The count of updates at its largest value: it never becomes negative."""

import keras
import numpy as np
import pytest
from cases import CASE, each
from keras import ops
from support import compiled, value, values

LAST = 2**31 - 1
OPTIONS = {"use_ema": True, "weight_decay": 0.1}


def built(case, **options):
    variables = [keras.Variable(np.ones((2, 3)), name="matrix"), keras.Variable(np.ones(3), name="vector")]
    optimizer = case.make(**options)
    optimizer.build(variables)
    return optimizer, variables


def gradients():
    return [ops.convert_to_tensor(np.full(shape, 0.5, "float32")) for shape in ((2, 3), (3,))]


@each(torch="classes")
def test_the_step_after_the_last_is_refused_and_changes_nothing(case):
    optimizer, variables = built(case, **OPTIONS)
    optimizer.apply(gradients(), variables)
    optimizer.iterations.assign(LAST - 1)
    optimizer.apply(gradients(), variables)
    assert int(value(optimizer.iterations)) == LAST
    assert all(np.all(np.isfinite(array)) for array in values([*variables, *optimizer.variables]))
    before = values([*variables, *optimizer.variables])
    with pytest.raises(ValueError, match=rf"`optimizer.iterations` must be from 0 to .* Received: iterations={LAST}"):
        optimizer.apply(gradients(), variables)
    assert all(np.array_equal(a, b) for a, b in zip(values([*variables, *optimizer.variables]), before, strict=True))
    optimizer.iterations.assign(5)
    optimizer.apply(gradients(), variables)
    assert int(value(optimizer.iterations)) == 6


ENTRIES = {
    "apply": lambda optimizer, variables: optimizer.apply(gradients(), variables),
    "apply_gradients": lambda optimizer, variables: optimizer.apply_gradients(zip(gradients(), variables, strict=True)),
    "update_step": lambda optimizer, variables: optimizer.update_step(gradients()[0], variables[0], ops.ones(())),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("options", [{}, {"gradient_accumulation_steps": 2}], ids=["step", "window"])
@pytest.mark.parametrize("number", [LAST, -1, -(2**31)])
def test_no_method_accepts_an_invalid_count(number, options, entry):
    optimizer, variables = built(CASE, **options)
    optimizer.iterations.assign(number)
    with pytest.raises(ValueError, match=r"`optimizer.iterations` must be from 0 to"):
        ENTRIES[entry](optimizer, variables)


@pytest.mark.on("tensorflow", "jax")
@each(torch="classes")
def test_a_compiled_step_does_not_count_past_the_last_number(case):
    optimizer, variables = built(case, **OPTIONS)
    step = compiled(optimizer, variables)
    step(gradients())
    optimizer.iterations.assign(LAST - 1)
    for _ in range(3):
        before = values(variables)
        step(gradients())
        assert int(value(optimizer.iterations)) == LAST
        assert all(np.all(np.isfinite(array)) for array in values([*variables, *optimizer.variables]))
    assert any(np.any(a != b) for a, b in zip(values(variables), before, strict=True))
