"""Hyperparameters that change between updates: by a schedule, or by an argument of a step."""

import keras
import numpy as np
import pytest
from cases import each, rows
from keras import ops
from support import Problem, compiled, difference, value, values

import keras_adaptive
import keras_adaptive.core.evaluation
import keras_adaptive.core.fields
from keras_adaptive import Group
from keras_adaptive.core.step import scheduled

SHAPES, STEPS = ((7,), (4, 3), (2, 3, 2)), 12
# Of arguments whose default is None, or is no number that a step shows.
NUMBERS = {"beta_3": 0.9, "shampoo_beta": 0.9, "phi_upper": 10.0, "clip_exponent": 0.25, "base_learning_rate": 0.1}
NUMBERS |= {"growth_rate": 2.0, "companion_learning_rate_multiplier": 0.1}


@keras.saving.register_keras_serializable(package="tests")
class Line(keras.optimizers.schedules.LearningRateSchedule):
    """From one number to another in ten updates, in the dtype of floatx."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def __call__(self, step):
        part = ops.cast(ops.minimum(step, 10), keras.config.floatx()) / 10.0
        return self.first + (self.last - self.first) * part

    def at(self, t):
        """The same number for the t-th update, from 1."""
        return self.first + (self.last - self.first) * min(t - 1, 10) / 10.0

    def get_config(self):
        return {"first": self.first, "last": self.last}


def number_of(case, name):
    """A number for that argument of a row."""
    usual = {**case.arguments, **case.of_class}.get(name, case.optimizer.fields[name].default)
    return NUMBERS.get(name, 0.5) if usual is None or usual == np.inf else usual


def names_of(cls):
    """The arguments that may have a schedule."""
    return [name for name in scheduled.arguments(cls) if name != "weight_decay"]


def pairs():
    """The arguments of each row that a test takes. Torch's stand for those of all classes: it compiles nothing."""
    here = rows("lecture", torch="classes")
    for case in rows("classes"):
        marks = [] if case in here else [pytest.mark.variant]
        for name in names_of(case.optimizer):
            yield pytest.param(case, name, id=f"{case.id}-{name}", marks=marks)


def run(optimizer, dtype="float64", steps=STEPS, first=1, weights=None, given=None):
    """The weights after the steps `first` to `steps`."""
    problem = Problem(seed=3, shapes=SHAPES, steps=STEPS)
    variables = problem.variables(dtype) if weights is None else weights
    apply = compiled(optimizer, variables) if given is None else with_given(optimizer, variables, given)
    for t in range(first, steps + 1):
        apply([ops.convert_to_tensor(g, dtype=dtype) for g in problem.gradients(t, values(variables))])
    return values(variables)


def with_given(optimizer, variables, given):
    """A step that takes hyperparameters as JAX's tracers, or as tensors elsewhere."""
    optimizer.build(variables)

    def step(given, *arguments):
        return optimizer.stateless_apply(*arguments, hyperparameters=given)

    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(step)
    given = {name: ops.convert_to_tensor(number, dtype=keras.config.floatx()) for name, number in given.items()}

    def apply(gradients):
        old = [[ops.convert_to_tensor(v) for v in some] for some in (optimizer.variables, variables)]
        new = step(given, old[0], gradients, old[1])
        for variable, array in zip([*variables, *optimizer.variables], [*new[0], *new[1]], strict=True):
            variable.assign(array)

    return apply


@pytest.mark.on("tensorflow", "torch")
@pytest.mark.parametrize(("case", "name"), pairs())
def test_a_constant_schedule_equals_its_number(case, name, float64):
    number = number_of(case, name)
    weights = [run(case.make(**{name: one})) for one in (number, Line(number, number))]
    # 1 - 0.999 0.999 ... loses three digits of what -expm1(t log 0.999) has.
    assert difference(*weights) <= 1e-11


@pytest.mark.on("jax", "torch")
@pytest.mark.parametrize(("case", "name"), pairs())
def test_a_number_given_to_the_step_replaces_the_argument(case, name, float64):
    number = number_of(case, name)
    # Within the range of every argument.
    other = (1 + number) / 2
    weights = run(case.make(**{name: other})), run(case.make(**{name: number}), given={name: other})
    assert difference(*weights) <= 1e-11


