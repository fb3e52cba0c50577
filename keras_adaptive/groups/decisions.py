"""Reads from a config or a manifest, which may be damaged, what was decided for the variables.

Each function takes a `Part` and returns its value, or raises a ValueError that names the place.
"""

import re
from typing import Any

import keras

from keras_adaptive.core.state.reading import Part
from keras_adaptive.groups import patterns, roles
from keras_adaptive.groups.group import Group
from keras_adaptive.groups.layers import PURPOSES

WHAT = "The optimizer's config"


def deserialized(name: str, value: Any, custom_objects: Any) -> Any:
    """The groups, the schedule or the CowClip of a config. Patterns whose search may never end are refused."""
    try:
        found = keras.saving.deserialize_keras_object(value, custom_objects=custom_objects)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"{WHAT} cannot be read: `{name}` must be what `get_config` returned. {error!r}") from error
    if name == "groups" and not (isinstance(found, list | tuple) and all(isinstance(one, Group) for one in found)):
        Part(WHAT, value, name).refuse("a list of groups")
    for one in found if name == "groups" else [found]:
        if isinstance(getattr(one, "pattern", None), str):
            patterns.from_file("pattern", one.pattern)
    return found


def decided(value: Any, groups: int) -> list[dict] | None:
    """The groups of each variable, and whether it is decayed. `groups` is the number of groups."""
    part = Part(WHAT, value, "decided")
    return None if value is None else [_decision(one, groups) for one in part.parts()]


def _decision(part, groups):
    fields = part.mapping("path", "shape", "decays")
    found = {"path": fields["path"].text(), "shape": list(fields["shape"].shape()), "decays": fields["decays"].flag()}
    # Version 0.1.0 saved one group, or None, for each variable.
    if "groups" in fields:
        indices = [one.whole(0, groups - 1) for one in fields["groups"].parts()]
    elif "group" in fields:
        indices = [] if fields["group"].value is None else [fields["group"].whole(0, groups - 1)]
    else:
        part.refuse("a mapping with 'groups'")
    return found | {"groups": indices}


def excluded(value: Any) -> dict[str, list[str]]:
    """The variables that are excluded from weight decay, by path and by pattern."""
    fields = Part(WHAT, value, "excluded_from_weight_decay").mapping("paths", "names")
    for part in fields["names"].parts():
        try:
            re.compile(part.text())
        except re.error:
            part.refuse("a regular expression")
        patterns.from_file("var_names", part.text())
    return {name: fields[name].texts() for name in ("paths", "names")}


def known_roles(value: Any) -> Any:
    """The role of each variable, or roles.VERSION_0_1, or None."""
    if value is None or value == roles.VERSION_0_1:
        return value
    found = []
    for part in Part(WHAT, value, "roles").parts():
        fields = part.mapping("path", "shape", "role")
        path, shape = fields["path"].text(), fields["shape"].shape()
        found.append({"path": path, "shape": list(shape), "role": role(fields["role"], shape)})
    return found


def role(part: Part, shape: tuple[int, ...]) -> dict[str, Any]:
    """One role, as `roles.decide` returns it."""
    fields = part.mapping(*roles.FIELDS)
    if unknown := sorted(set(fields) - set(roles.FIELDS)):
        part.refuse(f"a mapping with {list(roles.FIELDS)} alone, not {unknown}")
    found: dict[str, Any] = {"source": fields["source"].text()}
    kind = fields["kind"].text()
    if kind not in roles.KINDS:
        fields["kind"].refuse(f"one of {list(roles.KINDS)}")
    last = len(shape) - 1
    for name in ("inputs", "outputs", "batch", "apart"):
        found[name] = tuple(axis.whole(0, last) for axis in fields[name].parts())
        if len(set(found[name])) != len(found[name]):
            fields[name].refuse("axes that are named once")
    axes = sorted((*found["inputs"], *found["outputs"], *found["batch"]))
    if axes and (axes != list(range(len(shape))) or not (found["inputs"] and found["outputs"])):
        part.refuse("the role of a matrix, whose inputs, outputs and batch have each axis once")
    found["parts"] = None if fields["parts"].value is None else _cut(fields["parts"], shape)
    found["heads"] = None if fields["heads"].value is None else fields["heads"].whole(0, last)
    found["purpose"] = None if fields["purpose"].value is None else fields["purpose"].text()
    if found["purpose"] not in (None, *PURPOSES):
        fields["purpose"].refuse(f"None or one of {list(PURPOSES)}")
    return {name: kind if name == "kind" else found[name] for name in roles.FIELDS}


def _cut(part, shape):
    if len(part.parts()) != 2:
        part.refuse("an axis and a number of parts")
    axis = part.at(0).whole(0, len(shape) - 1)
    count = part.at(1).whole(1)
    if shape[axis] % count:
        part.refuse(f"an axis and a number of parts that its length {shape[axis]} divides by")
    return axis, count
