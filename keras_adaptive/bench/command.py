"""The command: what it runs, prints and writes."""

import argparse
import importlib.util
import os
import sys

import keras

from keras_adaptive.bench import environment, first_step, picture, report, specification, tpu, workloads
from keras_adaptive.bench.progress import progress


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """Runs the command. Exit status: 1 if one of our updates failed, 130 after an interrupt, 2 for wrong arguments.

    Args:
        parser: reports errors.
        given: the parsed arguments; `given.arguments` are those of the command line, for a process with another
            environment.
    """
    try:
        chosen = _chosen(tpu.WORKLOADS if given.tpu_compile else workloads.WORKLOADS, given)
        if given.picture and importlib.util.find_spec("matplotlib") is None:
            raise ValueError(f"argument --picture: matplotlib is not installed. Received: {str(given.picture)!r}")
        if given.tpu_compile:
            _enter_environment(given)
        if given.first_step and (reason := first_step.missing()):
            raise ValueError(f"argument --first-step: {reason}")
        options = specification.arguments(given.options.split(",") if given.options else [])
        optimizers = specification.parse(given.optimizers, options)
    except ValueError as error:
        parser.error(str(error))
    if given.first_step:
        return _first_step(optimizers, given)
    return (_compile if given.tpu_compile else _measure)(optimizers, chosen, given)


def _enter_environment(given):
    """Restarts this process with the TPU compiler's environment, since Keras and its backend were imported without it.

    No variable may exist yet, because creating one would search for a TPU.
    """
    backend, reason = keras.backend.backend(), environment.missing()
    if backend not in ("tensorflow", "jax"):
        reason = f"the backend must be jax or tensorflow, and is {backend}"
    several = tpu.devices(given.tpu_compile)
    if several > 1 and backend != "jax":
        reason = f"several devices need KERAS_BACKEND=jax, and the backend is {backend}"
    if reason:
        raise ValueError(f"argument --tpu-compile: {reason}. Received: {given.tpu_compile!r}")
    needed = environment.ENVIRONMENT | {"KERAS_BACKEND": backend}
    if several > 1:
        needed["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={several}"
    if not needed.items() <= os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, "-m", "keras_adaptive", *given.arguments], {**os.environ, **needed})


def _chosen(known, given):
    """The chosen workloads, in the chosen size."""
    names = [name.strip() for name in given.workloads.split(",")] if given.workloads else list(known)
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"argument --workloads: there are {', '.join(known)}. Received: {unknown[0]!r}")
    return [known[name](given.size) for name in names]


# Of the columns whose numbers do not follow from each other.
RATIOS = 'Both "x floor" and "ours / it" are medians of the ratios in each round, not ratios of the medians in "ms".'


def _measure(optimizers, chosen, given):
    from keras_adaptive.bench import measure
    from keras_adaptive.bench.backends import running as backend

    about = {"machine": report.machine(backend.device()), "repeats": given.repeats, "size": given.size}
    _say(about, chosen, dense=keras.backend.backend() != "tensorflow")
    with progress(measure.steps(optimizers, chosen, given.repeats)) as tick:
        rows, interrupted = _until_interrupted(measure.measured(optimizers, chosen, given.repeats, tick))
    print(RATIOS)
    table = report.table(report.HEAD, [report.line(row) for row in rows], given.markdown)
    about["interrupted"] = interrupted
    return _report(about, rows, table, ("milliseconds", "milliseconds per update"), given)


def _compile(optimizers, chosen, given):
    about = {"machine": report.machine(f"compiled for a TPU {given.tpu_compile}"), "size": given.size}
    _say(about, chosen, dense=True)
    with progress(tpu.steps(optimizers, chosen)) as tick:
        rows, interrupted = _until_interrupted(tpu.compiled(optimizers, chosen, given.tpu_compile, tick))
    table = report.table(tpu.HEAD, [tpu.line(row) for row in rows], given.markdown)
    about["interrupted"] = interrupted
    return _report(about, rows, table, ("hbm_bytes", "bytes of HBM traffic per parameter"), given)


def _first_step(optimizers, given):
    about = {"machine": report.machine("first step of fit"), "size": given.size}
    print(report.heading(about["machine"]))
    with progress(len(optimizers)) as tick:
        rows, interrupted = _until_interrupted(first_step.measured(optimizers, given.size, tick))
    about["interrupted"] = interrupted
    table = report.table(first_step.HEAD, [first_step.line(row) for row in rows], given.markdown)
    return _report(about, rows, table, ("seconds", "seconds of the first step"), given)


def _say(about, chosen, dense):
    print(report.heading(about["machine"]))
    for workload in chosen:
        note = ", dense gradients" if workload.ids is not None and dense else ""
        variables = f"{len(workload.shapes)} variables, {workload.parameters:,} parameters"
        print(f"{workload.name}: {workload.what}; {variables}{note}", flush=True)


def _until_interrupted(rows):
    """The rows, up to an interrupt by the user; and whether there was one."""
    found = []
    try:
        for row in rows:
            found.append(row)
    except KeyboardInterrupt:
        print("\ninterrupted: these are the results so far", file=sys.stderr)
        return found, True
    return found, False


def _report(about, rows, table, drawn, given):
    print(table)
    if given.output:
        report.write_json(given.output, about, rows)
    if given.picture:
        picture.draw(given.picture, report.heading(about["machine"]), rows, *drawn)
    for row in rows:
        if row.error:
            print(f"{row.optimizer} by {row.by}, {row.workload}: {row.error}", file=sys.stderr)
    if about["interrupted"]:
        # The status of a command that Ctrl-C ended.
        return 130
    return int(any(row.failed for row in rows if row.by == report.OURS))
