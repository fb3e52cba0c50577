"""Groups: which variable is trained with what, decided once, shown, and saved."""

import keras
import numpy as np
import pytest
from cases import CASES, QUICKEST, ROWS, column, each, each_and_keras, each_class
from keras import ops
from support import Problem, Ramp, difference, value, values

from keras_adaptive import Group, layerwise_decay, no_decay_on_vectors

keras.saving.register_keras_serializable(package="tests")(Ramp)

# Rows of one class; what is no hyperparameter of theirs must be the same, and a coupled step is of all variables.
PAIRS = [
    pytest.param(case, other, id=f"{case.name}-{other.name}")
    for case in (ROWS if QUICKEST else CASES)
    for other in (ROWS if QUICKEST else CASES)
    if case.optimizer is other.optimizer
    and case is not other
    and case.arguments.get("cautious") == other.arguments.get("cautious")
    and not case.coupled
]
DECAY = keras.optimizers.schedules.ExponentialDecay(0.5, 4, 0.5)
RNG = np.random.default_rng(81)
X, Y = RNG.normal(size=(40, 3)).astype("float32"), RNG.normal(size=(40, 1)).astype("float32")


def hyperparameters(case):
    """All of a row, with the class's defaults for those that it does not give."""
    optimizer = case.make()
    return {name: getattr(optimizer, name) for name in optimizer.hyperparameters}


def steps(optimizer, variables, numbers, count=8):
    """Updates of some of a problem's variables, each by its own gradients."""
    problem = Problem(seed=82, shapes=[(3,), (4, 2)], steps=count)
    for number, variable in zip(numbers, variables, strict=True):
        variable.assign(problem.start[number])
    for t in range(1, count + 1):
        gradients = [problem.gradient(number)(t, value(v)) for number, v in zip(numbers, variables, strict=True)]
        optimizer.apply([ops.convert_to_tensor(g, dtype="float32") for g in gradients], variables)
    return values(variables)


def two(names=("first", "second")):
    shapes = [(3,), (4, 2)]
    return [keras.Variable(ops.zeros(shape), name=name) for shape, name in zip(shapes, names, strict=True)]


@pytest.mark.parametrize(("case", "other"), PAIRS)
def test_a_group_has_other_hyperparameters(case, other):
    """Both variables end as under an optimizer of their own."""
    grouped = case.make(
        learning_rate=Ramp(0.2),
        weight_decay=0.1,
        groups=[Group("second", 0.5, weight_decay=0.3, **hyperparameters(other))],
    )
    ours = steps(grouped, two(), (0, 1))
    (first,) = steps(case.make(learning_rate=Ramp(0.2), weight_decay=0.1), two()[:1], (0,))
    (second,) = steps(other.make(learning_rate=Ramp(0.1), weight_decay=0.3), two()[1:], (1,))
    assert difference(ours, [first, second]) <= 1e-6


@column("groups")
@each_class
def test_a_group_is_an_optimizer_of_its_own(case):
    """Where the step does not depend on all variables, each ends as if it were alone; with a schedule of decay too."""
    case.needs_steps_of_its_own()
    grouped = case.make(learning_rate=Ramp(0.2), weight_decay=0.1, groups=[Group("second", 0.5, weight_decay=DECAY)])
    ours = steps(grouped, two(), (0, 1))
    (first,) = steps(case.make(learning_rate=Ramp(0.2), weight_decay=0.1), two()[:1], (0,))
    (second,) = steps(case.make(learning_rate=Ramp(0.1), weight_decay=DECAY), two()[1:], (1,))
    assert difference(ours, [first, second]) <= 1e-6


@each
def test_the_learning_rate_moves_all_groups_in_proportion(case):
    """Through callbacks, in what is already compiled."""
    case.needs("first steps")
    rates = [0.2, 0.05, 0.1]
    shown = []

    class Shown(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            shown.append([row.learning_rate for row in self.model.optimizer.describe()])

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer=case.make(groups=[Group("bias", 0.25)]), loss="mse")
    # Nothing is as much better as that, so that from the second epoch on the rate is halved after each.
    halved = keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=0, min_delta=1e9)
    for callback in (keras.callbacks.LearningRateScheduler(lambda epoch: rates[epoch]), halved):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[callback, Shown()])
    rates += [0.1, 0.05, 0.025]
    assert np.allclose(shown, [[rate, 0.25 * case.vector_rate * rate] for rate in rates], rtol=1e-6)

    ends = []
    for rate, multiplier in ((1.0, 0.25), (0.25, 1.0)):
        variables = two()
        optimizer = case.make(0.2 * rate, groups=[Group("first", 0.0), Group("second", multiplier)])
        steps(optimizer, variables, (0, 1), count=1)
        before = values(variables)
        optimizer.learning_rate = 0.3 * rate
        optimizer.apply([ops.ones((3,)), ops.ones((4, 2))], variables)
        ends.append(values(variables))
        assert difference(ends[-1][:1], before[:1]) == 0.0
        assert difference(ends[-1][1:], before[1:]) > 0.01
    assert difference(*ends) <= 1e-6


