"""Which variables of a model an optimizer of matrices leaves to AdamW."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_adaptive import Group, Muon, companion_groups

# Where nothing has to be compiled first; tests/test_rules.py holds the other backends to the same numbers.
pytestmark = pytest.mark.on("torch")


def companions(model, outputs=None):
    """The paths of the companions that are not vectors."""
    optimizer = Muon(groups=companion_groups(model, outputs))
    optimizer.build(model.trainable_variables)
    return {s.path for s in optimizer.plan.states if s.facts["companion"] and len(s.shape) > 1}


def functional(make, inputs=(6,)):
    given = keras.Input(inputs)
    return keras.Model(given, make(given))


class Block(layers.Layer):
    """A layer of layers, with an embedding of positions and its own weights."""

    def __init__(self, width, **options):
        super().__init__(**options)
        self.first = layers.Dense(width, name="first")
        self.rest = [layers.Dense(width, name="second"), {"last": layers.LayerNormalization(name="norm")}]
        self.positions = layers.Embedding(6, width, name="positions")
        self.width = width

    def build(self, shape):
        self.first.build(shape)
        self.rest[0].build((*shape[:-1], self.width))
        self.rest[1]["last"].build((*shape[:-1], self.width))
        self.positions.build(shape)
        self.mixture = self.add_weight(shape=(self.width, self.width), name="mixture")

    def call(self, x):
        x = self.rest[0](self.first(x)) @ self.mixture
        return self.rest[1]["last"](x)


class Subclassed(keras.Model):
    def __init__(self, tied=False):
        super().__init__()
        if tied:
            self.tied = layers.ReversibleEmbedding(9, 4, name="tied")
            self.tied.build(None)
        self.embedding = layers.Embedding(9, 4, name="embedding")
        self.hidden = layers.Dense(5, name="hidden")
        self.head = layers.Dense(3, name="head")
        self.norm = layers.LayerNormalization(name="norm")

    def call(self, x):
        return self.norm(self.head(self.hidden(self.embedding(x))))


class PositionEmbedding(layers.Layer):
    """Called an embedding and not one; its own weights are, the projection is not."""

    def __init__(self, **options):
        super().__init__(**options)
        self.projection = layers.Dense(4, name="projection")

    def build(self, shape):
        self.positions = self.add_weight(shape=(shape[-2], 4), name="position_embeddings")
        self.projection.build((*shape[:-1], 4))

    def call(self, x):
        return self.projection(x + self.positions)


def body(x):
    return layers.Dense(5, name="hidden")(layers.Dense(7, name="earlier")(x))


def ends(paths, *names):
    """Each path is of one of these layers, and each of them is there."""
    return len(paths) == len(names) and all(any(f"{name}/" in f"/{path}" for path in paths) for name in names)


@pytest.mark.parametrize(
    "behind",
    [
        lambda x: x,
        layers.Softmax(),
        layers.LayerNormalization(),
        layers.Reshape((3, 1)),
        lambda x: layers.Activation("relu")(layers.Dropout(0.1)(x)),
        lambda x: ops.softmax(2.0 * x),
    ],
)
def test_the_output_layer_of_a_functional_model(behind):
    assert ends(companions(functional(lambda x: behind(layers.Dense(3, name="head")(body(x))))), "/head")


def test_every_output_has_its_layer():
    def make(x):
        x = body(x)
        return {"classes": layers.Dense(3, name="head")(x), "boxes": layers.Dense(4, name="other")(x), "features": x}

    assert ends(companions(functional(make)), "/head", "/other", "/hidden")


def test_an_output_of_several_tensors_has_no_output_layer():
    assert companions(functional(lambda x: layers.Add()([x, layers.Dense(6)(body(x))]))) == set()


def test_the_last_layer_of_a_sequential_model():
    model = keras.Sequential([layers.Dense(5, name="hidden"), layers.Dense(3, name="head"), layers.Softmax()])
    model.build((None, 6))
    assert ends(companions(model), "/head")


def test_nested_models_are_searched():
    inner = functional(lambda x: layers.Dense(4, name="inner_last")(layers.Dense(8, name="inner_first")(x)))
    assert ends(companions(functional(inner)), "/inner_last")
    assert ends(companions(functional(lambda x: layers.Dense(3, name="head")(inner(x)))), "/head")


def test_a_subclassed_model_needs_output_layers():
    """Not the layer that was made last: here that is a layer in the middle."""
    model = Subclassed()
    model.last = layers.Dense(5, name="made_last")
    model.last.build((None, 5))
    model(np.ones((2, 5), "int32"))
    with pytest.raises(ValueError, match=r"`output_layers` must be given, since Subclassed .*\[model.head\]"):
        companion_groups(model)
    assert ends(companions(model, [model.head]), "embedding", "head")
    assert ends(companions(model, []), "embedding")
    with pytest.raises(TypeError, match="`output_layers` must be None or a list of layers"):
        companion_groups(model, ["head"])


def test_a_subclassed_model_with_a_tied_embedding_ends_in_it():
    model = Subclassed(tied=True)
    model(np.ones((2, 5), "int32"))
    assert ends(companions(model), "embedding", "tied")


def test_layers_in_layers():
    """A block does not say which of its layers is the last. Its embedding is a companion."""
    block = functional(Block(4, name="block"), (5, 6))
    with pytest.raises(ValueError, match="since Block 'block' does not say"):
        companion_groups(block)
    assert ends(companions(block, [block.layers[-1].rest[0]]), "/positions", "/second")
    hidden = functional(lambda x: layers.Dense(2, name="head")(Block(4, name="block")(x)), (5, 6))
    assert ends(companions(hidden), "/positions", "/head")


# Without companion_groups


def default_companions(model):
    optimizer = Muon()
    optimizer.build(model.trainable_variables)
    return {s.path for s in optimizer.plan.states if s.facts["companion"] and len(s.shape) > 1}


def text_model():
    tokens = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, name="tokens")(tokens)
    return keras.Model(tokens, layers.Dense(3, name="head")(layers.Dense(4, name="hidden")(x)))


def test_muon_leaves_embeddings_and_the_output_layer_to_adamw_automatically():
    assert ends(default_companions(text_model()), "/tokens", "/head")


def test_an_untied_reverse_embedding_is_the_output_layer():
    """As in KerasHub's Llama, where the layer of both tables is called an embedding."""
    model = Subclassed(tied=True)
    model.tied = layers.ReversibleEmbedding(9, 4, tie_weights=False, name="untied")
    model.tied.build(None)
    model(np.ones((2, 5), "int32"))
    optimizer = Muon()
    optimizer.build(model.trainable_variables)
    kinds = {s.path.split("/")[-1]: s.role.kind for s in optimizer.plan.states if "untied" in s.path}
    assert kinds == {"embeddings": "embedding", "reverse_embeddings": "output"}
    assert not any(s.facts["companion"] for s in optimizer.plan.states if "head/kernel" in s.path)


