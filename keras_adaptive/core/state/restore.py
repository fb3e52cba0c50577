"""Restores a state that was read into an optimizer: everything is checked before anything changes."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_adaptive.core import building
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.options import STAGES
from keras_adaptive.core.state import codecs, limits
from keras_adaptive.core.state.checkpoint import Restored, Saved, all_stored, class_names, scalars_of
from keras_adaptive.core.state.left_out import LeftOut, lasting
from keras_adaptive.core.state.matching import match
from keras_adaptive.core.state.states import parts
from keras_adaptive.core.step import rows, scheduled
from keras_adaptive.core.step.scheduled import DEBIAS


def check(optimizer, saved: Saved):
    """Refuses a state that the optimizer cannot have, whatever its variables are.

    Raises:
        ValueError: the state is of another algorithm, or a counter, the learning rate or a scalar of the algorithm is
            out of range.
    """
    classes = saved.manifest.classes
    if classes[0] not in class_names(optimizer) and class_names(optimizer)[0] not in classes:
        raise ValueError(
            f"The state of {classes[0]} cannot be restored into {type(optimizer).__name__}: its slots mean "
            "something else."
        )
    for name, array in saved.scalars.items():
        what = f"`{saved.manifest.scalars[name]}` in the optimizer's state"
        if array.shape:
            raise ValueError(f"{what} must have shape (). Received: shape {array.shape}")
        limits.of_scalar(optimizer, name, saved.manifest.accumulation_steps).check(array, what)


def restore(optimizer, saved: Saved) -> Restored:
    """Restores the state into a built optimizer; everything is checked and converted before anything changes.

    Raises:
        ValueError: another algorithm's state, other slots, a wrong shape, dtype or value, or no variable in common.
    """
    check(optimizer, saved)
    states, variables = optimizer.plan.states, saved.manifest.variables
    current = [(state.path, state.shape) for state in states]
    slots = [{slot.name for slot in optimizer.slots} & set(all_stored(state)) for state in states]
    names = {slot.name for slot in optimizer.slots}
    roles = [set(of_one) & names for of_one in (*saved.stored, *(one.stored for one in saved.left_out))]
    slots += [set(one.stored) & names for one in optimizer.left_out]
    # Variables that are left out of training, there or here, are matched too.
    matching = match(
        [*variables, *(one.place for one in saved.left_out)],
        [*current, *(one.place for one in optimizer.left_out)],
        lambda i, j: roles[i] == slots[j],
    )
    pairs = [(i, j) for i, j in matching.pairs if i < len(variables) and j < len(current)]
    returning = {
        j: saved.left_out[i - len(variables)] for i, j in matching.pairs if i >= len(variables) and j < len(current)
    }
    leaving = {
        i: optimizer.left_out[j - len(current)] for i, j in matching.pairs if i < len(variables) and j >= len(current)
    }
    anew = [j for j in matching.only_current if j < len(current)]
    if variables and current and not pairs and not returning:
        raise ValueError(
            "None of the optimizer's variables is in the state that was saved. "
            f"Received: a state of {[path for path, _ in variables]} for {[path for path, _ in current]}"
        )
    notes: list[str] = []
    not_finite: list[str] = []
    assignments: list[tuple[Any, np.ndarray]] = []
    added_at = {states[j]: saved.iterations for j in anew}
    stored: dict[Any, Mapping] = {states[j]: {} for j in anew}
    for i, j in pairs:
        _check_values(states[j], saved, i, not_finite)
        added_at[states[j]] = int(saved.stored[i].get("added_at", 0))
        stored[states[j]] = saved.stored[i] if "added_at" in saved.stored[i] else saved.scalars
    for j, one in returning.items():
        added_at[states[j]] = saved.iterations - one.updates
        stored[states[j]] = one.stored
    with backends.outside_of_steps(optimizer):
        for j, one in returning.items():
            assignments += of_left_out(optimizer, states[j], one, notes, not_finite)
        for i, j in pairs:
            arrays = rows.restored(optimizer, states[j], saved.stored[i], saved.iterations - added_at[states[j]])
            assignments += _of_variable(states[j], arrays, notes)
    for j in anew:
        assignments += _beginning(optimizer, states[j])
    assignments += _of_scalars(optimizer, saved, notes, not_finite)
    new = [state for state, count in added_at.items() if count and "added_at" not in state.stored]
    try:
        with backends.outside_of_steps(optimizer):
            for state in new:
                set_added_at(optimizer, state, added_at[state])
        assignments += [
            (state.stored["added_at"], np.asarray(count, "float32"))
            for state, count in added_at.items()
            if "added_at" in state.stored
        ]
        for state, count in added_at.items():
            assignments += scheduled.restored(optimizer, state, stored[state], saved.iterations - count)
        limits.assign(optimizer, assignments)
    except BaseException:
        for state in new:
            for role in [role for role in state.stored if role == "added_at" or role.endswith(DEBIAS)]:
                optimizer._untrack_variable(state.stored.pop(role))
        raise
    if new:
        # Their update is a different function now.
        building.adopt(optimizer, [*states], optimizer.plan.stages)
    vars(optimizer).update(left_out=tuple(_left_out(optimizer, saved, matching.pairs, returning, leaving)))
    return Restored(
        matching.rule,
        tuple(states[j].path for j in sorted([*returning, *(j for _, j in pairs)])),
        tuple(states[j].path for j in anew),
        tuple(variables[i][0] for i in matching.only_saved if i < len(variables)),
        tuple(dict.fromkeys(notes)),
        saved.iterations,
        tuple(not_finite),
    )


def _left_out(optimizer, saved, pairs, returning, leaving):
    """What the optimizer leaves out of training after the state is restored."""
    trained, here = len(saved.manifest.variables), len(optimizer.plan.states)
    known = {i - trained: optimizer.left_out[j - here] for i, j in pairs if i >= trained and j >= here}
    back = [id(one) for one in returning.values()]
    for place, one in enumerate(saved.left_out):
        if place in known:
            yield LeftOut(known[place].decision, one.updates, one.stored, known[place].variable)
        elif id(one) not in back:
            yield one
    for i, one in leaving.items():
        updates = saved.iterations - int(saved.stored[i].get("added_at", 0))
        yield LeftOut(one.decision, updates, lasting(saved.stored[i]), one.variable)


def _beginning(optimizer, state):
    """The assignments for a variable whose state starts from scratch."""
    first = {role: part.initial for slot in optimizer.slots for role, part in parts(state, slot).items()}
    return [
        (v, np.full(tuple(v.shape), first.get(role, 0.0)))
        for role, v in all_stored(state).items()
        if role != "added_at"
    ]


def set_added_at(optimizer, state, count):
    """Stores the number of updates before a variable was added, if it was not trained from the first update on.

    Its bias corrections count from there. With those of the other variables, Adam's first steps would be six times too
    large.
    """
    if "added_at" not in state.stored:
        if not count:
            return
        with backends.beside(state.variable):
            # Not an integer: TensorFlow would not place it on a GPU.
            state.stored["added_at"] = optimizer.add_variable(shape=(), dtype="float32", name=f"{state.name}_added_at")
            for role in scheduled.of_all(optimizer, state):
                state.stored[role] = optimizer.add_variable(
                    shape=(), dtype=state.compute_dtype, name=f"{state.name}_{role}"
                )
    state.stored["added_at"].assign(count)


def _check_values(state, saved, index, not_finite):
    """Refuses values that this variable's state cannot have."""
    for role, array in saved.stored[index].items():
        what = f"`{saved.manifest.keys[index][role]}` in the optimizer's state, the {role} of {state.path!r},"
        if role in state.slots:
            limits.check_codes(state, role, array, what)
        elif array.dtype.kind in "bui" and role != rows.LAST_STEP:
            raise ValueError(f"{what} must have a dtype of floats. Received: dtype {array.dtype}")
        coded = role in state.slots and array.dtype.kind in "iu"
        accepted = limits.TRAINED if coded else limits.of_role(state, role, saved.iterations)
        if not accepted.check(array, what):
            not_finite.append(f"{role} of {state.path}")


