"""What is to be done, as cells in their order."""

import functools

from keras_adaptive.compare import lines as files
from keras_adaptive.compare import pool, protocol
from keras_adaptive.compare.contenders import SETTERS, find
from keras_adaptive.compare.workloads import WORKLOADS


def contests(how: protocol.Protocol, names, workloads, targets: bool = True) -> list[pool.Cell]:
    """The cells that make all results: targets first, then the contenders, last the held-out workloads.

    Args:
        how: the protocol.
        names: of contenders.
        workloads: names; the one that a held-out workload takes its settings from is among them.
        targets: whether to run what sets the targets; False if these results are there.
    """
    ordered = sorted(workloads, key=lambda name: WORKLOADS[name].settings_of is not None)
    setting: dict[tuple[str, str], pool.Cell] = {}
    for workload in ordered if targets else ():
        for name in SETTERS:
            runs = functools.partial(_target_runs, workload=workload, contender=find(name))
            source = WORKLOADS[workload].settings_of
            needs = [setting[source, name]] if source else []
            setting[workload, name] = pool.Cell(workload, name, runs, needs)
    found: dict[tuple[str, str], pool.Cell] = {}
    for workload in ordered:
        source = WORKLOADS[workload].settings_of
        if source and not how.held_out:
            continue
        for name in names:
            runs = functools.partial(_runs, how=how, workload=workload, contender=find(name))
            needs = [cell for (of, _), cell in setting.items() if of in (workload, source)]
            needs += [found[source, name]] if source else []
            found[workload, name] = pool.Cell(workload, name, runs, needs)
    return [*setting.values(), *found.values()]


def times(names, workloads) -> list[pool.Cell]:
    """The cells that measure the time of a step, on workloads that are tuned on."""
    return [_time(name, each) for each in workloads if not WORKLOADS[each].settings_of for name in names]


def _target_runs(lines, workload, contender):
    return protocol.next_target_runs(protocol.FULL, lines, workload, contender)


def _runs(lines, how, workload, contender):
    return protocol.next_runs(how, lines, workload, contender)


def _time(name, workload):
    run = protocol.Run(workload, name, "time", 0, 0)

    def runs(lines):
        return [] if any(files.key(line) == files.key(run) for line in lines) else [run]

    return pool.Cell(workload, name, runs)
