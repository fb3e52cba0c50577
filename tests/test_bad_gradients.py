"""Every class with every kind of bad gradient: refused without a change, skipped and counted, or computed."""

import re
from functools import partial

import keras
import numpy as np
import pytest
from cases import CASE, each
from keras import ops
from support import value, values

BACKEND = keras.backend.backend()
SHAPES = [(2, 3), (1,), ()]
ENTRIES = ("apply", "apply_gradients", *(["stateless_apply"] if BACKEND == "jax" else []))


def gradient(place, number=1.0, dtype="float32", shape=None):
    return ops.cast(np.full(SHAPES[place] if shape is None else shape, number, "float32"), dtype)


def ones():
    return [gradient(place) for place in range(len(SHAPES))]


def instead(place, wrong):
    """Good gradients, except for one."""
    return [*ones()[:place], wrong, *ones()[place + 1 :]]


def array(number, dtype):
    return np.full(SHAPES[0], number, dtype)


A_LIST, REAL, SHAPE = r"`grads\w*` must be a list", r"`grads`.* Received", r"gradient of 'w\d' must have its shape"
LENGTH = r"`grads` must have a gradient for each of "
# By name: makes the gradients, the error, and what its message names.
REFUSED = {
    "transposed": (lambda: instead(0, gradient(0, shape=(3, 2))), ValueError, SHAPE),
    "fewer axes": (lambda: instead(1, gradient(1, shape=())), ValueError, SHAPE),
    "more axes": (lambda: instead(2, gradient(2, shape=(1,))), ValueError, SHAPE),
    "would broadcast": (lambda: instead(0, gradient(0, shape=(2, 1))), ValueError, SHAPE),
    "would broadcast more": (lambda: instead(0, gradient(0, shape=(5, 2, 3))), ValueError, SHAPE),
    "no elements": (lambda: instead(1, gradient(1, shape=(0,))), ValueError, SHAPE),
    "all None": (lambda: [None] * 3, ValueError, "`grads` must hold at least one gradient"),
    "bool": (lambda: instead(0, gradient(0, dtype="bool")), TypeError, REAL),
    "complex": (lambda: instead(2, gradient(2, dtype="complex64")), TypeError, REAL),
    "strings": (lambda: instead(0, array("1.0", str)), TypeError, REAL),
    "objects": (lambda: instead(0, array(None, object)), TypeError, REAL),
    "string": (lambda: instead(1, "1.0"), TypeError, REAL),
    "list": (lambda: instead(1, [1.0]), TypeError, REAL),
}
# What pairs cannot be: they are of some variables, or of all.
NO_LISTS = {
    "too short": (lambda: ones()[:2], ValueError, LENGTH),
    "too long": (lambda: [*ones(), gradient(2)], ValueError, LENGTH),
    "empty": (list, ValueError, LENGTH),
    "None": (lambda: None, TypeError, A_LIST),
    "number": (lambda: 1.0, TypeError, A_LIST),
    "tensor": (lambda: gradient(0, shape=(3,)), TypeError, A_LIST),
    "dict": (lambda: {f"w{place}": one for place, one in enumerate(ones())}, TypeError, A_LIST),
    "text": (lambda: "abc", TypeError, A_LIST),
}
NO_PAIRS = {
    "None": lambda variables: None,
    "gradients": lambda variables: ones(),
    "triples": lambda variables: [(g, v, None) for g, v in zip(ones(), variables, strict=True)],
    "tensor": lambda variables: gradient(0, shape=(3, 2)),
    "dict": lambda variables: {"w0": (gradient(0), variables[0])},
}
# JAX refuses these itself, before what it traces is called.
NOT_TRACED = ("strings", "objects", "string", "text")


def call(optimizer, variables, entry, grads):
    if entry == "apply":
        optimizer.apply(grads, variables)
    elif entry == "apply_gradients":
        optimizer.apply_gradients(zip(grads, variables, strict=False))
    else:
        import jax

        jax.jit(optimizer.stateless_apply)([v.value for v in optimizer.variables], grads, [v.value for v in variables])


def trained(case, **options):
    """The optimizer after a step or a micro-batch, and its three variables."""
    rng = np.random.default_rng(3)
    variables = [
        keras.Variable(rng.normal(size=shape), dtype="float32", name=f"w{place}") for place, shape in enumerate(SHAPES)
    ]
    optimizer = case.make(**options)
    optimizer.apply(ones(), variables)
    return optimizer, variables