@pytest.mark.on("jax")
def test_one_program_of_jax_sweeps_a_hyperparameter(float64):
    import jax

    optimizer, weight = keras_adaptive.Adam(0.05), keras.Variable([1.0, -2.0], name="theta")
    optimizer.build([weight])

    def trained(beta_2):
        weights, stored = [weight.value], [v.value for v in optimizer.variables]
        for t in range(5):
            gradients = [ops.sin(3.0 * weights[0] + t)]
            weights, stored = optimizer.stateless_apply(stored, gradients, weights, hyperparameters={"beta_2": beta_2})
        return weights[0]

    betas = [0.0, 0.9, 0.999]
    for beta_2, weights in zip(betas, jax.jit(jax.vmap(trained))(ops.convert_to_tensor(betas)), strict=True):
        alone, other = keras_adaptive.Adam(0.05, beta_2=beta_2), keras.Variable([1.0, -2.0], name="theta")
        for t in range(5):
            alone.apply([ops.sin(3.0 * other.value + t)], [other])
        assert difference([np.asarray(weights)], [value(other)]) <= 1e-12


def adam(theta, gradient, betas_1, betas_2, eta=0.05, epsilon=1e-8):
    """Adam with other betas at every update, in NumPy."""
    m, v, rest_1, rest_2 = 0.0 * theta, 0.0 * theta, 1.0, 1.0
    for t, (beta_1, beta_2) in enumerate(zip(betas_1, betas_2, strict=True), 1):
        g = gradient(t, theta)
        m, v = beta_1 * m + (1 - beta_1) * g, beta_2 * v + (1 - beta_2) * g * g
        rest_1, rest_2 = rest_1 * beta_1, rest_2 * beta_2
        theta = theta - eta * m / (1 - rest_1) / (np.sqrt(v / (1 - rest_2)) + epsilon)
    return theta


def expected(betas_1, betas_2, first=1):
    problem = Problem(seed=3, shapes=SHAPES, steps=STEPS)
    return [
        adam(theta, lambda t, x, i=i: problem.gradient(i)(t + first - 1, x), betas_1, betas_2)
        for i, theta in enumerate(problem.start)
    ]


BETA_1, BETA_2 = Line(0.5, 0.95), Line(0.9, 0.999)
AT_1, AT_2 = ([schedule.at(t) for t in range(1, STEPS + 1)] for schedule in (BETA_1, BETA_2))


def moving(**options):
    return keras_adaptive.Adam(0.05, BETA_1, BETA_2, epsilon=1e-8, **options)


def test_the_bias_correction_is_one_minus_the_product_of_all_betas(float64):
    assert difference(run(moving()), expected(AT_1, AT_2)) <= 1e-12


def test_values_of_a_group_may_be_schedules(float64):
    groups = [Group("w1", beta_1=BETA_1), Group("w", beta_2=BETA_2)]
    weights = run(keras_adaptive.Adam(0.05, 0.9, 0.9, epsilon=1e-8, groups=groups))
    of_group, others = expected(AT_1, AT_2), expected([0.9] * STEPS, AT_2)
    assert difference(weights, [others[0], of_group[1], others[2]]) <= 1e-12


def test_a_variable_added_later_has_the_beta_product_of_its_updates(float64):
    problem, optimizer = Problem(seed=3, shapes=SHAPES, steps=STEPS), moving()
    first, last = (variables := problem.variables("float64"))[:2], variables[2:]
    run(optimizer, steps=4, weights=first)
    optimizer.extend(variables)
    start = values(last)
    run(optimizer, first=5, weights=variables)
    by_hand = adam(start[0], lambda t, x: problem.gradient(2)(t + 4, x), AT_1[4:], AT_2[4:])
    assert difference(values(variables), [*expected(AT_1, AT_2)[:2], by_hand]) <= 1e-12


def test_a_variable_left_out_continues_from_its_last_update(float64):
    problem, optimizer = Problem(seed=3, shapes=SHAPES, steps=STEPS), moving()
    variables = problem.variables("float64")
    run(optimizer, steps=4, weights=variables)
    optimizer.train_only(variables[:2])
    run(optimizer, steps=7, first=5, weights=variables[:2])
    optimizer.train_only(variables)
    run(optimizer, first=8, weights=variables)
    of_last = [1, 2, 3, 4, 8, 9, 10, 11, 12]
    betas = [[schedule.at(t) for t in of_last] for schedule in (BETA_1, BETA_2)]
    by_hand = adam(problem.start[2], lambda k, x: problem.gradient(2)(of_last[k - 1], x), *betas)
    assert difference(values(variables), [*expected(AT_1, AT_2)[:2], by_hand]) <= 1e-12


