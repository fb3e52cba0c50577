"""Fine-tunes a KerasHub model in four ways: the head, all layers, LoRA, and LoRA on an int8 base.

    python examples/finetune_kerashub.py
    python examples/finetune_kerashub.py --optimizer Lion --learning-rate 0.001
    python examples/finetune_kerashub.py --preset bert_tiny_en_uncased --steps 60
    KERAS_BACKEND=jax python examples/finetune_kerashub.py --quick

Without a preset nothing is downloaded: a small Llama with random weights first learns from which of 64 modules of
Python's standard library a piece of code comes, and is saved as a preset. With few examples it then learns the same of
eight packages that it has not seen. All four ways begin with the saved weights, and have the same batches and the same
first weights of the head:

- head only: the backbone is frozen
- all layers: with a smaller learning rate for each earlier block (`layerwise_decay`)
- LoRA: `backbone.enable_lora(rank)` freezes the backbone, and adds two small matrices to kernels of its attention
- LoRA on int8: `backbone.quantize("int8")`, then `enable_lora`

The fewer parameters are trained, the less the optimizer stores. The script prints a table, then one line of results,
and draws the test accuracy by step and the bytes of each way. With other seeds, ways whose accuracies are close may
change places. On a CPU a product of int8 matrices can take longer than one of float32.
"""

import tempfile
import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import strategies
from options import Parser, callbacks, count, find_optimizer, new_optimizer, picture_file, rate, refuse

EVALUATIONS = 5
TESTED = 64  # pieces of each package
# Of the small Llama: its words, and the modules that it learns first, with a number of pieces of each.
VOCABULARY, MODULES, PIECES = 4000, 64, 200


class Way(NamedTuple):
    """A way to fine-tune, and its learning rate for Adam and AdamW."""

    name: str
    rate: float
    trains_all: bool = False
    lora: bool = False
    int8: bool = False


WAYS = {
    "head": Way("head only", 0.03),
    "all": Way("all layers", 0.01, trains_all=True),
    "lora": Way("LoRA", 0.03, lora=True),
    "int8": Way("LoRA on int8", 0.03, lora=True, int8=True),
}


class Data(NamedTuple):
    """Token ids (examples, context), and the numbers of the classes that the pieces are from."""

    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


class Result(NamedTuple):
    """What a training took and reached: test accuracies by evaluation, parameters, bytes, and times."""

    accuracies: list
    parameters: int
    state: int
    weights: int
    milliseconds: float
    seconds: float
    optimizer: Any


def arguments_of_user():
    parser = Parser(__doc__.split("\n")[0], keras_hub="keras-hub", tensorflow_datasets="examples")
    own_rate = ", ".join(f"{way.name} {way.rate:g}" for way in WAYS.values())
    own_rate = f"with Adam and AdamW: {own_rate}; else that of the class"
    parser.one_optimizer(32, "examples in a step, on all replicas together", "AdamW", own_rate)
    parser.option("--steps", "N", "updates in each way", type=count, default=100)
    parser.option("--preset", "NAME", "a text backbone of KerasHub instead, by name or folder")
    parser.option("--pretraining-steps", "N", "updates of the small Llama", type=count, default=400)
    parser.option("--rank", "N", "of LoRA's matrices", type=count, default=4)
    text = "ratio of a block's learning rate to that of the next block"
    parser.option("--layer-decay", "RATE", text, type=rate, default=0.8)
    parser.option("--examples-per-class", "N", "to fine-tune on", type=count, default=64)
    parser.option("--context", "N", "words in an example", type=count, default=64)
    parser.add_argument("--quick", action="store_true", help="only try whether everything runs, in a few steps")
    arguments = parser.parse()
    if arguments.quick:
        arguments.steps = arguments.pretraining_steps = EVALUATIONS
        arguments.examples_per_class = 8
    for name in ("steps", "pretraining_steps"):
        if getattr(arguments, name) % EVALUATIONS:
            option = "--" + name.replace("_", "-")
            refuse(f"{option} must be a multiple of {EVALUATIONS}. Received: {getattr(arguments, name)}")
    if not 0 < arguments.layer_decay <= 1:
        refuse(f"--layer-decay must be above 0 and at most 1. Received: {arguments.layer_decay}")
    if arguments.strategy == "multiworker":
        refuse("--strategy must be auto, cpu, mirrored or tpu here. Received: multiworker")
    return arguments


def load(kind, source):
    """The backbone or the tokenizer of a preset, by name or folder."""
    import keras_hub

    make = keras_hub.models.Backbone if kind == "backbone" else keras_hub.tokenizers.Tokenizer
    try:
        return make.from_preset(source)
    # ImportError: keras_hub without what this preset needs.
    except (ImportError, OSError, TypeError, ValueError) as error:
        refuse(f"--preset {source} has no {kind} that can be loaded: {error}")


