"""CowClip clips the rows of embedding tables, with any optimizer."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from reference import twins
from support import MODES, Problem, Ramp, difference, in_mode, state, value, values

import keras_adaptive
from keras_adaptive import CowClip

ROWS, WIDTH = 6, 3
CLIP = {"ratio": 0.3, "zeta": 0.2}
on_tensorflow = pytest.mark.on("tensorflow")


def counts(t):
    """Rows that occur often, once and never."""
    return (np.arange(ROWS) + t) % 4


def table(start, name="embeddings", dtype="float64"):
    return keras.Variable(start, dtype=dtype, name=name)


@each()
def test_a_step_matches_the_twin_of_cowclip_then_that_of_the_rule(case, float64):
    """Only for the table. A row that does not occur has no gradient. No rule depends on the table's name."""
    case.needs("first steps")
    case.needs("smoothness")
    problem, schedule = Problem(seed=81, shapes=[(ROWS, WIDTH)] * 2, steps=20, scale=3.0), Ramp(0.05)
    variables = [table(start, name) for start, name in zip(problem.start, ("table", "kernel"), strict=True)]
    optimizer = case.make(learning_rate=schedule, cowclip=CowClip("table", **CLIP))
    for t in range(1, problem.steps + 1):
        gradients = [ops.convert_to_tensor(g) for g in problem.gradients(t, values(variables))]
        optimizer.apply(gradients, variables, counts={variables[0].path: counts(t)})

    def twin(clips):
        of_table, of_kernel = Problem.gradient(problem, 0), Problem.gradient(problem, 1)
        clipped = lambda t, theta: twins.cowclip(of_table(t, theta), theta, counts(t), **CLIP)  # noqa: E731
        problem.gradient = lambda index: of_kernel if index else clipped if clips else of_table
        return problem.reference(case.twin, schedule.at, case.coupled, **case.arguments, **case.of_twin)

    assert difference(values(variables), twin(clips=True)) <= 1e-12
    assert difference(values(variables), twin(clips=False)) > 1e-3


def test_rows_of_several_axes_and_rows_of_zero(float64):
    """Their norm counts as at least sqrt(d) zeta ratio, with d elements in a row."""
    start = np.zeros((2, 2, 2))
    variable, gradient = table(start), np.full((2, 2, 2), 5.0)
    optimizer = keras_adaptive.SGD(1.0, cowclip=CowClip(ratio=0.5, zeta=0.1))
    optimizer.apply([ops.convert_to_tensor(gradient)], [variable], counts={"embeddings": [1, 4]})
    lengths = np.linalg.norm(value(variable).reshape(2, 4), axis=1)
    np.testing.assert_allclose(lengths, 0.5 * 2 * 0.1 * 0.5 * np.array([1, 4]), rtol=1e-14)


def test_the_penalty_is_clipped_too(float64):
    start, gradient = np.random.default_rng(82).normal(size=(2, ROWS, WIDTH))
    variable = table(start)
    optimizer = keras_adaptive.SGD(0.5, weight_decay=0.7, weight_decay_mode="coupled", cowclip=CowClip(**CLIP))
    optimizer.apply([ops.convert_to_tensor(gradient)], [variable], counts={"embeddings": counts(1)})
    expected = start - 0.5 * twins.cowclip(gradient + 0.7 * start, start, counts(1), **CLIP)
    assert difference([value(variable)], [expected]) <= 1e-14


# Where the counts come from


@on_tensorflow
@each()
@pytest.mark.parametrize("mode", MODES)
def test_rows_of_a_sparse_gradient_are_counted(case, mode):
    import tensorflow as tf

    rng = np.random.default_rng(83)
    start, ids = rng.normal(size=(ROWS, WIDTH)).astype("float32"), np.array([4, 1, 4, 0, 4, 1])
    pushes = rng.normal(size=(3, len(ids), WIDTH)).astype("float32")

    def trained(sparse):
        variable, optimizer = table(start, dtype="float32"), case.make(cowclip=CowClip(**CLIP))
        optimizer.build([variable])
        push = tf.Variable(pushes[0])

        def step():
            gradient, given = tf.IndexedSlices(push.read_value(), tf.constant(ids), tf.constant([ROWS, WIDTH])), None
            if not sparse:
                gradient, given = tf.convert_to_tensor(gradient), {"embeddings": np.bincount(ids, minlength=ROWS)}
            optimizer.apply([gradient], [variable], counts=given)

        step = in_mode(step, mode)
        for values_of_rows in pushes:
            push.assign(values_of_rows)
            step()
        return [value(variable)]

    assert difference(trained(sparse=True), trained(sparse=False)) <= 1e-6


