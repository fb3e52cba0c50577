"""The measurement: alternating updates by optimizers of the package and by their peers, on each workload."""

import functools
import gc
import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from keras_adaptive.bench import clock, peers
from keras_adaptive.bench.backends import running as backend
from keras_adaptive.bench.report import OURS
from keras_adaptive.bench.specification import Specification
from keras_adaptive.bench.workloads import Workload
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.describe import stored_bytes

# A triad reads two arrays and writes one.
TRIAD_BYTES = 12
# Updates of which the time on an accelerator is the mean, and the rounds of them.
IN_ONE_LOOP, LOOPS = 20, 5


@dataclass
class Contender:
    """Something that updates the variables of a workload, and its measurements.

    Attributes:
        label: whose it is, and how it runs.
        update: takes one step.
        state_bytes: a function that returns the bytes stored between steps; it needs a first step.
        compile_seconds: how much longer the first step took than a later one.
        extra_bytes: the memory of a step in addition to weights, gradients and state; None if unknown.
        times: the seconds of each round.
        device_times: on an accelerator, the seconds of an update in a loop of them, of each round.
        error: why there are no times.
    """

    label: str
    # None until it is made.
    update: Any = None
    state_bytes: Callable[[], int] | None = None
    compile_seconds: float = 0.0
    extra_bytes: int | None = None
    times: list[float] = field(default_factory=list)
    device_times: list[float] = field(default_factory=list)
    error: str = ""

    @property
    def on_device(self) -> list[float]:
        """The times of the updates, without those of their calls where the device is not the host."""
        return self.device_times or self.times


@dataclass(frozen=True)
class Measurement:
    """One row: an optimizer on a workload, or a peer of it.

    Attributes:
        workload: its name.
        optimizer: the optimizer of the package, with its arguments.
        by: "keras_adaptive", or the library of a peer.
        milliseconds: the median time of a call that takes one update and waits for it.
        device_milliseconds: the median time of an update in a loop of them, on an accelerator; None on a CPU. A call
            takes longer by the time to hand over its arguments; `fit` does that while the device computes.
        gigabytes_per_second: the bandwidth of a triad in the same rounds, on two arrays as large as all variables
            together; on an accelerator, on arrays of at least a gigabyte.
        floor_bytes: the fewest bytes that the update must move.
        floor_ratio: the time of an update divided by the time to move these bytes, median over the rounds; on an
            accelerator both times are those on the device.
        ours_ratio: the time of our update divided by this one's, likewise; None for ours.
        state_bytes: the bytes stored between updates.
        compile_seconds: how much longer the first update took.
        extra_bytes: the memory of an update in addition to weights, gradients and state; None if unknown.
        times: the seconds of each round.
        error: why there is nothing else.
    """

    workload: str
    optimizer: str
    by: str
    milliseconds: float | None = None
    device_milliseconds: float | None = None
    gigabytes_per_second: float | None = None
    floor_bytes: int | None = None
    floor_ratio: float | None = None
    ours_ratio: float | None = None
    state_bytes: int | None = None
    compile_seconds: float | None = None
    extra_bytes: int | None = None
    times: tuple[float, ...] = ()
    error: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.error)


def steps(specifications: list[Specification], workloads: list[Workload], repeats: int) -> int:
    """How often `measured` calls `tick`."""
    loops = clock.WARM_UP + LOOPS if backends.is_accelerated() else 0
    return len(workloads) * len(_groups(specifications)) * (1 + clock.WARM_UP + repeats + loops)


def measured(specifications, workloads, repeats, tick: Callable[[str], object]):
    """Measurements of the optimizers, and of their peers, on the workloads.

    Args:
        specifications: the optimizers. Consecutive ones of the same class are measured in the same rounds.
        workloads: the workloads.
        repeats: the number of rounds.
        tick: called after each round with the name of what is measured.
    """
    for workload in workloads:
        gradients = functools.cache(workload.gradients)
        for group in _groups(specifications):
            try:
                rows = list(_group(group, workload, gradients(), repeats, tick))
            # Something that all of the group need has failed, such as memory for the gradients. Other groups go on.
            except Exception as error:
                rows = [Measurement(workload.name, str(one), OURS, error=explained(error)) for one in group]
            yield from rows
            gc.collect()


def _groups(specifications):
    return [list(group) for _, group in itertools.groupby(specifications, key=lambda one: one.name)]


