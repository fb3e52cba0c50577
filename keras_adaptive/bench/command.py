"""The command: its arguments, and what it prints and writes."""

import argparse
import importlib.util
import sys
from pathlib import Path

import keras

from keras_adaptive.bench import report, specification
from keras_adaptive.bench.progress import Bar

DESCRIPTION = """
Measures one update of each optimizer, as `fit` runs it on this device, in turns with Keras's own class and with optax
or torch.optim. The floor is the time that the bytes which an update must move need at the bandwidth of a triad
(a + s b) in the same rounds. Times are medians. On TensorFlow the embedding's gradient holds rows, and its floor is
that of these rows.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    add = parser.add_argument
    add("--optimizers", default="SGD,RMSprop,Adam", help="such as Adam,SGD:momentum=0.9, or all (default: %(default)s)")
    add("--workloads", default="large,mixed,small,embedding", help="some of: %(default)s (default: all)")
    add("--options", default="", help="arguments of all of them, such as slot_dtype=bfloat16,skip_nonfinite=True")
    add("--repeats", type=_count, default=15, help="rounds, of which the median is taken (default: %(default)s)")
    add("--size", type=_size, default=1.0, help="of the workloads; below 1 to try the command (default: %(default)s)")
    add("--markdown", action="store_true", help="print the table as markdown")
    add("--output", type=_file, metavar="bench.json", help="write all figures to this file")
    add("--picture", type=_file, metavar="bench.png", help="draw them, which needs matplotlib")


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Received: {text!r}")
    return int(text)


def _size(text):
    try:
        size = float(text)
    except ValueError:
        size = 0.0
    if not 0 < size <= 100:
        raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 100. Received: {text!r}")
    return size


def _file(text):
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"must be a file in a folder that exists. Received: {text!r}")
    return Path(text)


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Does what was asked for; the exit status: 1 if an update failed. Wrong arguments end the process with 2."""
    from keras_adaptive.bench import workloads

    try:
        options = specification.arguments(given.options.split(",") if given.options else [])
        optimizers = specification.parse(given.optimizers, options)
        chosen = [workloads.named(name.strip(), given.size) for name in given.workloads.split(",")]
    except ValueError as error:
        parser.error(str(error))
    if given.picture and importlib.util.find_spec("matplotlib") is None:
        parser.error(f"argument --picture: matplotlib is not installed. Received: {str(given.picture)!r}")
    return _measure(optimizers, chosen, given)


def _measure(optimizers, workloads, given):
    from keras_adaptive.bench import measure
    from keras_adaptive.core.backends import bench as backend

    about = {"machine": report.machine(backend.device()), "repeats": given.repeats, "size": given.size}
    print(report.heading(about["machine"]))
    for workload in workloads:
        dense = ", dense gradients" if workload.ids is not None and keras.backend.backend() != "tensorflow" else ""
        variables = f"{len(workload.shapes)} variables, {workload.parameters:,} parameters"
        print(f"{workload.name}: {workload.what}; {variables}{dense}")
    with Bar(measure.steps(optimizers, workloads, given.repeats)) as bar:
        rows = list(measure.measured(optimizers, workloads, given.repeats, bar.tick))
    print(report.table(report.HEAD, [report.line(row) for row in rows], given.markdown))
    if given.output:
        report.write_json(given.output, about, rows)
    if given.picture:
        from keras_adaptive.bench import picture

        picture.draw(given.picture, about, rows)
    failed = report.errors(rows)
    for line in failed:
        print(line, file=sys.stderr)
    return int(bool(failed))
