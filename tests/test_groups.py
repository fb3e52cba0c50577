"""Groups: which variable is trained with what, decided once, shown, and saved."""

import copy
import itertools

import keras
import numpy as np
import pytest
from cases import column, each, rows
from keras import ops
from support import Problem, Ramp, difference, value, values

from keras_adaptive import Group, companion_groups, layerwise_decay, no_decay_on_vectors

keras.saving.register_keras_serializable(package="tests")(Ramp)

# Rows of one class. All but their hyperparameters must be equal, and a coupled step depends on all variables.
PAIRS = [
    pytest.param(case, other, id=f"{case.name}-{other.name}")
    for case, other in itertools.permutations(rows("lecture rows", torch="rows"), 2)
    if case.optimizer is other.optimizer
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
@pytest.mark.full_on("tensorflow")
def test_a_group_has_other_hyperparameters(case, other):
    """Both variables end as under separate optimizers."""
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
@each(torch="classes")
def test_a_group_trains_like_a_separate_optimizer(case):
    """If the step does not depend on all variables, each ends as if it were alone, also with a schedule of decay."""
    case.needs_steps_of_its_own()
    grouped = case.make(learning_rate=Ramp(0.2), weight_decay=0.1, groups=[Group("second", 0.5, weight_decay=DECAY)])
    ours = steps(grouped, two(), (0, 1))
    (first,) = steps(case.make(learning_rate=Ramp(0.2), weight_decay=0.1), two()[:1], (0,))
    (second,) = steps(case.make(learning_rate=Ramp(0.1), weight_decay=DECAY), two()[1:], (1,))
    assert difference(ours, [first, second]) <= 1e-6


@each()
def test_the_learning_rate_moves_all_groups_in_proportion(case):
    """Through callbacks, in compiled code."""
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


@each()
def test_the_first_group_that_sets_an_argument_wins(case):
    variables = [*two(("encoder_kernel", "encoder_bias")), keras.Variable(1.0, name="head")]
    optimizer = case.make(learning_rate=0.5, groups=[Group("bias$", 0.1), Group("^encoder", 0.2)])
    optimizer.build(variables)
    rates = [0.1 * case.vector_rate, 0.05, 0.5 * case.vector_rate]
    assert np.allclose([row.learning_rate for row in optimizer.describe()], rates)


@each()
def test_no_decay_on_vectors(case):
    variables = [keras.Variable(np.ones(shape)) for shape in [(2, 2), (3,), ()]]
    optimizer = case.make(learning_rate=0.5, weight_decay=0.1, groups=[no_decay_on_vectors()])
    optimizer.build(variables)
    assert [row.weight_decay for row in optimizer.describe()] == [0.1, 0.0, 0.0]


@each()
def test_a_pattern_that_matches_nothing_names_the_nearest(case):
    variables = two(("encoder_kernel", "decoder_bias"))
    optimizer = case.make(groups=[Group("encodr")])
    with pytest.raises(ValueError, match=r"(?s)encoder_kernel.*Received: pattern='encodr'"):
        optimizer.build(variables)
    assert not optimizer.built
    assert len(optimizer.variables) == len(case.make().variables)
    with pytest.raises(
        ValueError, match=r"earlier groups give other values for all that it matches, \['decoder_bias'\]"
    ):
        case.make(groups=[Group("coder", 0.5), Group("bias", 0.1)]).build(variables)
    with pytest.raises(ValueError, match="earlier groups"):
        case.make(groups=[Group("coder", exclusive=True), Group("bias", 0.1)]).build(variables)
    case.make(groups=[Group("coder", 0.5), Group("bias", 0.5)]).build(variables)
    with pytest.raises(ValueError, match="max_ndim=0"):
        case.make(groups=[Group("", max_ndim=0)]).build(variables)
    case.make(groups=[Group("encodr", optional=True), Group("bias")]).build(variables)


@each()
def test_wrong_groups_are_refused(case):
    wrong = [
        (lambda: Group(3), "pattern"),
        (lambda: Group("("), "pattern"),
        (lambda: Group("a", -1.0), "learning_rate_multiplier"),
        (lambda: Group("a", weight_decay=-0.1), "weight_decay"),
        (lambda: Group("a", max_ndim=1.5), "max_ndim"),
        (lambda: Group("a", optional="no"), "optional"),
        (lambda: Group("a", exclusive=1), "exclusive"),
        (lambda: Group("a", learning_rate=0.1), "learning_rate`; did you mean `learning_rate_multiplier"),
        (lambda: Group("a", lr=0.1), "lr`; did you mean `learning_rate_multiplier"),
        (lambda: Group("a", weight_decy=0), "weight_decy`; did you mean `weight_decay"),
        (lambda: Group("a", weigth_decay=0), "weigth_decay`; did you mean `weight_decay"),
        (lambda: Group("a", slot_type="int8"), "slot_type`; did you mean `slot_dtype"),
        (lambda: case.make(groups=["a"]), "groups"),
        (lambda: case.make(groups=Group("a")), "groups"),
        (lambda: case.make(groups=[Group("a", slope=1.0)]), "slope"),
        *((lambda own=own: case.make(groups=[Group("a", **own)]), next(iter(own))) for own in case.wrong),
    ]
    for make, name in wrong:
        with pytest.raises((ValueError, TypeError), match=rf"`{name}.*Received"):
            make()


@each("lecture", torch="classes", full="classes")
def test_a_group_accepts_every_hyperparameter_of_an_algorithm(case):
    for name, number in hyperparameters(case).items():
        assert Group("a", **{name: number}).get_config()[name] == number


@each()
def test_a_misspelt_hyperparameter_names_the_nearest_and_all_valid_ones(case):
    name = next(name for name in case.make().hyperparameters if name not in case.optimizer.common_hyperparameters)
    with pytest.raises(TypeError) as caught:
        case.make(groups=[Group("a", **{f"{name}x": 0.5})])
    assert f"did you mean `{name}`?" in str(caught.value)
    for accepted in (name, "learning_rate_multiplier", "weight_decay", "slot_dtype"):
        assert repr(accepted) in str(caught.value)


# Several groups of one variable


def decided(optimizer):
    """By path: what was decided for each variable."""
    return {
        s.path: {
            "rate": s.learning_rate_multiplier,
            "decay": s.weight_decay,
            "slots": [v.dtype for v in s.stored.values()],
            "hyperparameters": dict(s.hyperparameters),
        }
        for s in optimizer.plan.states
    }


PATHS = ["body_kernel", "body_bias", "head_kernel", "head_bias"]


def four():
    return [keras.Variable(ops.ones((4, 2) if "kernel" in path else (2,)), name=path) for path in PATHS]


@each("lecture", torch="classes", full="classes")
def test_different_settings_of_several_groups_all_apply(case):
    """As if each variable had one group with the combined settings of its groups."""
    theirs = hyperparameters(case)
    free = [name for name in theirs if name not in case.optimizer.common_hyperparameters]
    rng = np.random.default_rng(84)
    for _ in range(10):
        drawn = []
        for pattern in rng.choice(["kernel", "bias", "body", "head", "", "d_b"], 4):
            says = {"learning_rate_multiplier": rng.uniform(), "weight_decay": rng.uniform(), "slot_dtype": "bfloat16"}
            says |= {name: theirs[name] for name in free}
            chosen = rng.permutation(sorted(says))[: rng.integers(1, 4)]
            drawn.append((pattern, {name: says[name] for name in chosen}))
        exact = []
        for path in PATHS:
            of_it = {}
            for pattern, says in reversed(drawn):
                if pattern in path:
                    of_it = {**of_it, **says}
            exact.append(Group(f"^{path}$", **of_it))
        one, other = four(), four()
        composed = case.make(groups=[Group(pattern, optional=True, **says) for pattern, says in drawn])
        single = case.make(groups=exact)
        composed.build(one)
        single.build(other)
        assert decided(composed) == decided(single)


@each(torch="classes")
def test_several_groups_train_like_one_combined_group(case):
    """A schedule of the decay from one group, the multiplier and a hyperparameter from others."""
    case.needs_steps_of_its_own()
    name, number = next(iter(hyperparameters(case).items()))
    apart = [Group("second", 0.5), Group("", weight_decay=DECAY), Group("sec", weight_decay=0.3, **{name: number})]
    together = [Group("second", 0.5, weight_decay=DECAY, **{name: number}), Group("first", weight_decay=DECAY)]
    ends = [steps(case.make(Ramp(0.2), weight_decay=0.1, groups=groups), two(), (0, 1)) for groups in (apart, together)]
    assert difference(*ends) == 0.0


@each()
@pytest.mark.parametrize("order", [1, -1])
def test_vectors_without_decay_have_the_rate_of_their_level(case, order):
    model = sequential("sgd")
    groups = [no_decay_on_vectors(), *layerwise_decay(model, 0.5)][::order]
    optimizer = case.make(1.0, weight_decay=0.1, groups=groups)
    optimizer.build(model.trainable_variables)
    rows = [(row.learning_rate, row.weight_decay) for row in optimizer.describe()]
    vector = case.vector_rate
    assert np.allclose(rows, [(0.5, 0.1), (0.5 * vector, 0.0), (1.0, 0.1), (vector, 0.0)])


@each()
def test_the_table_names_all_groups_of_a_variable(case):
    optimizer = case.make(groups=[Group("bias", 0.5), Group("head_bias", weight_decay=0.0)])
    optimizer.build(four())
    assert [row.group for row in optimizer.describe()] == ["", "0: bias", "", "0: bias, 1: head_bias"]


@each()
def test_later_groups_do_not_affect_variables_of_an_exclusive_group(case):
    groups = [Group("bias", exclusive=True), Group("", 0.5, weight_decay=0.3)]
    optimizer = case.make(1.0, weight_decay=0.1, groups=groups)
    optimizer.build(four())
    assert [state.learning_rate_multiplier / case.vector_rate for state in optimizer.plan.states][1::2] == [1.0, 1.0]
    assert [state.learning_rate_multiplier for state in optimizer.plan.states][::2] == [0.5, 0.5]
    assert [row.weight_decay for row in optimizer.describe()] == [0.3, 0.1, 0.3, 0.1]


@each()
def test_groups_cannot_undo_exclude_from_weight_decay(case):
    optimizer = case.make(1.0, weight_decay=0.1, groups=[Group("", 0.5), Group("bias", weight_decay=0.3)])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(four())
    assert [row.weight_decay for row in optimizer.describe()] == [0.1, 0.0, 0.1, 0.0]


@each()
def test_groups_that_match_nothing_are_an_error_even_if_each_is_optional(case):
    other = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="hiden"), keras.layers.Dense(1)], name="m")
    model = sequential("sgd")
    for groups in (layerwise_decay(other, 0.1), [Group("encodr", 0.1, optional=True)]):
        optimizer = case.make(groups=groups)
        with pytest.raises(
            ValueError, match=r"`groups` must match.*'sequential.*/kernel.*model that is trained.*Received: "
        ) as caught:
            optimizer.build(model.trainable_variables)
        assert len(str(caught.value)) < 1000
        assert not optimizer.built
        assert len(optimizer.variables) == len(case.make().variables)
    case.make(groups=[]).build(model.trainable_variables)


