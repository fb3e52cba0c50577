"""Roles of variables: decided by layers of Keras, without a layer, by a group, and by a saved state."""

import gc
import json

import keras
import numpy as np
import pytest
from keras import layers, ops
from support import value

from keras_adaptive import Adam, Group, Muon
from keras_adaptive.groups.roles import Role

# Making the layers takes JAX long.
pytestmark = pytest.mark.full_on("jax")

# What is decided does not depend on the backend; where a test is about one, it says so.
IMAGE, LINE = (None, 8, 8, 6), (None, 8, 6)
# A layer, the shape of its inputs, and for each of its trainable variables the shape, the rows, columns and number of
# its matrices, and the role: by hand, from the layer's documentation.
LAYERS = {
    "Dense": (lambda: layers.Dense(3), (None, 5), [((5, 3), (5, 3, 1), "kernel"), ((3,), None, "bias")]),
    "Conv1D": (lambda: layers.Conv1D(4, 3), LINE, [((3, 6, 4), (18, 4, 1), "kernel"), ((4,), None, "bias")]),
    "Conv2D": (lambda: layers.Conv2D(4, 3), IMAGE, [((3, 3, 6, 4), (54, 4, 1), "kernel"), ((4,), None, "bias")]),
    "Conv3D": (
        lambda: layers.Conv3D(4, 2, use_bias=False),
        (None, 4, 4, 4, 3),
        [((2, 2, 2, 3, 4), (24, 4, 1), "kernel")],
    ),
    "Conv2D of groups": (
        lambda: layers.Conv2D(4, 3, groups=2, use_bias=False),
        IMAGE,
        [((3, 3, 3, 4), (27, 2, 2), "kernel")],
    ),
    "Conv1DTranspose": (
        lambda: layers.Conv1DTranspose(4, 3, use_bias=False),
        LINE,
        [((3, 4, 6), (6, 12, 1), "kernel")],
    ),
    "Conv2DTranspose": (
        lambda: layers.Conv2DTranspose(4, 3),
        IMAGE,
        [((3, 3, 4, 6), (6, 36, 1), "kernel"), ((4,), None, "bias")],
    ),
    "Conv3DTranspose": (
        lambda: layers.Conv3DTranspose(4, 2, use_bias=False),
        (None, 4, 4, 4, 3),
        [((2, 2, 2, 4, 3), (3, 32, 1), "kernel")],
    ),
    "DepthwiseConv1D": (
        lambda: layers.DepthwiseConv1D(3, use_bias=False),
        LINE,
        [((3, 6, 1), (3, 1, 6), "kernel")],
    ),
    "DepthwiseConv2D": (
        lambda: layers.DepthwiseConv2D(3, depth_multiplier=2),
        IMAGE,
        [((3, 3, 6, 2), (9, 2, 6), "kernel"), ((12,), None, "bias")],
    ),
    "SeparableConv1D": (
        lambda: layers.SeparableConv1D(4, 3, use_bias=False),
        LINE,
        [((3, 6, 1), (3, 1, 6), "kernel"), ((1, 6, 4), (6, 4, 1), "kernel")],
    ),
    "SeparableConv2D": (
        lambda: layers.SeparableConv2D(4, 3, depth_multiplier=2),
        IMAGE,
        [((3, 3, 6, 2), (9, 2, 6), "kernel"), ((1, 1, 12, 4), (12, 4, 1), "kernel"), ((4,), None, "bias")],
    ),
    "MultiHeadAttention": (
        lambda: layers.MultiHeadAttention(2, 3),
        ((None, 5, 8), (None, 5, 8)),
        [
            *[((8, 2, 3), (8, 6, 1), "kernel"), ((2, 3), None, "bias")] * 3,
            ((2, 3, 8), (6, 8, 1), "kernel"),
            ((8,), None, "bias"),
        ],
    ),
    "GroupQueryAttention": (
        lambda: layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2, use_bias=False),
        ((None, 5, 8), (None, 5, 8)),
        [
            ((8, 4, 3), (8, 12, 1), "kernel"),
            *[((8, 2, 3), (8, 6, 1), "kernel")] * 2,
            ((4, 3, 8), (12, 8, 1), "kernel"),
        ],
    ),
    "LSTM": (
        lambda: layers.LSTM(3),
        (None, 7, 5),
        [((5, 12), (5, 3, 4), "kernel"), ((3, 12), (3, 3, 4), "kernel"), ((12,), None, "bias")],
    ),
    "GRU": (
        lambda: layers.GRU(3),
        (None, 7, 5),
        [((5, 9), (5, 3, 3), "kernel"), ((3, 9), (3, 3, 3), "kernel"), ((2, 9), None, "bias")],
    ),
    "SimpleRNN": (
        lambda: layers.SimpleRNN(3),
        (None, 7, 5),
        [((5, 3), (5, 3, 1), "kernel"), ((3, 3), (3, 3, 1), "kernel"), ((3,), None, "bias")],
    ),
    "Bidirectional": (
        lambda: layers.Bidirectional(layers.LSTM(3, use_bias=False)),
        (None, 7, 5),
        [((5, 12), (5, 3, 4), "kernel"), ((3, 12), (3, 3, 4), "kernel")] * 2,
    ),
    "ConvLSTM1D": (
        lambda: layers.ConvLSTM1D(3, 2, use_bias=False),
        (None, 7, 8, 5),
        [((2, 5, 12), (10, 3, 4), "kernel"), ((2, 3, 12), (6, 3, 4), "kernel")],
    ),
    "Embedding": (lambda: layers.Embedding(9, 4), (None, 5), [((9, 4), (9, 4, 1), "embedding")]),
    "ReversibleEmbedding": (
        lambda: layers.ReversibleEmbedding(9, 4),
        (None, 5),
        [((9, 4), (9, 4, 1), "embedding")],
    ),
    "ReversibleEmbedding untied": (
        lambda: layers.ReversibleEmbedding(9, 4, tie_weights=False),
        (None, 5),
        [((9, 4), (9, 4, 1), "embedding"), ((4, 9), (4, 9, 1), "output")],
    ),
    "BatchNormalization": (layers.BatchNormalization, LINE, [((6,), None, "norm")] * 2),
    "LayerNormalization of two axes": (
        lambda: layers.LayerNormalization(axis=(1, 2)),
        LINE,
        [((8, 6), None, "norm")] * 2,
    ),
    "GroupNormalization": (lambda: layers.GroupNormalization(2), LINE, [((6,), None, "norm")] * 2),
    "RMSNormalization": (layers.RMSNormalization, LINE, [((6,), None, "norm")]),
    "PReLU": (layers.PReLU, LINE, [((8, 6), None, "other")]),
}
EQUATIONS = {
    "ab,bc->ac": ((5,), 3, (5, 3, 1)),
    "btd,dnh->btnh": ((1, 5), (None, 2, 3), (5, 6, 1)),
    "btd,ndh->btnh": ((1, 5), (None, 4, 3), (5, 12, 1)),
    "btnh,nhd->btd": ((1, 2, 3), (None, 4), (6, 4, 1)),
    "btnd,ndh->btnh": ((1, 4, 5), (None, 4, 3), (5, 3, 4)),
    "ibnd,hnd->ibh": ((1, 2, 3), (None, 4), (6, 4, 1)),
    "...x,xy->...y": ((1, 5), 3, (5, 3, 1)),
    "abc,cd->adb": ((2, 5), (3, None), (5, 3, 1)),
}


