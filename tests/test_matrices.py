"""Optimizers of matrices beyond the contract: published properties, blocks, roots, views of kernels."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from support import compiled, difference, state, value, values

from keras_adaptive import Adam, Muon, NorMuon, Shampoo, Soap
from keras_adaptive.core.backends import running as backends
from keras_adaptive.optimizers import _matrices as matrices
from keras_adaptive.optimizers import _orthogonal as orthogonal

# Where nothing has to be compiled first; tests/test_rules.py holds the other backends to the same numbers.
pytestmark = pytest.mark.on("torch")

RNG = np.random.default_rng(91)
ORIGINAL = {"beta_1": 0.0, "beta_2": 1.0, "frequency": 1, "graft": None}


def steps(optimizer, gradients, path="dense/kernel"):
    """How far each gradient moves a float64 variable of that path, which is its layer's name and its own."""
    start = np.zeros_like(gradients[0])
    layer, name = path.split("/")
    with keras.name_scope(layer):
        variable = keras.Variable(start, dtype="float64", name=name)
    apply, ends = compiled(optimizer, [variable]), [start]
    for gradient in gradients:
        apply([ops.convert_to_tensor(gradient, dtype="float64")])
        ends.append(value(variable))
    return [before - after for before, after in itertools.pairwise(ends)]


# Shampoo


@pytest.mark.parametrize("shape", [(7,), (9, 3), (3, 9), (4, 9, 2)])
def test_a_tensor_beyond_the_limits_has_no_factors(shape, float64):
    """It moves as before Shampoo's start, when there are no roots yet."""
    gradients = [RNG.normal(size=shape) for _ in range(4)]
    limited = Shampoo(0.1, frequency=1, min_axes=2, max_size=8)
    ours = steps(limited, gradients)
    assert difference(ours, steps(Shampoo(0.1, start=100), gradients)) <= 1e-12
    stored = {path.split("/")[-1] for path in state(limited)} - {"iteration", "learning_rate"}
    assert {name.split("_")[-1] for name in stored} == {"m", "v"}


def test_a_tensor_within_the_limits_has_factors(float64):
    gradients = [RNG.normal(size=(8, 3)) for _ in range(4)]
    ours = steps(Shampoo(0.1, frequency=1, min_axes=2, max_size=8), gradients)
    assert difference(ours, steps(Shampoo(0.1, frequency=1), gradients)) == 0.0


# Muon


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (64, 16), (16, 64)])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_singular_values_are_close_to_one(shape, size, float64):
    """For well-conditioned matrices of any size. The step of a wide one is scaled by the root of columns / rows."""
    (step,) = steps(Muon(1.0), [size * RNG.normal(size=shape)])
    singular = np.linalg.svd(step, compute_uv=False) / np.sqrt(max(1.0, shape[1] / shape[0]))
    assert singular.min() > 0.67
    assert singular.max() < 1.21


def moves(optimizer, variable, gradients):
    """How far each gradient moves a variable of a layer, in float64."""
    apply, ends = compiled(optimizer, [variable]), [value(variable)]
    for gradient in gradients:
        apply([ops.convert_to_tensor(gradient, dtype="float64")])
        ends.append(value(variable))
    return [before - after for before, after in itertools.pairwise(ends)]


def einsum(equation, inputs, outputs):
    layer = keras.layers.EinsumDense(equation, outputs)
    layer.build(inputs)
    return layer


def built(layer, *inputs):
    layer.build(*inputs)
    return layer