@each
def test_the_first_match_wins_and_the_rest_is_the_optimizers(case):
    variables = [*two(("encoder_kernel", "encoder_bias")), keras.Variable(1.0, name="head")]
    optimizer = case.make(learning_rate=0.5, groups=[Group("bias$", 0.1), Group("^encoder", 0.2)])
    optimizer.build(variables)
    rates = [0.1 * case.vector_rate, 0.05, 0.5 * case.vector_rate]
    assert np.allclose([row.learning_rate for row in optimizer.describe()], rates)


@each
def test_no_decay_on_vectors(case):
    variables = [keras.Variable(np.ones(shape)) for shape in [(2, 2), (3,), ()]]
    optimizer = case.make(learning_rate=0.5, weight_decay=0.1, groups=[no_decay_on_vectors()])
    optimizer.build(variables)
    assert [row.weight_decay for row in optimizer.describe()] == [0.1, 0.0, 0.0]


@each
def test_a_pattern_that_matches_nothing_names_the_nearest(case):
    variables = two(("encoder_kernel", "decoder_bias"))
    optimizer = case.make(groups=[Group("encodr")])
    with pytest.raises(ValueError, match=r"(?s)encoder_kernel.*Received: pattern='encodr'"):
        optimizer.build(variables)
    assert not optimizer.built
    assert len(optimizer.variables) == len(case.make().variables)
    with pytest.raises(ValueError, match="earlier groups"):
        case.make(groups=[Group("coder"), Group("bias")]).build(variables)
    with pytest.raises(ValueError, match="max_ndim=0"):
        case.make(groups=[Group("", max_ndim=0)]).build(variables)
    case.make(groups=[Group("encodr", optional=True)]).build(variables)


@each
def test_wrong_groups(case):
    wrong = [
        (lambda: Group(3), "pattern"),
        (lambda: Group("("), "pattern"),
        (lambda: Group("a", -1.0), "learning_rate_multiplier"),
        (lambda: Group("a", weight_decay=-0.1), "weight_decay"),
        (lambda: Group("a", max_ndim=1.5), "max_ndim"),
        (lambda: Group("a", optional="no"), "optional"),
        (lambda: case.make(groups=["a"]), "groups"),
        (lambda: case.make(groups=Group("a")), "groups"),
        (lambda: case.make(groups=[Group("a", slope=1.0)]), "slope"),
        *((lambda own=own: case.make(groups=[Group("a", **own)]), next(iter(own))) for own in case.wrong),
    ]
    for make, name in wrong:
        with pytest.raises((ValueError, TypeError), match=rf"`{name}.*Received"):
            make()


def sequential(optimizer):
    keras.utils.set_random_seed(83)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(4, activation="tanh", name="hidden"), keras.layers.Dense(1, name="head")]
    )
    model.compile(optimizer=optimizer, loss="mse")
    return model


def train(model, first, last):
    for i in range(first, last):
        model.train_on_batch(X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4])


@each_and_keras("Keras does not save what is excluded from weight decay", raises=(AssertionError, ValueError))
def test_a_reloaded_model_has_the_same_groups(case, tmp_path):
    """A Sequential's variables lose the first part of their path on the way; patterns with it match no more.

    Decay that is a schedule, and where it has its place, come back too.
    """
    ours = {"weight_decay": 0.5}
    if case.twin:
        half_of_it = keras.optimizers.schedules.ExponentialDecay(0.25, 4, 0.5)
        mode = "independent" if case.optimizer.decay == "core" else "decoupled"
        groups = [Group("^sequential.*hidden", 0.25, weight_decay=half_of_it)]
        ours = {"weight_decay": DECAY, "weight_decay_mode": mode, "groups": groups}

    def made():
        optimizer = case.make(Ramp(0.1), **ours)
        optimizer.exclude_from_weight_decay(var_names=["bias"])
        return optimizer

    whole, half = sequential(made()), sequential(made())
    train(whole, 0, 10)
    train(half, 0, 5)
    half.save(tmp_path / "half.keras")
    rest = keras.models.load_model(tmp_path / "half.keras")
    assert rest.trainable_variables[0].path != half.trainable_variables[0].path
    train(rest, 5, 10)
    assert difference(values(rest.variables), values(whole.variables)) == 0.0
    rows = [list(model.optimizer.describe()) for model in (half, rest)]
    assert [row.group for row in rows[0]] == [row.group for row in rows[1]]
    assert [row.weight_decay for row in rows[1]] == pytest.approx([0.25 * 0.5**2.5, 0.0, 0.5 * 0.5**2.5, 0.0])


