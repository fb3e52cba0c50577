"""Fine-tuning a SavedModel or a saved Keras model."""

import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from scripts import ROOT, environment_of, is_picture, picture_of, refused, result_of

pytestmark = pytest.mark.on("tensorflow")


@pytest.fixture
def finetune(run):
    """Runs finetune_hub.py once."""

    def one(*arguments, **how):
        return run("finetune_hub.py", *arguments, **how)

    return one


@pytest.mark.parametrize(
    ("backend", "arguments", "strategy", "replicas", "source"),
    [
        pytest.param("tensorflow", [], "cpu", "1", "finetune_hub_base", marks=pytest.mark.variant),
        pytest.param("jax", ["--replicas", 2], "DataParallel", "2", "finetune_hub_base.keras", marks=pytest.mark.full),
    ],
)
def test_training_all_layers_beats_training_a_head(finetune, tmp_path, backend, arguments, strategy, replicas, source):
    """On 178 test images, by at least 9 of them."""
    done = finetune(*arguments, backend=backend)
    result = result_of(done)
    frozen, tuned = float(result.pop("frozen_accuracy")), float(result.pop("finetuned_accuracy"))
    assert frozen > 0.6
    assert tuned > max(0.93, frozen + 0.05)
    assert float(result.pop("seconds")) > 0
    assert result == {
        "optimizer": "Adam",
        "backend": backend,
        "strategy": strategy,
        "replicas": replicas,
        "steps": "100",
        "source": source,
    }
    assert is_picture(picture_of(done))
    assert list(tmp_path.iterdir()) == []


# What `fit` of the script makes of what `save` wrote, on so many devices.
WEIGHTS = """
import sys
replicas = int(sys.argv[2])
sys.path.insert(0, sys.argv[1])
import strategies
strategies.choose_backend("auto", replicas)
import data, keras, numpy as np
from finetune_hub import fit, halves, load, save
from keras import layers
import keras_adaptive

def decayed(model):
    models.append(model)
    return keras_adaptive.Adam(0.003, groups=keras_adaptive.layerwise_decay(model, 0.8))

models = []
devices = strategies.take("auto", replicas)
assert devices.replicas == replicas
new = halves(data.load_images("digits"), 20)[1]
keras.utils.set_random_seed(1)
with devices.scope:
    convolution = [layers.Conv2D(8, 3), layers.GroupNormalization(4), layers.ReLU()]
    base = keras.Sequential([keras.Input((8, 8, 1)), *convolution, layers.Flatten(), layers.Dense(16)])
    fit(load(save(base, f"base{replicas}"), (8, 8, 1)), new, decayed, 2, 20, 1)
np.savez(f"weights{replicas}.npz", *models[0].get_weights())
"""


@pytest.mark.parametrize(
    "backend",
    [pytest.param("tensorflow", marks=pytest.mark.full), pytest.param("jax", marks=pytest.mark.variant)],
)
def test_two_replicas_train_the_weights_of_one_device(tmp_path, backend):
    for replicas in ("1", "2"):
        command = [sys.executable, "-c", WEIGHTS, str(ROOT / "examples"), replicas]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment_of(backend), capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (np.load(tmp_path / f"weights{replicas}.npz") for replicas in (1, 2))
    assert len(one.files) == 8
    for name in one.files:
        np.testing.assert_allclose(one[name], two[name], atol=1e-5, err_msg=name)