# A kernel, and its gradient as matrices: written by hand for each layer.
KERNELS = {
    "dense": (
        lambda: built(keras.layers.Dense(4), (None, 6)),
        lambda g: g[None],
    ),
    "query": (
        lambda: einsum("btd,dnh->btnh", (None, 5, 6), (None, 2, 3)),
        lambda g: g.reshape(1, 6, 6),
    ),
    "gemma's query": (
        lambda: einsum("btd,ndh->btnh", (None, 5, 6), (None, 4, 3)),
        lambda g: np.stack([np.concatenate([g[n] for n in range(4)], axis=1)]),
    ),
    "output of attention": (
        lambda: einsum("btnh,nhd->btd", (None, 5, 2, 3), (None, 4)),
        lambda g: g.reshape(1, 6, 4),
    ),
    "one matrix a head": (
        lambda: einsum("btnd,ndh->btnh", (None, 5, 4, 6), (None, 4, 3)),
        lambda g: g,
    ),
    "convolution": (
        lambda: built(keras.layers.Conv2D(4, 3), (None, 8, 8, 2)),
        lambda g: g.reshape(1, 18, 4),
    ),
    "convolution of groups": (
        lambda: built(keras.layers.Conv1D(4, 3, groups=2), (None, 8, 6)),
        lambda g: np.stack([g[..., :2].reshape(9, 2), g[..., 2:].reshape(9, 2)]),
    ),
    "transposed convolution": (
        lambda: built(keras.layers.Conv1DTranspose(4, 3), (None, 8, 2)),
        lambda g: g.reshape(1, 12, 2).transpose(0, 2, 1),
    ),
    "gates": (
        # One row more than columns: of a larger space without gradients Soap's basis could be any.
        lambda: built(keras.layers.LSTM(4), (None, 7, 5)),
        lambda g: np.stack([g[:, 0:4], g[:, 4:8], g[:, 8:12], g[:, 12:16]]),
    ),
}


@pytest.mark.parametrize("optimizer", [Muon, NorMuon, Soap, Shampoo])
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_is_updated_as_its_matrices(optimizer, kernel, float64):
    """Each matrix moves like a separate variable. For Soap, each spatial position of a convolution is an axis."""
    if optimizer in (Soap, Shampoo) and "convolution" in kernel:
        pytest.skip("Soap and Shampoo treat the places of a convolution one by one, as their authors do")
    make, as_matrices = KERNELS[kernel]
    layer = make()
    variable = layer.trainable_variables[0]
    gradients = RNG.normal(size=(3, *variable.shape))
    options = {"frequency": 2} if optimizer in (Soap, Shampoo) else {}
    ours = [as_matrices(step) for step in moves(optimizer(0.1, weight_decay=None, **options), variable, gradients)]
    theirs = [
        steps(optimizer(0.1, weight_decay=None, **options), list(of_one))
        for of_one in zip(*map(as_matrices, gradients), strict=True)
    ]
    for number, of_one in enumerate(theirs):
        assert difference([step[number] for step in ours], of_one) <= 1e-9


@pytest.mark.parametrize("optimizer", [Muon, NorMuon])
def test_each_head_has_a_matrix(optimizer, float64):
    """With per_head, in the layers that have heads; `describe()` shows it. Without it, the heads are one matrix."""
    attention = built(keras.layers.MultiHeadAttention(2, 3), (None, 5, 8), (None, 5, 8))
    kernels = {v.path.split("/")[-2]: v for v in attention.trainable_variables if v.name == "kernel"}
    of_heads = {"query": 1, "key": 1, "value": 1, "attention_output": 0}
    assert set(kernels) == set(of_heads)
    for name, variable in kernels.items():
        gradients = RNG.normal(size=(3, *variable.shape))
        many, one = (optimizer(0.1, companion=False, per_head=each) for each in (True, False))
        ours = moves(many, variable, gradients)
        theirs = [steps(optimizer(0.1), list(np.take(gradients, head, 1 + of_heads[name]))) for head in range(2)]
        assert difference([np.stack(step, of_heads[name]) for step in zip(*theirs, strict=True)], ours) <= 1e-9
        rows, columns = (3, 8) if name == "attention_output" else (8, 3)
        assert many.describe()[0].matrices == (rows, columns, 2)
        one.build([variable])
        assert one.describe()[0].matrices == ((6, 8, 1) if name == "attention_output" else (8, 6, 1))


def test_a_kernel_without_heads_stays_one_matrix(float64):
    layer = built(keras.layers.Dense(4), (None, 6))
    gradients = RNG.normal(size=(2, 6, 4))
    start = value(layer.kernel)
    ours = moves(Muon(0.1, per_head=True), layer.kernel, gradients)
    layer.kernel.assign(start)
    assert difference(ours, moves(Muon(0.1), layer.kernel, gradients)) == 0.0


