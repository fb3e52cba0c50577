"""Updates of only those rows of a table that have a gradient."""

import keras
import numpy as np
import pytest
from cases import CASES, each
from support import difference, in_mode, values

pytestmark = pytest.mark.on("tensorflow")

HEIGHT, WIDTH = 1009, 3
# What every row that is used may be: some come in each batch, some now and then, most never.
USED = 12
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.05},
    "global_clipnorm": {"global_clipnorm": 0.05, "skip_nonfinite": True},
    "loss-scale": {"loss_scale_factor": 1024.0, "clipvalue": 0.01},
}


def table():
    return keras.Variable(np.random.default_rng(1).normal(size=(HEIGHT, WIDTH)), dtype="float32", name="embeddings")


def head():
    return keras.Variable(np.ones((WIDTH, 1)), dtype="float32", name="head")


def any_batch():
    import tensorflow as tf

    return tf.TensorSpec([None], "int32"), tf.TensorSpec([None, WIDTH], "float32")


def sparse(ids, rows):
    import tensorflow as tf

    return tf.IndexedSlices(tf.cast(rows, "float32"), tf.constant(ids, "int32"), tf.constant([HEIGHT, WIDTH]))


def dense(ids, rows):
    gradient = np.zeros((HEIGHT, WIDTH), "float32")
    np.add.at(gradient, ids, rows)
    return keras.ops.convert_to_tensor(gradient)


def batches(seed, number, size=16):
    """Of each batch the ids, of which some come several times, and the gradients of these occurrences."""
    rng = np.random.default_rng(seed)
    for _ in range(number):
        yield (
            rng.integers(0, rng.integers(2, USED), size).astype("int32"),
            rng.normal(size=(size, WIDTH)).astype("float32"),
        )


def by_rows(optimizer):
    (state,) = optimizer.plan.states
    return state.by_rows


def fades(case):
    return any(isinstance(slot.idle, str) for slot in case.optimizer.slots)


def chosen(condition):
    """The rows of the table for which it holds; those of the catalogue are part of the full run."""
    return each("lecture rows", full="classes", where=lambda case: condition(case) and "cautious" not in case.arguments)


STANDING = chosen(lambda case: case.stands)
FADING = chosen(lambda case: case.stands and fades(case))
# Those that continue from Keras's class.
FOLLOWING = each("lecture rows", where=lambda case: case.stands and fades(case))
LAZY = chosen(lambda case: case.optimizer.elementwise)


def step_of(optimizer, variables, as_dense):
    """The update of the table by the rows with these ids, and of the head, as the user's step."""
    import tensorflow as tf

    def step(ids, rows):
        gradient = tf.IndexedSlices(rows, ids, tf.constant([HEIGHT, WIDTH]))
        gradient = tf.convert_to_tensor(gradient) if as_dense else gradient
        optimizer.apply([gradient, tf.ones((WIDTH, 1))][: len(variables)], variables)

    return step


@LAZY
def test_only_rows_are_updated_if_the_others_do_not_move(case):
    for options, expected in (({}, case.stands), ({"sparse": "lazy"}, True), ({"use_ema": True}, False)):
        optimizer = case.make(**options)
        optimizer.build([table()])
        assert by_rows(optimizer) == expected


@STANDING
@pytest.mark.parametrize(
    ("mode", "options"), [("graph", name) for name in OPTIONS] + [("eager", "plain"), ("jit", "global_clipnorm")]
)
def test_exact_matches_dense(case, mode, options):
    ends = []
    for as_dense in (False, True):
        variables = [table(), head()]
        optimizer = case.make(**OPTIONS[options])
        optimizer.build(variables)
        step = in_mode(step_of(optimizer, variables, as_dense), mode)
        for batch in batches(2, 12):
            step(*batch)
        ends.append(values(variables))
    assert difference(*ends) <= 2e-6


@STANDING
@pytest.mark.parametrize("slot_dtype", ["float32", "bfloat16"])
def test_sparse_dense_and_missing_gradients_may_alternate(case, slot_dtype):
    """All in one training, against dense updates: the decay of rows between their updates is caught up."""
    ends = []
    for forms in ((sparse, dense, None), (dense, dense, None)):
        variables = [table(), head()]
        optimizer = case.make(slot_dtype=slot_dtype)
        for step, (ids, rows) in enumerate(batches(3, 15)):
            form = forms[(0, 0, 1, 0, 2)[step % 5]]
            with np.testing.suppress_warnings() as known:
                known.filter(UserWarning)
                optimizer.apply([form and form(ids, rows), keras.ops.ones((WIDTH, 1))], variables)
        ends.append(values(variables))
    # A slot in bfloat16 that fades is rounded at other times.
    assert difference(*ends) <= (0.02 if slot_dtype == "bfloat16" and fades(case) else 2e-6)


