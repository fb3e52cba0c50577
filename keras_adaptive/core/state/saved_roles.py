"""A state is restored with the matrices for which it was made.

Momentum of one matrix means nothing for another, and slots such as Soap's bases have the sizes of the matrices. So the
roles in a saved state apply. Version 0.1.0 did not save roles; it decided by names.
"""

from typing import Any

import numpy as np

from keras_adaptive.core import building
from keras_adaptive.core.backends import running as backends
from keras_adaptive.core.state import checkpoint, restore, states
from keras_adaptive.core.state.matching import match
from keras_adaptive.groups import roles_of_0_1_0


def restored(optimizer, saved) -> checkpoint.Restored:
    """`restore.restore`, after the variables of the built optimizer got their roles from the state.

    Raises:
        ValueError: the state is refused. Then the optimizer has its old roles.
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
    """The roles of the trained variables; also of those left out, if the optimizer trains more variables."""
    variables = zip(saved.manifest.variables, saved.manifest.roles, strict=True)
    trained = [
        {"path": path, "shape": list(shape), "role": role or roles_of_0_1_0.legacy(path, shape)}
        for (path, shape), role in variables
    ]
    return trained + [dict(one.decision) for one in saved.left_out if len(trained) < count]


def _with(optimizer, known):
    """The states with these roles; None if that makes no difference to the rule."""
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
    """Whether two dictionaries, which may hold arrays, are equal."""
    return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)


def _equal(x, y):
    return np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y


def _exchange(optimizer, old, new):
    """Sets the optimizer's states to the new ones, and tracks their variables."""
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
