"""Trains ResNet-50 on ImageNet with the published large-batch recipes of LARS and LAMB.

    python examples/train_imagenet.py
    python examples/train_imagenet.py --dataset imagenet2012 --batch-size 1024 --recipe lamb --checkpoint imagenet
    python examples/train_imagenet.py --dataset imagenette --image-size 128 --epochs 40
    KERAS_BACKEND=jax python examples/train_imagenet.py --fake-data --image-size 64 --batch-size 8 --epochs 1

The first command needs no download: it trains a network of 14 layers on scikit-learn's digits, enlarged. The other data
sets come from tensorflow-datasets; imagenet2012 has to be downloaded by hand. With --checkpoint, the same command
resumes after the last finished epoch. At the end it prints one line of results and draws the learning curves.
"""

import inspect
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import strategies
from options import Parser, callbacks, count, find_optimizer, new_optimizer, picture_file, rate, refuse


class Recipe(NamedTuple):
    """An optimizer and its published values by batch size; `recalled`: the source, if it was not read again."""

    optimizer: str
    values: object
    power: float
    recalled: str = ""


def scaled(learning_rate, warmup_epochs):
    """Scales published values for batches of 32768: the rate by the square root, the warm-up epochs in proportion."""

    def values(batch):
        from keras_adaptive import scale_learning_rate

        peak = scale_learning_rate(learning_rate, 32768, batch, "sqrt")
        return {"learning_rate": peak, "warmup_epochs": scale_learning_rate(warmup_epochs, 32768, batch)}

    return values


def published(name):
    def values(batch):
        from keras_adaptive import recipe

        try:
            return recipe(name, batch)
        except ValueError as error:
            refuse(f"--batch-size has no such recipe: {error}")

    return values


RECIPES = {
    "lars-tpu": Recipe("Lars", published("resnet50-lars-tpu"), power=2.0),
    "lars-mlperf": Recipe("Lars", published("resnet50-lars-mlperf"), power=2.0),
    "lars-legw": Recipe("Lars", scaled(2.0**5, 10), 2.0, "You et al., 2019, batches of 1024 to 32768"),
    "lamb": Recipe("Lamb", scaled(4e-2, 20), 1.0, "You et al., ICLR 2020, batches of 512 to 32768"),
}
# Defaults for the digits (minutes on two cores), and for everything else.
SMALL = {"batch_size": 32, "epochs": 5, "image_size": 32, "depth": 14, "augmentation": "gentle"}
LARGE = {"batch_size": 256, "epochs": 90, "image_size": 224, "depth": 50, "augmentation": "imagenet"}

# The arguments that must not change when a training is resumed.
DECIDE = (
    *("dataset", "fake_data", "depth", "image_size", "augmentation", "batch_size", "epochs", "steps_per_epoch", "seed"),
    *("recipe", "optimizer", "learning_rate", "warmup_epochs", "weight_decay", "label_smoothing"),
    *("precision", "slot_dtype"),
)


