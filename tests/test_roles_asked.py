"""Special cases for embeddings, vectors and heads depend on roles; an optimizer saved by 0.1.0 still uses names."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import keras_adaptive as ka
from keras_adaptive.core.state import states

# Nothing is trained, and what is decided does not depend on the backend.
pytestmark = pytest.mark.full_on("jax")


class TokenEmbedding(layers.Layer):
    """A table that no name tells."""

    def build(self, shape):
        self.table = self.add_weight(shape=(20, 8), name="table")

    def call(self, ids):
        return ops.take(self.table, ids, axis=0)


class Words(layers.Embedding):
    """One that calls its table otherwise than Keras."""

    def build(self, shape=None):
        self.table = self.add_weight(shape=(self.input_dim, self.output_dim), name="table")
        self.built = True

    def call(self, ids):
        return ops.take(self.table, ids, axis=0)


def model():
    ids = keras.Input((6,), dtype="int32")
    tokens = layers.ReversibleEmbedding(20, 8, tie_weights=False, name="tokens")
    x = tokens(ids) + layers.Embedding(20, 8, name="positions")(ids)
    x = x + TokenEmbedding(name="words")(ids) + Words(20, 8, name="more_words")(ids)
    x = layers.LayerNormalization(name="norm")(layers.MultiHeadAttention(2, 4, value_dim=3, name="attention")(x, x))
    x = layers.Conv2D(8, 2, padding="same", name="conv")(layers.Reshape((3, 2, 8))(x))
    x = layers.Reshape((6, 8))(layers.BatchNormalization(name="batch_norm")(x))
    x = layers.GRU(8, return_sequences=True, name="gru")(layers.LSTM(5, return_sequences=True, name="lstm")(x))
    return keras.Model(ids, tokens(layers.Dense(8, name="dense")(x), reverse=True))


def asked(optimizer, answer, variables, by_names=False):
    """By the last two parts of its path, what the optimizer decided for a variable; by names as one of 0.1.0."""
    optimizer.build(variables)
    if by_names:
        config = optimizer.get_config()
        del config["roles"]
        optimizer = type(optimizer).from_config(config)
        optimizer.build(variables)
    return {"/".join(state.path.split("/")[-2:]): answer(state) for state in optimizer.plan.states}


QUESTIONS = {
    "Lamb": (ka.Lamb, lambda state: state.facts["adapt"]),
    "Lars": (ka.Lars, lambda state: state.facts["adapt"]),
    "Mars": (ka.Mars, lambda state: state.facts["matrix"]),
    "Tiger": (ka.Tiger, lambda state: None if state.facts["vector"] else state.facts["scale_axis"]),
    "AdamMini": (ka.AdamMini, lambda state: state.facts["axes"]),
    "eight bits": (lambda: ka.Adam(slot_dtype="int8"), lambda state: type(state.slots["m"][1]).__name__),
    "rows": (ka.RMSprop, lambda state: state.why_all_rows),
    "CowClip": (lambda: ka.Adam(cowclip=ka.CowClip()), lambda state: state.counted),
}
TABLES = {"words/table", "more_words/table"}
# The untied way back of tokens is the output layer, which every name rule but AdamMini's took for an embedding.
OTHERWISE = {
    "Lamb": set(),
    "Lars": set(),
    "Mars": set(),
    "AdamMini": TABLES,
    **dict.fromkeys(("Tiger", "eight bits", "rows", "CowClip"), TABLES | {"tokens/reverse_embeddings"}),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_roles_agree_with_names_where_the_names_were_right(question, monkeypatch):
    """All tables of one shape are answered alike, and unlike the output layer. The model must be there to be asked."""
    monkeypatch.setattr(states, "FEWEST_IN_EIGHT_BITS", 0)
    make, answer = QUESTIONS[question]
    trained = model()
    variables = trained.trainable_variables
    by_role, by_name = asked(make(), answer, variables), asked(make(), answer, variables, by_names=True)
    assert {path for path in by_role if by_role[path] != by_name[path]} == OTHERWISE[question]
    assert by_role.keys() >= TABLES
    assert all(by_role[path] == by_role["tokens/embeddings"] for path in (*TABLES, "positions/embeddings"))
    if OTHERWISE[question] >= TABLES:
        assert by_role["tokens/embeddings"] != by_role["dense/kernel"]
        assert (by_role["tokens/reverse_embeddings"] == by_role["dense/kernel"]) or question == "AdamMini"


def test_blocks_are_heads_only_in_attention():
    """Neither in a layer that is called query, nor behind the heads; the axis of heads may be the first."""

    class Attention(layers.Layer):
        def __init__(self):
            super().__init__()
            self.num_heads = 4
            self.key_dense = layers.EinsumDense("btd,ndh->btnh", (None, 4, 3))
            self.output_dense = layers.EinsumDense("btnh,nhd->btd", (None, 6))

        def build(self, shape):
            self.key_dense.build(shape)
            self.output_dense.build((*shape[:2], 4, 3))

    attention, alone = Attention(), layers.EinsumDense("btd,dnh->btnh", (None, 2, 3), name="query")
    for layer in (attention, alone):
        layer.build((None, 5, 6))
    optimizer = ka.AdamMini()
    optimizer.build([attention.key_dense.kernel, attention.output_dense.kernel, alone.kernel])
    assert [tuple(state.stored["v"].shape) for state in optimizer.plan.states] == [(4, 1, 1), (1, 1, 6), (1, 2, 3)]


def test_blocks_of_scales_and_of_kernels_with_outputs_not_last():
    """A scale is one block, however many axes it has, and an offset none."""
    norm, back = layers.LayerNormalization(axis=(1, 2)), layers.Conv2DTranspose(4, 3, use_bias=False)
    depthwise = layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    norm.build((None, 8, 6))
    for layer in (back, depthwise):
        layer.build((None, 8, 8, 6))
    optimizer = ka.AdamMini()
    optimizer.build([norm.gamma, norm.beta, back.kernel, depthwise.kernel])
    shapes = [tuple(state.stored["v"].shape) for state in optimizer.plan.states]
    assert shapes == [(1, 1), (8, 6), (3, 3, 4, 1), (1, 1, 6, 2)]


def test_only_its_layer_makes_a_bias_of_two_axes_a_vector():
    """Whatever its name is."""
    attention = layers.MultiHeadAttention(2, 3)
    attention.build((None, 5, 8), (None, 5, 8))
    biases = [layer.bias for layer in (attention._query_dense, attention._key_dense)]
    for bias in biases:
        bias._path = f"{bias.path}_of_heads"
    for cls in (ka.Lamb, ka.Lars):
        optimizer = cls()
        optimizer.build(biases)
        assert [state.facts["adapt"] for state in optimizer.plan.states] == [False, False]


def test_a_state_decided_by_names_brings_its_slots_and_last_steps():
    """Into an optimizer that was built by roles: as a state of 0.1.0, which has no roles."""
    variables = [keras.Variable(np.ones((4, 3)), name="w"), keras.Variable(np.ones((2, 3, 4)), name="query")]
    old, new = ka.AdamMini(), ka.AdamMini()
    vars(old).update(_roles="0.1.0")
    for optimizer in (old, new):
        optimizer.build(variables)
    assert [tuple(one.plan.states[1].stored["v"].shape) for one in (old, new)] == [(1, 3, 1), (1, 1, 4)]
    new.set_state(old.get_state())
    assert tuple(new.plan.states[1].stored["v"].shape) == (1, 3, 1)
    again = ka.AdamMini.from_config(new.get_config())
    again.build(variables)
    assert tuple(again.plan.states[1].stored["v"].shape) == (1, 3, 1)


def test_a_purpose_that_no_role_has_is_refused():
    optimizer = ka.AdamMini()
    optimizer.build([keras.Variable(np.ones((4, 3)), name="w")])
    config = optimizer.get_config()
    config["roles"][0]["role"]["purpose"] = "answer"
    with pytest.raises(ValueError, match=r"purpose.*None or one of \['query', 'key', 'value', 'scale', 'offset'\]"):
        ka.AdamMini.from_config(config)
