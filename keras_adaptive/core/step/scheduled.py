"""Hyperparameters that change from update to update, by a schedule or by the caller of a step.

The clock of a step has a name for each: `beta_1` is the optimizer's own, `beta_1_of_group_0` that of its first group.
If the decay rate of a moving average has a schedule, a number `beta_1_debias` is also stored. It is
1 - beta_1 ... beta_t, with the product over the updates, and corrects the bias of an average that began at zero. A
variable that was added later has a separate number.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from keras import backend, ops

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends

DEBIAS, BEFORE = "_debias", "_before"


@dataclass(frozen=True)
class Scheduled:
    """One schedule of a hyperparameter.

    Attributes:
        argument: the hyperparameter.
        schedule: from the number of updates before this one to the value.
        check: what the value may be.
    """

    argument: str
    schedule: Any
    check: checks.Check

    @property
    def is_weight(self) -> bool:
        """Whether it may be the decay rate of a moving average."""
        return all(self.check.holds(x) for x in (0.5, 0.999)) and not self.check.holds(1.5)


def arguments(optimizer) -> dict[str, checks.Check]:
    """The arguments that may be given to a step: hyperparameters that may have a schedule, and the weight decay."""
    own = {name: optimizer.fields[name] for name in (*optimizer.hyperparameters, "weight_decay")}
    return {name: field.check for name, field in own.items() if field.check.takes_schedules}


def found(optimizer) -> dict[str, Scheduled]:
    """The schedules of the optimizer and its groups, by the clock's names for them."""
    names = [*optimizer.hyperparameters, "weight_decay"]
    values = {name: (name, getattr(optimizer, name)) for name in names}
    for index, group in enumerate(optimizer.groups or ()):
        values |= {name_in(name, index): (name, value) for name, value in group.says.items() if name in names}
    return {
        key: Scheduled(name, value, optimizer.fields[name].check)
        for key, (name, value) in values.items()
        if checks.is_schedule(value)
    }


def name_in(argument: str, group: int) -> str:
    return f"{argument}_of_group_{group}"


def names(optimizer, indices: Iterable[int]) -> dict[str, str]:
    """The clock's name for each argument, for a variable that belongs to these groups."""
    of_one = {name: name for name in (*optimizer.hyperparameters, "weight_decay")}
    for index in reversed([*indices]):
        of_one |= {name: name_in(name, index) for name in optimizer.groups[index].says if name in of_one}
    return of_one


def asked(schedules: Mapping[str, Scheduled], iterations) -> dict[str, Any]:
    """The values of the schedules for the next update. A schedule that is used in several places is called once.

    Raises:
        ValueError: a value is out of range for the hyperparameter; checked if the value is known outside of tracing.
    """
    given: dict[int, Any] = {}
    for one in schedules.values():
        if id(one.schedule) not in given:
            given[id(one.schedule)] = ops.convert_to_tensor(one.schedule(iterations))
        _check(one.argument, one.check, given[id(one.schedule)], f"which {one.schedule!r} returned")
    return {name: given[id(one.schedule)] for name, one in schedules.items()}