@each()
def test_a_window_of_micro_batches_matches_one_batch(case, float64):
    """Its mean gradient is clipped by the counts of the full window, in every window."""
    case.needs("smoothness")
    rng, ends = np.random.default_rng(84), {}
    start, pushes = rng.normal(size=(ROWS, WIDTH)), 3.0 * rng.normal(size=(2, 3, ROWS, WIDTH))
    of_micro = rng.integers(0, 3, size=(2, 3, ROWS))
    for steps in (3, None):
        variable = table(start)
        optimizer = case.make(cowclip=CowClip(**CLIP), gradient_accumulation_steps=steps)
        for window, numbers in zip(pushes, of_micro, strict=True):
            micro = zip(window, numbers, strict=True) if steps else [(window.mean(axis=0), numbers.sum(axis=0))]
            for gradient, number in micro:
                optimizer.apply([ops.convert_to_tensor(gradient)], [variable], counts={"embeddings": number})
        ends[steps] = value(variable)
    assert difference([ends[3]], [ends[None]]) <= 1e-12


@pytest.mark.on("jax")
def test_counts_are_given_to_a_stateless_step():
    import jax

    start, gradient = np.random.default_rng(85).normal(size=(2, ROWS, WIDTH)).astype("float32")
    ends = []
    for stateless in (True, False):
        variable, optimizer = table(start, dtype="float32"), keras_adaptive.Adam(cowclip=CowClip(**CLIP))
        optimizer.build([variable])
        given = {"embeddings": counts(2)}
        if stateless:
            step = jax.jit(lambda kept, g, weights, c, o=optimizer: o.stateless_apply(kept, g, weights, counts=c))
            (new,), _ = step([v.value for v in optimizer.variables], [gradient], [variable.value], given)
            variable.assign(new)
        else:
            optimizer.apply([ops.convert_to_tensor(gradient)], [variable], counts=given)
        ends.append(value(variable))
    assert difference(ends[:1], ends[1:]) <= 1e-7
    assert difference(ends[:1], [start]) > 1e-4


@pytest.mark.on("mirrored", "mirrored-4")
@each()
@pytest.mark.parametrize("steps", [None, 2])
@pytest.mark.parametrize("sparse", [True, False])
def test_counts_are_summed_over_the_replicas(case, steps, sparse):
    import tensorflow as tf
    from replicas import COUNT, Loop

    class Counting(Loop):
        def apply(self, ids, sparse):
            rows = 2.0 * tf.gather(self.weights[0].value, ids) + tf.cast(ids, "float32")[:, None]
            gradient, given = tf.IndexedSlices(rows, ids, tf.constant([ROWS, WIDTH])), None
            if not sparse:
                gradient, given = tf.convert_to_tensor(gradient), {"w0": tf.math.bincount(ids, minlength=ROWS)}
            self.optimizer.apply([gradient], self.weights, counts=given)

        def on_one(self, ids):
            self.apply(ids[tf.distribute.get_replica_context().replica_id_in_sync_group], sparse)

        def _alone(self, ids):
            self.apply(tf.reshape(ids, [-1]), sparse=False)

    def make():
        return case.make(cowclip=CowClip("w0", **CLIP), gradient_accumulation_steps=steps)

    rng, ends = np.random.default_rng(86), []
    start, ids = rng.normal(size=(ROWS, WIDTH)).astype("float32"), rng.integers(0, 4, size=(4, COUNT, 5))
    for replicated in (True, False):
        loop = Counting(make, [start], replicated, None)
        for share in ids:
            loop.step(share)
        ends.append(loop.ends())
    assert difference(*ends) <= 1e-6
    assert difference(ends[0], [start]) > 1e-3


def test_a_table_that_is_left_out_needs_no_counts(float64):
    """A table that is added later is clipped too, while the first table has another place among the variables."""
    start, gradient = np.random.default_rng(89).normal(size=(2, ROWS, WIDTH))
    variables = [table(start, name) for name in ("new_embeddings", "kernel", "embeddings")]
    optimizer = keras_adaptive.SGD(1.0, cowclip=CowClip(**CLIP))
    optimizer.build(variables[1:])
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([ops.convert_to_tensor(gradient), None], variables[1:])
    assert difference(values(variables), [start, start - gradient, start]) <= 1e-14
    optimizer.extend(variables)
    given = {"new_embeddings": counts(1), "embeddings": counts(2)}
    optimizer.apply([ops.convert_to_tensor(gradient)] * 3, variables, counts=given)
    new, old = (start - twins.cowclip(gradient, start, counts(t), **CLIP) for t in (1, 2))
    assert difference(values(variables), [new, start - 2 * gradient, old]) <= 1e-14


# What is refused


