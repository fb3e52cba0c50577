"""Adam's family beyond the contract: Adam-mini's blocks, AdaBound's base, RAdam's length in float32."""

from decimal import Decimal, localcontext
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import ops
from reference import twins
from support import Problem, Ramp, difference

import keras_adaptive
from keras_adaptive.core.math import numerics
from keras_adaptive.optimizers.radam import length

# Where nothing has to be compiled first; tests/test_rules.py holds the other backends to the same numbers.
pytestmark = pytest.mark.on("torch")


def blocks(variables, **arguments):
    """By the last two parts of its path, the shape of a variable's second moment."""
    optimizer = keras_adaptive.AdamMini(**arguments)
    optimizer.build(variables)
    return {"/".join(s.path.split("/")[-2:]): tuple(s.stored["v"].shape) for s in optimizer.plan.states}


def transformer():
    """A model with a layer of every kind that has its own block structure."""
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 6, name="tokens")(ids)
    x = keras.layers.MultiHeadAttention(2, 3, value_dim=4, name="attention")(x, x)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Conv1D(7, 3, name="conv")(x)
    return keras.Model(ids, keras.layers.Dense(8, name="key_head")(x), name="query_encoder")


def test_blocks_of_a_transformer():
    """Neither a model called query_encoder nor a matrix of a layer called key_head makes a head."""
    model = transformer()
    assert blocks(model.trainable_variables) == {
        "tokens/embeddings": (9, 1),
        "query/kernel": (1, 2, 1),
        "query/bias": (2, 3),
        "key/kernel": (1, 2, 1),
        "key/bias": (2, 3),
        "value/kernel": (1, 2, 4),
        "value/bias": (2, 4),
        "attention_output/kernel": (1, 1, 6),
        "attention_output/bias": (6,),
        "norm/gamma": (1,),
        "norm/beta": (6,),
        "conv/kernel": (1, 1, 7),
        "conv/bias": (7,),
        "key_head/kernel": (1, 8),
        "key_head/bias": (8,),
    }


def test_blocks_by_group():
    variables = [
        keras.Variable(np.ones(shape), name=name)
        for name, shape in [("q_proj", (4, 2, 3)), ("table", (5, 2)), ("offset", (3,)), ("reverse_embeddings", (2, 5))]
    ]
    groups = [
        keras_adaptive.Group("q_proj", block="head"),
        keras_adaptive.Group("table", block="row"),
        keras_adaptive.Group("offset", block="tensor"),
    ]
    found = blocks(variables, groups=groups)
    assert found == {"q_proj": (1, 2, 1), "table": (5, 1), "offset": (1,), "reverse_embeddings": (1, 5)}
    found = blocks(variables)
    assert found == {"q_proj": (1, 1, 3), "table": (1, 2), "offset": (3,), "reverse_embeddings": (1, 5)}
    with pytest.raises(ValueError, match=r"`block` must.*Received: block='head'.*'table'.*\(5, 2\)"):
        blocks(variables, groups=[keras_adaptive.Group("table|q_proj", block="head")])


def test_a_head_matches_the_twin(float64):
    problem, schedule = Problem(seed=101, shapes=[(4, 2, 3), (3, 2, 1), (2, 0, 3), (2, 3, 0)], steps=40), Ramp(0.05)
    ours = problem.run(keras_adaptive.AdamMini(learning_rate=schedule, block="head"), "float64")
    assert difference(ours, problem.reference(twins.adam_mini, schedule.at, axes=(0, 2))) <= 1e-12


def test_adabound_takes_its_base_from_a_number_only():
    assert keras_adaptive.AdaBound(learning_rate=0.5).base_learning_rate == 0.5
    assert keras_adaptive.AdaBound(learning_rate=0.5, base_learning_rate=0.1).base_learning_rate == 0.1
    for rate in (Ramp(0.1), lambda: 0.1, 0.0):
        with pytest.raises((ValueError, TypeError), match=r"`learning_rate` must be a number above 0 unless.*Received"):
            keras_adaptive.AdaBound(learning_rate=rate)
    with pytest.raises(ValueError, match="`learning_rate` must"):
        keras_adaptive.AdaBound(learning_rate=-1.0)


@pytest.mark.parametrize(("dtype", "digits"), [("float32", 1e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("beta_2", [0.9, 0.99, 0.999, 0.9999, 0.99999])
def test_radams_length_has_full_precision(beta_2, dtype, digits, float64):
    """The difference of two terms, as the paper writes it, has an error of up to one in float32."""
    times = [1, 2, 3, 4, 5, 6, 10, 50, 100, 1000, 2000, 20000, 200000]
    with localcontext() as context:
        context.prec = 60
        wide = Decimal(beta_2)
        exact = np.array([float(2 / (1 - wide) - 1 - 2 * t * wide**t / (1 - wide**t)) for t in times])
    t = ops.convert_to_tensor(np.array(times, dtype))
    h = SimpleNamespace(beta_2=beta_2, t=t, debias=lambda beta: numerics.debias(beta, t))
    ours = length(h, 2 / (1 - beta_2) - 1)
    assert keras.backend.standardize_dtype(ours.dtype) == dtype
    assert np.max(np.abs(ops.convert_to_numpy(ours) / exact - 1)) <= digits
    assert list(exact[:6] > 4) == [False] * 4 + [True] * 2


def test_the_mean_of_an_empty_axis_is_zero():
    x = ops.zeros((3, 0))
    assert ops.convert_to_numpy(numerics.mean(x, (0,), keepdims=True)).shape == (1, 0)
    assert ops.convert_to_numpy(numerics.mean(x, (0, 1), keepdims=True)).tolist() == [[0.0]]
