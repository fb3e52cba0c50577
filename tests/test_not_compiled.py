"""With `jit_update=True`, `describe()` says which variables are updated operation by operation, and why."""

import re

import keras
import numpy as np
import pytest
from cases import CASE
from keras import ops
from support import values

from keras_adaptive import CowClip
from keras_adaptive.core.fields import one_of
from keras_adaptive.core.optimizer import AdaptiveOptimizer
from keras_adaptive.optimizers.adam import Adam
from keras_adaptive.optimizers.soap import Soap

NOTE = "updated operation by operation, not compiled, because"


@pytest.fixture(autouse=True)
def recorded(monkeypatch):
    """The loops run as they were recorded, operation by operation: that takes no compiler."""
    if keras.backend.backend() == "torch":
        import torch

        monkeypatch.setattr(torch, "compile", lambda graph, **options: graph)


class Own(AdaptiveOptimizer):
    """Of a user: for matrices its rule may be one that cannot be recorded, or be wrong."""

    how = one_of(("plain", "asks", "numpy", "array", "wrong"), "plain", "the rule")

    def about(self, role, h):
        return {"is_matrix": len(role.shape) == 2} | ({"array": np.ones(3)} if self.how == "array" else {})

    def rule(self, h, theta, g):
        how = self.how if h.variable.is_matrix else "plain"
        if how == "asks" and ops.sum(g) < 0.0:
            g = 2.0 * g
        if how == "numpy":
            g = g * float(np.sum(ops.convert_to_numpy(g)))
        if how == "wrong":
            g = {"theta": g}["g"]
        return h.eta * g, ()


def weights():
    return [
        keras.Variable(np.ones(shape, "float32"), name=name) for name, shape in (("kernel", (2, 3)), ("bias", (3,)))
    ]


def after_a_step(optimizer, variables):
    """What its table says of the kernel and the bias, after a step with gradients of -1; its text says the same."""
    optimizer.apply([-ops.ones(variable.shape) for variable in variables], variables)
    table = optimizer.describe()
    unbroken = " ".join(str(table).split())
    for row in table:
        assert not row.not_compiled or f"{NOTE} {row.not_compiled}: " in unbroken
    assert any(row.not_compiled for row in table) == (NOTE in unbroken)
    return [row.not_compiled for row in table]


@pytest.mark.on("torch")
@pytest.mark.parametrize(
    ("how", "said", "moved"),
    [
        ("asks", r"torch cannot record its update \(GuardOnDataDependentSymNode: \w+", 2.0),
        ("numpy", r"torch cannot record its update \(RuntimeError: .*numpy", -6.0),
    ],
)
def test_variables_that_torch_cannot_record_are_reported_and_train(how, said, moved):
    variables, optimizer = weights(), Own(0.5, how=how, jit_update=True)
    optimizer.build(variables)
    assert not any(row.not_compiled for row in optimizer.describe()), "nothing is known before the first step"
    kernel, bias = after_a_step(optimizer, variables)
    assert re.match(said, kernel)
    assert bias == ""
    kernel, bias = values(variables)
    np.testing.assert_array_equal(kernel, np.full((2, 3), 1.0 + 0.5 * moved, "float32"))
    np.testing.assert_array_equal(bias, np.full(3, 1.5, "float32"))


@pytest.mark.on("torch")
def test_of_soap_only_matrices_are_not_compiled():
    """The reason is not the message that Keras puts in front of errors in its operations."""
    kernel, bias = after_a_step(Soap(jit_update=True), weights())
    assert "GuardOnDataDependentSymNode: " in kernel
    assert "Exception encountered" not in kernel
    assert bias == ""
    assert keras.config.is_traceback_filtering_enabled()


@pytest.mark.parametrize("jit_update", [True, "auto", False])
@pytest.mark.parametrize("options", [{}, {"clipnorm": 0.1}, {"slot_dtype": "bfloat16"}], ids=str)
def test_nothing_is_reported_if_all_is_compiled_or_jit_update_is_not_true(options, jit_update):
    """On other backends than torch everything is compiled if `jit_update=True`."""
    assert after_a_step(CASE.make(jit_update=jit_update, **options), weights()) == ["", ""]


@pytest.mark.on("torch")
@pytest.mark.parametrize("jit_update", ["auto", False])
def test_nothing_is_reported_for_a_rule_unless_jit_update_is_true(jit_update):
    assert after_a_step(Own(how="numpy", jit_update=jit_update), weights()) == ["", ""]


@pytest.mark.on("torch")
def test_a_reason_that_only_one_variable_has_is_reported():
    said = {}
    for name in ("constraint", "cowclip", "transposed", "array"):
        kernel, bias = weights()
        optimizer = Adam(jit_update=True) if name != "array" else Own(how="array", jit_update=True)
        if name == "constraint":
            kernel.constraint = keras.constraints.NonNeg()
        if name == "transposed":
            kernel.value.data = kernel.value.data.T.contiguous().T
        if name == "cowclip":
            kernel = keras.Variable(np.ones((2, 3), "float32"), name="embeddings")
            optimizer = Adam(cowclip=CowClip("embeddings"), jit_update=True)
            optimizer.apply([ops.ones((2, 3)), ops.ones(3)], [kernel, bias], counts={kernel.path: ops.ones(2)})
            said[name] = [row.not_compiled for row in optimizer.describe()]
        else:
            said[name] = after_a_step(optimizer, [kernel, bias])
    for name, part in (("constraint", "constraint"), ("cowclip", "`cowclip`"), ("transposed", "not contiguous")):
        assert part in said[name][0]
        assert said[name][1] == ""
    assert all("`about`" in text for text in said["array"])


@pytest.mark.on("torch")
def test_an_error_in_the_rule_is_raised():
    """As without a compiler: it is not an error of the recording, and nothing hides it."""
    optimizer, variables = Own(how="wrong", jit_update=True), weights()
    with pytest.raises(KeyError, match="'g'") as raised:
        after_a_step(optimizer, variables)
    assert raised.value.__context__ is None
