"""A rule that multiplies matrices, called once for several variables, has the numbers of one call for each."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import OPTIONS, compiled, difference, state, value, values

from keras_adaptive import Group, Muon, Shampoo, Soap
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.step import stacks

# Full rank from the first gradient on: in a larger space rounding would choose the basis.
SHAPES = [(3, 3), (3, 3), (3, 2, 3), (5,), (2, 2), (3, 3), (3, 2, 3), (5,), (0, 3), (0, 3)]
stacks_matrices = lambda case: getattr(case.optimizer, "stacks", False)  # noqa: E731
# Where nothing has to be compiled, all of them.
stacked = each("none", torch="classes", where=stacks_matrices)


def trained(make, together, monkeypatch, steps=5, missing=(), dtype="float64"):
    """The weights and the state after a few steps, and the stacks by their variables' places."""
    monkeypatch.setattr(backends, "stacks", lambda: together)
    rng = np.random.default_rng(17)
    variables = [keras.Variable(rng.normal(size=shape), dtype=dtype, name=f"w{i}") for i, shape in enumerate(SHAPES)]
    optimizer = make()
    optimizer.build(variables)
    apply = compiled(optimizer, variables)
    for t in range(steps):
        gradients = [ops.convert_to_tensor(rng.normal(size=shape), dtype=dtype) for shape in SHAPES]
        apply([None if (place, t) in missing else gradient for place, gradient in enumerate(gradients)])
    found = [places for bucket in optimizer.plan.update.buckets for places in bucket.stacks]
    return values(variables), state(optimizer), sorted(found)


@each("none", torch="classes", full="classes", where=stacks_matrices)
@pytest.mark.parametrize("options", ["plain", pytest.param("everything", marks=pytest.mark.on("torch"))])
def test_numbers_are_those_of_one_call_for_each_variable(case, options, float64, monkeypatch):
    """Also the state, and with stages before and after the rule."""

    def make():
        return case.make(**OPTIONS[options])

    weights, slots, found = trained(make, True, monkeypatch)
    alone, slots_alone, none = trained(make, False, monkeypatch)
    assert found
    assert not none
    assert difference(weights, alone) <= 1e-12
    assert difference([*slots.values()], [*slots_alone.values()]) <= 1e-12


@stacked
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_variable_whose_first_gradient_comes_later(case, float64, monkeypatch):
    """It has no basis or roots while others of its stack have them."""
    missing = {(0, 0), (5, 3)}
    weights, slots, _ = trained(case.make, True, monkeypatch, missing=missing)
    alone, slots_alone, _ = trained(case.make, False, monkeypatch, missing=missing)
    assert difference(weights, alone) <= 1e-12
    assert difference([*slots.values()], [*slots_alone.values()]) <= 1e-12


@stacked
def test_rounding_is_that_of_each_variable(case, monkeypatch):
    """The random bits depend on the variable's place, so two equal variables of a stack are rounded otherwise."""
    ends = []
    for together in (True, False):
        monkeypatch.setattr(backends, "stacks", lambda together=together: together)
        variables = [keras.Variable(np.ones((4, 4)), dtype="bfloat16", name=f"w{i}") for i in range(2)]
        optimizer = case.make(1e-2, slot_dtype="bfloat16", stochastic_rounding=True)
        optimizer.build(variables)
        rng = np.random.default_rng(3)
        for _ in range(4):
            gradient = ops.convert_to_tensor(rng.normal(size=(4, 4)), dtype="bfloat16")
            optimizer.apply([gradient, gradient], variables)
        ends.append(values(variables))
    assert np.any(ends[0][0] != ends[0][1])
    for one, other in zip(*ends, strict=True):
        # A last digit of float32 may tip a rounding; with other bits it would be half of them.
        assert np.mean(one == other) >= 0.9


def places(optimizer, shapes):
    """The stacks of variables of these shapes."""
    optimizer.build([keras.Variable(np.ones(shape), name=f"w{i}") for i, shape in enumerate(shapes)])
    return sorted(found for bucket in optimizer.plan.update.buckets for found in bucket.stacks)


@pytest.mark.on("torch")
def test_variables_of_one_shape_are_stacked(monkeypatch):
    monkeypatch.setattr(backends, "stacks", lambda: True)
    assert places(Soap(), SHAPES) == [(0, 1, 5), (2, 6), (3, 7)]
    # Muon's vectors are updated element by element.
    assert places(Muon(), SHAPES) == [(0, 1, 5)]
    assert places(Muon(companion=True), SHAPES) == []
    # Another hyperparameter makes another kind.
    assert places(Shampoo(groups=[Group("w0", beta_1=0.5)]), SHAPES)[0] == (1, 5)


@pytest.mark.on("torch")
def test_a_stack_has_a_largest_size(monkeypatch):
    monkeypatch.setattr(backends, "stacks", lambda: True)
    monkeypatch.setattr(stacks, "MOST", 40)
    assert places(Muon(), [(4, 4)] * 5) == [(0, 1), (2, 3)]
    assert places(Muon(), [(8, 8)] * 2) == []


@pytest.mark.on("torch")
def test_a_variable_that_is_added_later_is_updated_alone(monkeypatch):
    """Its t is another, and so are its bias corrections."""
    ends = []
    for together in (True, False):
        monkeypatch.setattr(backends, "stacks", lambda together=together: together)
        variables = [keras.Variable(np.eye(4), dtype="float32", name=f"w{i}") for i in range(4)]
        optimizer = Soap(0.1, frequency=1)
        optimizer.build(variables[:2])
        rng = np.random.default_rng(5)
        optimizer.apply([ops.convert_to_tensor(rng.normal(size=(4, 4)), "float32") for _ in range(2)], variables[:2])
        optimizer.extend(variables)
        for _ in range(3):
            optimizer.apply([ops.convert_to_tensor(rng.normal(size=(4, 4)), "float32") for _ in range(4)], variables)
        found = [one for bucket in optimizer.plan.update.buckets for one in bucket.stacks]
        assert found == ([(0, 1)] if together else [])
        ends.append([value(v) for v in variables])
    assert difference(*ends) <= 1e-5


@pytest.mark.on("torch")
def test_describe_says_that_stacked_variables_are_not_compiled(monkeypatch):
    """A loop compiled by torch is for one variable."""
    import torch

    monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)
    monkeypatch.setattr(backends, "stacks", lambda: True)
    variables = [keras.Variable(np.eye(n), dtype="float32", name=f"w{i}") for i, n in enumerate((4, 4, 3))]
    optimizer = Muon(jit_update=True)
    optimizer.apply([ops.ones(v.shape) for v in variables], variables)
    first, second, alone = (row.not_compiled for row in optimizer.describe())
    assert first == second
    assert "multiplied together" in first
    assert not alone


@pytest.mark.on("jax")
@pytest.mark.parametrize(
    ("platform", "capability", "halved", "together"),
    [
        ("cpu", "", False, False),
        ("tpu", "", True, False),
        ("gpu", "7.5", False, True),
        ("gpu", "9.0", True, True),
        ("gpu", "gfx90a", True, True),
    ],
)
def test_what_pays_on_which_device(platform, capability, halved, together, monkeypatch):
    import jax

    device = type("Device", (), {"compute_capability": capability})
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert backends.multiplies_bfloat16() is halved
    assert backends.stacks() is together