def given(optimizer, hyperparameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """The hyperparameters from the caller of a step, as tensors.

    Raises:
        TypeError: an argument that the optimizer does not have, or that cannot change, or a value that is not a scalar.
        ValueError: a value is out of range.
    """
    accepted = arguments(optimizer)
    tensors = {}
    for name, value in (hyperparameters or {}).items():
        if name not in accepted:
            raise TypeError(
                f"`hyperparameters` of {type(optimizer).__name__} must be among {sorted(accepted)}; the learning rate "
                f"is one of `optimizer.variables`. Received: {name}={value!r}"
            )
        if name == "weight_decay" and optimizer.weight_decay is None:
            raise ValueError(
                "`hyperparameters` must be without weight_decay unless the optimizer is made with a weight_decay, "
                f"which it then replaces. Received: weight_decay={value!r}"
            )
        tensor = ops.convert_to_tensor(value, None if ops.is_tensor(value) else backend.floatx())
        if tuple(tensor.shape) != () or "float" not in backend.standardize_dtype(tensor.dtype):
            raise TypeError(f"`hyperparameters` must be scalars of floats. Received: {name}={value!r}")
        _check(name, accepted[name], tensor, "given to the step")
        tensors[name] = tensor
    return tensors


def _check(name, check, tensor, whence):
    number = backends.at_hand(tensor)
    if number is not None:
        try:
            check(name, float(number))
        except ValueError as error:
            raise ValueError(f"{error}, {whence}") from None


def last(optimizer, state) -> SimpleNamespace:
    """A variable's `h` as known outside of a step, with the hyperparameters of the last update."""
    before = ops.convert_to_tensor(max(int(ops.convert_to_numpy(optimizer.iterations)) - 1, 0), dtype="int32")
    h = state.h
    for argument, name in state.clock_names.items():
        if name in optimizer.plan.scheduled and argument != "weight_decay":
            setattr(h, argument, ops.cast(optimizer.plan.scheduled[name].schedule(before), state.compute_dtype))
    return h


# Bias correction


def made(schedules: Mapping[str, Scheduled], counter) -> dict[str, Any]:
    """Makes the debias numbers of variables trained from the first update on, by the schedule's name.

    Args:
        counter: makes a scalar variable of the optimizer, by its name.
    """
    return {name: counter(name + DEBIAS) for name, one in schedules.items() if one.is_weight}


def of_all(optimizer, state) -> dict[str, Any]:
    """The debias numbers of a variable that was not added later, by the roles they have if it was."""
    used = set(state.clock_names.values())
    return {name + DEBIAS: number for name, number in optimizer.corrections.items() if name in used}


def after(old, beta, t, first_average: int):
    """The number after the update t, from that before it."""
    # Before the first of an average there is none.
    old = ops.where(t <= first_average, ops.zeros_like(old), old)
    return beta * old + (1 - beta)


def corrected(values: Mapping[str, Any], given: Mapping[str, Any], t, first_average: int) -> dict[str, Any]:
    """The numbers after the update t, of those in `values`, by role. `given`: hyperparameters by the clock's names."""
    found = {}
    for role, old in values.items():
        if role.endswith(DEBIAS):
            beta = ops.cast(given[role.removesuffix(DEBIAS)], old.dtype)
            found[role] = after(old, beta, t, first_average)
    return found


def of_step(optimizer, given: Mapping[str, Any], t) -> dict[str, Any]:
    """The stored numbers before and after this update, by the names that the clock has for them."""
    old = {name + DEBIAS: backends.read(number) for name, number in optimizer.corrections.items()}
    return {role + BEFORE: number for role, number in old.items()} | corrected(old, given, t, optimizer.first_average)


def store(optimizer, numbers: Mapping[str, Any], happened) -> None:
    """Stores those after the update, if it happened."""
    for name, variable in optimizer.corrections.items():
        role = name + DEBIAS
        variable.assign(ops.where(happened, numbers[role], numbers[role + BEFORE]))


def as_constant(optimizer, role: str, updates: int) -> np.ndarray:
    """The debias number after `updates` updates if all of them had the decay rate of the last one."""
    schedule = found(optimizer)[role.removesuffix(DEBIAS)].schedule
    beta = float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(max(updates - 1, 0), dtype="int32"))))
    return np.asarray(1.0 - beta ** max(updates - optimizer.first_average + 1, 0))


def restored(optimizer, state, stored: Mapping[str, Any], updates: int) -> list[tuple[Any, np.ndarray]]:
    """The assignments for the separate debias numbers of a variable, after `updates` updates.

    If none is stored because the hyperparameter had no schedule, it counts as constant.
    """
    return [
        (variable, np.asarray(stored.get(role, as_constant(optimizer, role, updates))))
        for role, variable in state.stored.items()
        if role.endswith(DEBIAS)
    ]
