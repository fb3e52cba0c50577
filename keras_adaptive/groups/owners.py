"""Which layers own a variable, and which layers hold those layers: found among the objects of the process.

Keras gives an optimizer variables and no layers. So one pass goes over all objects that Python's garbage collector
tracks, which takes about a tenth of a second. It needs nothing from the user in `fit`, in a custom loop, or under a
strategy.
"""

import gc
import itertools
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import keras


@dataclass
class Owners:
    """What was found.

    Attributes:
        of_variable: by the variable's place in the list that was given: pairs of a layer and the attribute that holds
            the variable, without leading underscores.
        parents: by the id of a layer: pairs of a layer that holds it and the attribute.
        models: all models.
    """

    of_variable: dict[int, list[tuple[Any, str]]] = field(default_factory=lambda: defaultdict(list))
    parents: dict[int, list[tuple[Any, str]]] = field(default_factory=lambda: defaultdict(list))
    models: list[Any] = field(default_factory=list)


def find(variables, paths) -> Owners:
    """The owners of these variables, which are variables of Keras or of the backend."""
    found = Owners()
    if not any(map(_may_have_an_owner, variables, paths)):
        return found
    places = {id(variable): place for place, variable in enumerate(variables)}
    raw = {id(v): place for place, v in enumerate(variables) if not isinstance(v, keras.Variable)}
    for layer in _layers():
        if isinstance(layer, keras.Model):
            found.models.append(layer)
        seen = set()
        for attribute, value in _held(layer):
            if isinstance(value, keras.layers.Layer):
                found.parents[id(value)].append((layer, attribute))
            elif isinstance(value, keras.Variable) and id(value) not in seen:
                seen.add(id(value))
                place = places.get(id(value))
                if place is None and raw:
                    place = raw.get(id(value.value))
                if place is not None:
                    found.of_variable[place].append((layer, attribute))
    return found


def hidden() -> bool:
    """Whether `gc.freeze()` hides objects from the garbage collector, and so may hide owners."""
    return gc.get_freeze_count() > 0


def _may_have_an_owner(variable, path):
    """Whether a layer may own it: layers add their name to the path. For TorchModuleWrapper Keras makes up a name."""
    if not isinstance(variable, keras.Variable) or "/" in path:
        return True
    return keras.backend.backend() == "torch" and path.startswith("variable")


def _layers():
    classes, things = _subclasses(keras.layers.Layer), gc.get_objects()
    # By the type, since `__class__` of a proxy may run code of its target. There may be millions of objects.
    return list(itertools.compress(things, map(classes.__contains__, map(type, things))))


def _subclasses(cls):
    return {cls}.union(*map(_subclasses, type.__subclasses__(cls)))


def _held(layer):
    """Attribute and value of all that a layer holds, also in lists and dictionaries. Tracking lists come last."""
    for attribute, value in sorted(vars(layer).items(), key=lambda pair: _is_tracked(pair[0])):
        named = value.items() if attribute == "_modules" else [(attribute, value)]
        for name, one in named:
            name = "" if _is_tracked(attribute) else name.lstrip("_")
            yield from ((name, thing) for thing in _flat(one) if isinstance(thing, keras.Variable | keras.layers.Layer))


def _is_tracked(attribute):
    """Whether Keras or TensorFlow uses the attribute to list what a layer holds under other attributes."""
    return attribute.startswith("_self_") or attribute in (
        "_trainable_variables",
        "_non_trainable_variables",
        "_tracked",
    )


def _flat(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [thing for one in list(value) for thing in _flat(one)] if isinstance(value, list | tuple) else [value]
