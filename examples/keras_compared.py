"""Trains with Keras's optimizer and with ours, side by side, over several seeds, with a verdict on each pair.

    python examples/keras_compared.py
    python examples/keras_compared.py --only bfloat16 muon --seeds 3
    KERAS_BACKEND=jax python examples/keras_compared.py --quick

The trainings are small, on scikit-learn's digits and on Python's help. Both optimizers get the same initial weights,
batches and settings. One is ahead only if its worst seed is better than the best seed of the other. Everything runs on
the CPU, in one process for each backend; what is about replicas or sparse gradients runs on TensorFlow. The script
prints a line of progress for each comparison, then the table and one line of results; it draws a picture.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import marked
import strategies
from options import Parser, picture_file, refuse, seeds_of

# Where each comparison runs: a backend (None: any) and a number of replicas. A process has one of each.
PLACES = {
    "bfloat16": (None, 1),
    "accumulation": (None, 1),
    "muon": (None, 1),
    "clipping": ("tensorflow", 2),
    "infinity": ("tensorflow", 2),
    "unfrozen": (None, 1),
    "schedule-free": (None, 1),
    "lamb": (None, 1),
    "words": ("tensorflow", 1),
}


class Finding(NamedTuple):
    """A comparison, its numbers, and the rows of the table with their verdicts."""

    comparison: Any
    numbers: dict
    rows: list


def measure(names, seeds, quick):
    """The numbers of these comparisons by name, each from the process of its backend and replicas."""
    backend, numbers = os.environ["KERAS_BACKEND"], {}
    by_place: dict = {}
    for name in names:
        own, replicas = PLACES[name]
        by_place.setdefault((own or backend, replicas), []).append(name)
    for (own, _), of_this in by_place.items():
        if importlib.util.find_spec(own) is None:
            refuse(f"{', '.join(of_this)} need {own}, which is not installed; --only chooses others")
    for (own, replicas), of_this in by_place.items():
        numbers |= _process(own, {"names": of_this, "replicas": replicas, "seeds": list(seeds), "quick": quick})
    return numbers


def _process(backend, order):
    """The numbers that compared_worker.py finds in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "numbers.json"
        worker = Path(__file__).with_name("compared_worker.py")
        environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
        done = subprocess.run([sys.executable, worker, json.dumps(order | {"file": str(file)})], env=environment)
        if done.returncode:
            raise SystemExit(f"the process for {', '.join(order['names'])} ended with code {done.returncode}")
        return json.loads(file.read_text("utf-8"))


def judged(comparison, numbers):
    """The finding on one comparison."""
    rows = list(comparison.rows(numbers))
    return Finding(comparison, numbers, [(row, comparison.judge(row)) for row in rows])


def table(findings, seeds, quick=False):
    """Markdown: the verdicts, and below them how they were measured."""
    import keras

    from keras_adaptive.core import tables

    lines, notes = [], []
    for number, (comparison, _, rows) in enumerate(findings, start=1):
        for row, verdict in rows:
            found = [comparison.printed(values) for values in (row.keras, row.ours)]
            lines.append((str(number), row.setting, comparison.unit, *found, f"**{verdict}**"))
        better = "higher" if comparison.higher_is_better else "lower"
        rule = f"{better} is better; up to {comparison.least:g} is no difference"
        notes.append(f"{number}. {comparison.measured} ({rule}).")
    head = ("", "Training", "Measured", f"Keras {keras.__version__}", "keras_adaptive", "Verdict")
    how = (
        f"Written by `examples/keras_compared.py`: mean ± standard deviation over {len(seeds)} seeds, from {seeds[0]} "
    )
    how += "on, which give both the same initial weights and batches. One is ahead if its worst seed is better than "
    how += f"the other's best, by more than what counts as no difference. Backend {os.environ['KERAS_BACKEND']}."
    how += " Only a quick try, which decides nothing." if quick else ""
    return "\n".join([*tables.markdown(head, lines), "", how, "", *notes])


def draw(findings, quick=False):
    """A figure with a panel for each comparison that has one, and what they have in common."""
    from matplotlib import pyplot

    drawn = [each for each in findings if each.comparison.drawn]
    rows = len(drawn) // 2 + 1
    figure = pyplot.figure(figsize=(10, 3.2 * rows), layout="constrained")
    for place, each in enumerate(drawn, start=1):
        axis = figure.add_subplot(rows, 2, place)
        each.comparison.draw(axis, each.numbers)
        axis.set_title(each.comparison.title, fontsize="medium")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.25)
    axis = figure.add_subplot(rows, 2, len(drawn) + 1)
    axis.set_axis_off()
    axis.text(0.05, 0.95, _legend(findings, quick), va="top", linespacing=1.6)
    return figure


def _legend(findings, quick):
    """What holds for all panels, and how the verdicts are."""
    import keras
    from compared_lab import AHEAD, BEHIND, EQUAL

    found = [verdict for each in findings for _, verdict in each.rows]
    others = [each.comparison.title for each in findings if not each.comparison.drawn]
    lines = ["Only a quick try, which decides nothing", ""] if quick else []
    lines += [f"Orange and grey: Keras {keras.__version__}", "Blue: keras_adaptive"]
    lines += ["Line: mean of the seeds; band: all seeds", ""]
    lines += [f"Verdicts on all {len(found)} pairs:"]
    lines += [f"    {found.count(word)} {word}" for word in (AHEAD, BEHIND, EQUAL)]
    return "\n".join([*lines, "", "Only in the table:", *(f"    {title}" for title in others)] if others else lines)


def main():
    parser = Parser(__doc__.split("\n")[0], devices=False)
    text = f"comparisons: {', '.join(PLACES)} (default: all)"
    parser.option("--only", "NAME", text, nargs="+", choices=list(PLACES))
    parser.measured("keras_compared")
    arguments = parser.parse()
    seeds = seeds_of(arguments)
    if arguments.seeds < 2:
        refuse(f"--seeds must be 2 or more, as one seed has no spread. Received: {arguments.seeds}")
    if arguments.readme and arguments.only:
        refuse(f"--readme needs all comparisons. Received: --only {' '.join(arguments.only)}")
    if arguments.readme:
        marked.check(arguments.readme, "keras_compared")
    strategies.choose_backend("cpu")

    begin = time.perf_counter()
    names = [name for name in PLACES if name in (arguments.only or PLACES)]
    numbers = measure(names, seeds, arguments.quick)
    seconds = time.perf_counter() - begin

    import report
    from compared_lab import AHEAD, BEHIND, EQUAL
    from compared_worker import COMPARISONS

    findings = [judged(COMPARISONS[name], numbers[name]) for name in names]
    block = table(findings, seeds, arguments.quick)
    print(block)
    if arguments.readme:
        marked.write(arguments.readme, "keras_compared", block)
    picture = picture_file(arguments)
    draw(findings, arguments.quick).savefig(picture, dpi=90)
    print(f"the comparisons: {picture}")
    verdicts = [verdict for each in findings for _, verdict in each.rows]
    counts = {"ahead": AHEAD, "behind": BEHIND, "no_difference": EQUAL}
    facts = {"comparisons": len(findings)} | {name: verdicts.count(word) for name, word in counts.items()}
    facts |= {"backend": os.environ["KERAS_BACKEND"], "seeds": len(seeds), "seconds": f"{seconds:.1f}"}
    report.print_facts(facts)


if __name__ == "__main__":
    main()