def arguments_of_user():
    parser = Parser(__doc__.split("\n")[0], tensorflow_datasets="examples", PIL="examples")
    own_rate = "that of the recipe, or of the class"
    parser.training(batch_size=None, epochs=None, optimizer=None, precision=None, own_rate=own_rate)
    of_sizes = "{batch_size} images in a step and {epochs} epochs".format
    parser.epilog = f"Default: {of_sizes(**SMALL)} for the digits, else {of_sizes(**LARGE)}; mixed_bfloat16 on a TPU, "
    parser.epilog += "else float32."
    text = f"{', '.join(RECIPES)}: what is published for a batch of this size (default: lars-legw, unless --optimizer "
    text += "is given, which then has no recipe); lars-legw and lamb are as recalled, and extended to every size"
    parser.option("--recipe", "NAME", text, choices=list(RECIPES))
    parser.option("--warmup-epochs", "N", "of linear warm-up (default: that of the recipe, or none)", type=rate)
    parser.option("--weight-decay", "RATE", "0 or more (default: that of the recipe, or of the class)", type=rate)
    parser.option("--label-smoothing", "PART", "part of each label that all classes share", type=rate, default=0.1)
    text = "of tensorflow-datasets: digits, imagenette, imagenet2012, ..."
    parser.option("--dataset", "NAME", f"{text} (default: digits)")
    parser.option("--data-dir", "FOLDER", "of tensorflow-datasets (default: its own)", type=Path)
    text = "noise in 1,000 classes, to measure the speed"
    parser.add_argument("--fake-data", help=text, action="store_true")
    parser.option("--image-size", "N", "side of the crops (default: 224, of digits 32)", type=count)
    text = "of training images: imagenet: a random crop of at least 8%% of the area, mirrored or not; gentle: at least "
    text += "60%%, not mirrored; none (default: imagenet, of digits gentle)"
    parser.option("--augmentation", None, text, choices=["imagenet", "gentle", "none"])
    parser.option("--depth", "N", "layers: 14, 26, 50 or 101 (default: 50, for digits 14)", type=count)
    text = "end an epoch after this number of steps (default: after all data; 100 for fake data)"
    parser.option("--steps-per-epoch", "N", text, type=count)
    parser.option("--checkpoint", "FOLDER", "save the training there after every epoch, and resume from it", type=Path)
    arguments = parser.parse()
    if arguments.recipe and arguments.optimizer:
        refuse(f"--recipe has an optimizer of its own. Received: --recipe and --optimizer {arguments.optimizer}")
    if arguments.depth not in (None, 14, 26, 50, 101):
        refuse(f"--depth must be 14, 26, 50 or 101. Received: {arguments.depth}")
    if arguments.label_smoothing >= 1.0:
        refuse(f"--label-smoothing must be below 1. Received: {arguments.label_smoothing}")
    if arguments.fake_data and arguments.dataset:
        refuse(f"--fake-data is a data set already. Received: --fake-data and --dataset {arguments.dataset}")
    if not arguments.fake_data:
        arguments.dataset = arguments.dataset or "digits"
    small = arguments.dataset == "digits"
    for name, default in (SMALL if small else LARGE).items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, default)
    if not arguments.optimizer and not arguments.recipe:
        arguments.recipe = "lars-legw"
    if arguments.precision is None:
        on_tpu = strategies.tpu_is_attached() and arguments.strategy != "cpu"
        arguments.precision = "mixed_bfloat16" if on_tpu else "float32"
    return arguments


