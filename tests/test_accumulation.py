"""k micro-batches match one batch: every counter counts updates, not micro-batches."""

import keras
import numpy as np
import pytest
from cases import QUICKEST, column, each
from keras import ops
from support import Problem, Ramp, a_weight, compiled, difference, value, values

OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 0.3},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.1},
    "decay-average-scale": {
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "ema_overwrite_frequency": 3,
        "loss_scale_factor": 128.0,
        "skip_nonfinite": True,
    },
}
# Each kind of clipping where nothing has to be compiled; elsewhere that which has to know all gradients.
TRIED = {name: given for name, given in OPTIONS.items() if QUICKEST or name not in ("clipnorm", "clipvalue")}


def run(case, options, steps, updates=7, problem_seed=41):
    """Weights and averages after some updates, each from the mean of `steps` micro-batches' gradients."""
    problem = Problem(seed=problem_seed, scale=options.get("loss_scale_factor", 1.0), shapes=[(), (3, 0), (4, 3)])
    variables = problem.variables("float32")
    micro = 4
    if steps > 1:
        options = {**options, "gradient_accumulation_steps": steps}
    optimizer = case.make(learning_rate=Ramp(0.1), **options)
    for update in range(updates):
        thetas = [value(v) for v in variables]
        parts = [problem.gradients(micro * update + i + 1, thetas) for i in range(micro)]
        width = micro // steps
        for i in range(0, micro, width):
            mean = [np.mean(group, axis=0) for group in zip(*parts[i : i + width], strict=True)]
            optimizer.apply([ops.convert_to_tensor(g, dtype="float32") for g in mean], variables)
    average = optimizer._model_variables_moving_average if optimizer.use_ema else []
    return values([*variables, *average]), int(value(optimizer.iterations))


@column("accumulation")
@each(keras="Keras's schedule counts micro-batches", torch="classes")
@pytest.mark.parametrize("options", TRIED.values(), ids=TRIED)
def test_micro_batches_match_one_batch(case, options):
    if "skip_nonfinite" in options and case.twin is None:
        options = {name: value for name, value in options.items() if name != "skip_nonfinite"}
    whole, updates = run(case, options, steps=1)
    for steps in (2, 4):
        parts, counted = run(case, options, steps=steps)
        assert difference(parts, whole) <= 2e-6
        assert counted == updates == 7


@each()
def test_one_step_of_accumulation_changes_nothing(case):
    assert difference(run(case, {"gradient_accumulation_steps": 1}, steps=1)[0], run(case, {}, steps=1)[0]) == 0.0


@each()
def test_a_bad_micro_batch_discards_only_its_window(case):
    """Nothing moves and one step is counted. The windows before and after it are not affected."""
    variables = [a_weight([1.0, -1.0])]
    optimizer = case.make(gradient_accumulation_steps=3, skip_nonfinite=True, use_ema=True, weight_decay=0.1)
    other = [a_weight([1.0, -1.0])]
    untouched = case.make(gradient_accumulation_steps=3, skip_nonfinite=True, use_ema=True, weight_decay=0.1)
    good = [[1.0, 2.0], [0.5, -1.0], [-0.5, 3.0]]
    bad = [[1.0, 2.0], [np.inf, 0.0], [-np.inf, 3.0]]
    for gradient in good + bad + good:
        optimizer.apply([ops.convert_to_tensor(gradient)], variables)
    for gradient in good + good:
        untouched.apply([ops.convert_to_tensor(gradient)], other)
    assert int(value(optimizer.skipped_updates)) == 1
    assert int(value(optimizer.iterations)) == 2
    assert difference(values(variables), values(other)) == 0.0
    kept = [dict(o.plan.states[0].stored) for o in (optimizer, untouched)]
    assert difference(*(values(k.values()) for k in kept)) == 0.0


@pytest.mark.on("tensorflow")
@each()
def test_sparse_micro_batches_match_one_dense_batch(case):
    import tensorflow as tf

    table, other = (a_weight(np.ones((5, 2), "float32")) for _ in range(2))
    parts = case.make(gradient_accumulation_steps=2)
    for ids in ([1, 1, 3], [1, 4, 4]):
        rows = tf.IndexedSlices(tf.ones((3, 2)), tf.constant(ids), tf.constant((5, 2)))
        parts.apply([rows], [table])
    dense = np.zeros((5, 2), "float32")
    np.add.at(dense, [1, 1, 3, 1, 4, 4], 0.5)
    case.make().apply([tf.constant(dense)], [other])
    assert difference(values([table]), values([other])) <= 1e-7


@each()
def test_accumulation_in_fit(case):
    """With fit: three micro-batches of 4 are one batch of 12."""
    case.needs("smoothness")
    rng = np.random.default_rng(43)
    x, y = rng.normal(size=(24, 3)), rng.normal(size=(24, 1))
    ends = []
    for steps, batch in ((None, 12), (3, 4)):
        keras.utils.set_random_seed(44)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="tanh"), keras.layers.Dense(1)])
        model.compile(optimizer=case.make(Ramp(0.1), gradient_accumulation_steps=steps), loss="mse")
        model.fit(x, y, batch_size=batch, epochs=4, shuffle=False, verbose=0)
        ends.append(values(model.trainable_variables))
        assert int(value(model.optimizer.iterations)) == 8
    assert difference(*ends) <= 2e-6


def after_calls(optimizer, gradients, how):
    """Two variables after these calls; None: the first one has no gradient in the call."""
    variables = [keras.Variable([1.0, -2.0], name="theta"), keras.Variable([3.0], name="other")]
    optimizer.build(variables)
    step = compiled(optimizer, variables) if how == "compiled" else lambda given: optimizer.apply(given, variables)
    for gradient in gradients:
        of_theta = None if gradient is None else ops.convert_to_tensor([gradient, -gradient], dtype="float32")
        step([of_theta, ops.convert_to_tensor([1.0])])
    return values(variables)


# Windows of two micro-batches, and the gradient of the batch that each of them is.
WINDOWS = [((1.0, 1.0), 1.0), ((None, 1.0), 0.5), ((1.0, None), 0.5), ((None, None), None), ((2.0, None), 1.0)]


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@each(
    keras="Keras adds nothing for None, and its window begins with the last one's sum; on JAX it fails",
    raises=(AssertionError, TypeError),
    torch="classes",
)
@pytest.mark.parametrize("how", ["eager", "compiled"])
@pytest.mark.parametrize(
    "options", [{}, {"use_ema": True, "weight_decay": 0.1, "global_clipnorm": 0.5}], ids=["plain", "decay"]
)
def test_no_gradient_counts_as_zero_in_its_window(case, options, how):
    """A variable without a gradient in a full window is left out, as without accumulation."""
    micro = [gradient for window, _ in WINDOWS for gradient in window]
    parts = after_calls(case.make(gradient_accumulation_steps=2, **options), micro, how)
    batches = after_calls(case.make(**options), [gradient for _, gradient in WINDOWS], how)
    assert difference(parts, batches) <= 1e-7
