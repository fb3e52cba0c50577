"""Layer-wise learning-rate decay, for fine-tuning."""

import re

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.groups.group import Group
from keras_adaptive.groups.levels import Levels, merged


@backends.opaque
def layerwise_decay(model, rate, decay_vectors=True, levels=26):
    """Groups that give every level of a model a smaller learning rate than the level after it.

        multiplier of a level = rate^(number of levels after it)

    The output layer is the last level and has the optimizer's learning rate. The levels before it are:

    - In a functional model with residual connections or parallel branches, such as a ResNet, a level is a block: all
      layers between two points where the branches have come together. Three things are also one level: the layers of a
      chain between two blocks; a transformer's attention and all that follows up to the next attention; the steps of a
      DenseNet's block.
    - A layer that is made of layers is one level, such as a transformer's block of KerasHub.
    - Anywhere else, a layer with a matrix or a kernel is one level.

    Further rules:

    - Layers with vectors alone, such as a normalization, are on the level of the layer before.
    - Models inside the model are entered.
    - In a model that is neither functional nor Sequential, the order of its layers is that of its attributes.
    - All embeddings, and weights that belong to the model itself, are on the first level.
    - An output projection that an embedding layer holds is on the last level.
    - A layer that is called several times is on the level of its first call.

    Args:
        model: a model that is built. Frozen layers count as levels and have groups, for when they are unfrozen later.
        rate: the ratio of a level's multiplier to that of the next level, above 0 and at most 1. 0.65 to 0.95 are
            common.
        decay_vectors: whether weight decay applies to variables with at most one axis. Default True.
        levels: the largest number of levels, at least 1. If the model has more, neighbours are merged evenly; the
            output layer stays a separate level. None: no limit. Default 26, the number for a transformer of 24 blocks;
            the authors of ConvNeXt fine-tune with 13. With too many levels the first layers hardly move: 0.8^25 is
            0.004, 0.8^53 is 7e-6.

    Returns:
        A list of `Group`, for the argument `groups` of any optimizer. It can be combined with other groups.
        `describe()` shows the smallest multiplier.

    Raises:
        ValueError, TypeError: for a rate or a number of levels out of range, or a model without weights.

    Source: Howard and Ruder, ACL 2018 (discriminative fine-tuning); Clark et al., ICLR 2020 (by transformer blocks);
    Liu et al., CVPR 2022 (merged blocks of a convolutional net).

    Example:

    >>> import keras_adaptive
    >>> model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3), classes=10)
    >>> optimizer = keras_adaptive.Adam(groups=layerwise_decay(model, 0.8))
    >>> optimizer.build(model.trainable_variables)
    >>> multiplier, path = optimizer.describe().smallest_multiplier
    >>> print(f"{multiplier:.5g} {path}")
    0.022518 conv1_conv/kernel
    """
    checks.instance(keras.Model)("model", model)
    rate = checks.rate("rate", rate)
    decay_vectors = checks.flag("decay_vectors", decay_vectors)
    levels = checks.optional(checks.count)("levels", levels)
    found = merged(Levels(model).levels, levels)
    if not found:
        raise ValueError(f"`model` must be built, with weights. Received: model={model}")
    groups = [
        Group(_pattern(variables), rate ** (len(found) - 1 - level), optional=True)
        for level, variables in enumerate(found)
    ]
    vectors = [variable for variables in found for variable in variables if len(variable.shape) < 2]
    if not decay_vectors and vectors:
        groups.append(Group(_pattern(vectors), weight_decay=0.0, optional=True))
    for group in groups:
        group.made_for = model.name
    return groups


def _pattern(variables):
    return f"^({'|'.join(re.escape(variable.path) for variable in variables)})$"
