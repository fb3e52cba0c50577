"""Evaluation weights: a model is evaluated, saved and used with other weights than it is trained with."""

import keras
import numpy as np
import pytest
import worlds
from keras import layers, ops
from support import difference, state, value, values

import keras_adaptive
from keras_adaptive import EvaluationWeights

RNG = np.random.default_rng(71)
X, Y = RNG.normal(size=(20, 3)).astype("float32"), RNG.normal(size=(20, 1)).astype("float32")
OPTIMIZERS = {
    "schedule-free-sgd": lambda **options: keras_adaptive.ScheduleFreeSGD(0.2, **options),
    "schedule-free-adamw": lambda **options: keras_adaptive.ScheduleFreeAdamW(0.05, **options),
    "dog": lambda **options: keras_adaptive.DoG(reps_rel=0.05, **options),
    "dowg": lambda **options: keras_adaptive.DoWG(initial_distance=0.5, **options),
    "ema": lambda **options: keras_adaptive.SGD(0.2, use_ema=True, ema_momentum=0.5, **options),
}
SCHEDULE_FREE = ["schedule-free-sgd", pytest.param("schedule-free-adamw", marks=pytest.mark.variant)]
# One of each kind, as every `fit` of Keras is retraced for seconds: with a way back to the training weights in every
# run; without one, and Keras's average, in the full run.
FEW = {"schedule-free-sgd": (), "dog": pytest.mark.full, "ema": pytest.mark.full}
ON_REPLICAS = worlds.current() == "mirrored"
each = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=FEW.get(name, pytest.mark.variant)) for name in OPTIMIZERS]
)
everywhere = pytest.mark.on("tensorflow", "jax", "torch", "mirrored")


def scope():
    """Of the replicas, in their world."""
    if not ON_REPLICAS:
        import contextlib

        return contextlib.nullcontext()
    from replicas import strategy

    return strategy().scope()


def model_with(optimizer):
    keras.utils.set_random_seed(72)
    with scope():
        model = keras.Sequential([keras.Input((3,)), layers.Dense(4, activation="tanh"), layers.Dense(1)])
        model.compile(optimizer=optimizer(), loss="mse")
    return model


def fit(model, epochs=3, callbacks=(), **arguments):
    """In batches of 10; the losses."""
    history = model.fit(
        X, Y, batch_size=10, epochs=epochs, shuffle=False, verbose=0, callbacks=list(callbacks), **arguments
    )
    return history.history


def evaluated(model):
    """Its evaluation weights, in the order of its variables."""
    found = model.optimizer.evaluation_weights()
    return [found[variable.path].astype("float64") for variable in model.trainable_variables]


def loss_at(model, weights):
    """What a model with these weights loses."""
    other = keras.models.clone_model(model)
    other.compile(loss="mse")
    for variable, array in zip(other.trainable_variables, weights, strict=True):
        variable.assign(array)
    return other.evaluate(X, Y, batch_size=20, verbose=0)


class Ends(keras.callbacks.Callback):
    """What the model holds at the end of every epoch."""

    def __init__(self):
        super().__init__()
        self.ends: list = []

    def on_epoch_end(self, epoch, logs=None):
        self.ends.append(values(self.model.trainable_variables))


class Watch(Ends):
    """And at the beginning, and its evaluation weights."""

    def __init__(self):
        super().__init__()
        self.begins, self.evaluations = [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begins.append(values(self.model.trainable_variables))

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch)
        self.evaluations.append(evaluated(self.model))


@everywhere
@each
def test_the_model_holds_the_evaluation_weights_after_fit(name):
    """Without a callback. They differ from the training weights by the expected distance."""
    model, watch = model_with(OPTIMIZERS[name]), Watch()
    fit(model, callbacks=[watch])
    assert difference(values(model.trainable_variables), evaluated(model)) == 0.0
    assert difference(watch.ends[-1], evaluated(model)) > 1e-4
    assert difference(watch.ends[-1], watch.evaluations[-1]) > 1e-4


