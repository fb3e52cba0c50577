"""The metrics of the monitor match those computed from weights and gradients in NumPy."""

import contextlib
import csv
import importlib.util
import re

import keras
import numpy as np
import pytest
from cases import KERAS, each
from keras import ops
from support import Problem, a_weight, difference, in_mode, value, values
from test_clipping import by_hand

import keras_adaptive

RNG = np.random.default_rng(95)
X, Y = RNG.normal(size=(24, 3)).astype("float32"), RNG.normal(size=(24, 1)).astype("float32")
SHAPES = [(), (3, 0), (4, 3), (2, 1, 2)]
OPTIONS = {
    "plain": {},
    "clipnorm": {"clipnorm": 1.0},
    "global_clipnorm": {"global_clipnorm": 0.5},
    "clipvalue": {"clipvalue": 0.3},
    "decay-average-scale": {
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.5,
        "ema_overwrite_frequency": 2,
        "loss_scale_factor": 128.0,
    },
}
options = pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)


def norm(arrays):
    return np.sqrt(sum(np.sum(np.square(a)) for a in arrays))


def expected(gradients, before, after, options):
    """The four numbers of an update in float64."""
    kinds = [kind for kind in ("clipnorm", "global_clipnorm", "clipvalue") if kind in options]
    clipped = by_hand(gradients, kinds[0], options[kinds[0]]) if kinds else gradients
    changed = sum(np.sum(a != b) for a, b in zip(clipped, gradients, strict=True))
    update = norm(np.subtract(a, b) for a, b in zip(after, before, strict=True))
    return {
        "gradient_norm": norm(gradients),
        "update_norm": update,
        "update_to_weight": update / norm(after),
        "fraction_clipped": changed / sum(np.size(g) for g in gradients),
    }


def assert_shows(shown, numbers, tolerance):
    for name, number in numbers.items():
        assert shown[name] == pytest.approx(number, rel=tolerance, abs=1e-30), name


def tensors(gradients, dtype="float32"):
    return [ops.convert_to_tensor(g, dtype=dtype) for g in gradients]


@each()
@options
@pytest.mark.full_on("tensorflow")
def test_the_metrics_match_the_weights(case, options):
    problem = Problem(seed=96, shapes=SHAPES)
    variables, optimizer = problem.variables("float32"), case.make(monitor=True, **options)
    for t in (1, 2):
        before = values(variables)
        gradients = problem.gradients(t, before)
        scale = options.get("loss_scale_factor", 1.0)
        optimizer.apply(tensors([scale * g for g in gradients]), variables)
        after = values(variables)
        assert_shows(optimizer.metrics, expected(gradients, before, after, options), 1e-5)
        assert optimizer.metrics["loss_scale"] == scale
        assert optimizer.metrics["learning_rate"] == value(optimizer.learning_rate)
        assert optimizer.metrics["skipped_updates"] == 0
        if "global_clipnorm" in options:
            continue
        shown = optimizer.metrics_by_variable()
        assert list(shown) == [v.path for v in variables]
        for numbers, g, a, b in zip(shown.values(), gradients, before, after, strict=True):
            if np.size(g):
                assert_shows(numbers, {**expected([g], [a], [b], options), "weight_norm": norm([b])}, 1e-5)
            else:
                assert set(numbers.values()) == {0.0}


@each()
def test_float64_metrics_have_full_precision(case, float64):
    problem = Problem(seed=97, shapes=SHAPES)
    variables, optimizer = problem.variables("float64"), case.make(monitor=True, clipvalue=0.3)
    before = values(variables)
    gradients = problem.gradients(1, before)
    optimizer.apply(tensors(gradients, "float64"), variables)
    assert_shows(optimizer.metrics, expected(gradients, before, values(variables), {"clipvalue": 0.3}), 1e-12)


