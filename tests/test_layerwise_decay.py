"""Layer-wise learning-rate decay: which level each variable of a model is on."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from support import values

import keras_adaptive
from keras_adaptive import Group, layerwise_decay

# Making the models takes JAX long.
pytestmark = pytest.mark.full_on("jax")

# The levels depend on the model, not on the backend; torch builds the nets of keras.applications fastest.
on_torch = pytest.mark.on("torch")


def optimizer_of(model, rate=0.5, **options):
    made = keras_adaptive.SGD(learning_rate=1.0, weight_decay=0.1, groups=layerwise_decay(model, rate, **options))
    made.build(model.trainable_variables)
    return made


def multipliers(model, rate=0.5, **options):
    """By path: the learning rate and the decay that an optimizer of the model has, its own being 1.0 and 0.1."""
    return {row.path: (row.learning_rate, row.weight_decay) for row in optimizer_of(model, rate, **options).describe()}


def levels(model, **options):
    """By the name of the layer that owns the variables: how many levels come after its own; each layer has one."""
    found = {}
    for path, (rate, _) in multipliers(model, **options).items():
        level = -np.log2(rate)
        assert level == round(level)
        assert found.setdefault(path.split("/")[-2], level) == level, path
    return found


def count(model, **options):
    return len({rate for rate, _ in multipliers(model, **options).values()})


class Block(layers.Layer):
    """Two layers that are one level."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = layers.Dense(4), layers.Dense(4)

    def call(self, x):
        return x + self.second(self.first(x))


def residual(x, name, width=4, kind="Add", shortcut=False):
    """A block of two convolutions; its shortcut is a third one or none."""
    begin = layers.Conv2D(width, 1, name=f"{name}_0")(x) if shortcut else x
    y = layers.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_1")(x)
    y = layers.BatchNormalization(name=f"{name}_norm")(layers.Conv2D(width, 3, padding="same", name=f"{name}_2")(y))
    return layers.ReLU()(getattr(layers, kind)()([begin, y]))


def functional(make, shape=(8, 8, 3)):
    given = keras.Input(shape)
    return keras.Model(given, make(given))


def small_residual_net(blocks=3):
    def make(x):
        x = layers.BatchNormalization(name="stem_norm")(layers.Conv2D(4, 3, name="stem")(x))
        for i in range(blocks):
            x = residual(x, f"block{i}", shortcut=i == 0)
        return layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x))

    return functional(make)


def test_a_text_model():
    """Embeddings share one level, norms have the level of the layer before them, nested models are searched."""
    ids = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, name="tokens")(ids)
    x = layers.LayerNormalization(name="norm")(x)
    x = layers.Add()([x, layers.Embedding(5, 4, name="places")(ids)])
    for i in range(2):
        x = Block(name=f"block{i}")(x)
    backbone = keras.Model(ids, layers.LayerNormalization(name="last")(x), name="backbone")
    model = keras.Model(ids, layers.Dense(2, name="head")(backbone(ids)))
    expected = {"block0": 0.25, "block1": 0.5, "last": 0.5, "head": 1.0}
    expected |= dict.fromkeys(("tokens", "norm", "places"), 0.125)
    found = multipliers(model)
    assert len(found) == len(model.trainable_variables)
    for path, (rate, _) in found.items():
        layer = next(part for part in path.split("/") if part in expected)
        assert rate == expected[layer], path


def test_a_residual_block_is_one_level():
    expected = {"stem": 4, "stem_norm": 4, "head": 0}
    for i in range(3):
        expected |= dict.fromkeys([f"block{i}_1", f"block{i}_2", f"block{i}_norm"], 3 - i)
    assert levels(small_residual_net()) == expected | {"block0_0": 3}


@pytest.mark.parametrize("nested", [False, True])
def test_a_nested_residual_net_has_the_same_levels(nested):
    net = small_residual_net()
    body = keras.Model(net.inputs, net.layers[-2].output, name="body")
    inner = keras.Sequential([keras.Input((8, 8, 3)), body]) if nested else body
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), inner, layers.Dense(3, name="hidden"), layers.Dense(2, name="new")]
    )
    expected = {name: level + 1 for name, level in levels(net).items() if name != "head"}
    assert levels(model) == expected | {"hidden": 1, "new": 0}


