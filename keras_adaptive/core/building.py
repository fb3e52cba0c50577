"""What is decided and made when an optimizer is built, and when its trained variables change."""

from keras_adaptive.core.state import states
from keras_adaptive.core.state.states import path
from keras_adaptive.core.step import order, scheduled, stage, stateless
from keras_adaptive.groups import assignment, roles


def build(optimizer, variables):
    """Makes all that is stored for these variables, and the plan of a step."""
    stages = stage.active(optimizer)
    decisions = zip(variables, decided(optimizer, variables), strict=True)
    made = [states.new(optimizer, stages, index, *decision) for index, decision in enumerate(decisions)]
    for state in made:
        states.add_stored(optimizer, stages, state)
    for one in stages:
        for name in one.stores_for_all():
            setattr(optimizer, name, counter(optimizer, name, one.scalars[name].dtype))
    _add_scalars(optimizer, made)
    adopt(optimizer, made, stages)
    optimizer.built = True


def adopt(optimizer, made, stages):
    """Sets the optimizer's states to these, in this order."""
    variables = [state.variable for state in made]
    # Keras's own methods and SwapEMAWeights find them by these names. Not by setattr, which would track the model's
    # variables as the optimizer's.
    vars(optimizer).update(
        _trainable_variables=variables,
        _was_trainable=[stateless.is_trainable(variable) for variable in variables],
        _trainable_variables_indices={optimizer._var_key(v): i for i, v in enumerate(variables)},
    )
    if optimizer.use_ema:
        vars(optimizer).update(_model_variables_moving_average=[state.stored.get("average") for state in made])
    vars(optimizer).update(plan=order.planned(optimizer, made, stages))


def decided(optimizer, variables, before=None, known=None, apart=()):
    """For each variable its groups, whether it is decayed, and its role; also stored in the optimizer.

    Args:
        before, known: what was decided for these variables before, and their roles; default: those of the optimizer.
        apart: what is left out of training: a group without variables now may be meant for it.
    """
    before, known = optimizer._decided if before is None else before, optimizer._roles if known is None else known
    apart = [one.decision for one in apart]
    described = [
        {"path": path(v), "shape": list(v.shape), "groups": [], "decays": _is_decayed(optimizer, v)} for v in variables
    ]
    found = assignment.decide(optimizer.groups or (), described, before, apart)
    assignment.check_combinations(optimizer, found)
    said = [assignment.said(optimizer.groups, one["groups"]) for one in found]
    known = roles.decide(variables, described, said, known)
    together = [one | {"role": role["role"]} for one, role in zip(found, known, strict=True)]
    if optimizer.cowclip is not None:
        optimizer.cowclip.check([*together, *apart])
    vars(optimizer).update(_decided=found, _roles=known)
    return together


def counter(optimizer, name, dtype, initializer="zeros"):
    """A scalar variable of the optimizer that does not belong to one trained variable."""
    return optimizer.add_variable(
        shape=(), dtype=dtype, initializer=initializer, aggregation="only_first_replica", name=name
    )


def _is_decayed(optimizer, variable):
    return optimizer._use_weight_decay(variable) and path(variable) not in optimizer._excluded["paths"]


def _add_scalars(optimizer, made):
    """Adds the algorithm's scalars for all variables together, in the widest dtype of their arithmetic."""
    dtype = "float64" if any(state.compute_dtype == "float64" for state in made) else "float32"
    common = {}
    for scalar in optimizer.scalars:
        initial = getattr(optimizer, scalar.initial) if isinstance(scalar.initial, str) else scalar.initial
        common[scalar.name] = counter(optimizer, scalar.name, dtype, states.Constant(initial))
    of_all = states.OfAll(assignment.hyperparameters(optimizer, {}), scheduled.names(optimizer, ()), dtype)
    corrections = scheduled.made(scheduled.found(optimizer), lambda name: counter(optimizer, name, dtype))
    vars(optimizer).update(common=common, of_all=of_all, corrections=corrections)