def test_polar_express_is_the_published_table():
    """To the four digits of NVIDIA's Emerging-Optimizers, some of which are cut off and not rounded."""
    theirs = [
        (8.2051, -22.9019, 16.4607),
        (4.0664, -2.8612, 0.5184),
        (3.9096, -2.8234, 0.5250),
        (3.2856, -2.4153, 0.4853),
        (2.2779, -1.6198, 0.3985),
        (1.8726, -1.2307, 0.3585),
        (1.8564, -1.2132, 0.3568),
        (1.875, -1.25, 0.375),
    ]
    np.testing.assert_allclose(orthogonal.POLAR_EXPRESS, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(64, 32), (32, 64), (48, 48)])
def test_polar_express_comes_nearer_to_one(shape, float64):
    (step,) = steps(Muon(1.0, coefficients="polar_express", steps=8, scale="moonlight"), [RNG.normal(size=shape)])
    singular = np.linalg.svd(step, compute_uv=False) / (0.2 * np.sqrt(max(shape)))
    # The smallest of 48 x 48 begins at less than a thousandth of the largest.
    assert singular.min() > 0.99
    assert singular.max() < 1.01


def test_products_of_bfloat16(monkeypatch):
    """About as orthogonal, and only where asked for or faster. The momentum stays in float32."""
    gradient = RNG.normal(size=(64, 32)).astype("float32")

    def moved(**options):
        variable = keras.Variable(np.zeros((64, 32)), dtype="float32", name="kernel")
        optimizer = Muon(1.0, **options)
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        return value(variable), optimizer.variables[-1]

    full, m = moved()
    halved, m_halved = moved(matmul_dtype="bfloat16")
    assert np.array_equal(full, moved(matmul_dtype="float32")[0])
    assert np.array_equal(value(m), value(m_halved))
    assert 1e-3 < np.linalg.norm(full - halved) / np.linalg.norm(full) < 0.05
    assert np.linalg.svd(halved, compute_uv=False).min() > 0.6
    monkeypatch.setattr(backends, "multiplies_bfloat16", lambda: True)
    assert np.array_equal(halved, moved()[0])
    assert np.array_equal(full, moved(matmul_dtype="float32")[0])


@pytest.mark.parametrize(
    ("companion", "shape", "slots"),
    [
        ("auto", (4,), "mv"),
        ("auto", (4, 3), "m"),
        ("auto", (2, 4, 3), "mv"),
        (False, (2, 4, 3), "m"),
        (True, (4, 3), "mv"),
        (False, (4,), "m"),
        (False, (0, 3), "mv"),
    ],
)
def test_companions_are_shown(companion, shape, slots):
    optimizer = Muon(0.5, companion=companion, companion_learning_rate_multiplier=0.25)
    optimizer.build([keras.Variable(np.ones(shape), name="w")])
    (row,) = optimizer.describe()
    assert "".join(row.slots) == slots
    assert row.learning_rate == (0.125 if slots == "mv" else 0.5)


def test_neurons_move_equally_and_the_step_has_the_norm_of_muons(float64):
    gradients = RNG.normal(size=(1, 8, 5)) * np.geomspace(0.1, 10.0, 5)
    (ours,), (muons,) = (steps(optimizer(0.1), gradients) for optimizer in (NorMuon, Muon))
    columns = np.linalg.norm(ours, axis=0)
    assert np.ptp(columns) <= 1e-6 * columns.mean()
    assert np.ptp(np.linalg.norm(muons, axis=0)) > 1e-3
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(muons), rel=1e-7)


# Shampoo


def test_the_first_step_is_the_polar_factor(float64):
    gradient = RNG.normal(size=(5, 5))
    left, _, right = np.linalg.svd(gradient)
    (step,) = steps(Shampoo(1.0, epsilon=1e-30, **ORIGINAL), [gradient])
    assert difference([step], [left @ right]) <= 1e-12


@pytest.mark.parametrize("root", [1, 2, 3, 4])
def test_the_root_can_be_changed(root, float64):
    """Of a diagonal gradient g the factors are g^2, and the step is g |g|^(-4 / root)."""
    diagonal = np.array([4.0, -0.25, 2.0])
    (step,) = steps(Shampoo(1.0, epsilon=1e-30, root=root, **ORIGINAL), [np.diag(diagonal)])
    assert difference([np.diag(step)], [diagonal * np.abs(diagonal) ** (-4 / root)]) <= 1e-12