def make_optimizer(arguments, steps):
    """The optimizer by the recipe and the arguments, with a linear warm-up, then a polynomial decay to 0."""
    from keras_adaptive import PolynomialDecay, WarmupSchedule, no_decay_on_vectors

    recipe = RECIPES.get(arguments.recipe)
    optimizer_class = find_optimizer(recipe.optimizer if recipe else arguments.optimizer)
    defaults = {name: each.default for name, each in inspect.signature(optimizer_class).parameters.items()}
    values = {"learning_rate": defaults["learning_rate"], "warmup_epochs": 0.0, "power": 1.0}
    values |= ({"power": recipe.power} | recipe.values(arguments.batch_size)) if recipe else {}
    for name in ("learning_rate", "warmup_epochs", "weight_decay"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    if values["warmup_epochs"] >= arguments.epochs:
        refuse(f"--epochs must be more than the {values['warmup_epochs']:g} of warm-up. Received: {arguments.epochs}")
    peak, warmup_epochs, power = (values.pop(name) for name in ("learning_rate", "warmup_epochs", "power"))
    warmup = round(warmup_epochs * steps)
    decay = PolynomialDecay(peak, arguments.epochs * steps - warmup, power=power)
    values["learning_rate"] = WarmupSchedule(decay, warmup)
    if "base_learning_rate" in defaults:
        values["base_learning_rate"] = peak  # AdaBound cannot know it from a schedule
    optimizer = new_optimizer(optimizer_class, arguments, **values, groups=[no_decay_on_vectors()])
    source = f"recipe {arguments.recipe}" if recipe else "no recipe"
    source += f" (as recalled from {recipe.recalled})" if recipe and recipe.recalled else ""
    print(
        f"{optimizer_class.__name__}, {source}: learning rate {peak:.4g} after {warmup} updates of warm-up, then with "
        f"power {power:g} to 0 after {arguments.epochs * steps}; weight decay {optimizer.weight_decay}, not of vectors"
    )
    return optimizer


def main():
    arguments = arguments_of_user()
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    # Only now, because Keras chooses its backend, and the backend its devices, when it is imported.
    import crops
    import data
    import keras
    import report
    from checkpoint import Checkpoint, SameOnReplicas, Speed
    from resnet import resnet

    devices = strategies.start(arguments)
    batch_size, side = arguments.batch_size, arguments.image_size
    if arguments.fake_data:
        keys, classes, examples = ("image", "label"), 1000, (arguments.steps_per_epoch or 100) * batch_size
    else:
        labelled = data.prepare(arguments.dataset, arguments.data_dir)
        keys, classes = labelled.keys, labelled.classes
        examples = labelled.builder.info.splits[labelled.train].num_examples
    if batch_size > examples:
        refuse(f"--batch-size must be at most {examples} here. Received: {batch_size}")
    steps = min(arguments.steps_per_epoch or examples, examples // batch_size)

    with devices.scope:
        optimizer = make_optimizer(arguments, steps)
        model = resnet(arguments.depth, side, classes)
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=arguments.label_smoothing),
            weighted_metrics=["accuracy", keras.metrics.TopKCategoricalAccuracy(5, name="top_5_accuracy")],
            auto_scale_loss=False,  # in mixed_float16 the optimizer scales it, and sees an infinity on any replica
        )
        settings = {name: value for name, value in vars(arguments).items() if name in DECIDE}
        kept = Checkpoint(arguments.checkpoint, settings, devices.is_chief)
        first_epoch = kept.restore(model)
    if first_epoch:
        print(f"going on after {first_epoch} of {arguments.epochs} epochs")

    plan = crops.Plan(keys, classes, batch_size, side, crops.AUGMENTATIONS[arguments.augmentation], arguments.seed)
    with devices.scope:
        if arguments.fake_data:
            train, test = crops.Noise(steps * batch_size, side), crops.Noise(batch_size, side)
            stream = crops.read_by_index(train, test, plan, first_epoch, arguments.epochs, steps)
        else:
            stream = crops.streams(labelled, plan, first_epoch, arguments.epochs, steps)
    stop, *evaluation = callbacks(optimizer)
    begin = time.perf_counter()
    model.fit(
        **stream,
        epochs=arguments.epochs,
        initial_epoch=first_epoch,
        shuffle=False,  # the stream is already shuffled
        # Before `kept`, so that no epoch that diverged is saved; after it, as it saves the training weights.
        callbacks=[stop, SameOnReplicas(), Speed(batch_size, steps), kept, *evaluation],
        verbose="auto" if devices.is_chief else 0,
    )
    seconds = time.perf_counter() - begin

    if not devices.is_chief:
        return
    history = kept.history
    accuracy, top_5 = history["val_accuracy"][-1], history["val_top_5_accuracy"][-1]
    speed = median(history["images_per_second"])
    on = "fake data" if arguments.fake_data else arguments.dataset
    title = f"ResNet-{arguments.depth}, {type(optimizer).__name__}, batches of {batch_size}, on {on}: "
    title += f"test accuracy {accuracy:.1%}, {speed:.0f} images/s"
    names = ("loss", "accuracy", "top_5_accuracy", "images_per_second")
    picture = picture_file(arguments)
    report.draw_curves(picture, history, title, names)
    print(f"learning curves: {picture}")
    report.print_result(
        optimizer,
        devices,
        seconds,
        recipe=arguments.recipe,
        precision=arguments.precision,
        loss=f"{history['loss'][-1]:.6f}",
        test_accuracy=f"{accuracy:.4f}",
        test_top_5_accuracy=f"{top_5:.4f}",
        images_per_second=f"{speed:.1f}",
    )


if __name__ == "__main__":
    main()