@each()
def test_a_group_without_a_match_applies_to_variables_added_later(case):
    variables = four()
    groups = [Group("^body", 0.5, optional=True), Group("bias", weight_decay=0.3)]
    optimizer = case.make(1.0, weight_decay=0.1, groups=groups)
    optimizer.build(variables[2:])
    optimizer.extend(variables)
    expected = case.make(1.0, weight_decay=0.1, groups=groups)
    expected.build(variables)
    shown = [[(r.path, r.group, r.learning_rate, r.weight_decay) for r in o.describe()] for o in (optimizer, expected)]
    assert shown[0] == shown[1]


def test_hyperparameters_are_checked_in_each_combination_that_occurs():
    """Values of two groups that are invalid together are refused at build. Those valid only together are accepted."""
    from keras_adaptive import Lamb

    lower, upper = {"phi_lower": 5.0}, {"phi_upper": 2.0}
    apart = [Group("kernel", **lower), Group("bias", **upper)]
    Lamb(groups=apart).build(four())
    wrong = Lamb(groups=[Group("kernel", **lower), Group("head", **upper)])
    with pytest.raises(ValueError, match="`phi_lower` must be at most `phi_upper`"):
        wrong.build(four())
    assert not wrong.built
    assert len(wrong.variables) == len(Lamb().variables)
    Lamb(phi_upper=2.0, groups=[Group("kernel", **lower), Group("kernel", phi_upper=7.0)]).build(four())
    with pytest.raises(ValueError, match="`phi_lower` must be at most `phi_upper`"):
        Lamb(phi_upper=2.0, groups=[Group("kernel", **lower), Group("", 0.5)])