@each()
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.full_on("tensorflow")
def test_the_update_is_the_change_of_the_rounded_weights(case, dtype):
    """Not the change that they would have without rounding."""
    problem = Problem(seed=98, shapes=SHAPES)
    variables, optimizer = problem.variables(dtype), case.make(learning_rate=3e-3, monitor=True)
    before = values(variables)
    gradients = [value(a_weight(g, dtype=dtype)) for g in problem.gradients(1, before)]
    optimizer.apply(tensors(gradients, dtype), variables)
    assert_shows(optimizer.metrics, expected(gradients, before, values(variables), {}), 1e-5)


@each()
def test_a_window_is_reported_as_one_update(case):
    variable = a_weight([1.0, -2.0])
    optimizer = case.make(monitor=True, gradient_accumulation_steps=2, clipnorm=0.1)
    before = values([variable])
    optimizer.apply(tensors([[4.0, 1.0]]), [variable])
    assert optimizer.metrics["gradient_norm"] == optimizer.metrics["update_to_weight"] == 0.0
    optimizer.apply(tensors([[-2.0, 3.0]]), [variable])
    mean = [np.array([1.0, 2.0])]
    assert_shows(optimizer.metrics, expected(mean, before, values([variable]), {"clipnorm": 0.1}), 1e-5)


@each()
@pytest.mark.parametrize("how", [{"skip_nonfinite": True}, {"loss_scale_factor": "dynamic"}], ids=str)
def test_a_skipped_update_is_counted_and_changes_no_other_metric(case, how):
    variable = a_weight([1.0, -2.0])
    optimizer = case.make(monitor=True, **how)
    scale = float(value(optimizer.scale_loss(1.0)))
    optimizer.apply(tensors([[scale, 2.0 * scale]]), [variable])
    before = optimizer.metrics
    optimizer.apply(tensors([[np.inf, 1.0]]), [variable])
    after = optimizer.metrics
    assert before["gradient_norm"] == pytest.approx(np.sqrt(5.0), rel=1e-6)
    assert {name for name in after if after[name] != before[name]} <= {"skipped_updates", "loss_scale"}
    assert after["skipped_updates"] == 1
    assert after["loss_scale"] == (scale / 2 if "loss_scale_factor" in how else 1.0)


@each()
def test_squares_that_overflow_float32(case):
    variables = [a_weight([1e25, -1e25]), a_weight([2.0])]
    optimizer = case.make(learning_rate=1.0, monitor=True)
    before = values(variables)
    gradients = [np.array([3e30, 4e30]), np.array([1e30])]
    # Where the rule squares the gradient itself, the update is zero or NaN, and is shown so.
    optimizer.apply(tensors(gradients), variables)
    shown = optimizer.metrics
    assert shown["gradient_norm"] == pytest.approx(norm(gradients), rel=1e-5)
    assert shown["update_norm"] == pytest.approx(
        norm(a - b for a, b in zip(values(variables), before, strict=True)), rel=1e-5, nan_ok=True
    )


@each()
def test_nan_shows_in_the_metrics(case):
    one, two = a_weight([1.0]), a_weight([1.0])
    optimizer = case.make(monitor=True)
    optimizer.apply(tensors([[np.nan], [1.0]]), [one, two])
    assert all(np.isnan(optimizer.metrics[name]) for name in ("gradient_norm", "update_norm", "update_to_weight"))
    first, second = optimizer.metrics_by_variable().values()
    assert np.isnan(first["gradient_norm"])
    assert second["gradient_norm"] == 1.0


@each()
def test_a_variable_without_a_gradient_shows_zeros(case):
    one, two = a_weight([1.0, 2.0]), a_weight([3.0])
    optimizer = case.make(monitor=True)
    optimizer.apply(tensors([[1.0, 2.0], [1.0]]), [one, two])
    before = values([one])
    optimizer.build([one, two])
    optimizer.apply(tensors([[1.0, -1.0]]), [one])
    assert set(optimizer.metrics_by_variable()[two.path].values()) == {0.0}
    assert_shows(optimizer.metrics, expected([np.array([1.0, -1.0])], before, values([one]), {}), 1e-5)


