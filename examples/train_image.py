"""Trains a small convolutional network with an optimizer of keras_adaptive.

    python examples/train_image.py
    python examples/train_image.py --optimizer RMSprop --strategy mirrored --replicas 2
    KERAS_BACKEND=jax python examples/train_image.py --precision mixed_bfloat16

It shows Keras's progress bar, then one line of results, and draws the learning curves.
"""

import time
from pathlib import Path

import strategies
from options import Parser, callbacks, find_optimizer, new_optimizer, picture_file, refuse


def network(shape, classes):
    """Two normalized convolutions and a classifier; without the softmax, which is in the loss."""
    from keras import Sequential, layers

    def convolution(filters):
        return [layers.Conv2D(filters, 3, padding="same"), layers.GroupNormalization(8), layers.ReLU()]

    return Sequential(
        [
            layers.Input(shape, dtype="uint8"),
            layers.Rescaling(1 / 255),
            *convolution(32),
            *convolution(64),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(classes, dtype="float32"),
        ]
    )


def main():
    parser = Parser(__doc__.split("\n")[0], tensorflow_datasets="examples")
    parser.training(batch_size=32, epochs=20)
    parser.option("--dataset", "NAME", "images of tensorflow-datasets: digits, mnist, cifar10, ...", default="digits")
    parser.option("--data-dir", "FOLDER", "of tensorflow-datasets (default: its own)", type=Path)
    arguments = parser.parse()
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    # Only now, because Keras chooses its backend, and the backend its devices, when it is imported.
    import data
    import keras
    import report

    optimizer_class = find_optimizer(arguments.optimizer)
    devices = strategies.start(arguments)
    images = data.load_images(arguments.dataset, arguments.data_dir)
    if arguments.batch_size > len(images.train[0]):
        refuse(f"--batch-size must be at most {len(images.train[0])} here. Received: {arguments.batch_size}")

    with devices.scope:
        optimizer = new_optimizer(optimizer_class, arguments)
        model = network(images.train[0].shape[1:], images.classes)
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=["accuracy"],
            auto_scale_loss=False,  # in mixed_float16 the optimizer scales it, and sees an infinity on any replica
        )
    begin = time.perf_counter()
    history = model.fit(
        data.Batches(*images.train, arguments.batch_size, arguments.seed),
        shuffle=False,  # `Batches` shuffles, in the same order for any number of replicas
        epochs=arguments.epochs,
        validation_data=data.filled_up(*images.test, arguments.batch_size),
        validation_batch_size=arguments.batch_size,
        callbacks=callbacks(optimizer),
        verbose="auto" if devices.is_chief else 0,
    ).history
    seconds = time.perf_counter() - begin

    if not devices.is_chief:
        return
    name, eta = type(optimizer).__name__, float(optimizer.learning_rate.numpy())
    accuracy = history["val_accuracy"][-1]
    title = f"{name}, learning rate {eta:.3g}, on {arguments.dataset}: test accuracy {accuracy:.1%}"
    picture = picture_file(arguments)
    report.draw_curves(picture, history, title)
    print(f"learning curves: {picture}")
    report.print_result(optimizer, devices, seconds, test_accuracy=f"{accuracy:.4f}")


if __name__ == "__main__":
    main()