def built(make, shape):
    layer = make()
    layer.build(*shape) if isinstance(shape[0], tuple) else layer.build(shape)
    return layer


def roles(layer, groups=None):
    optimizer = Muon(groups=groups)
    optimizer.build(layer.trainable_variables)
    return [state.role for state in optimizer.plan.states]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.full_on("tensorflow")
def test_the_layers_of_keras(name):
    make, shape, expected = LAYERS[name]
    layer = built(make, shape)
    assert [(role.shape, role.matrices, role.kind) for role in roles(layer)] == expected
    assert not any(role.source.startswith(("name", "shape")) for role in roles(layer))


def structure(layer, shape):
    """The rows, columns and number of the matrices of a linear layer's kernel, found by trying.

    With one input and one element of the kernel at 1 and all others at 0, the outputs show what is multiplied by what.
    Elements that meet the same inputs are one row, those that give to the same outputs one column. Rows and columns
    that share no element are of different matrices.
    """
    kernel, size = layer.trainable_variables[0], int(np.prod(shape))
    inputs = ops.convert_to_tensor(np.eye(size).reshape(size, *shape), "float32")
    supports = []
    for place in range(int(np.prod(kernel.shape))):
        one = np.zeros(int(np.prod(kernel.shape)))
        one[place] = 1.0
        kernel.assign(one.reshape(kernel.shape))
        outputs = ops.convert_to_numpy(layer(inputs)).reshape(size, -1) != 0
        supports.append((tuple(outputs.any(axis=1)), tuple(outputs.any(axis=0))))
    groups = []
    for row, column in supports:
        touching = [group for group in groups if row in group[0] or column in group[1]]
        merged = ({row}.union(*(g[0] for g in touching)), {column}.union(*(g[1] for g in touching)))
        groups = [group for group in groups if group not in touching] + [merged]
    sizes = {(len(rows), len(columns)) for rows, columns in groups}
    assert len(sizes) == 1
    return (*sizes.pop(), len(groups))