@everywhere
@each
def test_the_callback_validates_at_the_evaluation_weights_only(name):
    plain, model, watch = model_with(OPTIMIZERS[name]), model_with(OPTIMIZERS[name]), Watch()
    begun = Watch()
    without = fit(plain, callbacks=[begun])
    history = fit(model, callbacks=[EvaluationWeights(), watch], validation_data=(X, Y), validation_batch_size=20)
    assert history["loss"] == without["loss"]
    assert difference(values(model.variables), values(plain.variables)) == 0.0
    assert difference(list(state(model.optimizer).values()), list(state(plain.optimizer).values())) == 0.0
    for end, expected, loss in zip(watch.ends, watch.evaluations, history["val_loss"], strict=True):
        assert difference(end, expected) == 0.0
        assert loss == pytest.approx(loss_at(model, expected), rel=1e-5)
    for ours, theirs in zip(watch.begins, begun.begins, strict=True):
        assert difference(ours, theirs) == 0.0
    assert abs(history["val_loss"][0] - loss_at(model, begun.ends[0])) > 1e-5


@everywhere
@each
def test_evaluate_and_predict_take_the_callback(name):
    """In the middle of a custom loop; afterwards the model has its training weights again."""
    model = model_with(OPTIMIZERS[name])
    if ON_REPLICAS:
        fit(model, epochs=1)
    for _ in range(3):
        model.train_on_batch(X, Y)
    before = values(model.variables), list(state(model.optimizer).values())
    expected = evaluated(model)
    assert difference(before[0], expected) > 1e-4
    loss = model.evaluate(X, Y, batch_size=20, verbose=0, callbacks=[EvaluationWeights()])
    assert loss == pytest.approx(loss_at(model, expected), rel=1e-5)
    there = model.predict(X, batch_size=20, verbose=0, callbacks=[EvaluationWeights()])
    here = model.predict(X, batch_size=20, verbose=0)
    assert np.max(np.abs(there - here)) > 1e-5
    assert np.mean((there - Y) ** 2) == pytest.approx(loss, rel=1e-4)
    assert difference(values(model.variables), before[0]) == 0.0
    assert difference(list(state(model.optimizer).values()), before[1]) == 0.0
    model.optimizer.finalize_variable_values(model.trainable_variables)
    assert model.evaluate(X, Y, batch_size=20, verbose=0) == pytest.approx(loss, rel=1e-6)


@everywhere
@each
def test_the_evaluation_weights_are_saved_at_the_end_of_an_epoch(name, tmp_path):
    """The evaluation weights by a ModelCheckpoint after the callback; and its state is not another than it says."""
    model, watch, path = model_with(OPTIMIZERS[name]), Watch(), tmp_path / "{epoch}.keras"
    saving = keras.callbacks.ModelCheckpoint(path)
    fit(model, epochs=2, callbacks=[EvaluationWeights(), saving, watch])
    with scope():
        first = keras.models.load_model(tmp_path / "1.keras")
    assert difference(values(first.trainable_variables), watch.evaluations[0]) == 0.0
    assert difference(evaluated(first), watch.evaluations[0]) == 0.0
    # Not to the bit: y is computed again from z and x.
    fit(first, epochs=2, initial_epoch=1, callbacks=[EvaluationWeights()])
    gap = difference(values(first.trainable_variables), values(model.trainable_variables))
    if name.startswith("schedule-free"):
        assert gap <= 1e-6
    assert int(value(first.optimizer.iterations)) == int(value(model.optimizer.iterations))


@pytest.mark.parametrize("name", SCHEDULE_FREE)
@pytest.mark.parametrize(
    ("callback", "saved"),
    [
        (True, True),
        (False, False),
        *(pytest.param(*each, marks=pytest.mark.full) for each in [(True, False), (False, True)]),
    ],
)
def test_a_later_fit_continues(name, saved, callback, tmp_path):
    """Exactly with the callback. Without it, only one gradient is taken at x instead."""
    whole, parts = model_with(OPTIMIZERS[name]), model_with(OPTIMIZERS[name])
    callbacks = [EvaluationWeights()] if callback else []
    fit(whole, epochs=4)
    fit(parts, epochs=2, callbacks=callbacks)
    if saved:
        parts.save(tmp_path / "model.keras")
        with scope():
            parts = keras.models.load_model(tmp_path / "model.keras")
        assert parts.optimizer.restored.complete
    z_and_x = state(parts.optimizer)
    fit(parts, epochs=2, callbacks=[EvaluationWeights()] if callback else [])
    gap = difference(values(parts.trainable_variables), values(whole.trainable_variables))
    assert gap <= 1e-6 if callback else 1e-6 < gap < 0.1
    assert difference(list(state(parts.optimizer).values()), list(z_and_x.values())) > 1e-3


