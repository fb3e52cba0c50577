"""Fine-tunes a SavedModel, a TF Hub model, a Keras model or a KerasHub preset, with smaller steps for earlier layers.

    python examples/finetune_hub.py
    python examples/finetune_hub.py --source FOLDER --dataset cifar10
    python examples/finetune_hub.py --source https://tfhub.dev/google/imagenet/mobilenet_v2_100_96/feature_vector/5
    KERAS_BACKEND=jax python examples/finetune_hub.py --layer-decay 0.5

Without a source, a network is first trained on one half of the classes and saved: on TensorFlow as a SavedModel, which
only TensorFlow can load, else as a .keras file. Then the saved network gets a new head for the other half of the
classes. It is trained twice: once frozen, and once with all layers, with learning rates that decay from layer to layer.
A head on frozen layers needs a larger learning rate to converge in as many epochs, so each run has a separate one. The
script shows progress bars, then one line of results and a picture of both runs.
"""

import importlib.util
import logging
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import strategies
from options import Parser, callbacks, count, find_optimizer, new_optimizer, picture_file, rate, refuse


class Backbone(NamedTuple):
    """A model that computes features of images; the shape and dtype of its input, and the value of white."""

    model: Any
    shape: tuple
    dtype: str = "float32"
    white: float = 1.0


def arguments_of_user():
    parser = Parser(__doc__.split("\n")[0], tensorflow_datasets="examples")
    parser.training(batch_size=20, epochs=20, learning_rate=0.003)
    text = "a folder with a SavedModel, a .keras file or a handle of TF Hub (default: what the script saves first)"
    parser.option("--source", "WHAT", text)
    parser.option("--preset", "NAME", "an image backbone of KerasHub instead, by name or folder")
    parser.option("--frozen-rate", "RATE", "learning rate of the head on frozen layers", type=rate, default=0.03)
    text = "ratio of a layer's learning rate to that of the next layer"
    parser.option("--layer-decay", "RATE", text, type=rate, default=0.8)
    text = "side of the source's input images (default: what the source says, else the data's)"
    parser.option("--image-size", "N", text, type=count)
    parser.option("--examples-per-class", "N", "to fine-tune on, at most", type=count, default=20)
    parser.option("--dataset", "NAME", "images of tensorflow-datasets: digits, mnist, cifar10, ...", default="digits")
    parser.option("--data-dir", "FOLDER", "of tensorflow-datasets (default: its own)", type=Path)
    arguments = parser.parse()
    if not 0 < arguments.layer_decay <= 1:
        refuse(f"--layer-decay must be above 0 and at most 1. Received: {arguments.layer_decay}")
    if arguments.strategy == "multiworker":
        refuse("--strategy must be auto, cpu, mirrored or tpu here. Received: multiworker")
    if arguments.source and arguments.preset:
        refuse(f"--source and --preset exclude each other. Received: {arguments.source} and {arguments.preset}")
    if arguments.source and arguments.precision != "float32":
        refuse(f"--precision is what the --source was saved with. Received: {arguments.precision}")
    return arguments


def need(package, how):
    """Ends the program if the package is not installed."""
    if importlib.util.find_spec(package) is None:
        refuse(f"{package} is not installed, which this source needs. Run: pip install {how}")


def is_handle(source):
    return source is not None and "://" in source