def of_left_out(optimizer, state, one: LeftOut, notes, not_finite) -> list[tuple[Any, np.ndarray]]:
    """The assignments for a variable that is trained again, from what was stored when it was left out.

    Raises:
        ValueError: the stored arrays do not fit the optimizer's arguments, or are out of range.
    """
    for role, array in one.stored.items():
        what = f"The {role} of {state.path!r}, stored when it was left out of training,"
        if role in state.slots:
            limits.check_codes(state, role, array, what)
        coded = role in state.slots and array.dtype.kind in "iu"
        accepted = limits.TRAINED if coded else limits.of_role(state, role)
        if not accepted.check(array, what):
            not_finite.append(f"{role} of {state.path}")
    return _of_variable(state, rows.restored(optimizer, state, one.stored, one.updates), notes)


# What may be on only one side: `added_at` is made when needed.
_FREE = {"added_at", *(role for stage in STAGES if stage.may_lack for role in stage.roles)}


def _of_variable(state, saved: Mapping[str, np.ndarray], notes):
    """The assignments for one variable; slots that were saved with another `slot_dtype` are converted."""
    for name, (shape, codec) in state.slots.items():
        if name in saved:
            stored = codecs.recoded(codec, name, shape, saved)
            saved = {role: array for role, array in saved.items() if role not in (name, f"{name}_scale")} | stored
    # The average of bfloat16 weights is also stored exactly; other averages are exact.
    exact, now = saved.get("exact_average", saved.get("average")), state.stored.get("average")
    if exact is not None:
        same = now is not None and "average" in saved and str(saved["average"].dtype) == state.dtype
        saved = {**saved, "exact_average": exact, "average": saved["average"] if same else exact}
    free = _FREE | {role for role in {*all_stored(state), *saved} if role.endswith(DEBIAS)}
    current = {role: variable for role, variable in all_stored(state).items() if role not in free}
    given = set(saved) - free - {"average", "exact_average"}
    if absent := set(current) - set(saved) or given - set(current):
        raise ValueError(
            f"The state of {state.path!r} must have {sorted(current)}, as this optimizer's arguments say; "
            f"{sorted(absent)} are not on both sides. Received: {sorted(saved)}"
        )
    if "average" in saved and "average" not in current:
        notes.append("Not in the optimizer, left out: the moving average of the weights (use_ema)")
    current = {r: variable for r, variable in all_stored(state).items() if r != "added_at" and not r.endswith(DEBIAS)}
    return [
        (variable, limits.converted(variable, saved[role], f"The saved {role} of {state.path!r}"))
        for role, variable in current.items()
        if role in saved
    ]