# Inputs as long as the window, so that a convolution has one place.
ONE_PLACE = {
    "Dense": (lambda: layers.Dense(3, use_bias=False), (5,)),
    "Conv1D": (lambda: layers.Conv1D(4, 3, use_bias=False), (3, 2)),
    "Conv2D": (lambda: layers.Conv2D(3, 2, use_bias=False), (2, 2, 2)),
    "Conv2D of groups": (lambda: layers.Conv2D(4, 2, groups=2, use_bias=False), (2, 2, 4)),
    "Conv2DTranspose": (lambda: layers.Conv2DTranspose(3, 2, use_bias=False), (1, 1, 2)),
    "DepthwiseConv2D": (lambda: layers.DepthwiseConv2D(2, depth_multiplier=2, use_bias=False), (2, 2, 3)),
}


@pytest.mark.parametrize("name", ONE_PLACE)
def test_the_matrix_is_that_of_the_linear_map(name):
    make, shape = ONE_PLACE[name]
    layer = built(make, (None, *shape))
    (role,) = roles(layer)
    assert role.matrices == structure(layer, shape)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_an_equation_says_which_axes_are_which(equation):
    shape, outputs, expected = EQUATIONS[equation]
    layer = built(lambda: layers.EinsumDense(equation, outputs), (None, *shape))
    (role,) = roles(layer)
    assert role.source == f"EinsumDense {equation}"
    assert role.matrices == expected == structure(layer, shape)


# The right values of the steps


def first_step(optimizer, layer, gradient):
    variable = layer.trainable_variables[0]
    before = value(variable)
    optimizer.apply([ops.convert_to_tensor(gradient, "float32")], [variable])
    return before - value(variable)


def test_the_step_of_gemmas_query():
    """(4, 256, 64) is one matrix of 256 rows and 256 columns, all of whose singular values come near 1: 0.02 sqrt(256)
    times what the polynomial leaves, and not the 1.97 of a matrix of 4 rows."""
    layer = built(lambda: layers.EinsumDense("btd,ndh->btnh", (None, 4, 64)), (None, 5, 256))
    gradient = np.random.default_rng(3).normal(size=(4, 256, 64))
    step = first_step(Muon(), layer, gradient)
    assert np.linalg.norm(step) == pytest.approx(0.29, abs=0.015)
    singular = np.linalg.svd(step.transpose(1, 0, 2).reshape(256, 256), compute_uv=False) / 0.02
    assert np.mean((singular > 0.6) & (singular < 1.25)) > 0.9


