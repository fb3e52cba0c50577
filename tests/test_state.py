"""Training continues bit for bit after saving and loading."""

import keras
import numpy as np
import pytest
from cases import column, each
from support import Ramp, descend, difference, state, value, values

import keras_adaptive

keras.saving.register_keras_serializable(package="tests")(Ramp)

OPTIONS = {
    "plain": {},
    "everything": {
        "global_clipnorm": 0.5,
        "weight_decay": 0.1,
        "use_ema": True,
        "ema_momentum": 0.9,
        "gradient_accumulation_steps": 2,
        "skip_nonfinite": True,
        "slot_dtype": "bfloat16",
        "stochastic_rounding": True,
        "seed": 3,
    },
}
options = pytest.mark.parametrize(
    "options",
    [OPTIONS["plain"], pytest.param(OPTIONS["everything"], marks=pytest.mark.full_on("tensorflow"))],
    ids=["plain", "everything"],
)
RNG = np.random.default_rng(61)
X, Y = RNG.normal(size=(40, 3)).astype("float32"), RNG.normal(size=(40, 1)).astype("float32")


def model_with(optimizer):
    """Its first layer has weights of low precision if they are rounded at random."""
    keras.utils.set_random_seed(62)
    dtype = "bfloat16" if optimizer.stochastic_rounding else "float32"
    layers = [keras.Input((3,)), keras.layers.Dense(4, activation="tanh", dtype=dtype), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer=optimizer, loss="mse")
    return model


def train(model, first, last):
    """Steps of batches of four rows; by train_on_batch, so that nothing happens at the end."""
    for i in range(first, last):
        model.train_on_batch(X[4 * i : 4 * i + 4], Y[4 * i : 4 * i + 4])


def reloaded(half, case, options, folder):
    """The half trained model as it comes back from each way to keep it."""
    half.save(folder / "half.keras")
    yield keras.models.load_model(folder / "half.keras")

    half.save_weights(folder / "half.weights.h5")
    rest = model_with(case.make(Ramp(0.1), **options))
    rest.optimizer.build(rest.trainable_variables)
    rest.load_weights(folder / "half.weights.h5")
    yield rest

    rest = model_with(case.make(Ramp(0.1), **options))
    rest.optimizer.build(rest.trainable_variables)
    rest.set_weights(half.get_weights())
    rest.optimizer.set_weights([keras.ops.convert_to_numpy(v) for v in half.optimizer.variables])
    yield rest


@column("save")
@each(torch="classes")
@options
def test_five_steps_then_a_restart_and_five_more_match_ten(case, options, tmp_path):
    """Five of ten steps with windows of two: the restart is in the middle of a window."""
    model = model_with(case.make(Ramp(0.1), **options))
    train(model, 0, 10)
    half = model_with(case.make(Ramp(0.1), **options))
    train(half, 0, 5)
    for rest in reloaded(half, case, options, tmp_path):
        assert type(rest.optimizer) is case.optimizer
        train(rest, 5, 10)
        assert difference(values(rest.variables), values(model.variables)) == 0.0
        ends = [list(state(m.optimizer).values()) for m in (rest, model)]
        assert difference(*ends) == 0.0
        assert int(value(rest.optimizer.iterations)) == (5 if options else 10)


@each()
@options
@pytest.mark.parametrize(
    "rate", [0.3, Ramp(0.1), keras.optimizers.schedules.CosineDecay(0.1, 7)], ids=["number", "ramp", "cosine"]
)
def test_the_config_has_every_argument(case, options, rate):
    given = {"learning_rate": rate, **case.arguments, **case.accepted(options), "name": "mine"}
    optimizer = case.optimizer(**given)
    config = optimizer.get_config()
    again = type(optimizer).from_config(dict(config))
    assert again.get_config() == config
    for name, argument in given.items():
        if name != "learning_rate":
            assert getattr(again, name) == argument == config[name]
    if isinstance(rate, float):
        assert config["learning_rate"] == rate
    else:
        assert again._learning_rate.get_config() == rate.get_config()


@each()
def test_the_class_is_known_to_keras_under_the_package(case):
    name = f"keras_adaptive>{case.optimizer.__name__}"
    assert keras.saving.get_registered_object(name) is case.optimizer
    assert type(keras.optimizers.get(name)) is case.optimizer
    serialized = keras.optimizers.serialize(case.make())
    assert type(keras.optimizers.deserialize(serialized)) is case.optimizer


@each()
def test_a_model_is_compiled_with_the_name_of_a_class(case):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(optimizer=f"keras_adaptive>{case.optimizer.__name__}", loss="mse")
    model.fit(X, Y, verbose=0)
    assert type(model.optimizer) is case.optimizer
    assert int(value(model.optimizer.iterations)) == 2


