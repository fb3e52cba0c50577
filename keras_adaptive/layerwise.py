"""Layer-wise learning-rate decay, for fine-tuning."""

import re

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.groups import Group


def layerwise_decay(model, rate, decay_vectors=True):
    """Groups that give every layer of a model a smaller learning rate than the layer after it.

        multiplier of a layer = rate^(last level - level of the layer)

    The output layer is on the last level and has the optimizer's learning rate. Every layer with a matrix or a kernel
    begins a level of its own; one of vectors alone, such as a normalization, is on the level of the layer before it.
    Models inside of the model are entered, layers made of other layers are not: a transformer's block is one level. All
    embeddings, and weights that belong to the model itself, are on level 0 with what comes first.

    Args:
        model: a model that is built. Frozen layers count as levels; if they are unfrozen later, their groups are there.
        rate: what a layer's multiplier is of the next one's, above 0 and at most 1. 0.65 to 0.95 are common.
        decay_vectors: whether weight decay applies to variables with at most one axis. Default True.

    Returns:
        A list of `Group`, for the argument `groups` of any optimizer.

    Raises:
        ValueError, TypeError: for a rate out of range, or a model without weights.

    Source: Howard and Ruder, ACL 2018 (discriminative fine-tuning).

    Example:

    >>> import keras_adaptive
    >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8), keras.layers.Dense(1)])
    >>> optimizer = keras_adaptive.Adam(groups=layerwise_decay(model, 0.5))
    >>> optimizer.build(model.trainable_variables)
    >>> [row.learning_rate for row in optimizer.describe()]
    [0.0005, 0.0005, 0.001, 0.001]
    """
    rate = checks.rate("rate", rate)
    decay_vectors = checks.flag("decay_vectors", decay_vectors)
    levels = _levels(model)
    groups = []
    for level, variables in enumerate(levels):
        paths = "|".join(re.escape(variable.path) for variable in variables)
        pattern, multiplier = f"^({paths})$", rate ** (len(levels) - 1 - level)
        if not decay_vectors:
            groups.append(Group(pattern, multiplier, weight_decay=0.0, max_ndim=1, optional=True))
        groups.append(Group(pattern, multiplier, optional=True))
    return groups


def _levels(model):
    """The variables of each level, from the input on."""
    levels, seen = [[]], set()

    def add(level, variables):
        level.extend(variable for variable in variables if id(variable) not in seen)
        seen.update(id(variable) for variable in variables)

    for layer in _layers(model):
        weights = layer.weights
        if _embeds(layer):
            add(levels[0], weights)
        elif any(len(weight.shape) > 1 for weight in weights) and levels[-1]:
            levels.append([])
            add(levels[-1], weights)
        else:
            add(levels[-1], weights)
    add(levels[0], model.weights)
    if not levels[0]:
        raise ValueError(f"`model` must be built, with weights. Received: model={model}")
    return levels


def _layers(model):
    """Every layer that is not a model, in the order of the model."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
        else:
            yield layer


def _embeds(layer):
    """Whether the layer is an embedding, by its class or its name's end, or holds one."""
    parts = [layer, *vars(layer).values()]
    return type(layer).__name__.endswith("Embedding") or any(isinstance(part, keras.layers.Embedding) for part in parts)
