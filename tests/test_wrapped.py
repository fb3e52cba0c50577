"""Inside Keras's LossScaleOptimizer, which `compile` puts around an optimizer under the policy mixed_float16."""

import keras
import numpy as np
import pytest
from cases import each
from keras import layers
from support import difference, value, values

import keras_adaptive
from keras_adaptive import EvaluationWeights, OptimizerMonitor

RNG = np.random.default_rng(17)
X, Y = RNG.normal(size=(16, 3)).astype("float32"), RNG.normal(size=(16, 1)).astype("float32")


@pytest.fixture(autouse=True)
def mixed_float16():
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy("float32")


def network(optimizer):
    model = keras.Sequential([keras.Input((3,)), *(layers.Dense(3, name=name) for name in ("one", "two"))])
    model.add(layers.Dense(1, dtype="float32", name="head"))
    model.compile(optimizer=optimizer, loss="mse")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    return model


def fit(model, **arguments):
    """Four steps."""
    return model.fit(X, Y, batch_size=4, shuffle=False, verbose=0, **arguments).history


def test_the_monitor_finds_the_wrapped_optimizer():
    """The scale is Keras's, and the norms are of the unscaled gradients."""
    model = network(keras_adaptive.SGD(0.01, monitor=True))
    history = fit(model, callbacks=[OptimizerMonitor(per_layer=True)])
    # Keras begins with 2**15, and halves that for the first steps, which overflow.
    assert history["optimizer/loss_scale"] == [float(value(model.optimizer.dynamic_scale))]
    assert history["optimizer/loss_scale"][0] > 1.0
    assert 0.0 < history["optimizer/gradient_norm"][0] < 100.0
    assert sum(name.endswith("kernel/gradient_norm") for name in history) == 3
    with pytest.raises(ValueError, match=r"needs a model whose optimizer is made with monitor=True"):
        fit(network(keras_adaptive.SGD(0.01)), callbacks=[OptimizerMonitor()])


def test_evaluation_weights_finds_the_wrapped_optimizer():
    model = network(keras_adaptive.SGD(0.1, use_ema=True, ema_momentum=0.5))
    history = fit(model, callbacks=[EvaluationWeights()], validation_data=(X, Y))
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-3)


@pytest.mark.parametrize("method", ["extend", "train_only"])
@each()
def test_layers_are_unfrozen_and_frozen(case, method):
    """The optimizer that was given to `compile` is the one to call, and to give again."""
    optimizer = case.make()
    model = network(optimizer)
    model.get_layer("one").trainable = method == "train_only"
    model.compile(optimizer=optimizer, loss="mse")
    fit(model)
    updates = int(value(optimizer.iterations))
    assert updates > 0
    model.get_layer("one").trainable = method == "extend"
    before = values(model.get_layer("one").variables)
    getattr(optimizer, method)(model.trainable_variables)
    model.compile(optimizer=model.optimizer.inner_optimizer, loss="mse")
    fit(model)
    assert model.optimizer.inner_optimizer is optimizer
    assert int(value(optimizer.iterations)) > updates
    moved = difference(values(model.get_layer("one").variables), before)
    assert moved > 0.0 if method == "extend" else moved == 0.0


@pytest.mark.on("jax")
@each()
def test_an_old_wrapper_is_refused_by_name(case):
    """Keras's wrapper has a separate list of variables, made at build."""
    optimizer = case.make()
    model = network(optimizer)
    model.get_layer("one").trainable = False
    model.compile(optimizer=optimizer, loss="mse")
    fit(model)
    model.get_layer("one").trainable = True
    optimizer.extend(model.trainable_variables)
    model.compile(optimizer=model.optimizer, loss="mse")
    with pytest.raises(ValueError, match=r"compile the model with `model\.optimizer\.inner_optimizer`"):
        fit(model)


def test_continue_from_finds_the_wrapped_optimizer():
    model = network(keras.optimizers.Adam(0.01))
    fit(model)
    optimizer = keras_adaptive.Adam()
    optimizer.continue_from(model.optimizer)
    assert int(value(optimizer.iterations)) == int(value(model.optimizer.iterations)) > 0
    assert (
        difference(
            [value(state.stored["m"]) for state in optimizer.plan.states],
            values(model.optimizer.inner_optimizer._momentums),
        )
        == 0.0
    )