@each()
def test_a_float8_scale_is_not_measured(case):
    scale, weight = a_weight([3.0]), a_weight([1.0])
    scale.overwrite_with_gradient = True
    optimizer = case.make(monitor=True)
    optimizer.apply(tensors([[7.0], [0.5]]), [scale, weight])
    assert list(optimizer.metrics_by_variable()) == [weight.path]
    assert optimizer.metrics["gradient_norm"] == 0.5


@each()
def test_without_the_monitor_nothing_is_stored(case):
    variables = [a_weight([1.0]), a_weight(2.0)]
    kept = []
    for monitor in (False, True):
        optimizer = case.make(monitor=monitor)
        optimizer.build(variables)
        kept.append(len(optimizer.variables))
        assert optimizer.get_config()["monitor"] is monitor
        assert type(optimizer).from_config(optimizer.get_config()).monitor is monitor
        if not monitor:
            for ask in (lambda o: o.metrics, lambda o: o.metrics_by_variable()):
                with pytest.raises(AttributeError, match="monitor=True"):
                    ask(optimizer)
        with pytest.raises(ValueError, match="`monitor` cannot change after"):
            optimizer.monitor = not monitor
    assert kept[1] == kept[0] + 2
    assert set(case.make(monitor=True).metrics.values()) == {0.0, 1.0, float(value(case.make().learning_rate))}


@each()
def test_the_monitor_changes_no_weight(case):
    ends = []
    for monitor in (False, True):
        problem = Problem(seed=99, shapes=SHAPES, steps=5)
        ends.append(problem.run(case.make(monitor=monitor, global_clipnorm=0.5), "float32"))
    assert difference(*ends) <= 1e-6


def stepping(optimizer, variable):
    return lambda: optimizer.apply([ops.sin(variable.value) + 0.1], [variable])


@pytest.mark.on("tensorflow")
@each()
@pytest.mark.parametrize("mode", ["graph", "jit"])
def test_graph_and_jit_match_eager(case, mode):
    shown = []
    for how in ("eager", mode):
        variable = a_weight(np.linspace(-1, 1, 6).reshape(2, 3))
        optimizer = case.make(monitor=True, clipvalue=0.2, gradient_accumulation_steps=2, skip_nonfinite=True)
        optimizer.build([variable])
        step = in_mode(stepping(optimizer, variable), how)
        for _ in range(4):
            step()
        shown.append(optimizer.metrics)
    assert shown[0]["fraction_clipped"] > 0.0
    assert shown[1] == pytest.approx(shown[0], rel=1e-5)