@each
def test_evaluation_weights_before_the_first_update_are_the_weights(name):
    """Also after a fit without an update, where the average is still empty."""
    model = model_with(lambda: OPTIMIZERS[name](gradient_accumulation_steps=100))
    before = values(model.trainable_variables)
    with pytest.raises(ValueError, match="needs an optimizer that is built"):
        keras_adaptive.ScheduleFreeSGD().evaluation_weights()
    fit(model, epochs=1, callbacks=[EvaluationWeights()])
    assert int(value(model.optimizer.iterations)) == 0
    assert difference(values(model.trainable_variables), before) == 0.0
    assert difference(evaluated(model), before) == 0.0


@each
def test_a_constraint_holds_for_the_evaluation_weights(name):
    model = model_with(OPTIMIZERS[name])
    for layer in model.layers:
        layer.kernel.constraint = keras.constraints.NonNeg()
    fit(model)
    assert difference(values(model.trainable_variables), evaluated(model)) == 0.0
    assert all(np.min(value(layer.kernel)) >= 0.0 for layer in model.layers)


@each
def test_evaluation_weights_inside_keras_wrappers(name):
    """The loss scale's, and several optimizers of one model."""

    def scaled():
        return keras.optimizers.LossScaleOptimizer(OPTIMIZERS[name](), initial_scale=1.0)

    def several():
        chosen = keras.optimizers.OptimizerMap(
            default_optimizer=OPTIMIZERS[name](), optimizer_map={".*bias": keras_adaptive.SGD(0.1)}
        )
        return keras.optimizers.MultiOptimizer(chosen)

    # Keras 3.13 has no MultiOptimizer.
    for make in (scaled, several) if hasattr(keras.optimizers, "MultiOptimizer") else (scaled,):
        model, watch = model_with(make), Ends()
        fit(model, callbacks=[EvaluationWeights(), watch])
        assert difference(watch.ends[-1], values(model.trainable_variables)) == 0.0
        assert difference(watch.ends[0], watch.ends[-1]) > 1e-4


class Interrupt(keras.callbacks.Callback):
    """Stops the program once, at the n-th call of a method."""

    def __init__(self, method, after):
        super().__init__()
        self.calls = 0
        setattr(self, method, lambda *given, **logs: self.call(after))

    def call(self, after):
        self.calls += 1
        if self.calls == after:
            raise KeyboardInterrupt


PLACES = {"on_epoch_begin": 2, "on_train_batch_end": 2, "on_test_batch_end": 1, "on_test_end": 1, "on_epoch_end": 1}
KERAS_ON_JAX = pytest.param(
    "keras",
    "on_train_batch_end",
    False,
    marks=[
        pytest.mark.on("jax"),
        pytest.mark.xfail(
            strict=True, raises=(AssertionError, TypeError), reason="Keras leaves the average in the model, or nothing"
        ),
    ],
)


@everywhere
@pytest.mark.parametrize(
    ("name", "place", "callback"),
    [
        pytest.param(
            name,
            place,
            callback,
            marks=[]
            if (name, place, callback) in (("ema", "on_train_batch_end", False), ("ema", "on_test_batch_end", True))
            # The others of their kind stand for these two, and one device for the replicas.
            else pytest.mark.variant
            if ON_REPLICAS or name in ("schedule-free-adamw", "dowg")
            else pytest.mark.full,
        )
        for name in OPTIMIZERS
        for place in PLACES
        for callback in (False, True)
    ]
    + [KERAS_ON_JAX],
)
def test_an_interrupted_fit_continues_as_if_uninterrupted(name, place, callback):
    """Also inside an `except`, and with another instance of the callback."""
    optimizer = OPTIMIZERS.get(name, lambda: keras.optimizers.SGD(0.2, use_ema=True, ema_momentum=0.5))
    straight, model = model_with(optimizer), model_with(optimizer)
    validation = {"validation_data": (X, Y), "validation_batch_size": 10} if "test" in place else {}

    def callbacks():
        return [EvaluationWeights()] if callback else []

    fit(straight, epochs=2, callbacks=callbacks(), **validation)
    try:
        fit(model, epochs=2, callbacks=[*callbacks(), Interrupt(place, PLACES[place])], **validation)
    except KeyboardInterrupt:
        assert int(value(model.optimizer.iterations)) == 2
        fit(model, epochs=1, callbacks=callbacks(), **validation)
    assert int(value(model.optimizer.iterations)) == 4
    assert difference(values(model.variables), values(straight.variables)) == 0.0
    if name != "keras":
        assert difference(values(model.trainable_variables), evaluated(model)) == 0.0