def test_layers_between_blocks_are_one_level_and_the_output_layer_is_another():
    def make(x):
        x = layers.Conv2D(4, 3, name="a")(x)
        x = residual(layers.Conv2D(4, 3, name="b")(x), "first")
        x = layers.Conv2D(4, 1, name="d")(layers.DepthwiseConv2D(3, name="c")(x))
        gate = layers.Dense(4, name="gate")(layers.GlobalAveragePooling2D(keepdims=True)(x))
        x = residual(layers.Multiply()([x, gate]), "second")
        x = layers.Dense(5, name="e")(layers.Flatten()(layers.Conv2D(4, 1, name="top")(x)))
        return layers.Dense(2, name="head")(x)

    found = levels(functional(make, (12, 12, 3)))
    assert [found[name] for name in ("a", "b", "c", "d", "gate", "top", "e", "head")] == [5, 5, 3, 3, 3, 1, 1, 0]
    assert (found["first_1"], found["second_2"]) == (4, 2)


def test_without_blocks_each_layer_is_a_level():
    model = keras.Sequential([keras.Input((8, 8, 3)), *[layers.Conv2D(2, 3, name=f"c{i}") for i in range(3)]])
    assert levels(model) == {"c0": 2, "c1": 1, "c2": 0}


def test_a_transformer_of_single_layers_has_a_level_for_each_block():
    """Attention and the layers after it are one level, with the normalization before or after."""

    def make(x, before):
        norm = layers.LayerNormalization
        x = layers.Dense(4, name="in")(x)
        for i in range(3):
            y = norm(name=f"n{i}")(x) if before else x
            x = layers.Add()([x, layers.MultiHeadAttention(2, 2, name=f"attention{i}")(y, y)])
            x = norm(name=f"m{i}")(x)
            x = layers.Add()([x, layers.Dense(4, name=f"second{i}")(layers.Dense(8, name=f"first{i}")(x))])
        return layers.Dense(2, name="head")(x)

    for before in (True, False):
        found = multipliers(functional(lambda x, before=before: make(x, before), (5, 4)))
        for path, (rate, _) in found.items():
            layer = next(part for part in path.split("/") if part[-1].isdigit() or part in ("in", "head"))
            expected = {"in": 4, "head": 0}.get(layer, 3 - int(layer[-1]) if layer[-1].isdigit() else None)
            if layer[0] != "n":
                assert -np.log2(rate) == expected, path


def test_both_towers_end_on_the_same_level():
    def tower(x, name, depth):
        for i in range(depth):
            x = layers.Dense(4, name=f"{name}{i}")(x)
        return x

    one, other = keras.Input((3,)), keras.Input((3,))
    together = layers.Concatenate()([tower(one, "a", 3), tower(other, "b", 1)])
    model = keras.Model([one, other], layers.Dense(1, name="head")(together))
    assert levels(model) == {"a0": 3, "a1": 2, "a2": 1, "b0": 1, "head": 0}


def test_every_output_layer_is_on_the_last_level():
    given = keras.Input((3,))
    x = layers.Dense(4, name="body")(given)
    early = layers.Dense(2, name="early")(x)
    late = layers.Dense(2, name="late")(layers.Dense(4, name="hidden")(x))
    assert levels(keras.Model(given, {"a": early, "b": late})) == {"body": 2, "hidden": 1, "early": 0, "late": 0}


def test_a_shared_layer_counts_once_at_its_first_call():
    shared = layers.Dense(4, name="shared")

    def make(x):
        x = layers.Dense(4, name="in")(x)
        for _ in range(5):
            x = shared(x)
        return layers.Dense(1, name="head")(x)

    assert levels(functional(make, (4,))) == {"in": 2, "shared": 1, "head": 0}


def test_a_shared_model_of_two_inputs_has_its_levels():
    encoder = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="one"), layers.Dense(4, name="two")])
    inputs = [keras.Input((3,)), keras.Input((3,))]
    model = keras.Model(inputs, layers.Dense(1, name="head")(layers.Subtract()([encoder(x) for x in inputs])))
    assert levels(model) == {"one": 2, "two": 1, "head": 0}


def test_a_u_net_is_not_one_block():
    def make(x):
        x = layers.Conv2D(4, 3, padding="same", name="a")(x)
        y = layers.Conv2D(4, 3, padding="same", name="b")(layers.MaxPooling2D()(x))
        y = layers.Conv2DTranspose(4, 2, strides=2, name="up")(y)
        y = layers.Conv2D(4, 3, padding="same", name="c")(layers.Concatenate()([x, y]))
        return layers.Conv2D(1, 1, name="head")(y)

    assert levels(functional(make)) == {"a": 4, "b": 3, "up": 2, "c": 1, "head": 0}