def test_training_resumed_from_a_saved_state_has_the_same_bits(float64):
    whole, optimizer = run(moving()), moving()
    weights = Problem(seed=3, shapes=SHAPES, steps=STEPS).variables("float64")
    run(optimizer, steps=5, weights=weights)
    other = keras_adaptive.Adam.from_config(optimizer.get_config())
    other.build(weights)
    assert other.set_state(optimizer.get_state()).complete
    run(other, first=6, weights=weights)
    assert difference(values(weights), whole) == 0.0


def test_a_state_from_before_there_was_a_schedule_counts_as_constant(float64):
    constant, weights = (
        keras_adaptive.Adam(0.05, 0.9, 0.9),
        Problem(seed=3, shapes=SHAPES, steps=STEPS).variables("float64"),
    )
    run(constant, steps=5, weights=weights)
    scheduled = keras_adaptive.Adam(0.05, Line(0.9, 0.9), 0.9)
    scheduled.build(weights)
    assert scheduled.set_state(constant.get_state()).complete
    run(scheduled, first=6, weights=weights)
    assert difference(values(weights), run(keras_adaptive.Adam(0.05, 0.9, 0.9))) <= 1e-12


def test_keras_optimizers_continue_under_a_schedule(float64):
    began, weights = (
        keras.optimizers.Adam(0.05, 0.9, 0.9),
        Problem(seed=3, shapes=SHAPES, steps=STEPS).variables("float64"),
    )
    run(began, steps=5, weights=weights)
    optimizer = keras_adaptive.Adam(0.05, Line(0.9, 0.9), Line(0.9, 0.9), epsilon=1e-7)
    optimizer.continue_from(began)
    before = values(weights)
    run(optimizer, steps=6, first=6, weights=weights)
    problem = Problem(seed=3, shapes=SHAPES, steps=STEPS)
    m, v = ([value(slot) for slot in slots] for slots in (began._momentums, began._velocities))
    for i, theta in enumerate(before):
        g = problem.gradient(i)(6, theta)
        m_hat, v_hat = ((0.9 * old + 0.1 * new) / (1 - 0.9**6) for old, new in ((m[i], g), (v[i], g * g)))
        assert difference([value(weights[i])], [theta - 0.05 * m_hat / (np.sqrt(v_hat) + 1e-7)]) <= 1e-9


def test_calls_without_an_update_leave_the_bias_correction(float64):
    """Micro-batches of a window, and a call that is skipped because a gradient is not finite."""
    problem, optimizer = (
        Problem(seed=3, shapes=SHAPES, steps=STEPS),
        moving(gradient_accumulation_steps=2, skip_nonfinite=True),
    )
    variables = problem.variables("float64")
    apply = compiled(optimizer, variables)
    for t in range(1, STEPS + 1):
        gradients = [ops.convert_to_tensor(g, dtype="float64") for g in problem.gradients(t, values(variables))]
        bad = [g * np.nan for g in gradients]
        for some in (bad, gradients, gradients, gradients):
            apply(some)
    assert difference(values(variables), expected(AT_1, AT_2)) <= 1e-12


def test_the_table_shows_the_next_numbers():
    optimizer = moving(groups=[Group("w", beta_1=Line(0.25, 0.5))])
    optimizer.build([keras.Variable([1.0], name="w")])
    notes = str(optimizer.describe())
    assert "beta_1_of_group_0 has a schedule: 0.25 in the next update" in notes
    assert "beta_2 has a schedule: 0.9 in the next update" in notes


def test_the_config_holds_schedules():
    optimizer = moving(groups=[Group("bias", beta_1=Line(0.1, 0.2))])
    written = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(written)
    assert again.beta_1.get_config() == BETA_1.get_config()
    assert again.groups[0].hyperparameters["beta_1"].get_config() == {"first": 0.1, "last": 0.2}


@each("classes")
def test_values_read_at_build_must_be_numbers(case):
    for name in case.optimizer.hyperparameters:
        if name not in names_of(case.optimizer):
            with pytest.raises(TypeError, match=f"`{name}` must be .* Received: {name}=Line"):
                case.make(**{name: Line(0.1, 0.2)})