@everywhere
def test_weights_loaded_after_an_interrupt_are_not_overwritten():
    """The training weights that were set aside belong to another training."""
    model = model_with(OPTIMIZERS["ema"])
    with pytest.raises(KeyboardInterrupt):
        fit(model, callbacks=[EvaluationWeights(), Interrupt("on_epoch_end", 1)])
    loaded = [np.ones(variable.shape, "float32") for variable in model.trainable_variables]
    for variable, array in zip(model.trainable_variables, loaded, strict=True):
        variable.assign(array)
    watch = Watch()
    fit(model, callbacks=[EvaluationWeights(), watch])
    assert difference(watch.begins[0], loaded) == 0.0


@pytest.mark.parametrize("option", ["use_ema", "cautious"])
@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name != "ema"])
def test_a_second_average_and_a_changed_step_are_refused(name, option):
    with pytest.raises(ValueError, match=rf"`{option}` must be False for \w+, .* Received: {option}=True"):
        OPTIMIZERS[name](**{option: True})
    optimizer = OPTIMIZERS[name]()
    with pytest.raises(ValueError, match=f"`{option}` must be False"):
        setattr(optimizer, option, True)
    assert getattr(optimizer, option) is False


def test_the_callback_refuses_an_optimizer_without_evaluation_weights():
    model = model_with(lambda: keras_adaptive.SGD(0.1))
    for call in (fit, lambda model, callbacks: model.evaluate(X, Y, verbose=0, callbacks=callbacks)):
        with pytest.raises(ValueError, match=r"EvaluationWeights needs a model with .* Received: keras_adaptive.*SGD"):
            call(model, callbacks=[EvaluationWeights()])


def test_evaluation_at_the_end_of_an_epoch():
    """By another callback, with the same one: the evaluation weights stay until the next epoch."""
    model, seen, callback = model_with(OPTIMIZERS["schedule-free-sgd"]), [], EvaluationWeights()

    class Again(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.evaluate(X, Y, verbose=0, callbacks=[callback])
            seen.append(difference(values(self.model.trainable_variables), evaluated(self.model)))

    other = model_with(OPTIMIZERS["schedule-free-sgd"])
    fit(model, callbacks=[callback, Again()])
    fit(other)
    assert seen == [0.0] * 3
    assert difference(values(model.variables), values(other.variables)) == 0.0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_weights_hold_rounded_evaluation_weights(dtype):
    variable = keras.Variable([1.0, 2.0], dtype=dtype, name="w")
    optimizer = keras_adaptive.ScheduleFreeSGD(0.3)
    for _ in range(3):
        optimizer.apply([ops.convert_to_tensor([1.0, -1.0], dtype=dtype)], [variable])
    exact = optimizer.evaluation_weights()["w"]
    optimizer.finalize_variable_values([variable])
    assert exact.dtype == "float32"
    assert difference([value(variable)], [exact]) <= 2.0**-8
    assert difference([value(variable)], [value(ops.cast(ops.convert_to_tensor(exact), dtype))]) == 0.0


def test_an_added_variable_holds_its_weights_until_its_first_update():
    one, two = keras.Variable([1.0], name="one"), keras.Variable([5.0], name="two")
    optimizer = keras_adaptive.ScheduleFreeSGD(0.1)
    optimizer.apply([ops.ones(1)], [one])
    optimizer.extend([one, two])
    optimizer.finalize_variable_values([one, two])
    assert value(two)[0] == 5.0
    optimizer.apply([ops.ones(1), ops.ones(1)], [one, two])
    assert optimizer.evaluation_weights()["two"][0] == pytest.approx(4.9)
