"""The arguments of the command. This module does not import Keras, so that `--help` is fast."""

import argparse

from keras_adaptive.core import argument_types

DESCRIPTION = """
Measures one update of each optimizer, as `fit` runs it on this device, alternating with Keras's class and with optax
or torch.optim. The floor is the time to move the bytes that an update must move, at the bandwidth of a triad (a + s b)
in the same rounds. Times are medians. On TensorFlow the gradient of the embedding holds rows only, and the floor counts
only these rows.
"""
WORKLOADS = ("large", "mixed", "small", "embedding")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    add = parser.add_argument
    add(
        "--optimizers",
        default="SGD,RMSprop,Adam",
        help="Measure these, such as Adam,SGD:momentum=0.9, or all. The default is %(default)s.",
    )
    add("--workloads", default="", help=f"Use some of {', '.join(WORKLOADS)}. The default is all of them.")
    add("--options", default="", help="Give all of them these arguments, such as slot_dtype=bfloat16,agc=0.01.")
    add(
        "--repeats",
        type=argument_types.count,
        default=15,
        help="Take the median of so many rounds. The default is %(default)s.",
    )
    add(
        "--size",
        type=_size,
        default=1.0,
        help="Multiply the sizes of the workloads by this; a number below 1 is for a quick try.",
    )
    add("--markdown", action="store_true", help="Print the table as Markdown.")
    add("--output", type=argument_types.file, metavar="bench.json", help="Write all figures to this file.")
    add(
        "--tpu-compile",
        choices=["v5e", "v5e:2x2", "v5e:2x4"],
        help="Measure nothing; ask the TPU compiler for bytes, temporary memory and compile time. For several devices, "
        "also for the operations of one of them and what it receives from the others (JAX, data parallelism).",
    )
    add(
        "--first-step",
        action="store_true",
        help="Measure the time and the peak memory of the first step of `fit` instead.",
    )
    add(
        "--picture",
        type=argument_types.picture,
        metavar="bench.png",
        help="Draw the figures; this needs matplotlib.",
    )


def _size(text):
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= 100:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 100. Received: {text!r}")
    return size