def test_the_step_of_gemmas_key():
    """(1, 256, 64) is a matrix of 256 rows, and not one row."""
    layer = built(lambda: layers.EinsumDense("bsd,kdh->bskh", (None, 1, 64)), (None, 5, 256))
    step = first_step(Muon(), layer, np.random.default_rng(4).normal(size=(1, 256, 64)))
    singular = np.linalg.svd(step[0], compute_uv=False) / 0.02
    assert singular.min() > 0.6
    assert singular.max() < 1.25


class Experts(layers.Layer):
    """A mixture's experts, as KerasHub writes them."""

    def __init__(self, num_experts, width):
        super().__init__()
        self.num_experts, self.width = num_experts, width

    def build(self, shape):
        self.dense = self.add_weight(shape=(self.num_experts, shape[-1], self.width), name="dense")


@pytest.mark.parametrize("batch", [None, (0,)])
def test_experts_do_not_share_a_step(batch):
    """With one expert's gradient 1000 times larger, the others still move fully."""
    layer = built(lambda: Experts(4, 64), (None, 32))
    gradient = np.random.default_rng(5).normal(size=(4, 32, 64))
    gradient[1] *= 1000.0
    groups = None if batch is None else [Group("dense", batch=batch)]
    step = first_step(Muon(1.0, groups=groups), layer, gradient)
    for of_one in step:
        singular = np.linalg.svd(of_one, compute_uv=False) / np.sqrt(2.0)
        assert singular.min() > 0.6
        assert singular.max() < 1.25


def test_depthwise_kernels_are_left_to_adamw():
    """A channel's matrix is a vector: the first step of each element is that of Adam, for any other elements."""
    layer = built(lambda: layers.DepthwiseConv2D(3, use_bias=False), (None, 8, 8, 512))
    gradient = np.random.default_rng(6).normal(size=(3, 3, 512, 1))
    step = first_step(Muon(1.0), layer, gradient)
    np.testing.assert_allclose(step, 0.015 * np.sign(gradient), rtol=1e-4)


@pytest.mark.parametrize(("scale", "rate"), [("moonlight", 1e-3), ("original", 1.5e-5)])
def test_companions_of_moonlight_have_the_learning_rate_of_adamw(scale, rate):
    layer = built(lambda: layers.Dense(3), (None, 5))
    optimizer = Muon(1e-3, scale=scale)
    before = value(layer.bias)
    optimizer.apply([ops.ones((5, 3)), ops.ones(3)], layer.trainable_variables)
    np.testing.assert_allclose(before - value(layer.bias), rate, rtol=1e-4)
    again = Muon.from_config(optimizer.get_config())
    assert again.companion_learning_rate_multiplier is None


# Where no layer says it


@pytest.mark.parametrize(
    ("name", "shape", "matrices", "kind"),
    [
        ("w", (5, 3), (5, 3, 1), "kernel"),
        ("w", (2, 5, 3), None, "other"),
        ("w", (5,), None, "other"),
        ("w", (1, 1, 5), None, "other"),
        ("w", (), None, "other"),
        ("embeddings", (5, 3), (5, 3, 1), "embedding"),
        ("reverse_embeddings", (3, 5), (3, 5, 1), "output"),
        ("bias", (2, 3), None, "bias"),
        ("gamma", (2, 3), None, "norm"),
    ],
)
def test_the_role_of_a_variable_without_a_layer(name, shape, matrices, kind):
    optimizer = Muon()
    optimizer.build([keras.Variable(np.zeros(shape), name=name)])
    role = optimizer.plan.states[0].role
    assert (role.matrices, role.kind) == (matrices, kind)
    assert role.source.startswith(("name", "shape", "unknown"))
    assert optimizer.plan.states[0].facts["companion"] == (kind != "kernel")