@each()
def test_groups_saved_by_0_1_0_use_only_the_first_match(case):
    """Each variable had one group. A variable that joins later also has only its first match."""
    config = case.make(1.0, weight_decay=0.1).get_config()
    old = {"weight_decay": None, "max_ndim": None, "optional": False, "slot_dtype": None}
    of_groups = [
        old | {"pattern": "bias", "learning_rate_multiplier": 1.0},
        old | {"pattern": "", "learning_rate_multiplier": 0.5, "weight_decay": 0.3},
    ]
    registered = keras.saving.serialize_keras_object(Group("a"))
    config["groups"] = [registered | {"config": each_one} for each_one in of_groups]
    # The decision stands even where the patterns, by themselves, say otherwise.
    config["decided"] = [
        {"path": "head_kernel", "shape": [4, 2], "group": 0, "decays": True},
        {"path": "head_bias", "shape": [2], "group": 1, "decays": True},
    ]
    optimizer = case.optimizer.from_config(config)
    for again in (optimizer, case.optimizer.from_config(optimizer.get_config())):
        variables = four()
        again.build(variables[2:])
        again.extend(variables)
        rates = [state.learning_rate_multiplier for state in again.plan.states]
        vector = case.vector_rate
        assert np.allclose(rates, [0.5, vector, 1.0, 0.5 * vector])
        assert [row.weight_decay for row in again.describe()] == [0.3, 0.1, 0.1, 0.3]


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