def test_the_evaluation_weights_are_tested(monkeypatch):
    """Those that the model holds after `fit`; Schedule-Free trains others."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    import data
    import finetune_hub
    import keras

    import keras_adaptive

    split = np.random.default_rng(1).integers(256, size=(16, 2, 2, 1), dtype="uint8"), np.arange(16, dtype="int32") % 2
    flat = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    backbone, models = finetune_hub.Backbone(flat, (2, 2, 1)), []

    def optimizer_of(model):
        models.append(model)
        return keras_adaptive.ScheduleFreeSGD(1.0)

    _, history = finetune_hub.fit(backbone, data.Images(split, split, 2), optimizer_of, 2, 8, 1)
    loss, _ = models[0].evaluate(*split, batch_size=8, verbose=0)
    assert history["val_loss"][-1] == pytest.approx(loss, rel=1e-5)


def of_the_users(targets, outputs):
    """A loss that the script does not know."""


def test_models_that_cannot_be_fine_tuned_are_refused(monkeypatch, tmp_path, capsys):
    """A file that was compiled with its own loss can be fine-tuned."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    import data
    import finetune_hub
    import keras
    import tensorflow as tf

    inputs = keras.Input((2, 2, 1))
    features = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, features)
    model.compile(loss=of_the_users)
    model.save("compiled.keras")
    assert finetune_hub.load("compiled.keras", (2, 2, 1)).shape == (2, 2, 1)

    class Own(keras.layers.Layer):
        pass

    keras.Sequential([keras.Input((2, 2, 1)), Own()]).save("unknown.keras")
    module = tf.Module()
    module.kernel = tf.Variable(np.ones((4, 3), "float32"))
    of_images = [tf.TensorSpec((None, 2, 2, 1))]
    module.without = tf.function(lambda: module.kernel, input_signature=[])
    module.two = tf.function(lambda x: {"a": x, "b": module.kernel}, input_signature=of_images)
    module.three = tf.function(lambda x: x + module.kernel[0, 0], input_signature=[tf.TensorSpec((3, 2, 2, 1))])
    for name in ("without", "two", "three"):
        tf.saved_model.save(module, name, {"serving_default": getattr(module, name)})
    for source, message in {
        "unknown.keras": "Could not locate class 'Own'",
        "without": "--source without cannot be fine-tuned: `source` must have a function of a tensor",
        "three": "--source three cannot be fine-tuned: it must take batches of any size, and takes the shape (3, 2, 2",
        "two": "--source two cannot be fine-tuned: `output` must be one of ['a', 'b']",
        "compiled.keras": "it takes images of 2 x 2. Received: --image-size 3",
    }.items():
        with pytest.raises(SystemExit) as ended:
            finetune_hub.load(source, (2, 2, 1), image_size=3 if source == "compiled.keras" else None)
        assert ended.value.code == 2
        assert message in capsys.readouterr().err
    pair = keras.Model(inputs, [features, features])
    with pytest.raises(SystemExit):
        finetune_hub.fit(
            finetune_hub.Backbone(pair, (2, 2, 1)),
            data.Images((np.zeros((8, 2, 2, 1), "uint8"), None), None, 2),
            None,
            1,
            8,
            1,
        )
    assert "--source must give one vector or map of features" in capsys.readouterr().err


# In a separate process, as TF Hub's are made: a function with a `training` argument, trainable variables, a penalty.
REUSABLE = """
import numpy as np
import tensorflow as tf

def save(trainable, folder):
    module = tf.train.Checkpoint()
    with tf.name_scope("first"):
        module.kernel = tf.Variable(np.random.default_rng(0).normal(size=(192, 16)).astype("float32"), name="kernel")
        module.calls = tf.Variable(0.0, trainable=False, name="calls")
    module.variables = [module.kernel, module.calls]
    module.trainable_variables = [module.kernel] if trainable else []
    module.regularization_losses = [tf.function(lambda: 1e-4 * tf.reduce_sum(module.kernel**2), input_signature=[])]

    @tf.function
    def call(images, training=False):
        if training:
            module.calls.assign_add(1.0)
        return tf.nn.relu(tf.reshape(images, (-1, 192)) @ module.kernel)

    for training in (False, True):
        call.get_concrete_function(tf.TensorSpec((None, 8, 8, 3)), training=training)
    module.__call__ = call
    tf.saved_model.save(module, folder)

save(True, "trainable")
save(False, "constant")
"""


@pytest.fixture
def saved(tmp_path):
    subprocess.run([sys.executable, "-c", REUSABLE], cwd=tmp_path, check=True, capture_output=True, timeout=300)


@pytest.mark.full
def test_a_saved_model_in_the_format_of_tf_hub_trains(finetune, saved):
    """In colours, which the digits do not have."""
    result = result_of(finetune("--source", "trainable", "--epochs", 10, "--learning-rate", 0.01))
    assert result["source"] == "trainable"
    assert float(result["finetuned_accuracy"]) > 0.6
    refused(finetune("--source", "constant"), "`source` must have trainable variables to be trained")


