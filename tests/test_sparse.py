"""TensorFlow's gradient of an embedding is a list of rows that may repeat."""

import keras
import numpy as np
import pytest
from cases import each
from support import a_weight, difference, in_mode, values

pytestmark = pytest.mark.on("tensorflow")

ROWS, WIDTH = 7, 3
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.05},
    "global_clipnorm": {"global_clipnorm": 0.05},
    "clipvalue": {"clipvalue": 0.01},
    "loss-scale": {"loss_scale_factor": 1024.0},
    "ema": {"use_ema": True, "ema_overwrite_frequency": 3, "weight_decay": 0.1},
}


def trained(case, options, mode, one_hot, table, head, batches):
    import tensorflow as tf

    table, head = a_weight(table, dtype="float32"), a_weight(head, dtype="float32")
    optimizer = case.make(**options)
    optimizer.build([table, head])
    scale = options.get("loss_scale_factor", 1.0)
    ids = tf.Variable(batches[0])

    def step():
        with tf.GradientTape() as tape:
            looked_up = tf.nn.embedding_lookup
            found = tf.one_hot(ids, ROWS) @ table.value if one_hot else looked_up(table.value, ids)
            loss = scale * tf.reduce_mean(tf.square(tf.tanh(found) @ head.value - 1.0))
        gradients = tape.gradient(loss, [table.value, head.value])
        assert isinstance(gradients[0], tf.IndexedSlices) != one_hot
        optimizer.apply(gradients, [table, head])

    step = in_mode(step, mode)
    for batch in batches:
        ids.assign(batch)
        step()
    return values([table, head])


@each(
    keras="Keras squares every occurrence of a row by itself, and cannot unscale a sparse gradient",
    raises=(AssertionError, TypeError),
)
@pytest.mark.parametrize(
    ("mode", "options"),
    [
        pytest.param("eager", "plain", marks=pytest.mark.quick),
        ("jit", "plain"),
        *(("graph", name) for name in OPTIONS),
    ],
)
def test_repeated_ids_match_a_one_hot_model(case, mode, options):
    rng = np.random.default_rng(31)
    table, head = rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(WIDTH, 1))
    batches = rng.integers(0, 3, size=(6, 8)).astype("int32")
    looked_up, multiplied = (
        trained(case, OPTIONS[options], mode, one_hot, table, head, batches) for one_hot in (False, True)
    )
    assert difference(looked_up, multiplied) <= 2e-6


@each(keras="Keras squares every occurrence of a row by itself")
def test_repeated_ids_in_a_table_of_low_precision(case):
    """Rows are summed in float32: 64 times 1/256 on 1 would be lost in bfloat16."""
    import tensorflow as tf

    moved, rows = [], tf.constant([[1.0]] + [[1.0 / 256]] * 256, tf.bfloat16)
    for gradient in (
        tf.IndexedSlices(rows, tf.zeros(257, tf.int32), tf.constant((2, 1))),
        tf.constant([[2.0], [0.0]], tf.bfloat16),
    ):
        table = a_weight([[1.0], [1.0]], dtype="bfloat16")
        optimizer = case.make(learning_rate=0.25)
        optimizer.apply([gradient], [table])
        moved.append(values([table, *[v for v in optimizer.variables if v.shape == (2, 1)]]))
    assert difference(*moved) <= 1e-6
    assert moved[0][0][0, 0] < 1.0


@each(keras="Keras squares every occurrence of a row by itself")
def test_an_embedding_layer_in_fit_matches_one_hot_inputs(case):
    """The same through `fit`, with a ragged last batch, against one-hot inputs to a Dense layer."""
    rng = np.random.default_rng(32)
    ids, targets = rng.integers(0, ROWS, size=(22, 4)), rng.normal(size=(22, 4, 1))
    start, head = rng.normal(size=(ROWS, WIDTH)), rng.normal(size=(WIDTH, 1))
    ends = []
    for layer, inputs in (
        (keras.layers.Embedding(ROWS, WIDTH), ids),
        (keras.layers.Dense(WIDTH, use_bias=False), np.eye(ROWS)[ids]),
    ):
        model = keras.Sequential([layer, keras.layers.Activation("tanh"), keras.layers.Dense(1, use_bias=False)])
        model.build(inputs.shape)
        model.set_weights([start, head])
        model.compile(optimizer=case.make(), loss="mse")
        model.fit(inputs, targets, batch_size=8, epochs=2, shuffle=False, verbose=0)
        ends.append(values(model.trainable_variables))
    assert difference(*ends) <= 1e-5