@each(keras="Keras does not save what is excluded from weight decay", raises=(AssertionError, ValueError))
def test_a_reloaded_model_has_the_same_groups(case, tmp_path):
    """A Sequential's variables lose the first part of their path on the way; patterns with it match no more.

    Decay that is a schedule, and where it has its place, come back too.
    """
    ours = {"weight_decay": 0.5}
    if case.twin:
        half_of_it = keras.optimizers.schedules.ExponentialDecay(0.25, 4, 0.5)
        mode = "independent" if case.optimizer.decay == "core" else "decoupled"
        groups = [Group("^sequential.*hidden", weight_decay=half_of_it), Group("^sequential.*hid", 0.25)]
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


@each()
def test_excluded_variables_are_saved(case):
    """Also if excluded as variables, in configs from before and after build. Groups keep their config."""
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


@each()
def test_the_table_shows_the_group_of_each_variable(case):
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
    kept = [list(state.stored.values()) for state in optimizer.plan.states]
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


@each()
def test_groups_of_another_model_are_refused_even_if_one_matches(case):
    one, other = (model_of(name) for name in ("one", "other"))
    groups = [no_decay_on_vectors(), *layerwise_decay(other, 0.1)]
    with pytest.raises(ValueError, match=r"made for a model must match too. The nearest paths are.*one.*Received"):
        case.make(groups=groups, weight_decay=0.1).build(one.trainable_variables)


def model_of(name):
    dense = keras.layers.Dense
    return keras.Sequential([keras.Input((3,)), dense(2, name=name), dense(1, name=f"{name}_2")])


@pytest.mark.parametrize("make", [lambda: layerwise_decay(None, 0.5), lambda: companion_groups(None)])
def test_objects_that_are_not_models_are_refused(make):
    with pytest.raises(TypeError, match=r"`model` must be a Model. Received: model=None"):
        make()


@pytest.mark.quick
def test_a_group_cannot_be_changed():
    """A built optimizer would go on as before, and save the change."""
    group = Group("head", 10.0, beta_1=0.8)
    before = repr(group)
    for name, number in (("learning_rate_multiplier", 0.001), ("weight_decay", 0.7), ("beta_1", 0.5)):
        with pytest.raises(AttributeError, match=f"`{name}` of a Group cannot be changed"):
            setattr(group, name, number)
    group.hyperparameters["beta_1"] = 0.5
    assert repr(group) == before
    assert copy.deepcopy(group) == group