# What a user of the layer sees: gradients, an own layer for each scope, a frozen one that stands still, and a file.
LAYER = """
import sys
import keras, numpy as np
sys.path.insert(0, sys.argv[1])
from hub_layer import SavedModel
import keras_adaptive

# Of some first weights the step is so long that the loss rises.
keras.utils.set_random_seed(1)

def state():
    return [np.array(variable) for variable in backbone.loaded.variables]

backbone = SavedModel("trainable")
assert [v.path for v in backbone.trainable_variables] == ["first/kernel"]
images, labels = np.ones((4, 8, 8, 3), "float32"), np.zeros((4, 2), "float32")
model = keras.Sequential([keras.Input((8, 8, 3)), backbone, keras.layers.Dense(2)])
optimizer = keras_adaptive.SGD(0.01, groups=keras_adaptive.layerwise_decay(model, 0.5))
model.compile(optimizer=optimizer, loss="mse")
kernel, calls = state()
history = model.fit(images, labels, epochs=2, verbose=0)
assert (state()[0] != kernel).any() and state()[1] == calls + 2
assert history.history["loss"][0] > float(np.mean(np.square(model(images)))), "with the penalty"
model.save("model.keras")
again = keras.models.load_model("model.keras", safe_mode=False)
np.testing.assert_array_equal(again(images), model(images))
before = state()
backbone.trainable = False
model.compile(optimizer="keras_adaptive>SGD", loss="mse")
model.fit(images, labels, verbose=0)
assert all((one == other).all() for one, other in zip(before, state(), strict=True))
try:
    SavedModel("trainable", endpoint="features")
except ValueError as error:
    assert "must have a function features" in str(error)
else:
    raise AssertionError
"""


@pytest.mark.full
def test_the_layer(saved, tmp_path):
    command = [sys.executable, "-c", LAYER, str(ROOT / "examples")]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment_of("tensorflow"), capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


# A SavedModel that writes a file when it is called. Keras calls a layer that it loads, to build the model around it.
WRITES = """
import os, sys
import keras, tensorflow as tf
sys.path.insert(0, sys.argv[1])
from hub_layer import SavedModel

module = tf.train.Checkpoint()

@tf.function(input_signature=[tf.TensorSpec((None, 3))])
def call(inputs):
    tf.io.write_file("written", "by the model")
    return inputs

module.__call__ = call
tf.saved_model.save(module, "writes")
model = keras.Sequential([keras.Input((3,)), SavedModel("writes", trainable=False)])
model.save("model.keras")

def loads(load, **how):
    model = load(**how)
    model(tf.ones((1, 3)))
    assert os.path.exists("written")
    os.remove("written")

def refused(load, **how):
    try:
        load(**how)(tf.ones((1, 3)))
    except ValueError as error:
        assert "safe_mode=False" in str(error), error
        assert "enable_unsafe_deserialization" in str(error), error
        assert "source='writes'" in str(error), error
    else:
        raise AssertionError("loaded")
    assert not os.path.exists("written")

def from_file(**how):
    return keras.models.load_model("model.keras", **how)

def from_config(**how):
    return SavedModel.from_config(model.layers[0].get_config(), **how)

def from_json(**how):
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model), **how)

for load in (from_file, from_config, from_json):
    refused(load)
    refused(load, safe_mode=True)
    loads(load, safe_mode=False)
refused(lambda: keras.models.model_from_json(model.to_json()))
keras.config.enable_unsafe_deserialization()
loads(from_config)
loads(from_file, safe_mode=False)
loads(lambda: keras.models.model_from_json(model.to_json()))
"""


def test_a_saved_model_that_writes_files_is_refused_unless_the_user_allows_it(tmp_path):
    command = [sys.executable, "-c", WRITES, str(ROOT / "examples")]
    environment = environment_of("tensorflow")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.full
@pytest.mark.parametrize(
    ("backend", "arguments", "message"),
    [
        ("tensorflow", ["--source", "nowhere"], "--source nowhere cannot be fine-tuned"),
        ("tensorflow", ["--source", "nowhere.keras"], "--source nowhere.keras cannot be fine-tuned"),
        ("jax", ["--source", "folder"], "--source must be a .keras file with this backend"),
        ("tensorflow", ["--source", "a", "--preset", "b"], "--source and --preset exclude each other"),
        ("jax", ["--source", "a.keras", "--precision", "bfloat16"], "--precision is what the --source was saved with"),
        ("tensorflow", ["--layer-decay", 0], "--layer-decay must be above 0 and at most 1. Received: 0"),
        ("tensorflow", ["--strategy", "multiworker"], "--strategy must be auto, cpu, mirrored or tpu here"),
        ("tensorflow", ["--batch-size", 200], "--batch-size must be at most 100 here. Received: 200"),
        pytest.param(
            *("tensorflow", ["--preset", "resnet_18_imagenet"], "keras_hub is not installed"),
            marks=pytest.mark.skipif(find_spec("keras_hub") is not None, reason="keras_hub is installed"),
        ),
    ],
)
def test_a_wrong_argument_is_refused_in_one_line(finetune, backend, arguments, message):
    refused(finetune(*arguments, backend=backend), message)
