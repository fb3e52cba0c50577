"""The command: which runs it starts, and what it prints and writes."""

import argparse
import functools
import importlib.util
import os
import sys
from pathlib import Path

from keras_adaptive.compare import lines as files
from keras_adaptive.compare import pages, pool, protocol, report
from keras_adaptive.compare.contenders import CONTENDERS, SETTERS, find
from keras_adaptive.compare.progress import Progress
from keras_adaptive.compare.results import Results, current
from keras_adaptive.compare.workloads import WORKLOADS

DESCRIPTION = """
Tunes each optimizer on six small problems with the same number of trials, trains with the chosen settings from fresh
seeds, and says who reaches the target first. Results are lines of JSON in a folder. A comparison that was stopped
continues where it was.
"""
MINI = ("SGD, Nesterov", "AdamW", "Lion", "ScheduleFreeAdamW", "Muon")
MINI_WORKLOADS = ("digits", "mnist1d")
NEEDED = {
    "jax": "jax",
    "sklearn": "scikit-learn",
    "mnist1d": "mnist1d",
    "plotnine": "plotnine",
    "matplotlib": "matplotlib",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = DESCRIPTION
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--mini", action="store_true", help="five optimizers on two problems, in about five minutes")
    what.add_argument("--only", metavar="NAME", nargs="+", help="run these classes, and put them into the tables")
    what.add_argument("--full", action="store_true", help="run everything anew; takes hours")
    what.add_argument("--score", action="store_true", help="run nothing: the tables of the results that there are")
    what.add_argument("--time", action="store_true", help="measure the time of a step of all, one after the other")
    add = parser.add_argument
    add("--workloads", metavar="NAMES", help=f"some of: {','.join(WORKLOADS)}")
    add("--output", type=Path, metavar="FOLDER", help="of new results (default: compare-results, or compare-mini)")
    add("--processes", type=_count, default=os.cpu_count() or 1, help="that train side by side (default: %(default)s)")
    add("--accelerator", action="store_true", help="train on a GPU or TPU, 32 runs at once")
    add("--markdown", action="store_true", help="print the tables as Markdown")
    add("--picture", type=Path, metavar="FILE.png", help="draw the results")
    add("--readme", type=_page, metavar="FILE.md", help="put the tables between their marks in this file")
    add("--pack", action="store_true", help="compress the results, one file for each optimizer")


def _count(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1. Received: {text!r}")
    return int(text)


def _page(text):
    path = Path(text)
    try:
        pages.tables_of(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{error}. Received: {text!r}") from None
    return path


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Runs the command. Exit status: 1 if a run failed or there is nothing to show, 130 after an interrupt."""
    folder = given.output or Path("compare-mini" if given.mini else "compare-results")
    how = protocol.MINI if given.mini else protocol.FULL
    try:
        names, workloads = _names(given), _workloads(given)
        lines, stale = _known(given, folder)
        if not given.score:
            _check(lines, workloads)
    except ValueError as error:
        parser.error(str(error))
    for name, reason in stale.items():
        print(f"{name}: results are left out, because {reason}; `--only {name!r}` makes new ones", file=sys.stderr)
    status = 0 if given.score else _train(given, folder, how, lines, names, workloads)
    if given.pack:
        files.pack(folder)
    return _show(given, folder, Results(lines, how, workloads), workloads) or status


def _show(given, folder, results, workloads):
    """Prints and draws the results; 1 if there are none."""
    if left_out := [name for name in workloads if name not in (*results.workloads, *results.held_out)]:
        print(f"not counted, since too few runs are done: {', '.join(left_out)}", file=sys.stderr)
    if not results.names:
        print("there are no results to show", file=sys.stderr)
        return 1
    print(report.text(results, given.markdown))
    if given.readme:
        pages.write(given.readme, results)
    if given.picture or given.mini:
        from keras_adaptive.compare import picture

        file = given.picture or folder / "compare.png"
        picture.draw(file, results)
        print(f"picture: {file}")
    return 0


def _check(lines, workloads):
    """Raises a ValueError if something is missing to run, or if the results could not be compared."""
    missing = [package for name, package in NEEDED.items() if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be installed: pip install 'keras-adaptive[compare]'")
    for name in workloads:
        known = {line["data"] for line in lines if line["workload"] == name}
        if known and WORKLOADS[name].data().sha256 not in known:
            others = ",".join(other for other in workloads if WORKLOADS[other].data is not WORKLOADS[name].data)
            raise ValueError(
                f"the data of {name!r} is not that of the results, which were made with other versions of Python or of "
                f"a package; choose others, such as --workloads {others}, or run everything anew with --full"
            )


def _names(given):
    if given.mini:
        return list(MINI)
    if given.only:
        return [find(name).name for name in given.only]
    return list(CONTENDERS)


def _workloads(given):
    if not given.workloads:
        return list(MINI_WORKLOADS if given.mini else WORKLOADS)
    names = [name.strip() for name in given.workloads.split(",")]
    if unknown := [name for name in names if name not in WORKLOADS]:
        raise ValueError(f"argument --workloads: there are {', '.join(WORKLOADS)}. Received: {unknown[0]!r}")
    return names


def _known(given, folder):
    """The lines that hold, and why others do not."""
    kept = [] if given.full else files.read(files.KEPT)
    if given.mini:
        # Only the targets come from the full comparison.
        kept = [line for line in kept if line["track"] in ("target", "target-fresh", "time")]
    own = files.read(folder) if folder != files.KEPT or given.full else []
    by_key = {files.key(line): line for line in [*kept, *own]}
    return current(by_key.values())


def _train(given, folder, how, lines, names, workloads):
    if given.time:
        cells = [_time_cell(name, each) for each in workloads if not WORKLOADS[each].settings_of for name in names]
    else:
        cells = cells_of(how, names, workloads)
    processes = 1 if given.time else given.processes
    with Progress(cells, lines) as progress:

        def write(line):
            files.append(folder, line)
            progress.tick(line)

        work = pool.Pool(lines, processes, 32 if given.accelerator else 1, write)
        try:
            work.run(cells)
        except KeyboardInterrupt:
            print(f"\nstopped; the same command continues. The results so far are in {folder}", file=sys.stderr)
            return 130
    for failure in work.failures:
        print(failure, file=sys.stderr)
    return int(bool(work.failures))


def cells_of(how: protocol.Protocol, names, workloads) -> list[pool.Cell]:
    """What is to be done: targets first, then the contenders, then the workloads that nothing is tuned on."""
    targets: dict[tuple[str, str], pool.Cell] = {}
    for workload in sorted(workloads, key=lambda name: WORKLOADS[name].settings_of is not None):
        for name in SETTERS:
            runs = functools.partial(_target_runs, workload=workload, contender=find(name))
            source = WORKLOADS[workload].settings_of
            needs = [targets[source, name]] if source and (source, name) in targets else []
            targets[workload, name] = pool.Cell(workload, name, runs, needs)
    contests: dict[tuple[str, str], pool.Cell] = {}
    for workload in sorted(workloads, key=lambda name: WORKLOADS[name].settings_of is not None):
        if WORKLOADS[workload].settings_of and not how.held_out:
            continue
        for name in names:
            runs = functools.partial(_runs, how=how, workload=workload, contender=find(name))
            source = WORKLOADS[workload].settings_of
            needs = [targets[workload, setter] for setter in SETTERS]
            needs += [contests[source, name]] if source and (source, name) in contests else []
            contests[workload, name] = pool.Cell(workload, name, runs, needs)
    return [*targets.values(), *contests.values()]


def _target_runs(lines, workload, contender):
    return protocol.next_target_runs(protocol.FULL, lines, workload, contender)


def _runs(lines, how, workload, contender):
    return protocol.next_runs(how, lines, workload, contender)


def _time_cell(name, workload):
    run = protocol.Run(workload, name, "time", 0, 0)

    def runs(lines):
        return [] if any(files.key(line) == files.key(run) for line in lines) else [run]

    return pool.Cell(workload, name, runs)