@each
def test_excluded_variables_are_saved(case):
    """By the variable too, before build and after it; and groups keep what their config says."""
    decayed, not_decayed = two()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer = case.make(weight_decay=schedule, groups=[Group("second", 0.5, weight_decay=schedule, max_ndim=3)])
    optimizer.exclude_from_weight_decay(var_list=[not_decayed])
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    for each_one in (optimizer, again, type(optimizer).from_config(again.get_config())):
        each_one.build([decayed, not_decayed])
        assert [row.weight_decay for row in each_one.describe()] == [0.5, 0.0]
    assert type(optimizer).from_config(optimizer.get_config()).get_config() == optimizer.get_config()
    with pytest.raises(ValueError, match="before the optimizer is built"):
        again.exclude_from_weight_decay(var_names=["first"])


@each
def test_the_table(case):
    with pytest.raises(ValueError, match="built"):
        case.make().describe()
    variables = two()
    optimizer = case.make(learning_rate=0.5, groups=[Group("second", 0.5)], use_ema=True, slot_dtype="bfloat16")
    optimizer.build(variables)
    table = optimizer.describe()
    assert [(row.path, row.shape, row.dtype) for row in table] == [
        ("first", (3,), "float32"),
        ("second", (4, 2), "float32"),
    ]
    kept = [list(state.kept.values()) for state in optimizer.plan.states]
    width = {"float32": 4, "bfloat16": 2}
    sizes = [sum(width[v.dtype] * int(np.prod(v.shape)) for v in of_one) for of_one in kept]
    assert [row.state_bytes for row in table] == sizes
    assert table.state_bytes == sum(sizes)
    counted = {id(v) for of_one in kept for v in of_one}
    assert all(v.shape == () for v in optimizer.variables if id(v) not in counted)
    text = str(table)
    assert len({line.index("float32") for line in text.splitlines() if "float32" in line}) == 1
    for word in ("first", "(4, 2)", "0: second", "0.25", str(table.state_bytes), *table.rows[0].slots):
        assert word in text


# Layer-wise decay


def multipliers(model, rate=0.5, **options):
    """By path: the learning rate and the decay that an optimizer of the model has, its own being 1.0 and 0.1."""
    import keras_adaptive

    optimizer = keras_adaptive.SGD(learning_rate=1.0, weight_decay=0.1, groups=layerwise_decay(model, rate, **options))
    optimizer.build(model.trainable_variables)
    return {row.path: (row.learning_rate, row.weight_decay) for row in optimizer.describe()}


class Block(keras.layers.Layer):
    """Two layers that are one level."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.second = keras.layers.Dense(4), keras.layers.Dense(4)

    def call(self, x):
        return x + self.second(self.first(x))


def test_layerwise_decay_of_a_text_model():
    """Embeddings are on one level, norms on that of the layer before them, models inside of models are entered."""
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(9, 4, name="tokens")(ids)
    x = keras.layers.LayerNormalization(name="norm")(x)
    x = keras.layers.Add()([x, keras.layers.Embedding(5, 4, name="places")(ids)])
    for i in range(2):
        x = Block(name=f"block{i}")(x)
    backbone = keras.Model(ids, keras.layers.LayerNormalization(name="last")(x), name="backbone")
    out = keras.layers.Dense(2, name="head")(backbone(ids))
    model = keras.Model(ids, out)
    expected = {"block0": 0.25, "block1": 0.5, "last": 0.5, "head": 1.0}
    expected |= dict.fromkeys(("tokens", "norm", "places"), 0.125)
    found = multipliers(model)
    assert len(found) == len(model.trainable_variables)
    for path, (rate, _) in found.items():
        layer = next(part for part in path.split("/") if part in expected)
        assert rate == expected[layer], path


def test_layerwise_decay_of_a_frozen_model_and_of_vectors():
    layers = [keras.layers.Dense(2, name=f"d{i}") for i in range(3)]
    model = keras.Sequential([keras.Input((3,)), *layers], name="m")
    layers[0].trainable = False
    assert multipliers(model, decay_vectors=False) == {
        "m/d1/kernel": (0.5, 0.1),
        "m/d1/bias": (0.5, 0.0),
        "m/d2/kernel": (1.0, 0.1),
        "m/d2/bias": (1.0, 0.0),
    }
    with pytest.raises(ValueError, match="must be built"):
        layerwise_decay(keras.Sequential([keras.layers.Dense(1)]), 0.5)
    for wrong in (0.0, 1.5, "0.5", None):
        with pytest.raises((ValueError, TypeError), match="`rate` must"):
            layerwise_decay(model, wrong)