def pieces(classes, tokenize, examples, tested, arguments):
    """Random pieces of the files of each class; those for the test are from the last fifth of every file."""
    from keras import ops

    random, parts = np.random.default_rng(arguments.seed), ([], [])
    for files in classes:
        ids = [ops.convert_to_numpy(tokenize(file)) for file in files]
        halves = zip(*(np.split(each, [len(each) * 4 // 5]) for each in ids), strict=True)
        for part, source, number in zip(parts, map(np.concatenate, halves), (examples, tested), strict=True):
            starts = random.integers(len(source) - arguments.context, size=(number, 1))
            part.append(source[starts + np.arange(arguments.context)].astype("int32"))
    return Data(*((np.concatenate(part), np.repeat(np.arange(len(part)), len(part[0]))) for part in parts))


def classifier(backbone, data_set, seed):
    """A model with a new head on the mean of the backbone's outputs."""
    import keras
    from keras import layers, ops

    tokens = keras.Input(data_set.test[0].shape[1:], dtype="int32")
    ones = ops.ones_like(tokens)  # no padding
    known = {"token_ids": tokens, "padding_mask": ones, "segment_ids": ones - 1}
    if not isinstance(backbone.input, dict) or not {"token_ids"} <= set(backbone.input) <= set(known):
        refuse(f"--preset must be of a model that takes only token_ids. Received: one that takes {backbone.input}")
    outputs = backbone({name: known[name] for name in backbone.input})
    outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
    classes = int(data_set.test[1].max()) + 1
    initial = keras.initializers.GlorotUniform(seed)  # the same in each way
    head = layers.Dense(classes, kernel_initializer=initial, dtype="float32", name="head")
    return keras.Model(tokens, head(layers.GlobalAveragePooling1D()(outputs)))


def trained(model, optimizer, data_set, steps, arguments):
    """Trains the model, and tests it EVALUATIONS times."""
    import data
    import keras
    from checkpoint import Clock

    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        weighted_metrics=["accuracy"],
    )
    clock, begin = Clock(), time.perf_counter()
    history = model.fit(
        data.Steps(*data_set.train, arguments.batch_size, steps // EVALUATIONS, arguments.seed),
        shuffle=False,  # `Steps` does it
        epochs=EVALUATIONS,
        validation_data=data.filled_up(*data_set.test, arguments.batch_size),
        validation_batch_size=arguments.batch_size,
        callbacks=[*callbacks(optimizer), clock],
        verbose=0,
    ).history
    return Result(
        history["val_accuracy"],
        sizes(model.trainable_variables),
        optimizer.describe().state_bytes,
        sizes(model.weights, in_bytes=True),
        1000 * float(np.median(clock.seconds)),
        time.perf_counter() - begin,
        optimizer,
    )


def pretrained(folder, tokenize, arguments, devices):
    """Trains a small Llama on the modules, and saves it in that folder as a preset."""
    import keras_hub
    import text

    import keras_adaptive

    data_set = pieces([[file] for file in text.load_modules(MODULES)], tokenize, PIECES, 8, arguments)
    with devices.scope:
        backbone = keras_hub.models.LlamaBackbone(
            vocabulary_size=VOCABULARY,
            num_layers=2,
            num_query_heads=4,
            num_key_value_heads=4,
            hidden_dim=64,
            intermediate_dim=160,
        )
        without_language_head(backbone)
        model = classifier(backbone, data_set, arguments.seed)
        result = trained(model, keras_adaptive.AdamW(0.003), data_set, arguments.pretraining_steps, arguments)
    backbone.save_to_preset(folder)
    return result


def without_language_head(backbone):
    """Freezes the output projection of a language model, which no classifier uses."""
    for variable in backbone.weights:
        if variable.name == "reverse_embeddings":
            variable.trainable = False


def prepared(way, source, rank):
    """The backbone of the source, made ready for this way."""
    backbone = load("backbone", source)
    without_language_head(backbone)
    if not way.trains_all:
        backbone.trainable = False
    if way.int8:
        with warnings.catch_warnings():
            # Layers without a kernel, which stay as they are.
            warnings.filterwarnings("ignore", ".* does not have a `quantize` method", UserWarning)
            backbone.quantize("int8")
    if way.lora:
        backbone.enable_lora(rank)
        if not backbone.trainable_variables:
            refuse(f"--preset must have layers that KerasHub gives LoRA. Received: {source}")
    return backbone


def finetuned(way, source, data_set, optimizer_class, arguments, devices):
    """Trains a new head on the backbone of the source, in that way."""
    import keras

    from keras_adaptive import layerwise_decay

    keras.utils.set_random_seed(arguments.seed)
    with devices.scope:
        model = classifier(prepared(way, source, arguments.rank), data_set, arguments.seed)
        chosen = {"groups": layerwise_decay(model, arguments.layer_decay)} if way.trains_all else {}
        if arguments.learning_rate is None and optimizer_class.__name__ in ("Adam", "AdamW"):
            chosen["learning_rate"] = way.rate
        optimizer = new_optimizer(optimizer_class, arguments, **chosen)
        return trained(model, optimizer, data_set, arguments.steps, arguments)


def sizes(variables, in_bytes=False):
    """How many numbers the variables hold, or how many bytes."""
    return sum(int(np.prod(v.shape)) * (np.dtype(v.dtype).itemsize if in_bytes else 1) for v in variables)


def table(results):
    """A line for each training, in columns."""
    from keras_adaptive.core import tables

    head = ("", "test accuracy", "trained", "optimizer state", "weights", "a step", "in total")
    lines = [
        (
            name,
            f"{each.accuracies[-1]:.1%}",
            f"{each.parameters:,}",
            f"{each.state:,} bytes",
            f"{each.weights:,} bytes",
            f"{each.milliseconds:.0f} ms",
            f"{each.seconds:.1f} s",
        )
        for name, each in results.items()
    ]
    return "\n".join(tables.columns([head, *lines], right=range(1, len(head))))


def draw(path, results, steps, title):
    import report

    with report.picture(path, title, panels=2, size=(12, 4.2)) as (left, right):
        between = steps // EVALUATIONS
        for name, each in results.items():
            left.plot(range(between, steps + 1, between), each.accuracies, marker="o", label=name)
        left.set(title="test accuracy", xlabel="step")
        left.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        places, largest = np.arange(len(results)), max(max(each.weights, each.state) for each in results.values())
        for shift, name, colour in ((-0.2, "weights", "lightgray"), (0.2, "state", "dimgray")):
            values = [getattr(each, name) for each in results.values()]
            label = "weights" if name == "weights" else "optimizer state"
            bars = right.barh(places + shift, values, 0.38, label=label, color=colour)
            right.bar_label(bars, [f"{value / 1000:,.0f} kB" for value in values], padding=3, fontsize="small")
        right.set(title="bytes", xscale="log", xlim=(1e3, 20 * largest))
        right.set_yticks(places, list(results))
        right.invert_yaxis()
        right.set_axisbelow(True)
        right.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)


def main():
    arguments = arguments_of_user()
    strategies.choose_backend(arguments.strategy, arguments.replicas)

    # Only now, because Keras chooses its backend, and the backend its devices, when it is imported.
    import report
    import text

    optimizer_class = find_optimizer(arguments.optimizer)
    devices = strategies.start(arguments)
    if arguments.preset:
        tokenize = load("tokenizer", arguments.preset)
    else:
        tokenize = text.Vocabulary(text.load_modules(), VOCABULARY)
    data_set = pieces(text.load_packages(), tokenize, arguments.examples_per_class, TESTED, arguments)
    if arguments.batch_size > len(data_set.train[0]):
        refuse(f"--batch-size must be at most {len(data_set.train[0])} here. Received: {arguments.batch_size}")
    begin, results, first = time.perf_counter(), {}, {}
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.preset:
            first["training before"] = pretrained(folder, tokenize, arguments, devices)
            print(f"on {MODULES} modules: {first['training before'].accuracies[-1]:.1%}", flush=True)
        for way in WAYS.values():
            source = arguments.preset or folder
            results[way.name] = finetuned(way, source, data_set, optimizer_class, arguments, devices)
            print(f"{way.name}: {results[way.name].accuracies[-1]:.1%}", flush=True)
    seconds = time.perf_counter() - begin

    print(table(first | results))
    title = f"{optimizer_class.__name__}, {len(data_set.train[0])} examples to learn from, {arguments.steps} steps"
    picture = picture_file(arguments)
    draw(picture, results, arguments.steps, title)
    print(f"accuracies and bytes: {picture}")
    of_ways = dict(zip(WAYS, results.values(), strict=True))
    facts = {f"{key}_accuracy": f"{each.accuracies[-1]:.4f}" for key, each in of_ways.items()}
    facts |= {f"{key}_state": each.state for key, each in of_ways.items()}
    report.print_result(of_ways["all"].optimizer, devices, seconds, **facts)


if __name__ == "__main__":
    main()
