"""The command: which runs it starts, and what it prints and writes."""

import argparse
import importlib.util
import sys
from pathlib import Path

from keras_adaptive.bench.progress import progress
from keras_adaptive.compare import lines as files
from keras_adaptive.compare import pages, plan, pool, protocol, report, work
from keras_adaptive.compare.contenders import CONTENDERS, find
from keras_adaptive.compare.results import Results, current
from keras_adaptive.compare.workloads import WORKLOADS

MINI = ("SGD, Nesterov", "AdamW", "Lion", "ScheduleFreeAdamW", "Muon")
MINI_WORKLOADS = ("digits", "mnist1d")
# What is needed to train, and the name of its package.
NEEDED = {"jax": "jax", "sklearn": "scikit-learn", "mnist1d": "mnist1d", "plotnine": "plotnine"}


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Runs the command. Exit status: 1 if a run failed or there is nothing to show, 130 after an interrupt."""
    folder = given.output or Path("compare-mini" if given.mini else "compare-results")
    how = protocol.MINI if given.mini else protocol.FULL
    try:
        _check_page(given.readme)
        names, workloads = _names(given), _workloads(given)
        lines = _known(given, folder)
        _check(given, lines, workloads)
    except ValueError as error:
        parser.error(str(error))
    status = 0 if given.score else _train(given, folder, how, lines, names, workloads)
    if given.pack:
        files.pack(folder, current(files.read(folder))[0])
    shown = _show(given, folder, Results(lines, how, workloads), workloads)
    return status or shown


def _check_page(path):
    try:
        if path:
            pages.tables_of(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"argument --readme: {error}. Received: {str(path)!r}") from None


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
    for name in names:
        if (source := WORKLOADS[name].settings_of) not in (None, *names):
            raise ValueError(f"argument --workloads: {name} needs {source}, on which its settings are tuned")
    return names


def _known(given, folder):
    """The lines that hold: those of the repository, then those of the folder. Says of others why they do not."""
    stored = [] if given.full else files.read(files.STORED)
    if given.mini:
        # Only the targets come from the full comparison.
        stored = [line for line in stored if line["track"] in ("target", "target-fresh")]
    # With --score and no folder, the results of the repository alone.
    own = files.read(folder) if given.output or not given.score else []
    known: dict[tuple, dict] = {}
    stale: dict[tuple, str] = {}
    if stored:
        print("checking that the stored results still hold", file=sys.stderr, flush=True)
    for lines in (stored, own):
        valid, reasons = current(lines)
        known |= {files.key(line): line for line in valid}
        stale |= {(name, reason): reason for name, reason in reasons.items()}
    complete = {line["contender"] for line in known.values() if line["track"] == "fresh"}
    for name, reason in stale:
        if name not in complete:
            print(f"{name}: results are left out, because {reason}; --only {name!r} makes new ones", file=sys.stderr)
    return list(known.values())


def _check(given, lines, workloads):
    """Raises a ValueError if something is missing, or if new results could not be compared with the old ones."""
    needed = {} if given.score else dict(NEEDED)
    needed |= {"matplotlib": "matplotlib"} if given.picture or given.mini else {}
    if missing := [package for name, package in needed.items() if importlib.util.find_spec(name) is None]:
        raise ValueError(f"{', '.join(missing)} must be installed: pip install 'keras-adaptive[compare]'")
    if given.score:
        return
    known = {name: {line["data"] for line in lines if line["workload"] == name} for name in workloads}
    other = [name for name in workloads if known[name] and WORKLOADS[name].data().sha256 not in known[name]]
    if other:
        same = ",".join(name for name in workloads if name not in other)
        raise ValueError(
            f"the data of {', '.join(other)} is not that of the results, which were made with another version of "
            f"Python or of a package; choose --workloads {same}, or run all anew with --full and another --output"
        )


def _train(given, folder, how, lines, names, workloads):
    contests = plan.contests(how, names, workloads, targets=not given.mini)
    timed = [] if given.mini else plan.times(names, workloads)
    with progress(work.total([*contests, *timed], lines, how)) as tick:

        def write(line):
            files.append(folder, line)
            tick(f"{line['contender']}, {line['workload']}", work.of_run(line["workload"]))

        trainers = pool.Pool(lines, given.processes, 32 if given.accelerator else 1, write)
        # Steps are timed when nothing else runs, and on one core.
        clock = pool.Pool(lines, 1, 1, write)
        try:
            trainers.run(contests)
            clock.run(timed)
        except KeyboardInterrupt:
            print(f"\nstopped; the same command continues. The results so far are in {folder}", file=sys.stderr)
            return 130
    for failure in (failures := trainers.failures + clock.failures):
        print(failure, file=sys.stderr)
    return int(bool(failures))


def _show(given, folder, results, workloads):
    """Prints and draws the results; 1 if there are none."""
    if left_out := [name for name in workloads if name not in (*results.workloads, *results.held_out)]:
        print(f"not counted, since too few runs are done: {', '.join(left_out)}", file=sys.stderr)
    for name, where in results.left_out.items():
        print(f"{name} is not in the tables, since it has yet to run on {', '.join(where)}", file=sys.stderr)
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