@LAZY
def test_lazy_changes_only_its_rows_and_matches_dense_there(case):
    """At every step, against a dense step from the same state."""
    theta = table()
    optimizer, beside = (
        case.make(sparse="lazy", weight_decay=0.1, clipnorm=0.5),
        case.make(weight_decay=0.1, clipnorm=0.5),
    )
    other = table()
    for made, variable in ((optimizer, theta), (beside, other)):
        made.build([variable])
    like_the_table = [v for v in optimizer.variables if v.shape == theta.shape]
    for ids, rows in batches(4, 6):
        before = values([theta, *like_the_table])
        other.assign(theta)
        beside.set_state({key: array for key, array in optimizer.get_state().items()})
        optimizer.apply([sparse(ids, rows)], [theta])
        beside.apply([dense(ids, rows)], [other])
        expected = values([other, *[v for v in beside.variables if v.shape == theta.shape]])
        touched = np.isin(np.arange(HEIGHT), ids)
        for old, new, whole in zip(before, values([theta, *like_the_table]), expected, strict=True):
            np.testing.assert_array_equal(new[~touched], old[~touched])
            np.testing.assert_allclose(new[touched], whole[touched], rtol=2e-6, atol=2e-6)
        assert np.abs(values([theta])[0] - before[0])[touched].min() > 0.0


@each("lecture", torch="classes", full="classes")
def test_lazy_is_refused_if_a_step_depends_on_all_rows(case):
    lazy = case.make(sparse="lazy")
    if case.optimizer.elementwise:
        lazy.apply([sparse([1, 1], np.ones((2, WIDTH)))], [table()])
        return
    # Not a table, which optimizers of matrices leave to AdamW.
    theta = keras.Variable(np.ones((HEIGHT, WIDTH)), dtype="float32", name="kernel")
    before = values([theta])
    with pytest.raises(ValueError, match=r"`sparse` must be 'exact' .* Received: sparse='lazy'"):
        lazy.apply([sparse([1, 1], np.ones((2, WIDTH)))], [theta])
    assert difference(values([theta]), before) == 0.0
    # A dense gradient holds all rows.
    lazy.apply([dense([1, 1], np.ones((2, WIDTH)))], [theta])


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_ema", True), ("gradient_accumulation_steps", 2), ("monitor", True), ("cautious", True)],
)
def test_lazy_is_refused_with_options_that_read_all_rows(option, value):
    """When the optimizer is created, and when the option is set."""
    refused = pytest.raises(ValueError, match=rf"`sparse` must be 'exact' with `{option}`.*{option}={value}")
    with refused:
        CASES[0].make(sparse="lazy", **{option: value})
    lazy = CASES[0].make(sparse="lazy")
    old = getattr(lazy, option)
    with refused:
        setattr(lazy, option, value)
    assert getattr(lazy, option) == old


def test_lazy_is_refused_with_a_constraint():
    theta = table()
    theta.constraint = keras.constraints.NonNeg()
    with pytest.raises(ValueError, match=r"`sparse` must be .exact. .*constraint"):
        CASES[0].make(sparse="lazy").apply([sparse([1], np.ones((1, WIDTH)))], [theta])


@FADING
@pytest.mark.parametrize("options", [{"weight_decay": 0.1}, {"use_ema": True, "monitor": True}], ids=str)
def test_exact_updates_all_rows_if_an_option_needs_them(case, options):
    ends = []
    for form in (sparse, dense):
        theta, optimizer = table(), case.make(**options)
        for ids, rows in batches(5, 3):
            optimizer.apply([form(ids, rows)], [theta])
        ends.append(values([theta, *[v for v in optimizer.variables if v.shape == theta.shape]]))
    assert difference(*ends) <= 2e-6


@STANDING
def test_no_array_as_large_as_the_table_is_made(case):
    import tensorflow as tf

    optimizer, theta = case.make(global_clipnorm=1.0, skip_nonfinite=True), table()
    optimizer.build([theta])
    step = tf.function(step_of(optimizer, [theta], as_dense=False), autograph=False)
    graph = step.get_concrete_function(*any_batch()).graph
    graphs = [graph, *(function.graph for function in graph._functions.values() if hasattr(function, "graph"))]
    made = [tensor for one in graphs for op in one.get_operations() for tensor in op.outputs]
    assert any(tensor.shape.rank == 2 and tensor.shape[1] == WIDTH for tensor in made)
    assert not [tensor for tensor in made if tensor.shape.rank and tensor.shape[0] == HEIGHT]


