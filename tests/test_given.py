"""Which variables and gradients an optimizer accepts, and how it refuses others."""

import keras
import numpy as np
import pytest
from cases import CASE, KERAS, each
from keras import layers, ops
from support import difference, values

BACKEND = keras.backend.backend()
X, Y = np.ones((4, 2), "float32"), np.ones((4, 1), "float32")
ERRORS = (AttributeError, TypeError, AssertionError, pytest.fail.Exception)
KERAS_FAILS = pytest.mark.xfail(strict=True, raises=ERRORS, reason="Keras takes it, or names nothing")
case_and_keras = pytest.mark.parametrize("case", [CASE, pytest.param(KERAS, marks=KERAS_FAILS)], ids=["ours", "keras"])


def own_of_the_backend():
    """What the backend's users may take for a variable."""
    if BACKEND == "torch":
        import torch

        return torch.nn.Parameter(torch.ones(3))
    return ops.ones(3)


NO_VARIABLES = {
    "array": lambda: np.ones(3),
    "tensor": own_of_the_backend,
    "path": lambda: "dense/kernel",
    "layer": lambda: layers.Dense(1),
    "none": lambda: None,
    "number": lambda: 1.0,
}
NO_LISTS = {
    **NO_VARIABLES,
    "one": lambda: keras.Variable(np.ones((3, 2))),
    "model": lambda: keras.Sequential([keras.Input((2,)), layers.Dense(1)]),
    "names": lambda: {"kernel": keras.Variable(1.0)},
}


@pytest.mark.parametrize("name", NO_VARIABLES)
@case_and_keras
def test_objects_that_are_not_variables_are_refused(case, name):
    known, thing = keras.Variable(1.0), NO_VARIABLES[name]()
    message = r"`\w+` must be Keras variables. .*model\.trainable_variables.* Received: \w+\[1\]="
    with pytest.raises(TypeError, match=message):
        case.make().build([known, thing])
    optimizer = case.make()
    with pytest.raises(TypeError, match=message):
        optimizer.apply([ops.ones(()), ops.ones(3)], [known, thing])
    assert not optimizer.built
    optimizer.build([known])
    before = len(optimizer.variables)
    for call in (optimizer.extend, lambda given: optimizer.apply([ops.ones(()), ops.ones(3)], given)):
        with pytest.raises(TypeError, match=message):
            call([known, thing])
    assert len(optimizer.variables) == before


@pytest.mark.parametrize("name", NO_LISTS)
def test_values_that_are_not_lists_are_refused(name):
    thing = NO_LISTS[name]()
    for call in (CASE.make().build, CASE.make().extend, lambda given: CASE.make().apply([ops.ones(3)], given)):
        if thing is None and call.__name__ == "<lambda>":
            continue
        with pytest.raises(TypeError, match=r"`\w+` must be a list of Keras variables.* Received: "):
            call(thing)


def test_every_other_iterable_is_read_as_a_list():
    first, second = keras.Variable(1.0), keras.Variable([1.0, 2.0])
    for given in ((first, second), iter([first, second]), (v for v in (first, second))):
        optimizer = CASE.make()
        optimizer.build(given)
        assert [state.variable for state in optimizer.plan.states] == [first, second]


@pytest.mark.on("tensorflow")
@each()
def test_tensorflow_variables_train_like_keras_variables(case):
    import tensorflow as tf

    plain, of_keras = tf.Variable([1.0, -2.0]), keras.Variable([1.0, -2.0])
    case.make().apply([ops.ones(2)], [plain])
    case.make().apply([ops.ones(2)], [of_keras])
    assert difference([plain.numpy()], values([of_keras])) == 0.0


def variable_of(dtype):
    """torch makes no integers of `keras.Variable` unless they are not trained."""
    return keras.Variable(np.ones(3), dtype=dtype, trainable=False, name=f"of_{dtype}")