def everything(optimizer, variables):
    return values([*variables, *optimizer.variables])


def changed(before, optimizer, variables):
    """The paths of what is not bit for bit as it was."""
    pairs = zip([*variables, *optimizer.variables], before, strict=True)
    return [v.path for v, old in pairs if not np.array_equal(value(v), old, equal_nan=True)]


def faults(optimizer, variables, attempt, error, message):
    """What is wrong with how the call is refused; an empty list where nothing is."""
    before = everything(optimizer, variables)
    try:
        attempt()
    except (TypeError, ValueError) as raised:
        said = type(raised) is error and re.search(message, str(raised))
        found = [] if said else [f"says {type(raised).__name__}: {raised}"]
    else:
        found = ["is not refused"]
    return found + [f"changes {path}" for path in changed(before, optimizer, variables)]


@each(torch="classes")
def test_invalid_gradients_are_refused_and_change_nothing(case):
    """By every method. Afterwards the optimizer continues as if it had never seen the gradient."""
    optimizer, variables = trained(case, use_ema=True, skip_nonfinite=True)
    lost = {}
    for name, (make, error, message) in (REFUSED | NO_LISTS).items():
        for entry in ENTRIES:
            if (entry == "apply_gradients" and name in NO_LISTS) or (entry == "stateless_apply" and name in NOT_TRACED):
                continue
            attempt = partial(call, optimizer, variables, entry, make())
            lost[name, entry] = faults(optimizer, variables, attempt, error, message)
    for name, make in NO_PAIRS.items():
        attempt = partial(optimizer.apply_gradients, make(variables))
        lost[name, "pairs"] = faults(optimizer, variables, attempt, TypeError, "`grads_and_vars` must be a list")
    assert {key: found for key, found in lost.items() if found} == {}
    optimizer.apply(ones(), variables)
    untouched, others = trained(case, use_ema=True, skip_nonfinite=True)
    untouched.apply(ones(), others)
    assert changed(everything(untouched, others), optimizer, variables) == []


@pytest.mark.parametrize("name", REFUSED | NO_LISTS)
def test_a_refused_first_call_builds_nothing(name):
    make, error, message = (REFUSED | NO_LISTS)[name]
    optimizer, variables = CASE.make(), [keras.Variable(np.ones(shape), name=f"w{len(shape)}") for shape in SHAPES]
    with pytest.raises(error, match=message):
        optimizer.apply(make(), variables)
    assert not optimizer.built


@pytest.mark.parametrize("name", ["transposed", "bool", "strings"])
def test_update_step_refuses_invalid_gradients_too(name):
    make, error, message = REFUSED[name]
    optimizer, variables = trained(CASE)
    attempt = partial(optimizer.update_step, make()[0], variables[0], 0.1)
    assert faults(optimizer, variables, attempt, error, message) == []


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int8", "uint8"])
@each()
def test_gradients_of_another_real_dtype_are_cast_to_the_weight_dtype(case, dtype):
    """Bit for bit, since 3 is exact in each."""
    ends = []
    for given in (dtype, "float32"):
        optimizer, variables = trained(case)
        optimizer.apply([gradient(place, 3.0, given) for place in range(3)], variables)
        ends.append(everything(optimizer, variables))
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
    assert any(np.any(a != b) for a, b in zip(ends[0], everything(*trained(case)), strict=True))


NOT_FINITE = {"nan": np.nan, "inf": np.inf, "minus inf": -np.inf}


def spoilt(number, place):
    """One element of one gradient."""
    wrong = np.ones(SHAPES[place], "float32")
    wrong.flat[0] = number
    return instead(place, ops.convert_to_tensor(wrong))


@each(torch="classes")
def test_a_nonfinite_gradient_is_skipped_and_counted(case):
    """Any value, in any variable, alone or in a window. Without `skip_nonfinite` the step runs."""
    for options in ({}, {"gradient_accumulation_steps": 2}):
        optimizer, variables = trained(case, skip_nonfinite=True, use_ema=True, weight_decay=0.1, **options)
        if options:
            optimizer.apply(ones(), variables)
        before, counted = everything(optimizer, variables), 0
        for number in NOT_FINITE.values():
            for place in range(len(SHAPES)):
                optimizer.apply(spoilt(number, place), variables)
                if options:
                    optimizer.apply(ones(), variables)
                counted += 1
                assert int(value(optimizer.skipped_updates)) == counted
                stays = [path for path in changed(before, optimizer, variables) if not is_of_the_window(path)]
                assert stays == [optimizer.skipped_updates.path]
    optimizer, variables = trained(case)
    for number in NOT_FINITE.values():
        optimizer.apply(spoilt(number, 0), variables)
    assert int(value(optimizer.iterations)) == 1 + len(NOT_FINITE)