@pytest.mark.parametrize("graft", ["adam", "sgd"])
def test_the_step_of_every_block_has_the_norm_of_its_graft(graft, float64):
    gradients = RNG.normal(size=(4, 5, 7))
    options = {"graft": graft, "frequency": 1, "block_size": 3, "epsilon": 1e-6}
    ours = steps(Shampoo(0.1, start=2, **options), gradients)
    grafts = steps(Shampoo(0.1, start=100, **options), gradients)
    assert difference(ours[:1], grafts[:1]) == 0.0
    for step, graft_step in zip(ours[1:], grafts[1:], strict=True):
        for rows in (slice(3), slice(3, 5)):
            for columns in (slice(3), slice(3, 6), slice(6, 7)):
                lengths = [np.linalg.norm(x[rows, columns]) for x in (step, graft_step)]
                assert lengths[0] == pytest.approx(lengths[1], rel=1e-12)
        assert difference([step], [graft_step]) > 1e-3


def test_before_its_start_it_is_adam(float64):
    gradients = RNG.normal(size=(5, 4, 3))
    ours = steps(Shampoo(0.1, start=100), gradients)
    assert difference(ours, steps(Adam(0.1, epsilon=1e-8), gradients)) <= 1e-14


def test_merged_axes_act_as_one_axis(float64):
    gradients = RNG.normal(size=(3, 3, 3, 1, 2, 7))
    options = {"frequency": 1, "block_size": 18, "epsilon": 1e-4}
    ours = steps(Shampoo(0.1, merge_axes=True, **options), gradients)
    theirs = steps(Shampoo(0.1, **options), gradients.reshape((3, 18, 7)))
    assert difference([step.reshape(18, 7) for step in ours], theirs) <= 1e-12
    apart = steps(Shampoo(0.1, **options), gradients)
    assert difference(ours, apart) > 1e-3


@pytest.mark.parametrize(("optimizer", "slot", "renewed"), [(Shampoo, "P", [4, 6, 9]), (Soap, "Q", [1, 4, 7])])
def test_roots_and_bases_are_recomputed_at_the_given_interval(optimizer, slot, renewed):
    optimizer = optimizer(0.1, frequency=3, **({"start": 4} if slot == "P" else {}))
    variable = keras.Variable(np.zeros((4, 4)), name="w")
    apply, changed = compiled(optimizer, [variable]), []
    for t in range(1, 10):
        kept = optimizer.plan.states[0].stored[slot]
        before = value(kept)
        apply([ops.convert_to_tensor(RNG.normal(size=(4, 4)), dtype="float32")])
        if difference([value(kept)], [before]) > 0:
            changed.append(t)
    assert changed == renewed


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_presets(number):
    """Presets train, warm up to their learning rate and end at 0. Other arguments replace theirs."""
    peak = float(value(Shampoo.preset(number).learning_rate))
    optimizer = Shampoo.preset(number, steps=200, frequency=2, name="mine")
    assert (optimizer.frequency, optimizer.name) == (2, "mine")
    rates = []
    variable = keras.Variable(np.ones((4, 3)), name="w")
    apply = compiled(optimizer, [variable])
    for _ in range(4):
        rates.append(float(value(optimizer.learning_rate)))
        apply([ops.ones((4, 3))])
    assert np.all(np.isfinite(value(variable)))
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    schedule = optimizer._learning_rate
    assert max(float(value(schedule(step))) for step in range(200)) == pytest.approx(peak)
    assert float(value(schedule(200))) == pytest.approx(0.0, abs=1e-6 * peak)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="Received: number=6"):
        Shampoo.preset(6)
    with pytest.raises(ValueError, match="Received: steps=0"):
        Shampoo.preset(1, steps=0)


# SOAP


def test_soap_in_its_basis_is_adam_one_update_later(float64):
    """Of diagonal gradients the bases are permutations; the first update makes them, and moves nothing."""
    gradients = [np.diag(row) for row in np.array([3.0, 2.0, 1.0]) * RNG.uniform(0.9, 1.1, size=(6, 3))]
    first, *ours = steps(Soap(0.1, epsilon=1e-30, frequency=2, beta_1=0.8, weight_decay=None), gradients)
    theirs = steps(Adam(0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-30), gradients[1:])
    assert difference([first], [np.zeros((3, 3))]) == 0.0
    assert difference(ours, theirs) <= 1e-12