@pytest.mark.parametrize("dtype", ["complex64", "int32", "uint8", "bool"])
@case_and_keras
def test_only_real_variables_are_trained(case, dtype):
    known, wrong = keras.Variable(np.ones(3)), variable_of(dtype)
    gradients, message = (
        [ops.ones(3)] * 2,
        rf"must have a floating-point dtype.*of_{dtype}.* Received: .*\[1\] of dtype",
    )
    with pytest.raises(TypeError, match=message):
        case.make().build([known, wrong])
    optimizer = case.make()
    with pytest.raises(TypeError, match=message):
        optimizer.apply(gradients, [known, wrong])
    assert not optimizer.built
    optimizer.build([known])
    before = len(optimizer.variables)
    for call in (optimizer.extend, lambda given: optimizer.apply(gradients, given)):
        with pytest.raises(TypeError, match=message):
            call([known, wrong])
    assert len(optimizer.variables) == before
    assert np.all(ops.convert_to_numpy(wrong) == 1)
    assert np.all(ops.convert_to_numpy(known) == 1)


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_ema": True, "gradient_accumulation_steps": 2, "skip_nonfinite": True, "global_clipnorm": 1.0},
        {"loss_scale_factor": "dynamic"},
    ],
    ids=["plain", "everything", "scaled"],
)
@each()
def test_fit_accepts_a_model_without_trainable_weights(case, options):
    """As with Keras's classes: the loss is computed and nothing is trained."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(1, trainable=False)])
    before = values(model.variables)
    model.compile(optimizer=case.make(**options), loss="mse")
    history = model.fit(X, Y, epochs=2, verbose=0).history
    assert history["loss"][0] == history["loss"][1] > 0.0
    assert difference(values(model.variables), before) == 0.0
    with pytest.raises(ValueError, match="at least one gradient"):
        case.make().apply([], [])


# Gradients of some rows


@pytest.mark.on("jax")
@each("lecture", torch="classes", full="classes")
def test_a_sparse_gradient_of_jax_is_made_dense(case):
    """With repeated rows, eager and traced."""
    import jax
    from jax.experimental import sparse

    rng = np.random.default_rng(5)
    rows = sparse.BCOO((rng.normal(size=(3, 2)).astype("float32"), np.array([[1], [4], [1]])), shape=(6, 2))
    start, ends = rng.normal(size=(6, 2)), []
    for gradient in (rows, rows.todense()):
        theta, other = keras.Variable(start, dtype="float32"), keras.Variable(start, dtype="float32")
        optimizer, traced = case.make(), case.make()
        optimizer.apply([gradient], [theta])
        traced.build([other])
        step = jax.jit(traced.stateless_apply)
        (new,), _ = step([v.value for v in traced.variables], [gradient], [other.value])
        ends.append([*values([theta]), np.asarray(new, "float64")])
    assert difference(*ends) <= 1e-7
    assert np.any(ends[0][0] != start)
    with pytest.raises(ValueError, match="must have its shape"):
        case.make().apply([rows], [keras.Variable(np.ones((5, 2)))])


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(
    "kind", [tuple, list, np.array, lambda ids: np.array(ids, "int64")], ids=["tuple", "list", "array", "int64"]
)
@each()
def test_tensorflow_slices_may_hold_python_values(case, kind):
    import tensorflow as tf

    ids, numbers, ends = [0, 4, 0], [[1.0, 2.0], [3.0, 4.0], [0.5, 0.5]], []
    for gradient in (
        tf.IndexedSlices(tf.constant(numbers), tf.constant(ids), tf.constant((6, 2))),
        tf.IndexedSlices(tf.constant(numbers), kind(ids), (6, 2)),
        tf.IndexedSlices(np.array(numbers, "float32"), kind(ids)),
    ):
        theta = keras.Variable(np.ones((6, 2)), dtype="float32")
        optimizer = case.make()
        optimizer.apply([gradient], [theta])
        ends.append(values([theta]))
    assert difference(ends[1], ends[0]) == difference(ends[2], ends[0]) == 0.0
    assert np.any(ends[0][0] != 1.0)