@pytest.mark.on("tensorflow")
@each()
@options
def test_a_checkpoint_of_tensorflow_restores_the_state(case, options, tmp_path):
    import tensorflow as tf

    model = model_with(case.make(**options))
    train(model, 0, 5)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "checkpoint")
    before = values(model.variables), state(model.optimizer)
    train(model, 5, 8)
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).restore(path)
    assert difference(values(model.variables), before[0]) == 0.0
    assert difference(list(state(model.optimizer).values()), list(before[1].values())) == 0.0


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (keras_adaptive.AdamW, "A checkpoint of Adam cannot be restored into AdamW"),
        (keras_adaptive.SGD, "A checkpoint of Adam cannot be restored into SGD"),
        (lambda: keras_adaptive.Adam(use_ema=True), "stores the optimizer's variables by order"),
        (lambda: keras_adaptive.Adam(slot_dtype="bfloat16"), "stores the optimizer's variables by order"),
    ],
)
@pytest.mark.parametrize("built", [True, False])
def test_a_checkpoint_of_another_optimizer_is_refused_before_anything_changes(make, message, built, tmp_path):
    import tensorflow as tf

    model = model_with(keras_adaptive.Adam())
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(5)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "checkpoint")
    other = model_with(make())
    if built:
        other.optimizer.build(other.trainable_variables)
    elif "order" in message:
        pytest.skip("its variables are not known before it is built")
    other.layers[0].kernel.assign(np.ones((3, 4)))
    before = values([*other.variables, *other.optimizer.variables])
    with pytest.raises(ValueError, match=message):
        tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(path)
    assert difference(values([*other.variables, *other.optimizer.variables]), before) == 0.0


@pytest.mark.on("tensorflow")
@pytest.mark.parametrize(
    ("optimizer", "saved", "here"),
    [
        (keras_adaptive.Adam, {"use_ema": True}, {}),
        (keras_adaptive.Adam, {}, {"use_ema": True}),
        (keras_adaptive.Adam, {"gradient_accumulation_steps": 2}, {}),
        (keras_adaptive.Adam, {"slot_dtype": "bfloat16"}, {}),
        (keras_adaptive.SGD, {"momentum": 0.9}, {}),
    ],
    ids=["average", "no average", "window", "bfloat16", "momentum"],
)
def test_a_checkpoint_of_other_variables_is_refused_before_build(optimizer, saved, here, tmp_path):
    """TensorFlow restores each variable as `build` creates it: too late to compare them."""
    import tensorflow as tf

    saved, here = optimizer(**saved), optimizer(**here)
    model, other = model_with(saved), model_with(here)
    train(model, 0, 2)
    path = tf.train.Checkpoint(model=model, optimizer=saved).save(tmp_path / "checkpoint")
    before = values([*other.variables, *here.variables])
    with pytest.raises(ValueError, match=r"must be those of the optimizer that was saved: \['.*Received: \["):
        tf.train.Checkpoint(model=other, optimizer=here).restore(path)
    assert difference(values([*other.variables, *here.variables]), before) == 0.0


@each()
def test_slots_missing_from_a_state_start_again_even_after_updates(case):
    start = [np.linspace(-1.0, 1.0, 5) * size for size in (1, 2, 3)]

    def weights(chosen=(0, 1, 2)):
        return [keras.Variable(start[i], name=f"w{i}") for i in chosen]

    first, optimizer, alone = case.make(), case.make(), case.make()
    descend(first, of_first := weights((0, 1)), 1, 4)
    descend(optimizer, trained := weights(), 1, 4)
    assert optimizer.set_state(first.get_state()).not_in_file == ("w2",)
    trained[2].assign(start[2])
    descend(optimizer, trained, 4, 7)
    descend(first, of_first, 4, 7)
    descend(alone, of_alone := weights((2,)), 4, 7)
    assert difference(values(trained), values([*of_first, *of_alone])) <= 1e-6


@pytest.mark.on("tensorflow")
def test_a_checkpoint_restores_everything_and_an_exported_model_runs(tmp_path):
    """One without a description too, as version 0.1.0 wrote them."""
    import tensorflow as tf

    model = model_with(keras_adaptive.Adam())
    model.optimizer.build(model.trainable_variables)
    model.optimizer.iterations.assign(5)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(tmp_path / "new")
    variables = model.optimizer.variables
    old = tf.train.Checkpoint(optimizer=tf.train.Checkpoint(_variables=list(variables))).save(tmp_path / "old")
    for each_path in (path, old):
        other = model_with(keras_adaptive.Adam())
        other.optimizer.build(other.trainable_variables)
        status = tf.train.Checkpoint(model=other, optimizer=other.optimizer).restore(each_path)
        assert int(value(other.optimizer.iterations)) == 5
        if each_path == path:
            status.assert_consumed()
    model.export(tmp_path / "exported", verbose=False)
    tf.saved_model.load(tmp_path / "exported")