@FADING
@pytest.mark.parametrize(
    ("saved", "restored"),
    [({}, {}), ({}, {"monitor": True}), ({"monitor": True}, {})],
    ids=["rows", "to-whole", "from-whole"],
)
def test_a_restart_between_two_updates_of_a_row(case, saved, restored):
    """A row whose averages decay is saved as last read. A state without a note of that loads unchanged."""
    first, theta = case.make(**saved), table()
    never_stopped, other = case.make(), table()
    for ids, rows in batches(6, 7):
        first.apply([sparse(ids, rows)], [theta])
        never_stopped.apply([sparse(ids, rows)], [other])
    second = case.make(**restored)
    second.build([theta])
    second.set_state(first.get_state())
    for ids, rows in batches(7, 7):
        second.apply([sparse(ids, rows)], [theta])
        never_stopped.apply([sparse(ids, rows)], [other])
    if saved == restored == {}:
        np.testing.assert_array_equal(*values([theta, other]))
    assert difference(values([theta]), values([other])) <= 2e-6


@FOLLOWING
@pytest.mark.parametrize("mode", ["graph", "eager"])
def test_batches_of_any_size_match_batches_of_a_known_size(case, mode):
    """Where the number of ids is not known, ids are added; with no ids nothing is."""
    import tensorflow as tf

    sizes, ends = (70, 5, 0), []
    for is_known in (False, True):
        optimizer, theta = case.make(sparse="lazy", clipnorm=0.5, skip_nonfinite=True), table()
        optimizer.build([theta])
        step = step_of(optimizer, [theta], as_dense=False)
        any_size = step if mode == "eager" else tf.function(step, any_batch(), autograph=False)
        for seed, size in enumerate(sizes):
            ids, rows = next(batches(seed, 1, size))
            # Row 0 has a gradient in the first batch only.
            ids = ids + min(seed, 1)
            (tf.function(step, autograph=False) if is_known else any_size)(tf.constant(ids), tf.constant(rows))
        assert optimizer.iterations.numpy() == len(sizes)
        ends.append(values([theta, *[v for v in optimizer.variables if v.shape == theta.shape]]))
    assert difference(*ends) <= 1e-6


@FOLLOWING
@pytest.mark.parametrize("jit_update", ["auto", False])
def test_an_id_beyond_the_table_is_refused(case, jit_update):
    import tensorflow as tf

    optimizer, theta = case.make(sparse="lazy", jit_update=jit_update), table()
    optimizer.build([theta])
    before = values([theta])
    with pytest.raises(tf.errors.InvalidArgumentError):
        tf.function(lambda: optimizer.apply([sparse([3, HEIGHT], np.ones((2, WIDTH)))], [theta]), autograph=False)()
    assert difference(values([theta]), before) == 0.0


@FOLLOWING
def test_a_read_of_the_table_is_not_a_copy_afterwards(case):
    """As TensorFlow makes it once rows were gathered or scattered outside of a program."""
    import tensorflow as tf

    optimizer, theta = case.make(sparse="lazy"), table()
    optimizer.build([theta])
    tf.function(lambda: optimizer.apply([sparse([3, 4, 3], np.ones((3, WIDTH)))], [theta]), autograph=False)()
    reads = [theta.value.read_value() for _ in range(2)]
    assert len({np.asarray(memoryview(read)).ctypes.data for read in reads}) == 1


@FOLLOWING
def test_skipped_elements_of_repeated_rows_count_once(case):
    skipped = []
    for form in (sparse, dense):
        optimizer, theta = case.make(skip_nonfinite=True, sparse="lazy"), table()
        # The sum is finite, its square is not.
        rows = np.full((4, WIDTH), 1e20)
        optimizer.apply([form([5, 7, 5, 5], rows)], [theta])
        skipped.append(sum(float(v) for v in optimizer.variables if v.path.endswith("skipped_elements")))
    assert skipped[0] == skipped[1] == 2 * WIDTH


@FOLLOWING
def test_decaying_rows_continue_from_keras(case):
    """After many updates by Keras's class no row has missed one. Compared with an update that does not track rows."""
    ends = []
    for options in ({}, {"monitor": True}):
        theirs, optimizer, theta = getattr(keras.optimizers, case.optimizer.__name__)(), case.make(**options), table()
        for _ in range(40):
            theirs.apply([keras.ops.ones((HEIGHT, WIDTH))], [theta])
        optimizer.continue_from(theirs)
        for ids, rows in batches(8, 2):
            optimizer.apply([sparse(ids, rows)], [theta])
        ends.append(values([theta]))
    assert difference(*ends) <= 2e-6


@FADING
def test_a_table_added_later_has_no_missed_updates(case):
    ends = []
    for form in (sparse, dense):
        optimizer, theta, other = case.make(), table(), head()
        for _ in range(5):
            optimizer.apply([keras.ops.ones((WIDTH, 1))], [other])
        optimizer.extend([other, theta])
        for ids, rows in batches(9, 4):
            optimizer.apply([keras.ops.ones((WIDTH, 1)), form(ids, rows)], [other, theta])
        ends.append(values([theta]))
    assert difference(*ends) <= 2e-6