def test_only_the_trained_model_has_the_output_layer():
    """Neither a model of its features nor a model that contains it."""
    model = text_model()
    features = keras.Model(model.inputs, model.layers[-2].output)
    twice = keras.Model(model.inputs, layers.Dense(2, name="after")(model.outputs[0]))
    assert ends(default_companions(model), "/tokens", "/head")
    assert ends(default_companions(features), "/tokens", "/hidden")
    assert ends(default_companions(twice), "/tokens", "/after")


def test_a_tied_embedding_is_the_output_layer_too():
    shared = layers.ReversibleEmbedding(9, 4, name="shared")

    def make(x):
        return shared(layers.Dense(4, name="hidden")(shared(x)), reverse=True)

    assert ends(companions(functional(make)), "shared")


def test_sublayers_of_an_embedding_layer_are_not_embeddings():
    def make(x):
        return layers.Dense(2, name="head")(PositionEmbedding(name="place")(layers.Dense(4, name="hidden")(x)))

    paths = companions(functional(make, (5, 6)))
    assert {path.split("/")[-1] for path in paths} == {"position_embeddings", "kernel"}
    assert not any("projection" in path for path in paths)


def test_layer_names_decide_nothing():
    model = functional(lambda x: layers.Dense(3, name="plain")(layers.Dense(5, name="embedding_output")(x)))
    assert ends(companions(model), "/plain")


def test_vectors_are_companions_without_a_group():
    model = functional(lambda x: layers.Dense(3)(body(x)))
    optimizer = Muon(groups=companion_groups(model))
    optimizer.build(model.trainable_variables)
    assert all(s.facts["companion"] for s in optimizer.plan.states if len(s.shape) == 1)


def test_user_groups_come_first():
    model = functional(lambda x: layers.Dense(3, name="head")(body(x)))
    groups = [Group("head/kernel", companion=False), *companion_groups(model)]
    optimizer = Muon(groups=groups)
    optimizer.build(model.trainable_variables)
    assert not any(s.facts["companion"] for s in optimizer.plan.states if len(s.shape) > 1)


def test_frozen_layers_may_be_missing():
    model = functional(lambda x: layers.Dense(3, name="head")(body(x)))
    model.layers[-1].trainable = False
    assert companions(model) == set()


def test_groups_of_another_model_are_refused():
    """Although companions of the trained model may be missing."""
    other = functional(lambda x: layers.Dense(3, name="top")(layers.Dense(5, name="body")(x)))
    with pytest.raises(ValueError, match="`groups` must match at least one variable"):
        Muon(groups=companion_groups(other)).build(functional(lambda x: layers.Dense(3)(body(x))).trainable_variables)


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="`model` must be built"):
        companion_groups(keras.Sequential([layers.Dense(3)]))


def test_companions_are_saved_with_the_model(tmp_path):
    model = functional(lambda x: layers.Dense(3, name="head")(body(x)))
    model.compile(optimizer=Muon(groups=companion_groups(model)), loss="mse")
    model.fit(np.ones((4, 6)), np.ones((4, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    shown = [[(row.path, row.slots, row.learning_rate) for row in m.optimizer.describe()] for m in (model, loaded)]
    assert shown[0] == shown[1]
