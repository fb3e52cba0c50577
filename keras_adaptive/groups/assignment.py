"""Which groups a variable belongs to, and which arguments they give it: decided once, at build."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_adaptive.core.state.matching import match
from keras_adaptive.groups.group import SETTINGS, Group


def decide(
    groups: Sequence[Group], variables: Sequence[dict], known: Sequence[dict] | None, apart: Sequence[Mapping] = ()
) -> list[dict]:
    """The groups of each variable.

    Args:
        groups: the list that the optimizer was given.
        variables: for each its "path", "shape", "groups": [], and "decays": whether it was not excluded.
        known: the same, as it was decided before the optimizer was saved, or None. It holds for the variables that are
            found in it, since loading may change a variable's path.
        apart: the same for variables that are left out of training, since a group may have no other variables.

    Returns:
        The same as `variables`, with "groups" the indices of its groups, in their order.

    Raises:
        ValueError: if no group matches anything, or if a group that is not optional has no variable on which it has an
            effect. The nearest paths are named.
    """
    decided = [variable | {"groups": _matching(groups, variable)} for variable in variables]
    if not variables:
        return []
    known = known or []
    saved, current = ([(v["path"], tuple(v["shape"])) for v in side] for side in (known, variables))
    pairs = match(saved, current).pairs
    for old, new in pairs:
        decided[new] |= {name: known[old][name] for name in ("groups", "decays")}
    paired = {old for old, _ in pairs}
    elsewhere = [one for place, one in enumerate(known) if place not in paired]
    everything = [*decided, *elsewhere, *(one for one in apart if "groups" in one)]
    for index, group in enumerate(groups):
        if not group.optional and not any(_has_effect(groups, index, variable) for variable in everything):
            _refuse(group, variables)
    matched = {index for variable in everything for index in variable["groups"]}
    models = dict.fromkeys(group.made_for for group in groups if group.made_for is not None)
    for model in [None, *models] if groups and not pairs else []:
        of_model = {index: group for index, group in enumerate(groups) if model in (None, group.made_for)}
        if not matched & of_model.keys():
            _refuse_all([*of_model.values()], variables)
    return decided


def said(groups: Sequence[Group] | None, indices: Iterable[int]) -> dict[str, Any]:
    """The arguments that these groups give, by name. If two groups give the same argument, the first one wins."""
    together: dict[str, Any] = {}
    for index in indices:
        together = (groups or ())[index].says | together
    return together


def hyperparameters(optimizer, said: Mapping[str, Any]) -> dict[str, Any]:
    """The algorithm's hyperparameters for variables to which groups give these arguments."""
    own = {name: getattr(optimizer, name) for name in optimizer.hyperparameters}
    given = {name: optimizer.hyperparameters[name](name, said[name]) for name in own if name in said}
    return own | given | optimizer.implied(given)


def check(optimizer) -> None:
    """Raises for what the algorithm does not have or accept, as far as that is known without variables."""
    for group in optimizer.groups or ():
        _check_names(optimizer, group)
    optimizer.check_together(**hyperparameters(optimizer, {}))
    speaking = [group for group in optimizer.groups or () if group.hyperparameters]
    for group in speaking:
        alone = hyperparameters(optimizer, group.says)
        if len(speaking) == 1:
            optimizer.check_together(**alone)


def check_combinations(optimizer, decided: Sequence[dict]) -> None:
    """Raises for hyperparameters that are wrong together, for each combination of groups that a variable has."""
    for indices in {tuple(variable["groups"]) for variable in decided}:
        optimizer.check_together(**hyperparameters(optimizer, said(optimizer.groups, indices)))


def _check_names(optimizer, group):
    of_all = optimizer.common_hyperparameters
    accepted = sorted({*SETTINGS, *optimizer.hyperparameters} - {*of_all})
    for name, value in group.hyperparameters.items():
        if name in of_all:
            raise ValueError(
                f"`{name}` of {type(optimizer).__name__} holds for all variables together and must not be in a group. "
                f"Received: {name}={value!r} in {group}"
            )
        if name not in optimizer.hyperparameters:
            near = difflib.get_close_matches(name, accepted, 1)
            meant = f", did you mean `{near[0]}`?" if near else ""
            raise TypeError(
                f"{type(optimizer).__name__} has no hyperparameter `{name}`{meant}; a group accepts {accepted}. "
                f"Received: {name}={value!r} in {group}"
            )


def _matching(groups, variable):
    found = []
    for index, group in enumerate(groups):
        if group.matches(variable["path"], len(variable["shape"])):
            found.append(index)
            if group.exclusive:
                break
    return found


def _has_effect(groups, index, variable):
    """Whether the variable belongs to the group, and earlier groups do not give all its arguments other values."""
    if index not in variable["groups"]:
        return False
    says, together = groups[index].says, said(groups, variable["groups"])
    return not says or groups[index].exclusive or any(together[name] == value for name, value in says.items())


def _refuse(group, variables):
    taken = [v["path"] for v in variables if group.matches(v["path"], len(v["shape"]))]
    if taken:
        why = f"earlier groups give other values for all that it matches, {_some(taken)}; put this group before them"
    else:
        paths = nearest(group.pattern, [v["path"] for v in variables])
        why = (
            f"the nearest paths are {paths}. Correct the pattern, or pass optional=True; the variables of a frozen "
            "layer are not trained"
        )
    raise ValueError(
        f"A group's `pattern` must match the path of a variable that is trained, and have an effect there: {why}. "
        f"Received: pattern={_short(group.pattern)!r}, max_ndim={group.max_ndim}"
    )


def _refuse_all(groups, variables):
    paths = [v["path"] for v in variables]
    near = list(dict.fromkeys(path for group in groups[-3:] for path in nearest(group.pattern, paths, 1)))
    raise ValueError(
        "`groups` must match at least one variable, even if each group is optional. At least one of the groups that "
        f"were made for a model must match too. The nearest paths are {near}. Correct the patterns, or make the groups "
        "from the model that is trained, such as layerwise_decay(model, rate). "
        f"Received: patterns {[_short(group.pattern) for group in groups[-3:]]} of {len(groups)} groups"
    )


def _some(paths):
    return paths if len(paths) <= 3 else [*paths[:3], f"{len(paths) - 3} more"]


def _short(pattern):
    return pattern if len(pattern) <= 80 else f"{pattern[:77]}..."


def nearest(pattern: str, paths: Sequence[str], most: int = 3) -> list[str]:
    """The paths that a misspelt pattern may mean."""
    # The first path is enough of a list of paths, as layerwise_decay makes them.
    plain = re.sub(r"[^\w/]", "", pattern.split("|")[0])

    def likeness(path):
        parts = [path, *path.split("/")]
        return max(difflib.SequenceMatcher(None, plain, part).ratio() for part in parts)

    return sorted(paths, key=likeness, reverse=True)[:most]
