"""Hyperparameters that change from update to update, as a schedule or the caller of a step gives them.

The clock of a step has each under a name: `beta_1` is the optimizer's own, `beta_1_of_group_0` what its first group
says. Where the weight of a moving average has a schedule, a number is stored besides, `beta_1_debias`: it is
1 - beta_1 ... beta_t, the product over the updates, by which an average that began at zero is corrected. A variable
that was added later has such a number of its own.
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
        """Whether it may be the weight of the last value in a moving average."""
        return all(self.check.holds(x) for x in (0.5, 0.999)) and not self.check.holds(1.5)


def arguments(optimizer) -> dict[str, checks.Check]:
    """What may be given to a step, by name: the hyperparameters that may have a schedule, and the weight decay."""
    own = {name: optimizer.fields[name] for name in (*optimizer.hyperparameters, "weight_decay")}
    return {name: field.check for name, field in own.items() if field.check.takes_schedules}


def found(optimizer) -> dict[str, Scheduled]:
    """The optimizer's schedules and those of its groups, by the name that the clock has for them."""
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
    """By argument, the name that the clock has for it where a variable belongs to these groups."""
    of_one = {name: name for name in (*optimizer.hyperparameters, "weight_decay")}
    for index in reversed([*indices]):
        of_one |= {name: name_in(name, index) for name in optimizer.groups[index].says if name in of_one}
    return of_one


def asked(schedules: Mapping[str, Scheduled], iterations) -> dict[str, Any]:
    """What the schedules give for the next update. One that stands in several places is asked once.

    Raises:
        ValueError: a number that the hyperparameter may not be, where it is known before the step is compiled.
    """
    given: dict[int, Any] = {}
    for one in schedules.values():
        if id(one.schedule) not in given:
            given[id(one.schedule)] = ops.convert_to_tensor(one.schedule(iterations))
        _check(one.argument, one.check, given[id(one.schedule)], f"which {one.schedule!r} returned")
    return {name: given[id(one.schedule)] for name, one in schedules.items()}


def given(optimizer, hyperparameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the caller of a step gives, as tensors.

    Raises:
        TypeError: an argument that the optimizer does not have, or that cannot change, or no scalar.
        ValueError: a number that it may not be.
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
    """What is known of a variable's `h` outside of a step, with the hyperparameters of the last update."""
    before = ops.convert_to_tensor(max(int(ops.convert_to_numpy(optimizer.iterations)) - 1, 0), dtype="int32")
    h = state.h
    for argument, name in state.clock_names.items():
        if name in optimizer.plan.scheduled and argument != "weight_decay":
            setattr(h, argument, ops.cast(optimizer.plan.scheduled[name].schedule(before), state.compute_dtype))
    return h


# Bias correction


def made(schedules: Mapping[str, Scheduled], counter) -> dict[str, Any]:
    """The stored numbers of the variables that are trained from the first update on, by the schedule's name.

    Args:
        counter: makes one of the optimizer's variables that belong to no trained one, by its name.
    """
    return {name: counter(name + DEBIAS) for name, one in schedules.items() if one.is_weight}


def of_all(optimizer, state) -> dict[str, Any]:
    """The stored numbers that a variable uses unless it was added later, by the roles of those that it has then."""
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
    """The number after so many updates if each had had the weight of the last of them."""
    schedule = found(optimizer)[role.removesuffix(DEBIAS)].schedule
    beta = float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(max(updates - 1, 0), dtype="int32"))))
    return np.asarray(1.0 - beta ** max(updates - optimizer.first_average + 1, 0))


def restored(optimizer, state, stored: Mapping[str, Any], updates: int) -> list[tuple[Any, np.ndarray]]:
    """What is assigned to the bias corrections that a variable has of its own, after so many updates.

    Where none is stored, as before a hyperparameter had a schedule, it counts as having been constant.
    """
    return [
        (variable, np.asarray(stored.get(role, as_constant(optimizer, role, updates))))
        for role, variable in state.stored.items()
        if role.endswith(DEBIAS)
    ]