def test_names_do_not_decide_roles():
    """A layer called query whose equation says something else."""
    layer = built(lambda: layers.EinsumDense("btnh,nhd->btd", (None, 4), name="query"), (None, 5, 2, 3))
    (role,) = roles(layer)
    assert role.matrices == (6, 4, 1)


def test_owners_that_disagree():
    class Reversed(layers.EinsumDense):
        pass

    one = built(lambda: layers.EinsumDense("ab,bc->ac", (3,)), (None, 5))
    other = built(lambda: Reversed("ab,cb->ac", (3,)), (None, 5))
    vars(other)["_kernel"] = one.kernel
    optimizer = Muon()
    optimizer.build([one.kernel])
    role = optimizer.plan.states[0].role
    assert role.matrices is None
    assert role.source == "unknown: EinsumDense ab,bc->ac and EinsumDense ab,cb->ac, which hold it, disagree"
    assert optimizer.plan.states[0].facts["companion"]


def test_frozen_objects_hide_the_layers():
    layer = built(lambda: layers.EinsumDense("btd,ndh->btnh", (None, 4, 3)), (None, 5, 6))
    gc.freeze()
    try:
        (role,) = roles(layer)
    finally:
        gc.unfreeze()
    assert role.kind == "other"
    assert "gc.freeze() hides the layers" in role.source


def test_lora():
    """kernel = a b: the rank is a's output and b's input, or the other way where the last axis is an input."""
    dense, query, back = (
        built(lambda: layers.Dense(4, use_bias=False), (None, 6)),
        built(lambda: layers.EinsumDense("btd,dnh->btnh", (None, 2, 3)), (None, 5, 6)),
        built(lambda: layers.EinsumDense("bth,dh->btd", (None, 4)), (None, 5, 6)),
    )
    found = []
    for layer in (dense, query, back):
        layer.enable_lora(2)
        found.append([(role.shape, role.matrices, role.kind) for role in roles(layer)])
    assert found == [
        [((6, 2), (6, 2, 1), "kernel"), ((2, 4), (2, 4, 1), "kernel")],
        [((6, 2, 2), (6, 4, 1), "kernel"), ((2, 3), (2, 3, 1), "kernel")],
        [((4, 2), (2, 4, 1), "kernel"), ((2, 6), (6, 2, 1), "kernel")],
    ]


def test_scales_of_float8():
    layer = built(lambda: layers.Dense(4), (None, 6))
    layer.quantize("float8")
    kinds = {role.path.split("/")[-1]: role.kind for role in roles(layer)}
    assert kinds.pop("kernel") == "kernel"
    assert kinds.pop("bias") == "bias"
    assert set(kinds.values()) == {"other"}


def test_the_attention_layer_decides_the_heads():
    attention = built(lambda: layers.MultiHeadAttention(2, 3), ((None, 5, 8), (None, 5, 8)))
    heads = {role.path.split("/")[-2]: role.heads for role in roles(attention) if role.kind == "kernel"}
    assert heads == {"query": 1, "key": 1, "value": 1, "attention_output": 0}


# What users say


@pytest.mark.parametrize(
    ("says", "matrices"),
    [
        ({"outputs": (-1,)}, (8, 3, 1)),
        ({"inputs": (0,)}, (2, 12, 1)),
        ({"batch": (0,)}, (4, 3, 2)),
        ({"inputs": (2,), "batch": (1,)}, (3, 2, 4)),
        ({"inputs": (1,), "outputs": (0, 2)}, (4, 6, 1)),
    ],
)
def test_a_group_says_which_axes_are_which(says, matrices):
    optimizer = Muon(groups=[Group("w", **says)])
    optimizer.build([keras.Variable(np.zeros((2, 4, 3)), name="w")])
    role = optimizer.plan.states[0].role
    assert (role.kind, role.matrices, role.source) == ("kernel", matrices, "group")
    assert not optimizer.plan.states[0].facts["companion"]