def test_a_rotated_problem_has_the_rotated_solution(float64):
    """Adam's step depends on the basis of the weights; SOAP's does not."""
    gradients = RNG.normal(size=(5, 4, 4))
    left, right = (np.linalg.qr(RNG.normal(size=(4, 4)))[0] for _ in range(2))
    soap = {"frequency": 2, "weight_decay": None}
    ours, turned = steps(Soap(0.1, **soap), gradients), steps(Soap(0.1, **soap), left @ gradients @ right)
    assert difference([left @ step @ right for step in ours], turned) <= 1e-7
    adam, turned = steps(Adam(0.1), gradients), steps(Adam(0.1), left @ gradients @ right)
    assert difference([left @ step @ right for step in adam], turned) > 1e-2


# Eigenvectors


@pytest.mark.parametrize("rank", [3, 12])
def test_eigenvectors_have_full_precision(rank):
    """XLA's own eigenvectors of a float64 matrix have only the digits of float32."""
    half = RNG.normal(size=(2, 12, rank)) * np.geomspace(1.0, 1e-2, 12)[:, None]
    matrix = half @ half.transpose(0, 2, 1)
    eigenvalues, vectors = (value(x) for x in _compiled_function(backends.eigh)(matrix))
    size = np.abs(matrix).max()
    assert difference([eigenvalues], [np.linalg.eigvalsh(matrix)]) <= 1e-14 * max(1.0, size)
    assert difference([vectors * eigenvalues[:, None] @ vectors.transpose(0, 2, 1)], [matrix]) <= 1e-13 * size
    assert difference([vectors.transpose(0, 2, 1) @ vectors], [np.tile(np.eye(12), (2, 1, 1))]) <= 1e-13


def test_nonfinite_matrices_have_nan_eigenvectors():
    matrices = np.stack([np.eye(3), np.full((3, 3), np.nan)])
    eigenvalues, vectors = (value(x) for x in _compiled_function(backends.eigh)(matrices))
    assert np.all(eigenvalues[0] == 1.0)
    assert np.all(np.isnan(eigenvalues[1]))
    assert np.all(np.isnan(vectors[1]))


def _compiled_function(function):
    tensor = lambda x: ops.convert_to_tensor(x, dtype="float64")  # noqa: E731
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        jitted = tf.function(function, jit_compile=True)
        return lambda x: jitted(tensor(x))
    return lambda x: function(tensor(x))


@pytest.mark.parametrize("optimizer", [Muon, NorMuon, Soap, Shampoo])
def test_a_nonfinite_gradient_shows_in_the_weights(optimizer):
    variable = keras.Variable(np.ones((4, 4)), name="w")
    options = {"frequency": 1} if optimizer in (Soap, Shampoo) else {}
    optimizer = optimizer(0.1, **options)
    apply = compiled(optimizer, [variable])
    for bad in (0.0, np.nan):
        apply([ops.convert_to_tensor(RNG.normal(size=(4, 4)) + np.where(np.eye(4), bad, 0.0), dtype="float32")])
    assert np.any(np.isnan(values([variable])[0]))


def test_the_root_exists_where_rounding_makes_an_eigenvalue_negative(float64):
    """All eigenvalues are shifted up by the lowest, which counts as 0."""
    basis, _ = np.linalg.qr(np.random.default_rng(24).normal(size=(3, 3)))
    eigenvalues = np.array([-1e-7, 0.5, 2.0])
    matrix = ops.convert_to_tensor((basis * eigenvalues) @ basis.T, dtype="float64")
    root = value(matrices.inverse_root(matrix, 4, 1e-6))
    np.testing.assert_allclose(root, (basis * (eigenvalues + 1e-7 + 1e-6) ** -0.25) @ basis.T, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-38, 1e-30, 1.0, 1e30, 3e38])
def test_a_matrix_of_any_size_is_divided_by_its_norm(size):
    x = np.random.default_rng(51).uniform(-1, 1, size=(30, 40)).astype("float32") * np.float32(size)
    exact = x.astype("float64")
    expected = exact / (np.linalg.norm(exact) + 1e-7)
    ours = ops.convert_to_numpy(orthogonal.normalized(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(ours, expected, rtol=2e-6, atol=1e-37)


def test_a_matrix_of_norm_zero_is_not_divided():
    for shape in ((3, 2), (0, 2)):
        zeros = ops.convert_to_numpy(orthogonal.normalized(ops.zeros(shape)))
        np.testing.assert_array_equal(zeros, np.zeros(shape))