def is_of_the_window(path):
    """What is overwritten by the first micro-batch of the next one."""
    return any(part in path for part in ("accumulator", "contributions", "window_is_spoilt"))


TINY = {"the least": 1e-45, "denormal": 1e-40, "below the root": 1e-30}
HUGE = {"the root": 2e19, "huge": 1e38, "the largest": float(np.finfo("float32").max)}


@each(torch="classes")
def test_tiny_gradients_leave_everything_finite(case):
    for number in TINY.values():
        optimizer, variables = trained(case, skip_nonfinite=True)
        for sign in (1.0, -1.0, 1.0):
            optimizer.apply([gradient(place, sign * number) for place in range(3)], variables)
        assert all(np.all(np.isfinite(array)) for array in everything(optimizer, variables))
        assert int(value(optimizer.skipped_updates)) == 0
        assert int(value(optimizer.iterations)) == 4


@each(torch="classes")
def test_a_step_with_huge_gradients_runs(case):
    optimizer, variables = trained(case)
    for number in HUGE.values():
        optimizer.apply([gradient(place, number) for place in range(3)], variables)
    assert int(value(optimizer.iterations)) == 1 + len(HUGE)


@pytest.mark.full_on("tensorflow")
@each(torch="classes")
def test_huge_gradients_leave_everything_finite(case):
    """With clipping no step is too large. Without it, an element whose new value is nonfinite does not change."""
    clips = ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"clipvalue": 1.0}, {})
    for number in HUGE.values():
        for clip in clips:
            optimizer, variables = trained(case, skip_nonfinite=True, **clip)
            for sign in (1.0, -1.0, 1.0):
                optimizer.apply([gradient(place, sign * number) for place in range(3)], variables)
            found = [v.path for v in [*variables, *optimizer.variables] if not np.all(np.isfinite(value(v)))]
            assert found == [], (number, clip)
            assert int(value(optimizer.iterations)) == 4


# Gradients of some rows

ROWS_AND_IDS = {
    "more indices than rows": ((2, 3), [0, 1, 2], None),
    "more rows than indices": ((3, 3), [0], None),
    "pairs of indices": ((2, 3), [[0], [1]], None),
    "fractions of indices": ((2, 3), [0.0, 1.0], None),
    "another dense shape": ((2, 3), [0, 1], (5, 3)),
}


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize("name", ROWS_AND_IDS)
@each()
def test_rows_that_do_not_fit_are_refused(case, name):
    """Also in a table of which only some rows are read, and before anything is read."""
    import tensorflow as tf

    shape, ids, dense_shape = ROWS_AND_IDS[name]
    rows = tf.IndexedSlices(tf.ones(shape), tf.constant(ids), dense_shape and tf.constant(dense_shape))
    for options in ({}, {"sparse": "lazy"}):
        table, optimizer = keras.Variable(np.ones((4, 3)), name="embeddings"), case.make(**options)
        optimizer.build([table])
        attempt = partial(optimizer.apply, [rows], [table])
        assert faults(optimizer, [table], attempt, ValueError, "`grads` must hold an index for each row") == []


@pytest.mark.on("tensorflow", "torch")
@each()
def test_elementwise_sparse_gradients_are_made_dense(case):
    dense = np.array([[0.0, 2.0], [-1.0, 0.0], [0.0, 0.0]], "float32")
    if BACKEND == "torch":
        import torch

        sparse = torch.tensor(dense).to_sparse()
    else:
        import tensorflow as tf

        sparse = tf.sparse.from_dense(dense)
    ends = []
    for given in (sparse, ops.convert_to_tensor(dense)):
        table, optimizer = keras.Variable(np.ones((3, 2)), name="embeddings"), case.make()
        optimizer.apply([given], [table])
        ends.append(everything(optimizer, [table]))
    assert all(np.array_equal(a, b) for a, b in zip(*ends, strict=True))