@pytest.mark.parametrize("kind", ["embedding", "output", "bias", "norm", "other"])
def test_a_group_says_what_a_variable_is(kind):
    optimizer = Muon(groups=[Group("w", role=kind)])
    optimizer.build([keras.Variable(np.zeros((4, 3)), name="w")])
    assert optimizer.plan.states[0].role.kind == kind
    assert optimizer.plan.states[0].facts["companion"] == (kind != "other")


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"inputs": (0, 1, 2)}, "at least one input and one output"),
        ({"inputs": (0,), "outputs": (1,)}, "must name each axis of 'w'"),
        ({"inputs": (0,), "outputs": (0, 1, 2)}, "must name each axis of 'w'"),
        ({"batch": (3,)}, r"`batch` of a group must be axes of 'w'.*Received: batch=\(3,\)"),
    ],
)
def test_axes_that_do_not_fit_are_refused(says, message):
    optimizer = Muon(groups=[Group("w", **says)])
    with pytest.raises(ValueError, match=message):
        optimizer.build([keras.Variable(np.zeros((2, 4, 3)), name="w")])
    assert not optimizer.built


@pytest.mark.parametrize(
    "says", [{"role": "query"}, {"inputs": 1}, {"outputs": "last"}, {"batch": (0.5,)}, {"inputs": (1, 1)}]
)
def test_invalid_roles_and_axes_are_refused(says):
    ((name, _),) = says.items()
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must be .*Received: {name}="):
        Group("w", **says)


# Stored


def test_decided_roles_are_stored_with_the_optimizer():
    """Also if the layers no longer exist."""
    layer = built(lambda: layers.EinsumDense("btd,ndh->btnh", (None, 4, 3)), (None, 5, 6))
    optimizer = Muon()
    optimizer.build(layer.trainable_variables)
    variable, role = layer.kernel, optimizer.plan.states[0].role
    again = Muon.from_config(optimizer.get_config())
    stands_alone = keras.Variable(value(variable), name="kernel")
    again.build([stands_alone])
    assert again.plan.states[0].role.matrices == role.matrices == (6, 12, 1)


def test_a_state_brings_its_matrices():
    """Into an optimizer that was built with other matrices for the same variable. A refused state changes nothing."""
    said = [Group("w", batch=(0,))]
    first, second = (Muon(groups=groups) for groups in (said, None))
    variables = [keras.Variable(np.zeros((2, 4, 3)), name="w") for _ in range(2)]
    for optimizer, variable in zip((first, second), variables, strict=True):
        optimizer.apply([ops.ones((2, 4, 3))], [variable])
    damaged = first.get_state() | {"0.m": np.ones(5)}
    before = second.get_state()
    with pytest.raises(ValueError, match=r"0\.m"):
        second.set_state(damaged)
    for key, array in second.get_state().items():
        np.testing.assert_array_equal(array, before[key])
    assert second.plan.states[0].facts["companion"]
    second.set_state(first.get_state())
    assert second.plan.states[0].role.matrices == (4, 3, 2)
    variables[1].assign(variables[0])
    for optimizer, variable in zip((first, second), variables, strict=True):
        optimizer.apply([ops.ones((2, 4, 3))], [variable])
    np.testing.assert_array_equal(value(variables[0]), value(variables[1]))


def test_a_class_of_the_old_form_raises_when_it_is_defined():
    with pytest.raises(TypeError, match=r"`about` of Old must take \(self, role, h\)"):

        class Old(Adam):
            def about(self, path, shape, hyperparameters):
                return {}

    with pytest.raises(TypeError, match="`settle` of Older must be called `update_scalars`"):

        class Older(Adam):
            def settle(self, h, sums):
                return {}