def test_a_dense_block_is_one_level():
    def make(x):
        x = layers.Conv2D(4, 3, name="stem")(x)
        for i in range(2):
            for j in range(3):
                x = layers.Concatenate()([x, layers.Conv2D(2, 3, padding="same", name=f"dense{i}_{j}")(x)])
            x = layers.Conv2D(4, 1, name=f"transition{i}")(x)
        return layers.Dense(2, name="head")(layers.GlobalAveragePooling2D()(x))

    found = levels(functional(make))
    assert {found[f"dense0_{j}"] for j in range(3)} == {4}
    assert (found["stem"], found["transition0"], found["dense1_0"], found["transition1"]) == (5, 3, 2, 1)


class Untied(layers.Layer):
    """A layer that holds an embedding with a separate output projection, as KerasHub's do."""

    def __init__(self, **options):
        super().__init__(**options)
        self.token_embedding = layers.ReversibleEmbedding(9, 4, tie_weights=False, name="token")

    def build(self, shape):
        self.token_embedding.build(shape)

    def call(self, x, reverse=False):
        return self.token_embedding(x, reverse=reverse)


@pytest.mark.parametrize("holder", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_an_untied_output_projection_is_on_the_last_level(holder, nested):
    embedding = Untied() if holder else layers.ReversibleEmbedding(9, 4, tie_weights=False)
    ids = keras.Input((5,), dtype="int32")
    body = layers.Dense(4, name="b")(layers.Dense(4, name="a")(embedding(ids)))
    body = keras.Model(ids, body, name="body")
    model = keras.Model(ids, embedding(body(ids), reverse=True)) if nested else body
    model = model if nested else keras.Model(ids, embedding(body.outputs[0], reverse=True))
    found = {path.split("/")[-2] + path.split("/")[-1]: rate for path, (rate, _) in multipliers(model).items()}
    by_end = {name: rate for name, rate in found.items() if "embeddings" in name}
    assert sorted(by_end.values()) == [0.125, 1.0]
    assert next(rate for name, rate in by_end.items() if name.endswith("reverse_embeddings")) == 1.0
    assert (found["akernel"], found["bkernel"]) == (0.25, 0.5)


def test_a_tied_embedding_stays_on_the_first_level():
    embedding = layers.ReversibleEmbedding(9, 4, name="tied")
    ids = keras.Input((5,), dtype="int32")
    model = keras.Model(ids, embedding(layers.Dense(4, name="hidden")(embedding(ids)), reverse=True))
    assert levels(model) == {"tied": 1, "hidden": 0}


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.embedding = layers.Embedding(9, 4, name="embedding")
        self.blocks = [Block(name=f"block{i}") for i in range(2)]
        self.head = layers.Dense(3, name="head")

    def call(self, x):
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def test_a_subclassed_model_goes_by_the_order_of_its_attributes():
    model = Subclassed()
    model(np.ones((2, 5), "int32"))
    found = {path: -np.log2(rate) for path, (rate, _) in multipliers(model).items()}
    for name, level in {"embedding": 3, "block0": 2, "block1": 1, "head": 0}.items():
        assert {of_one for path, of_one in found.items() if f"/{name}/" in f"/{path}"} == {level}


class Encoder(layers.Layer):
    """All blocks of a transformer in one layer, as KerasHub's ViT has them."""

    def __init__(self, **options):
        super().__init__(**options)
        self.blocks = [Attending(name=f"block{i}") for i in range(3)]

    def call(self, x):
        for block in self.blocks:
            x = block(x)
        return x


class Attending(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.attention, self.dense = layers.MultiHeadAttention(2, 2), layers.Dense(4)

    def call(self, x):
        return x + self.dense(self.attention(x, x))


def test_the_blocks_of_a_layer_that_holds_a_stack_are_levels():
    def make(x):
        return layers.Dense(2, name="head")(Encoder(name="encoder")(layers.Dense(4, name="patches")(x)))

    found = {path: -np.log2(rate) for path, (rate, _) in multipliers(functional(make, (5, 4))).items()}
    for name, level in {"patches": 4, "block0": 3, "block1": 2, "block2": 1, "head": 0}.items():
        assert {of_one for path, of_one in found.items() if f"/{name}/" in f"/{path}"} == {level}


@pytest.mark.parametrize("frozen", ["stem", "block0_1", "head"])
def test_frozen_layers_do_not_shift_the_levels(frozen):
    model = small_residual_net()
    expected = levels(model)
    model.get_layer(frozen).trainable = False
    found = levels(model)
    assert frozen not in found
    assert found.items() <= expected.items()


@pytest.mark.parametrize("most", [1, 2, 3, 4, 5, 7, None])
def test_levels_are_merged_evenly_and_the_output_stays_separate(most):
    model = keras.Sequential([keras.Input((2,)), *[layers.Dense(2, name=f"d{i}") for i in range(7)]])
    found = levels(model, levels=most)
    order = [found[f"d{i}"] for i in range(7)]
    assert order == sorted(order, reverse=True)
    sizes = [order.count(level) for level in sorted(set(order))]
    assert len(sizes) == (most or 7)
    assert set(order) == set(range(len(sizes)))
    if most != 1:
        assert sizes[0] == 1
        assert max(sizes[1:]) - min(sizes[1:]) <= 1


def test_by_default_no_model_has_more_than_26_levels():
    model = keras.Sequential([keras.Input((2,)), *[layers.Dense(2, name=f"d{i}") for i in range(60)]])
    assert count(model) == 26
    assert count(model, levels=None) == 60


def test_the_table_shows_the_smallest_multiplier():
    table = optimizer_of(small_residual_net(), 0.8).describe()
    assert table.smallest_multiplier == (pytest.approx(0.8**4), table.rows[0].path)
    assert f"smallest learning rate multiplier: 0.4096 ({table.rows[0].path})" in str(table).splitlines()
    plain = keras_adaptive.SGD()
    plain.build(small_residual_net().trainable_variables)
    assert "multiplier" not in str(plain.describe())


def test_a_frozen_model_and_vectors():
    parts = [layers.Dense(2, name=f"d{i}") for i in range(3)]
    model = keras.Sequential([keras.Input((3,)), *parts], name="m")
    parts[0].trainable = False
    assert multipliers(model, decay_vectors=False) == {
        "m/d1/kernel": (0.5, 0.1),
        "m/d1/bias": (0.5, 0.0),
        "m/d2/kernel": (1.0, 0.1),
        "m/d2/bias": (1.0, 0.0),
    }


class PatchEmbedding(layers.Layer):
    """An embedding by its name alone."""

    def __init__(self, **options):
        super().__init__(**options)
        self.projection = layers.Conv2D(4, 2, strides=2, name=f"{self.name}_projection")

    def call(self, x):
        return self.projection(x)


def test_a_layer_named_embedding_is_on_the_first_level_only_if_it_comes_first():
    def make(x):
        for i in range(2):
            x = layers.Conv2D(4, 1, name=f"stage{i}")(PatchEmbedding(name=f"patches{i}")(x))
        return layers.Dense(2, name="head")(layers.Flatten()(x))

    expected = {"patches0_projection": 4, "stage0": 3, "patches1_projection": 2, "stage1": 1, "head": 0}
    assert levels(functional(make)) == expected


def test_wrong_arguments_are_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    with pytest.raises(ValueError, match="must be built"):
        layerwise_decay(keras.Sequential([layers.Dense(1)]), 0.5)
    for wrong in (0.0, 1.5, "0.5", None):
        with pytest.raises((ValueError, TypeError), match="`rate` must"):
            layerwise_decay(model, wrong)
    for wrong in (0, -1, 2.5, "3"):
        with pytest.raises((ValueError, TypeError), match="`levels` must"):
            layerwise_decay(model, 0.5, levels=wrong)


@pytest.mark.full_on("tensorflow")
def test_the_first_layers_of_a_residual_net_move():
    """Each part moves by about its multiplier times the step of the same optimizer without groups."""
    x = np.random.default_rng(90).normal(size=(32, 8, 8, 3)).astype("float32")
    y = (x.mean(axis=(1, 2, 3)) > 0).astype("int32")
    moved = []
    for rate in (1.0, 0.8):
        keras.utils.set_random_seed(91)
        model = small_residual_net(blocks=4)
        before = values(model.trainable_variables)
        optimizer = keras_adaptive.Adam(1e-3, groups=layerwise_decay(model, rate))
        model.compile(optimizer=optimizer, loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        model.fit(x, y, batch_size=8, epochs=1, verbose=0)
        ends = zip(before, values(model.trainable_variables), strict=True)
        moved.append([np.sqrt(np.mean((end - begin) ** 2)) for begin, end in ends])
    first, last = moved[1][0] / moved[0][0], moved[1][-2] / moved[0][-2]
    assert 0.5 * 0.8**5 < first < 2 * 0.8**5
    assert 0.5 < last < 2
    assert moved[1][0] > 5e-5


# The published nets. A stem, the blocks, the output layer, and the chains between blocks where there are any.
APPLICATIONS = {
    "ResNet50": 18,
    "ResNet152": 52,
    "ResNet50V2": 18,
    "MobileNetV2": 17,
    "EfficientNetB0": 16,
    "ConvNeXtTiny": 23,
    "DenseNet121": 9,
    "VGG16": 16,
    "InceptionV3": 13,
    "Xception": 15,
}


@on_torch
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name == "ResNet50" else [pytest.mark.full]) for name in APPLICATIONS]
)
def test_the_nets_of_keras_applications(name):
    side = 96 if name in ("InceptionV3", "Xception") else 64
    model = getattr(keras.applications, name)(weights=None, classes=7, input_shape=(side, side, 3))
    assert count(model, levels=None) == APPLICATIONS[name]
    table = optimizer_of(model, 0.8).describe()
    assert table.smallest_multiplier[0] == pytest.approx(0.8 ** (min(APPLICATIONS[name], 26) - 1))
    last = {row.path for row in table if row.learning_rate == 1.0}
    assert last == {v.path for v in model.layers[-1].trainable_variables}
    assert table.rows[0].learning_rate == table.smallest_multiplier[0]