@pytest.mark.on("tensorflow")
@each()
def test_repeated_rows_of_a_sparse_gradient_are_summed(case):
    import tensorflow as tf

    table, start = a_weight(np.ones((4, 2))), np.ones((4, 2))
    optimizer = case.make(monitor=True, clipvalue=1.5)
    optimizer.apply([tf.IndexedSlices(tf.ones((3, 2)), tf.constant([1, 1, 3]), tf.constant((4, 2)))], [table])
    dense = np.array([[0.0, 0.0], [2.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    assert_shows(optimizer.metrics, expected([dense], [start], values([table]), {"clipvalue": 1.5}), 1e-5)


@pytest.mark.on("tensorflow")
@each()
def test_plain_variables_that_share_a_name(case):
    import tensorflow as tf

    variables = [tf.Variable([1.0], name="w"), tf.Variable([2.0], name="w")]
    optimizer = case.make(monitor=True)
    optimizer.apply(tensors([[3.0], [4.0]]), variables)
    assert [numbers["gradient_norm"] for numbers in optimizer.metrics_by_variable().values()] == [3.0, 4.0]


# In fit


def model_with(optimizer, hidden=(4,)):
    keras.utils.set_random_seed(100)
    layers = [keras.layers.Dense(width, activation="tanh") for width in hidden]
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(1)])
    model.compile(optimizer=optimizer, loss="mse")
    return model


class Recorder(keras.callbacks.Callback):
    """What the logs hold, and the weights, after each batch."""

    def __init__(self):
        super().__init__()
        self.logs, self.weights = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append(dict(logs))
        self.weights.append(values(self.model.trainable_variables))


def fit(model, *callbacks, epochs=1, verbose=0):
    arguments = {"batch_size": 8, "epochs": epochs, "shuffle": False, "verbose": verbose, "callbacks": list(callbacks)}
    return model.fit(X, Y, **arguments).history


def tensorboard(folder, monkeypatch):
    """Keras's callback; TensorFlow itself writes its files, except for a function in the package tensorboard."""
    import tensorflow as tf

    callback = keras.callbacks.TensorBoard(folder, write_graph=False)
    if importlib.util.find_spec("tensorboard") is None:
        monkeypatch.setattr(callback.summary, "scalar", lambda name, number, step: tf.summary.write(name, number, step))
    return callback


def events(folder):
    """What TensorBoard's files hold: for each tag the numbers in their order."""
    import tensorflow as tf

    found: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("events.*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for number in event.summary.value:
                found.setdefault(number.tag, []).append(float(tf.make_ndarray(number.tensor)))
    return found


@each()
def test_the_callback_reports_each_batch(case):
    """With an infinity in the second, which is counted and moves nothing."""
    model = model_with(case.make(monitor=True, loss_scale_factor="dynamic"))
    recorder, start = Recorder(), values(model.trainable_variables)
    x = X.copy()
    x[9] = np.inf
    model.fit(
        x, Y, batch_size=8, shuffle=False, verbose=0, callbacks=[keras_adaptive.OptimizerMonitor(frequency=1), recorder]
    )
    weights = [start, *recorder.weights]
    updates = [norm(np.subtract(a, b) for a, b in zip(weights[t + 1], weights[t], strict=True)) for t in range(3)]
    assert updates[1] == 0.0
    shown = [logs["optimizer/update_norm"] for logs in recorder.logs]
    assert shown == pytest.approx([updates[0], updates[0], updates[2]], rel=1e-5)
    for logs, update, after in zip(recorder.logs, shown, weights[1:], strict=True):
        assert logs["optimizer/update_to_weight"] == pytest.approx(update / norm(after), rel=1e-5)
    assert [logs["optimizer/skipped_updates"] for logs in recorder.logs] == [0, 1, 1]
    assert [logs["optimizer/loss_scale"] for logs in recorder.logs] == [2.0**15, 2.0**14, 2.0**14]
    assert "loss" in recorder.logs[0]


@each()
def test_the_callback_reports_each_epoch(case, tmp_path, capsys, monkeypatch):
    """By default it adds nothing to the logs of batches. The epoch's logs have the metrics of the last update."""
    model = model_with(case.make(monitor=True))
    recorder = Recorder()
    monitor = keras_adaptive.OptimizerMonitor(per_layer=True, prefix="o:")
    readers = [keras.callbacks.CSVLogger(tmp_path / "log.csv")]
    if keras.backend.backend() == "tensorflow":
        readers.append(tensorboard(tmp_path, monkeypatch))
    history = fit(model, monitor, recorder, *readers, epochs=2, verbose=2)
    assert all(not name.startswith("o:") for logs in recorder.logs for name in logs)
    for epoch in range(2):
        update = norm(np.subtract(*pair) for pair in zip(*recorder.weights[3 * epoch + 1 : 3 * epoch + 3], strict=True))
        assert history["o:update_norm"][epoch] == pytest.approx(update, rel=1e-5)
    assert {name: numbers[-1] for name, numbers in history.items() if name.count("/") == 0 and name != "loss"} == {
        f"o:{name}": number for name, number in model.optimizer.metrics.items()
    }
    for variable, weight in zip(model.trainable_variables, recorder.weights[-1], strict=True):
        assert history[f"o:{variable.path}/weight_norm"][-1] == pytest.approx(norm([weight]), rel=1e-5)
        assert f"o:{variable.path}/gradient_norm" in history
    with open(tmp_path / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["o:update_norm"]) for row in rows] == pytest.approx(history["o:update_norm"])
    printed = re.findall(r"o:update_norm: (\S+)", capsys.readouterr().out)
    assert [float(number) for number in printed] == pytest.approx(history["o:update_norm"], abs=5e-5)
    if len(readers) > 1:
        shown = events(tmp_path)
        for name, numbers in history.items():
            assert shown[f"epoch_{name}"] == pytest.approx(numbers, rel=1e-6), name


@each()
def test_the_callback_reports_every_second_batch(case):
    recorder = Recorder()
    fit(model_with(case.make(monitor=True)), keras_adaptive.OptimizerMonitor(frequency=2), recorder)
    assert ["optimizer/update_norm" in logs for logs in recorder.logs] == [False, True, False]


@each()
def test_the_callback_refuses_an_optimizer_without_a_monitor(case):
    for optimizer, says in [
        (case.make(), f"{case.optimizer.__name__}\\(monitor=False\\)"),
        (KERAS.make(), f"keras.*{KERAS.optimizer.__name__}"),
    ]:
        model = model_with(optimizer)
        before = values(model.trainable_variables)
        with pytest.raises(ValueError, match=says):
            fit(model, keras_adaptive.OptimizerMonitor())
        assert difference(values(model.trainable_variables), before) == 0.0


@pytest.mark.parametrize("wrong", [{"per_layer": 1}, {"prefix": None}, {"frequency": 0}, {"frequency": 1.5}], ids=str)
def test_wrong_arguments_of_the_callback_are_refused(wrong):
    ((name, given),) = wrong.items()
    with pytest.raises((ValueError, TypeError), match=f"Received: {name}={given!r}"):
        keras_adaptive.OptimizerMonitor(**wrong)


@each()
def test_the_monitor_is_saved_with_the_model(case, tmp_path):
    model = model_with(case.make(monitor=True))
    fit(model)
    model.save(tmp_path / "half.keras")
    rest = keras.models.load_model(tmp_path / "half.keras")
    assert rest.optimizer.metrics == model.optimizer.metrics
    for one in (rest, model):
        fit(one)
    assert rest.optimizer.metrics == model.optimizer.metrics
    assert difference(values(rest.variables), values(model.variables)) == 0.0


# Replicas


@pytest.mark.on("mirrored")
@each()
def test_replicas_report_the_same_as_one_device(case):
    import replicas

    histories = []
    for scope in (replicas.strategy().scope(), contextlib.nullcontext()):
        with scope:
            model = model_with(case.make(monitor=True, clipnorm=0.3), hidden=())
        recorder = Recorder()
        fit(model, keras_adaptive.OptimizerMonitor(frequency=1), recorder)
        histories.append([{k: v for k, v in logs.items() if k.startswith("optimizer/")} for logs in recorder.logs])
        if len(histories) == 1:
            replicas.assert_identical(*model.optimizer.variables)
    assert len(histories[0]) == 3
    for ours, alone in zip(*histories, strict=True):
        assert ours == pytest.approx(alone, rel=1e-4)


@each()
@pytest.mark.parametrize("before", [False, True])
def test_the_monitor_may_be_on_or_off_when_a_state_is_loaded(case, before):
    """The state continues; the metrics are measured again."""
    gradient = [ops.convert_to_tensor([1.0, -2.0])]
    variables = [keras.Variable([1.0, 2.0], name="w") for _ in range(2)]
    first, second = case.make(monitor=before), case.make(monitor=not before)
    first.apply(gradient, variables[:1])
    second.build(variables[1:])
    variables[1].assign(variables[0])
    assert second.set_state(first.get_state()).restored == ("w",)
    for optimizer, variable in zip((first, second), variables, strict=True):
        optimizer.apply(gradient, [variable])
    assert difference([value(variables[1])], [value(variables[0])]) == 0.0
    assert (first if before else second).metrics["gradient_norm"] == pytest.approx(5.0**0.5)