def test_a_role_is_read_from_json():
    role = Role("w", (2, 4, 3), kind="kernel", inputs=(1,), outputs=(2,), batch=(0,), source="group")
    stored = json.loads(json.dumps({"path": "w", "shape": [2, 4, 3], "role": role.stored}))
    assert Role.of(stored) == role


# Backends


@pytest.mark.on("tensorflow")
def test_in_fit_of_a_strategy_and_of_the_backends_own_variables():
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = keras.Sequential([keras.Input((5, 6)), layers.EinsumDense("btd,ndh->btnh", (5, 4, 3))])
        model.add(layers.Flatten())
        model.add(layers.Dense(1))
        model.compile(optimizer=Muon(), loss="mse")
    model.fit(np.ones((4, 5, 6)), np.ones((4, 1)), verbose=0)
    assert [s.role.matrices for s in model.optimizer.plan.states] == [(6, 12, 1), (60, 1, 1), None]
    assert [s.role.kind for s in model.optimizer.plan.states] == ["kernel", "output", "bias"]
    raw = Muon()
    raw.build([v.value for v in model.trainable_variables])
    assert [s.role.matrices for s in raw.plan.states] == [(6, 12, 1), (60, 1, 1), None]


@pytest.mark.on("torch")
def test_a_torch_module_has_its_outputs_first():
    import torch

    module = torch.nn.ModuleDict(
        {
            "linear": torch.nn.Linear(8, 4),
            "conv": torch.nn.Conv2d(6, 4, 3, groups=2, bias=False),
            "back": torch.nn.ConvTranspose2d(6, 4, 3, bias=False),
            "table": torch.nn.Embedding(9, 4),
            "norm": torch.nn.LayerNorm(8),
            "attention": torch.nn.MultiheadAttention(4, 2, bias=False),
            "lstm": torch.nn.LSTM(5, 3, bias=False),
        }
    )
    layer = layers.TorchModuleWrapper(module)
    assert [(role.shape, role.matrices, role.kind) for role in roles(layer)] == [
        ((4, 8), (8, 4, 1), "kernel"),
        ((4,), None, "bias"),
        ((4, 3, 3, 3), (27, 2, 2), "kernel"),
        ((6, 4, 3, 3), (6, 36, 1), "kernel"),
        ((9, 4), (9, 4, 1), "embedding"),
        ((8,), None, "norm"),
        ((8,), None, "bias"),
        ((12, 4), (4, 4, 3), "kernel"),
        ((4, 4), (4, 4, 1), "kernel"),
        ((12, 5), (5, 3, 4), "kernel"),
        ((12, 3), (3, 3, 4), "kernel"),
    ]


@pytest.mark.on("torch")
def test_a_torch_kernel_and_its_transpose_have_different_scales():
    """Keras's (64, 16) and torch's (16, 64) are the same map, and move alike."""
    import torch

    gradient = np.random.default_rng(7).normal(size=(64, 16))
    ours = built(lambda: layers.Dense(16, use_bias=False), (None, 64))
    theirs = layers.TorchModuleWrapper(torch.nn.Linear(64, 16, bias=False))
    steps = [first_step(Muon(1.0), ours, gradient), first_step(Muon(1.0), theirs, gradient.T).T]
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-5)


@pytest.mark.parametrize("last", [False, True])
def test_variables_inside_a_wrapper_belong_to_the_wrapped_layer(last):
    """SpectralNormalization also holds its layer's kernel as an attribute."""
    wrapped = layers.SpectralNormalization(layers.Dense(3))
    model = keras.Sequential([keras.Input((5,)), layers.Dense(8), wrapped, *([] if last else [layers.Dense(2)])])
    role = next(role for role in roles(model) if role.shape == (8, 3))
    assert (role.matrices, role.kind) == ((8, 3, 1), "output" if last else "kernel")