def _of_scalars(optimizer, saved, notes, not_finite):
    current = scalars_of(optimizer)
    steps = optimizer.gradient_accumulation_steps
    then = saved.manifest.accumulation_steps
    if (then or 1) != (steps or 1) and int(saved.scalars.get("window_position", 0)):
        raise ValueError(
            "The state was saved inside a window of micro-batches, so `gradient_accumulation_steps` must be "
            f"{then}. Received: gradient_accumulation_steps={steps}"
        )
    window = {name for stage in STAGES if stage.of_window for name in stage.scalars}
    # A hyperparameter that had no schedule counts as constant.
    constant = {name for name in set(current) - set(saved.scalars) if name.endswith(DEBIAS)}
    for where, absent in (
        ("saved state, starts from scratch", set(current) - set(saved.scalars) - window - constant),
        ("optimizer, left out", set(saved.scalars) - set(current) - window),
    ):
        if absent:
            notes.append(f"Not in the {where}: {', '.join(sorted(absent))}")
    not_finite += [name for name in set(current) & set(saved.scalars) if not np.isfinite(float(saved.scalars[name]))]
    scalars = saved.scalars | {name: scheduled.as_constant(optimizer, name, saved.iterations) for name in constant}
    return [
        (variable, limits.converted(variable, scalars[name], f"The saved {name}"))
        for name, variable in current.items()
        if name in scalars
    ]