@pytest.mark.on("torch")
def test_a_schedule_that_leaves_the_range_is_refused_before_anything_changes():
    weight = keras.Variable([1.0], name="theta")
    optimizer = keras_adaptive.Adam(0.1, beta_1=Line(0.9, 1.9))
    optimizer.apply([ops.ones(1)], [weight])
    with pytest.raises(ValueError, match=r"`beta_1` must be a real number in \[0, 1\).* which .*Line.* returned"):
        optimizer.apply([ops.ones(1)], [weight])
    assert int(value(optimizer.iterations)) == 1


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"beta": 0.9}, TypeError, "must be among"),
        ({"learning_rate": 0.1}, TypeError, "the learning rate is one of `optimizer.variables`"),
        ({"beta_1": [0.9, 0.9]}, TypeError, "scalars of floats"),
        ({"beta_1": 1.5}, ValueError, "`beta_1` must be a real number in"),
        ({"weight_decay": 0.1}, ValueError, "unless the optimizer is made with a weight_decay"),
    ],
)
def test_invalid_values_given_to_a_step_are_refused(given, error, message):
    weight = keras.Variable([1.0], name="theta")
    optimizer = keras_adaptive.Adam()
    optimizer.build([weight])
    values_of = [[ops.convert_to_tensor(v) for v in some] for some in (optimizer.variables, [weight])]
    with pytest.raises(error, match=message):
        optimizer.stateless_apply(values_of[0], [ops.ones(1)], values_of[1], hyperparameters=given)


def test_values_of_a_group_hold_when_the_step_is_given_another_number(float64):
    groups = [Group("w1", beta_1=0.5)]
    weights = run(keras_adaptive.Adam(0.05, groups=groups), given={"beta_1": 0.8})
    assert difference(weights, run(keras_adaptive.Adam(0.05, 0.8, groups=groups))) <= 1e-12


def test_the_weight_decay_can_be_given_to_a_step(float64):
    weights = run(keras_adaptive.AdamW(0.05, 0.1), given={"weight_decay": 0.3})
    assert difference(weights, run(keras_adaptive.AdamW(0.05, 0.3))) <= 1e-12


def test_debias_refuses_a_number_made_of_a_schedule():
    class Squared(keras_adaptive.AdaptiveOptimizer):
        """The bias correction of a square."""

        beta = keras_adaptive.core.fields.fraction(0.9, "weight of the last average")

        def rule(self, h, theta, g):
            return h.eta * g / h.debias(h.beta * h.beta), ()

    weight = keras.Variable([1.0], name="theta")
    with pytest.raises(ValueError, match=r"`beta` of `h\.debias` must be a number, or a hyperparameter"):
        Squared(0.1, beta=Line(0.5, 0.9)).apply([ops.ones(1)], [weight])


@pytest.mark.on("tensorflow")
def test_rows_are_not_updated_separately_if_slots_decay_by_a_schedule():
    import tensorflow as tf

    table = keras.Variable(np.ones((5, 2)), name="embeddings")
    optimizer = keras_adaptive.RMSprop(0.1, rho=Line(0.5, 0.9))
    optimizer.build([table])
    assert "`rho` is a schedule" in optimizer.plan.states[0].why_all_rows
    dense = keras.Variable(np.ones((5, 2)), name="dense")
    other = keras_adaptive.RMSprop(0.1, rho=Line(0.5, 0.9))
    for row in (1, 3, 1):
        optimizer.apply([tf.IndexedSlices(tf.ones((1, 2)), [row], (5, 2))], [table])
        other.apply([tf.one_hot([row] * 2, 5, axis=0)], [dense])
    assert difference([value(table)], [value(dense)]) <= 1e-6


def test_training_weights_match_the_last_update(float64):
    optimizer = keras_adaptive.ScheduleFreeSGD(0.1, beta=Line(0.5, 0.9))
    weights = Problem(seed=3, shapes=SHAPES, steps=STEPS).variables("float64")
    trained = run(optimizer, steps=5, weights=weights)
    optimizer.finalize_variable_values(weights)
    assert difference(values(weights), trained) > 1e-3
    keras_adaptive.core.evaluation.restore(optimizer)
    assert difference(values(weights), trained) <= 1e-12