def decoder(cls, **options):
    import keras_hub

    sizes = {"num_query_heads": 2, "num_key_value_heads": 1, "hidden_dim": 8, "intermediate_dim": 16}
    backbone = getattr(keras_hub.models, f"{cls}Backbone")(vocabulary_size=20, num_layers=3, **sizes, **options)
    return getattr(keras_hub.models, f"{cls}CausalLM")(backbone=backbone)


@on_torch
@pytest.mark.full
@pytest.mark.parametrize(
    ("cls", "options"),
    [("Llama", {}), ("Mistral", {}), ("Mixtral", {"num_experts": 2, "top_k": 1}), ("Phi3", {})],
)
def test_the_untied_heads_of_keras_hub(cls, options):
    pytest.importorskip("keras_hub", reason="KerasHub is not installed")
    rates = {path: rate for path, (rate, _) in multipliers(decoder(cls, **options)).items()}
    assert [path for path, rate in rates.items() if rate == 1.0] == ["token_embedding/reverse_embeddings"]
    assert rates["token_embedding/embeddings"] == 0.5**4
    for i in range(3):
        assert {rate for path, rate in rates.items() if path.startswith(f"transformer_layer_{i}/")} == {0.5 ** (3 - i)}


@on_torch
@pytest.mark.full
def test_the_transformer_blocks_of_keras_hub():
    models = pytest.importorskip("keras_hub", reason="KerasHub is not installed").models
    sizes = {"num_layers": 3, "num_heads": 2, "hidden_dim": 8}
    text = sizes | {"vocabulary_size": 20, "intermediate_dim": 16}
    assert count(models.BertBackbone(max_sequence_length=8, **text)) == 5
    assert count(models.DebertaV3Backbone(max_sequence_length=8, bucket_size=4, **text)) == 4
    assert count(models.BartBackbone(max_sequence_length=8, **text)) == 7
    vit = models.ViTBackbone(image_shape=(16, 16, 3), patch_size=8, mlp_dim=16, **sizes)
    assert count(models.ViTImageClassifier(backbone=vit, num_classes=3, pooling="token")) == 5


def test_user_groups_combine_with_the_levels():
    model = small_residual_net()
    groups = [Group("norm", weight_decay=0.0), Group("stem/", 0.7), *layerwise_decay(model, 0.5)]
    optimizer = keras_adaptive.SGD(1.0, weight_decay=0.1, groups=groups)
    optimizer.build(model.trainable_variables)
    rows = {row.path: (row.learning_rate, row.weight_decay) for row in optimizer.describe()}
    assert rows["stem/kernel"] == (pytest.approx(0.7), 0.1)
    assert rows["stem_norm/gamma"] == (0.5**4, 0.0)
    assert ops.shape(model.outputs[0])[-1] == 2