def halves(images, per_class):
    """The first half of the classes; and the second half, with at most `per_class` training examples of each."""
    import data
    import numpy as np

    def part(split, classes, most=None):
        pixels, labels = split
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == label)[:most] for label in classes]))
        return pixels[chosen], labels[chosen] - classes[0]

    first, second = range(images.classes // 2), range(images.classes // 2, images.classes)
    old = data.Images(part(images.train, first), part(images.test, first), len(first))
    return old, data.Images(part(images.train, second, per_class), part(images.test, second), len(second))


def save_base(folder, images, batch_size, seed):
    """Trains a small network on these images, and saves it there without its last layer; returns where."""
    import keras
    from keras import layers

    import keras_adaptive

    def convolution(filters):
        return [layers.Conv2D(filters, 3, padding="same"), layers.GroupNormalization(8), layers.ReLU()]

    shape = images.train[0].shape[1:]
    pooled = [layers.MaxPooling2D(), layers.Flatten(), layers.Dense(32, activation="relu")]
    features = keras.Sequential([layers.Input(shape), *convolution(32), *convolution(64), *pooled])
    print(f"a network for the first {images.classes} classes:")
    fit(Backbone(features, shape), images, lambda model: keras_adaptive.Adam(), 3, batch_size, seed)
    return save(features, f"{folder}/finetune_hub_base")


def save(model, path):
    """Saves the model as a SavedModel at that path with TensorFlow, else as a .keras file; returns where."""
    import keras

    if keras.backend.backend() == "tensorflow":
        logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it tells where it writes files
        model.export(path, verbose=False)
        return path
    model.save(f"{path}.keras")
    return f"{path}.keras"


def load(source, shape, image_size=None, preset=False):
    """The backbone of --source or --preset, for images of that shape."""
    import keras

    size = (image_size, image_size)

    def taken(expected):
        """The size given, else the one expected, else that of the images; and the channels expected."""
        if len(expected) != 3 or expected[2] not in (1, 3):
            raise ValueError(f"it must take grey or colour images, and takes the shape {tuple(expected)}")
        if image_size and any(each not in (None, image_size) for each in expected[:2]):
            raise ValueError(f"it takes images of {expected[0]} x {expected[1]}. Received: --image-size {image_size}")
        return *(given or each or own for given, each, own in zip(size, expected, shape, strict=False)), expected[2]

    try:
        if preset:
            need("keras_hub", "keras-hub")
            import keras_hub

            model = keras_hub.models.Backbone.from_preset(source)
            return Backbone(model, taken(model.input_shape[1:]), white=255.0)
        if source.endswith(".keras"):
            model = keras.models.load_model(source, compile=False)
            return Backbone(model, taken(model.input_shape[1:]))
        if keras.backend.backend() != "tensorflow":
            refuse(
                f"--source must be a .keras file with this backend; TensorFlow alone loads others. Received: {source}"
            )
        if is_handle(source):
            need("tensorflow_hub", '-e ".[hub]"')
            import data

            if problem := data.unreachable(source):
                refuse(f"--source cannot be downloaded: {source}: {problem}")
        from hub_layer import SavedModel

        model = SavedModel(source)
        expected = model.expected
        if expected.shape.rank and expected.shape[0] is not None:
            raise ValueError(f"it must take batches of any size, and takes the shape {tuple(expected.shape)}")
        return Backbone(
            model, taken(expected.shape[1:]), expected.dtype.name, 255.0 if expected.dtype.is_integer else 1.0
        )
    # TypeError: a class that Keras does not know; ImportError: keras_hub without what it needs.
    except (ImportError, OSError, TypeError, ValueError) as error:
        refuse(f"--{'preset' if preset else 'source'} {source} cannot be fine-tuned: {error}")


def fit(backbone, images, optimizer_of, epochs, batch_size, seed, option="--learning-rate"):
    """Trains a new head on the backbone, with the same initial weights for the same seed; the optimizer and history."""
    import data
    import keras
    from keras import layers, ops

    keras.utils.set_random_seed(seed)
    shape = images.train[0].shape[1:]
    x = inputs = keras.Input(shape, dtype="uint8")
    x = layers.Rescaling(backbone.white / 255, dtype="float32")(x)
    if shape[:2] != backbone.shape[:2]:
        x = layers.Resizing(*backbone.shape[:2], dtype="float32")(x)
    if shape[2] != backbone.shape[2]:
        x = ops.repeat(x, backbone.shape[2] // shape[2], axis=-1)
    x = backbone.model(ops.cast(x, backbone.dtype))
    if len(getattr(x, "shape", ())) not in (2, 4):
        refuse(f"--source must give one vector or map of features for each image. Received: the output {x}")
    x = layers.GlobalAveragePooling2D()(x) if len(x.shape) == 4 else x
    model = keras.Model(inputs, layers.Dense(images.classes, dtype="float32", name="head")(x))
    optimizer = optimizer_of(model)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
        auto_scale_loss=False,  # in mixed_float16 the optimizer scales it, and sees an infinity on any replica
    )
    done = model.fit(
        data.Batches(*images.train, batch_size, seed),
        epochs=epochs,
        validation_data=data.filled_up(*images.test, batch_size),
        validation_batch_size=batch_size,
        callbacks=callbacks(optimizer, option),
        shuffle=False,  # `Batches` does it; Keras's own order differs with the number of replicas
    )
    return optimizer, done.history


def main():
    arguments = arguments_of_user()
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    # Only now, because Keras chooses its backend, and the backend its devices, when it is imported.
    import data
    import report

    from keras_adaptive import layerwise_decay

    optimizer_class = find_optimizer(arguments.optimizer)
    devices = strategies.start(arguments)
    images = data.load_images(arguments.dataset, arguments.data_dir)
    old, new = halves(images, arguments.examples_per_class)
    if arguments.batch_size > len(new.train[0]):
        refuse(f"--batch-size must be at most {len(new.train[0])} here. Received: {arguments.batch_size}")

    def frozen(model):
        return new_optimizer(optimizer_class, arguments, learning_rate=arguments.frozen_rate)

    def decayed(model):
        groups = layerwise_decay(model, arguments.layer_decay)
        return new_optimizer(optimizer_class, arguments, groups=groups)

    how = arguments.epochs, arguments.batch_size, arguments.seed
    source = arguments.preset or arguments.source
    with tempfile.TemporaryDirectory() as folder, devices.scope:
        saved = source or save_base(folder, old, arguments.batch_size, arguments.seed)
        name = source or Path(saved).name
        backbone = load(saved, new.train[0].shape[1:], arguments.image_size, preset=arguments.preset is not None)
        trained = len(backbone.model.trainable_variables)
        if not trained:
            refuse(f"--source must have trainable variables. Received: {name}, with none")
        begin = time.perf_counter()
        print(f"a new head for {new.classes} classes on {name}, frozen:")
        backbone.model.trainable = False
        _, of_frozen = fit(backbone, new, frozen, *how, option="--frozen-rate")
        print(f"all of it, also the {trained} trainable variables that were saved:")
        backbone.model.trainable = True
        optimizer, of_all = fit(backbone, new, decayed, *how)
    seconds = time.perf_counter() - begin

    accuracies = of_frozen["val_accuracy"][-1], of_all["val_accuracy"][-1]
    lines = {
        name: {"frozen": of_frozen[key], "fine-tuned": of_all[key]}
        for name, key in (("training loss", "loss"), ("test accuracy", "val_accuracy"))
    }
    title = "{}, layer decay {:g}, {} examples: frozen {:.1%}, fine-tuned {:.1%}".format(
        type(optimizer).__name__, arguments.layer_decay, len(new.train[0]), *accuracies
    )
    picture = picture_file(arguments)
    report.draw_lines(picture, lines, title)
    print(f"learning curves: {picture}")
    report.print_result(
        optimizer,
        devices,
        seconds,
        source=name,
        frozen_accuracy=f"{accuracies[0]:.4f}",
        finetuned_accuracy=f"{accuracies[1]:.4f}",
    )


if __name__ == "__main__":
    main()