def _group(specifications, workload, gradients, repeats, tick):
    def further():
        tick(f"{specifications[0].name}, {workload.name}")

    contenders: dict[tuple, Contender] = {}
    rows = [_contenders(one, workload, gradients, contenders) for one in specifications]
    for row in rows[1:]:
        # Variants of a class are compared with the first.
        row.append((str(specifications[0]), rows[0][0][1]))
    triad = Contender("triad", backend.triad(_triad_elements(workload)))
    made = [one for one in contenders.values() if not one.error]
    first = {id(triad): clock.seconds(triad.update)}
    first |= {id(one): _tried(one, lambda one=one: clock.seconds(one.update)) for one in made}
    further()
    ready = [triad, *(one for one in made if not one.error)]
    for one, times in zip(ready, clock.rounds([one.update for one in ready], repeats, further), strict=True):
        one.times = times
        one.compile_seconds = max(first[id(one)] - statistics.median(times), 0.0)
        one.extra_bytes = None if one is triad else _tried(one, one.update.extra_bytes)
    if backends.is_accelerated():
        _measure_on_device(ready, further)
    for specification, row in zip(specifications, rows, strict=True):
        (_, ours), *others = row
        yield _measurement(workload, gradients, specification, OURS, ours, triad)
        for label, peer in others:
            yield _measurement(workload, gradients, specification, label, peer, triad, ours)


def _measure_on_device(contenders, tick):
    """Measures the times of updates in loops."""
    made = [(one, _tried(one, lambda one=one: one.update.several(IN_ONE_LOOP))) for one in contenders]
    ready = [(one, loop) for one, loop in made if not one.error]
    for (one, _), times in zip(ready, clock.rounds([loop for _, loop in ready], LOOPS, tick), strict=True):
        one.device_times = [seconds / IN_ONE_LOOP for seconds in times]


def _contenders(specification, workload, gradients, known):
    """Labels and contenders: ours, then its peers. Those in `known` are reused, and new ones are added to it."""

    def contender(label, key, make):
        if key not in known:
            one = known[key] = Contender(label)
            made = _tried(one, make)
            if made is not None:
                one.update, one.state_bytes = made
        return known[key].label, known[key]

    def of_keras(optimizer, form):
        variables = workload.variables()
        optimizer.build(variables)
        return backend.update(optimizer, variables, gradients, backend.FORMS[form]), lambda: state_bytes(optimizer)

    in_fit = next(iter(backend.FORMS))
    row = [contender(OURS, (OURS, str(specification)), lambda: of_keras(specification.make(), in_fit))]
    theirs = peers.of_keras(specification)
    if theirs is not None:
        for form in backend.FORMS:
            label = f"Keras {form}" if len(backend.FORMS) > 1 else "Keras"
            key = (label, repr(sorted(theirs.get_config().items(), key=str)))
            row.append(contender(label, key, lambda form=form: of_keras(peers.of_keras(specification), form)))
    settings, library = peers.settings(specification), backend.other_library(specification.name)
    if settings is not None and library:

        def of_another():
            update = backend.other(specification.name, settings, workload.variables(), gradients)
            return update, lambda: update.state_bytes

        row.append(contender(library, (library, repr(sorted(settings.items()))), of_another))
    return row


def _triad_elements(workload):
    # An accelerator moves fewer bytes in about the time that a launch takes.
    return max(workload.parameters, 2**28) if backends.is_accelerated() else workload.parameters


def _tried(contender, call):
    try:
        return call()
    # Any error of a contender, or of its backend's compiler, becomes a row of the table, and the others go on.
    except Exception as error:
        contender.error = explained(error)
        return None


def explained(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def state_bytes(optimizer) -> int:
    """The bytes that a Keras optimizer stores, without the learning rate and the number of updates."""
    # With accumulated gradients under JAX, Keras's property `iterations` would use a value that no longer exists.
    apart = {id(optimizer._iterations), id(optimizer._learning_rate)}
    return sum(stored_bytes(variable) for variable in optimizer.variables if id(variable) not in apart)


def _measurement(workload, gradients, specification, label, contender, triad, ours=None):
    row = Measurement(workload.name, str(specification), label, error=contender.error)
    if contender.error:
        return row
    bytes_per_second = [TRIAD_BYTES * _triad_elements(workload) / seconds for seconds in triad.on_device]
    kept = contender.state_bytes()
    floor_bytes = workload.floor_bytes(gradients, kept)
    must_take = [floor_bytes / rate for rate in bytes_per_second]
    return Measurement(
        workload.name,
        str(specification),
        label,
        milliseconds=1000 * statistics.median(contender.times),
        device_milliseconds=1000 * statistics.median(contender.device_times) if contender.device_times else None,
        gigabytes_per_second=statistics.median(bytes_per_second) / 1e9,
        floor_bytes=floor_bytes,
        floor_ratio=clock.ratio(contender.on_device, must_take),
        ours_ratio=clock.ratio(ours.on_device, contender.on_device) if ours is not None and ours.times else None,
        state_bytes=kept,
        compile_seconds=contender.compile_seconds,
        extra_bytes=contender.extra_bytes,
        times=tuple(contender.times),
    )
