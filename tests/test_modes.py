"""Eager, traced and compiled calls give the same result, and an eager loop traces once."""

import keras
import numpy as np
import pytest
from cases import each
from keras import ops
from support import Problem, a_weight, difference, in_mode, state, values

OPTIONS = {
    "plain": {},
    "clipped": {"global_clipnorm": 0.5, "weight_decay": 0.1},
    "everything": {
        "clipnorm": 0.3,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 64.0,
        "gradient_accumulation_steps": 2,
        "skip_nonfinite": True,
    },
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def slope(theta, scale):
    """A gradient that is computed where the weights are."""
    return scale * (0.4 * ops.sin(theta) + 0.5 * theta - 0.2)


def stepping(optimizer, variables):
    """A step as a function without arguments."""
    scale = optimizer.loss_scale_factor or 1.0

    def step():
        optimizer.apply([slope(variable.value, scale) for variable in variables], variables)

    return step


@pytest.mark.on("tensorflow")
@each()
@options
def test_graph_and_jit_match_eager(case, options):
    ends = []
    for mode in ("eager", "graph", "jit"):
        problem = Problem(seed=21)
        variables, optimizer = problem.variables("float32"), case.make(**options)
        optimizer.build(variables)

        step = in_mode(stepping(optimizer, variables), mode)
        for _ in range(10):
            step()
        ends.append(values(variables) + list(state(optimizer).values()))
    assert difference(ends[0], ends[1]) <= 1e-6
    assert difference(ends[0], ends[2]) <= 1e-6


@pytest.mark.on("jax")
@each()
@options
def test_jit_matches_eager(case, options):
    import jax

    ends = []
    for mode in ("eager", "jit"):
        problem = Problem(seed=21)
        variables, optimizer = problem.variables("float32"), case.make(**options)
        optimizer.build(variables)
        scale, calls = optimizer.loss_scale_factor or 1.0, []

        def step(kept, thetas, scale=scale, optimizer=optimizer, calls=calls):
            calls.append(None)
            return optimizer.stateless_apply(kept, [slope(theta, scale) for theta in thetas], thetas)[::-1]

        step = jax.jit(step) if mode == "jit" else step
        kept, thetas = [v.value for v in optimizer.variables], [v.value for v in variables]
        for _ in range(10):
            kept, thetas = step(kept, thetas)
        ends.append([np.asarray(x, "float64") for x in [*thetas, *kept]])
        assert len(calls) == (1 if mode == "jit" else 10)
    assert difference(*ends) <= 1e-6


@pytest.mark.on("tensorflow")
@each()
@options
def test_an_eager_loop_traces_once(case, options):
    problem = Problem(seed=22, steps=6)
    optimizer = case.make(**options)
    problem.run(optimizer, "float32")
    compiled = optimizer.plan.update.cache["whole"]
    assert compiled.experimental_get_tracing_count() == 1


@pytest.mark.on("tensorflow")
@each()
def test_the_update_is_one_compiled_program(case):
    """In a user's graph the optimizer adds one call, not operations for every variable."""
    import tensorflow as tf

    problem = Problem(seed=23, shapes=[(4, 3)] * 20)
    variables, optimizer = problem.variables("float32"), case.make()
    optimizer.build(variables)
    gradients = [tf.constant(start, "float32") for start in problem.start]
    traced = tf.function(lambda g: optimizer.apply(g, variables), autograph=False).get_concrete_function(gradients)
    operations = [operation.type for operation in traced.graph.get_operations()]
    assert sum(kind in ("PartitionedCall", "StatefulPartitionedCall") for kind in operations) == 1
    assert not {"Mul", "Sqrt", "RealDiv"} & set(operations)


@pytest.mark.on("torch")
@each()
def test_a_step_holds_the_new_values_of_one_variable_at_a_time(case):
    """Where nothing is compiled: of all together it would be as much again as weights and state."""
    from keras_adaptive.bench.backends import running as bench

    variables, optimizer = [a_weight(np.ones((512, 512), "float32")) for _ in range(32)], case.make()
    optimizer.build(variables)
    gradients = [bench.gradient((512, 512), seed=25)] * len(variables)
    update = bench.update(optimizer, variables, gradients, jit_compile=False)
    update()
    extra = update.extra_bytes()
    if extra is None:
        pytest.skip("this system does not say what a process has")
    assert extra < 32 * 2**20


@each()
def test_a_user_constraint_may_contain_code_that_cannot_be_compiled(case):
    case.needs("first steps")

    class Rounded(keras.constraints.Constraint):
        def __call__(self, w):
            if keras.backend.backend() != "tensorflow":
                return ops.round(w * 8.0) / 8.0
            import tensorflow as tf

            rounded = tf.numpy_function(lambda x: np.round(x * 8) / np.float32(8), [w], tf.float32)
            return tf.ensure_shape(rounded, w.shape)

    weight = a_weight(np.linspace(-1, 1, 12).reshape(4, 3))
    weight.constraint = Rounded()
    optimizer = case.make(learning_rate=0.5)
    for _ in range(3):
        optimizer.apply([ops.ones((4, 3))], [weight])
    (moved,) = values([weight])
    assert difference([moved * 8], [np.round(moved * 8)]) == 0.0
    assert moved.max() < 1.0


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(("jit_update", "is_compiled"), [("auto", True), (True, True), (False, False)])
@each()
def test_jit_update_decides_whether_the_update_is_compiled(case, jit_update, is_compiled):
    import tensorflow as tf

    ends = []
    for chosen in (jit_update, "auto"):
        problem = Problem(seed=24, shapes=[(4, 3), (3,)], steps=1)
        variables, optimizer = problem.variables("float32"), case.make(jit_update=chosen, skip_nonfinite=True)
        optimizer.build(variables)
        step = tf.function(stepping(optimizer, variables), autograph=False)
        step()
        ends.append(values(variables))
        functions = step.get_concrete_function().graph.as_graph_def().library.function
        compiled = [f for f in functions if "_XlaMustCompile" in f.attr and f.attr["_XlaMustCompile"].b]
        if chosen == jit_update:
            assert bool(compiled) == is_compiled
    assert difference(*ends) <= 1e-6
