"""Any argument of any class is refused by a message that names it, or trains three finite steps."""

import math
import warnings

import keras
import numpy as np
import pytest
from cases import ROWS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import ops
from support import value, values

from keras_adaptive.core import fields

# Nothing has to be compiled there.
pytestmark = [pytest.mark.on("torch"), pytest.mark.full]

CLASSES = sorted({case.optimizer for case in ROWS}, key=lambda cls: cls.__name__)
# Weights and steps are near 1. Beyond these, products of numbers near the ends of float32 overflow.
LEAST, MOST = 1e-30, 1e3
# Counts of updates and sizes; larger ones are accepted and take as long as they say.
COUNTS = st.integers(1, 8)
NUMBERS = st.floats(LEAST, MOST) | st.floats(0.0, 1.0) | st.sampled_from([0.0, 1.0, 0.5, -1.0, -0.0, 1 - 1e-9, 1e-45])
WRONG = st.sampled_from(
    [
        None,
        True,
        "auto",
        "x",
        "",
        math.nan,
        math.inf,
        -math.inf,
        1e39,
        10**400,
        2**31,
        -1,
        1 + 2j,
        [],
        (),
        {},
        object(),
        int,
    ]
)
# It needs a keras.distribution.
ELSEWHERE = {"shard_state", "jit_update"}
EXAMPLES = 2400


def of_field(one: fields.Field):
    """Values of the kind that the field takes, and others."""
    accepted = one.check.accepted
    if "whole number" in accepted:
        return COUNTS | WRONG
    if one.help.startswith("power of"):
        # A number to the power of hundreds is more than float32 holds.
        return st.floats(0.0, 4.0) | WRONG
    if "True or False" in accepted:
        return st.booleans() | WRONG
    if "real number" in accepted:
        return NUMBERS | WRONG
    names = [part for part in accepted.replace("None or ", "").split("'") if part.strip(" or")]
    return st.sampled_from(names) | WRONG if names else WRONG


@st.composite
def cases(draw):
    cls = draw(st.sampled_from(CLASSES))
    names = draw(st.lists(st.sampled_from(sorted(set(cls.fields) - ELSEWHERE)), min_size=1, max_size=4, unique=True))
    return cls, {name: draw(of_field(cls.fields[name])) for name in names}


@settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases())
def test_each_argument_is_refused_by_name_or_trains_three_finite_steps(case):
    cls, arguments = case
    variables = [keras.Variable(np.linspace(0.5, 1.5, 6).reshape(2, 3), name="kernel"), keras.Variable([1.0], name="b")]
    try:
        optimizer = cls(**arguments)
        if optimizer.loss_scale is not None:
            optimizer.scale_loss(1.0)
        optimizer.build(variables)
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(f"`{name}`" in message or f"{name}=" in message for name in arguments), message
        return
    random, factor = np.random.default_rng(5), optimizer.loss_scale_factor
    scale = value(optimizer.dynamic_scale) if factor == "dynamic" else factor or 1.0
    for _ in range(3):
        gradients = [ops.convert_to_tensor(scale * random.normal(size=tuple(v.shape)), "float32") for v in variables]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            optimizer.apply(gradients, variables)
    assert all(np.isfinite(one).all() for one in values(variables)), values(variables)
