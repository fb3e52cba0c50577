"""The table that `describe()` prints."""

import keras
import numpy as np

import keras_adaptive
from keras_adaptive import layerwise_decay, no_decay_on_vectors


def attention_model():
    """With paths as long as those of KerasHub's models."""
    tokens = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(1000, 64, name="token_embedding")(tokens)
    x = keras.layers.MultiHeadAttention(4, 16, name="transformer_layer_0_self_attention")(x, x)
    return keras.Model(tokens, keras.layers.Dense(10, name="head")(keras.layers.LSTM(32, name="lstm")(x)))


def test_the_table_shows_roles_and_matrices():
    """It is never wider than a screen, and shows each group's full pattern below."""
    model = attention_model()
    groups = [no_decay_on_vectors(), *layerwise_decay(model, 0.5)]
    optimizer = keras_adaptive.Muon(
        groups=groups, use_ema=True, weight_decay=0.1, gradient_accumulation_steps=2, monitor=True
    )
    optimizer.build(model.trainable_variables)
    text = str(optimizer.describe())
    assert max(map(len, text.splitlines())) <= 100
    for word in ("kernel     64 x 64 ", "32 x 32 x 4", "embedding  1000 x 64", "output     32 x 10"):
        assert word in text
    unbroken = "".join(line.strip() for line in text.splitlines())
    for index, group in enumerate(groups):
        assert f"group {index}: {group.pattern or 'any path'}" in unbroken
    for row in optimizer.describe():
        assert row.path in text
        assert ", ".join(row.slots) in text
    # Short paths stand beside the other columns, long ones above them.
    for layers, head in ((model.layers[-2:], ["path", "shape", "role", "matrices"]), (model.layers, ["path"])):
        simple = keras_adaptive.Muon()
        simple.build([variable for layer in layers for variable in layer.trainable_variables])
        lines = str(simple.describe()).splitlines()
        assert max(map(len, lines)) <= 100
        assert lines[0].split()[:4] == head


def test_the_table_says_that_a_schedule_has_ended():
    schedule = keras.optimizers.schedules.PolynomialDecay(0.1, 3, 0.0)
    optimizer = keras_adaptive.Adam(schedule)
    optimizer.build([keras.Variable(np.zeros((3, 4, 5)), name="w")])
    assert "learning rate is 0" not in str(optimizer.describe())
    optimizer.iterations.assign(3)
    assert "The learning rate is 0 after 3 updates" in str(optimizer.describe())


def test_the_table_marks_variables_that_no_layer_describes():
    optimizer = keras_adaptive.Muon()
    optimizer.build([keras.Variable(np.zeros((3, 4, 5)), name="w"), keras.Variable(np.zeros((2, 3)), name="bias")])
    text = str(optimizer.describe())
    assert "no layer says what they are (unknown axes): w" in text
    assert "no layer says what they are (name bias): bias" in text
