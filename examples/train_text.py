"""Trains a small transformer to predict the next byte of a text, with any optimizer of keras_adaptive.

    python examples/train_text.py
    python examples/train_text.py --preset muon --strategy mirrored --replicas 2
    KERAS_BACKEND=jax python examples/train_text.py --optimizer Lion --learning-rate 0.0005 --steps 200

The text is Python's own help, or your file (--text). A preset is an optimizer with settings that suit such a model;
schedule-free has no schedule, and is evaluated at its averaged weights. The script shows Keras's progress bar, then one
line of results, and draws the bits per byte of held-out text.
"""

import math
import time

import numpy as np
import strategies
from options import Parser, callbacks, count, find_optimizer, new_optimizer, optimizer_arguments, picture_file, refuse

PRESETS = {"adamw": "AdamW", "muon": "Muon", "soap": "Soap", "schedule-free": "ScheduleFreeAdamW"}


def network(context, width=96, blocks=2, heads=4):
    """A pre-norm decoder with learned positions: from bytes to the logits of the next byte."""
    from keras import Model, layers, ops

    tokens = layers.Input((context,), dtype="int32")
    positions = ops.cumsum(ops.ones_like(tokens), axis=1) - 1
    x = layers.Embedding(256, width)(tokens) + layers.Embedding(context, width)(positions)
    for _ in range(blocks):
        normed = layers.LayerNormalization()(x)
        x += layers.MultiHeadAttention(heads, width // heads)(normed, normed, use_causal_mask=True)
        normed = layers.LayerNormalization()(x)
        x += layers.Dense(width)(layers.Dense(4 * width, activation="gelu")(normed))
    return Model(tokens, layers.Dense(256, dtype="float32")(layers.LayerNormalization()(x)))


def bits_per_byte(targets, logits):
    from keras import ops

    return ops.sparse_categorical_crossentropy(targets, logits, from_logits=True) / math.log(2)


def preset(name, model, steps, **given):
    """The optimizer of that preset, for a built model and `steps` steps; the arguments in `given` are added.

    All presets but Schedule-Free warm up over a tenth of the steps, then decay linearly to 0.
    """
    import keras_adaptive
    from keras_adaptive import PolynomialDecay, WarmupSchedule, companion_groups, no_decay_on_vectors

    rates = {"adamw": 0.01, "muon": 0.1, "soap": 0.01, "schedule-free": 0.01}
    eta, warmup = given.pop("learning_rate", rates[name]), max(1, steps // 10)
    own = {"weight_decay": 0.1, "groups": [no_decay_on_vectors()]}
    if name == "schedule-free":
        own |= {"learning_rate": eta, "warmup_steps": warmup}
    else:
        own["learning_rate"] = WarmupSchedule(PolynomialDecay(eta, max(1, steps - warmup)), warmup)
    if name == "adamw":
        own["beta_2"] = 0.98
    if name == "muon":
        own["groups"] = [*companion_groups(model), no_decay_on_vectors()]
    return getattr(keras_adaptive, PRESETS[name])(**own, **given)


def main():
    parser = Parser(__doc__.split("\n")[0])
    what = "windows of text in a step, on all replicas together"
    parser.one_optimizer(32, what, optimizer=None, own_rate="that of the preset, or of the class")
    parser.precision()
    text = "an optimizer with its settings, instead of --optimizer (default: adamw)"
    parser.option("--preset", None, text, choices=list(PRESETS))
    parser.text()
    parser.option("--context", "N", "bytes in a window", type=count, default=64)
    parser.option("--steps", "N", "updates", type=count, default=600)
    parser.option("--evaluations", "N", "number of evaluations on the held-out text", type=count, default=10)
    arguments = parser.parse()
    if arguments.preset and arguments.optimizer:
        refuse(f"--preset is an optimizer already. Received: --preset {arguments.preset} and --optimizer")
    if arguments.steps % arguments.evaluations:
        refuse(f"--steps must be a multiple of --evaluations. Received: {arguments.steps} for {arguments.evaluations}")
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    import data
    import keras
    import report
    import text

    optimizer_class = find_optimizer(arguments.optimizer) if arguments.optimizer else None
    devices = strategies.start(arguments)
    everything = text.load_text(arguments.text)
    train, test = everything[: len(everything) * 9 // 10], everything[len(everything) * 9 // 10 :]
    if len(test) <= arguments.context:
        refuse(f"--text must have more than {10 * arguments.context} bytes here. Received: {len(everything)}")
    if arguments.batch_size > len(train) // arguments.context:
        refuse(f"--batch-size must be at most {len(train) // arguments.context} here. Received: {arguments.batch_size}")
    unigram, bigram = text.unigram_bits(train, test), text.bigram_bits(train, test)
    if devices.is_chief:
        print(f"{len(train)} bytes to learn from, {len(test)} held out. Bits per byte of these by the frequency of")
        print(f"each byte: {unigram:.3f}; by its frequency after the byte before it: {bigram:.3f}")

    with devices.scope:
        model = network(arguments.context)
        if optimizer_class:
            optimizer = new_optimizer(optimizer_class, arguments)
        else:
            chosen = optimizer_arguments(arguments)
            optimizer = preset(arguments.preset or "adamw", model, arguments.steps, **chosen)
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            weighted_metrics=[bits_per_byte],
            auto_scale_loss=False,  # in mixed_float16 the optimizer scales it, and sees an infinity on any replica
        )
    inputs, targets, weights = data.filled_up(*text.in_windows(test, arguments.context), arguments.batch_size)
    weights = np.broadcast_to(weights[:, np.newaxis], targets.shape)
    between = arguments.steps // arguments.evaluations
    begin = time.perf_counter()
    history = model.fit(
        text.Windows(train, arguments.context, arguments.batch_size, between, arguments.seed),
        shuffle=False,  # Keras's own order differs between workers
        epochs=arguments.evaluations,
        validation_data=(inputs, targets, weights),
        validation_batch_size=arguments.batch_size,
        callbacks=callbacks(optimizer),
        verbose="auto" if devices.is_chief else 0,
    ).history
    seconds = time.perf_counter() - begin

    if not devices.is_chief:
        return
    bits, name = history["val_bits_per_byte"], type(optimizer).__name__
    steps = range(between, arguments.steps + 1, between)
    picture = picture_file(arguments)
    with report.picture(picture, f"{name}: {bits[-1]:.3f} bits per byte held out", size=(7, 4)) as (axis,):
        axis.plot(steps, history["bits_per_byte"], label="training", marker="o", markersize=3)
        axis.plot(steps, bits, label="held out", marker="o", markersize=3)
        for style, model_of_text, level in (("--", "single bytes", unigram), (":", "pairs of bytes", bigram)):
            axis.axhline(level, color="gray", linestyle=style, label=f"frequencies of {model_of_text}")
        axis.set(xlabel="step", ylabel="bits per byte", ylim=(0, None))
        axis.legend(frameon=False)
    print(f"bits per byte by step: {picture}")
    facts = {"bits_per_byte": f"{bits[-1]:.4f}", "unigram": f"{unigram:.4f}", "bigram": f"{bigram:.4f}"}
    report.print_result(optimizer, devices, seconds, **facts)


if __name__ == "__main__":
    main()
