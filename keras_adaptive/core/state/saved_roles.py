"""A state is restored with the matrices that it was made with.

Momentum of one matrix means nothing for another, and slots such as Soap's bases have the matrices' sizes. So what a
state says of its variables stands; version 0.1.0 wrote nothing of that, and decided by names.
"""

from typing import Any

import numpy as np

from keras_adaptive.core import building
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state import checkpoint, restore, states
from keras_adaptive.core.state.matching import match
from keras_adaptive.groups import roles_of_0_1_0


def restored(optimizer, saved) -> checkpoint.Restored:
    """`restore.restore`, after the variables of the built optimizer got the roles that the state has for them.

    Raises:
        ValueError: the state is refused. The optimizer has the roles that it had then.
    """
    before, of_before = list(optimizer.plan.states), optimizer._roles
    after = _with(optimizer, _roles_in(saved, len(of_before)))
    if after is None:
        return restore.restore(optimizer, saved)
    with backends.outside_of_steps(optimizer):
        _exchange(optimizer, before, after)
        try:
            report = restore.restore(optimizer, saved)
        except BaseException:
            _exchange(optimizer, after, before)
            vars(optimizer).update(_roles=of_before)
            raise
    return report


def _roles_in(saved, count) -> list[dict[str, Any]]:
    """Of the variables that were trained; and of those that were left out, where more than the former are trained."""
    variables = zip(saved.manifest.variables, saved.manifest.roles, strict=True)
    trained = [
        {"path": path, "shape": list(shape), "role": role or roles_of_0_1_0.legacy(path, shape)}
        for (path, shape), role in variables
    ]
    return trained + [dict(one.decision) for one in saved.left_out if len(trained) < count]


def _with(optimizer, known):
    """The states as they are with these roles; None if that makes no difference to the rule."""
    before, decided = optimizer.plan.states, [dict(one) for one in optimizer._roles]
    saved, current = ([(one["path"], tuple(one["shape"])) for one in side] for side in (known, decided))
    after = list(before)
    for old, new in match(saved, current).pairs:
        if known[old]["role"] == decided[new]["role"]:
            continue
        decision = optimizer._decided[new] | {"role": known[old]["role"]}
        made = states.new(optimizer, optimizer.plan.stages, before[new].index, before[new].variable, decision)
        now = before[new]
        if _same(made.facts, now.facts) and (made.slots, made.why_all_rows) == (now.slots, now.why_all_rows):
            continue
        after[new], decided[new]["role"] = made, known[old]["role"]
    if all(one is other for one, other in zip(after, before, strict=True)):
        return None
    vars(optimizer).update(_roles=decided)
    return after


def _same(one, other):
    """Whether two dictionaries are equal, which may hold arrays."""
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _equal(x, y):
    return np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y


def _exchange(optimizer, old, new):
    """Makes the new states those of the optimizer, and what belongs to them its variables."""
    for one, other in zip(old, new, strict=True):
        if one is not other:
            for variable in checkpoint.all_stored(one).values():
                optimizer._untrack_variable(variable)
            if checkpoint.all_stored(other):
                for variable in checkpoint.all_stored(other).values():
                    optimizer._track_variable(variable)
            else:
                states.add_stored(optimizer, optimizer.plan.stages, other)
    building.adopt(optimizer, new, optimizer.plan.stages)