def test_missing_or_wrong_counts_change_nothing():
    variables = [table(np.ones((ROWS, WIDTH)), name, "float32") for name in ("embeddings", "kernel")]
    optimizer = keras_adaptive.Adam(cowclip=CowClip())
    optimizer.build(variables)
    before = state(optimizer) | {v.path: value(v) for v in variables}
    gradients = [ops.ones((ROWS, WIDTH))] * 2
    for wrong in (None, {}, {"embeddings": np.ones(ROWS - 1)}, {"embeddings": np.ones(ROWS), "kernel": np.ones(ROWS)}):
        with pytest.raises(ValueError, match=r"`counts`.*Received: "):
            optimizer.apply(gradients, variables, counts=wrong)
    with pytest.raises(ValueError, match="`counts` must say how often"):
        optimizer.update_step(gradients[0], variables[0], 0.1)
    after = state(optimizer) | {v.path: value(v) for v in variables}
    assert all(np.array_equal(before[name], after[name]) for name in before)
    with pytest.raises(ValueError, match=r"must be of variables that CowClip clips, \[\]"):
        keras_adaptive.Adam().apply(gradients, variables, counts={"embeddings": np.ones(ROWS)})


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("embedings$", r"\['embeddings', 'bias'\] are the nearest"), ("bias", "at least two axes")],
)
def test_patterns_that_match_no_table_are_refused(pattern, message):
    optimizer = keras_adaptive.Adam(cowclip=CowClip(pattern))
    with pytest.raises(ValueError, match=message):
        optimizer.build([table(np.ones((ROWS, WIDTH))), table(np.ones(WIDTH), "bias")])


def test_without_a_pattern_there_must_be_a_table():
    """As layers and groups say."""
    variables = [table(np.ones((ROWS, WIDTH)), "users"), table(np.ones(WIDTH), "bias")]
    optimizer = keras_adaptive.Adam(cowclip=CowClip())
    with pytest.raises(
        ValueError, match=r"`pattern` of CowClip must be given.*\['users', 'bias'\]. Received: pattern="
    ):
        optimizer.build(variables)
    optimizer = keras_adaptive.Adam(cowclip=CowClip(), groups=[keras_adaptive.Group("users", role="embedding")])
    optimizer.build(variables)
    assert [state.counted for state in optimizer.plan.states] == [True, False]


@pytest.mark.parametrize(
    "wrong",
    [{"pattern": "("}, {"pattern": 1}, {"ratio": 0.0}, {"ratio": "1"}, {"zeta": -1e-5}, {"zeta": 0.0}],
    ids=str,
)
def test_arguments_out_of_range_are_refused(wrong):
    (name,) = wrong
    with pytest.raises((ValueError, TypeError), match=f"`{name}` must be .*Received: {name}="):
        CowClip(**wrong)


def test_the_option_is_none_or_a_cowclip():
    with pytest.raises(TypeError, match=r"`cowclip` must be None or a CowClip\. Received: cowclip='embeddings'"):
        keras_adaptive.Adam(cowclip="embeddings")


def test_the_option_is_saved_with_the_optimizer():
    optimizer = keras_adaptive.Adam(cowclip=CowClip("table", ratio=0.5, zeta=1e-3))
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.cowclip == optimizer.cowclip == CowClip("table", 0.5, 1e-3) != CowClip("table")
    assert repr(again.cowclip) == "CowClip('table', ratio=0.5, zeta=0.001)"


def test_the_counts_of_a_window_are_saved_with_its_gradients():
    """The second half of a window in another optimizer."""
    start, gradient = np.random.default_rng(87).normal(size=(2, ROWS, WIDTH)).astype("float32")
    ends = []
    for stops in (True, False):
        variable = table(start, dtype="float32")
        optimizers = [
            keras_adaptive.SGD(0.5, cowclip=CowClip(**CLIP), gradient_accumulation_steps=2) for _ in range(1 + stops)
        ]
        for optimizer in optimizers:
            optimizer.build([variable])
        optimizers[0].apply([ops.convert_to_tensor(gradient)], [variable], counts={"embeddings": counts(1)})
        for mine, other in zip(optimizers[-1].variables, optimizers[0].variables, strict=True):
            mine.assign(value(other))
        optimizers[-1].apply([ops.convert_to_tensor(gradient)], [variable], counts={"embeddings": counts(2)})
        ends.append(value(variable))
    assert difference(ends[:1], ends[1:]) == 0.0
    assert difference(ends[:1], [start]) > 1e-3


@on_tensorflow
def test_fit_counts_automatically():
    """Keras's layer and loop, on the one backend whose gradients hold the ids."""
    rng = np.random.default_rng(88)
    x, y = rng.integers(0, ROWS - 1, size=(64, 2)), rng.normal(size=(64, 1)).astype("float32")
    model = keras.Sequential([keras.layers.Embedding(ROWS, WIDTH), keras.layers.Flatten(), keras.layers.Dense(1)])
    model.build((None, 2))
    before = value(model.layers[0].embeddings)
    model.compile(optimizer=keras_adaptive.SGD(1.0, cowclip=CowClip(ratio=1e-3)), loss="mse")
    model.fit(x, y, batch_size=64, epochs=1, verbose=0)
    moved = np.linalg.norm(value(model.layers[0].embeddings) - before, axis=1)
    limit = 1e-3 * np.linalg.norm(before, axis=1) * np.bincount(x.ravel(), minlength=ROWS)
    assert np.all(moved <= limit * (1 + 1e-5))
    assert moved.max() > 0.9 * limit[np.argmax(moved)]
