"""Which variables of a model are companions: an optimizer of matrices leaves them to AdamW."""

import re

import keras

from keras_adaptive.core import checks
from keras_adaptive.core.backends import running as backends
from keras_adaptive.groups import models
from keras_adaptive.groups.group import Group
from keras_adaptive.groups.layers import is_embedding


@backends.opaque
def companion_groups(model, output_layers=None):
    """Groups that make the embeddings and the output layers of a model companions.

    Muon is for the matrices between: the update of an embedding's row or a class's column should not depend on the
    other rows or columns. Some companions need no group: vectors and biases, the embeddings of Keras's layers, and the
    output layer of a Sequential or functional model that the optimizer trains. These groups work for any model, before
    the optimizer is built, and also cover the other weights of an output layer. The layers are found from the model,
    not by names:

    - Every Embedding at any depth; if it is tied, it is also the output layer. For other layers whose class is called
      an embedding, the weights that they hold directly, such as those of positions.
    - The layers that produce the outputs of a functional or Sequential model. If an output comes from an activation, a
      normalization, a reshaping or the like, the layer before that counts. An output that is computed from several
      tensors has no output layer.
    - In any other model, or a layer that is made of layers: its only layer with a kernel that is not an embedding, or
      none if an embedding is tied. If there are several, only you know which one: pass `output_layers`.

    Args:
        model: a model that is built. Frozen layers are in the groups too, for when they are unfrozen.
        output_layers: a list of the model's output layers, which may be empty. Default None: found as described above.

    Returns:
        A list of `Group`, for the argument `groups` of an optimizer that has companions. Put your own groups before
        them. The last group sets nothing. It matches the model's other weights, so that a model whose companions are
        all frozen is recognized.

    Raises:
        ValueError: for a model without weights, or if it is not known which layer makes its outputs.
        TypeError: if `output_layers` is not a list of layers.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.

    Example:

    >>> import keras_adaptive
    >>> layers = [keras.layers.Embedding(9, 4), keras.layers.Dense(4), keras.layers.Dense(9)]
    >>> model = keras.Sequential([keras.Input((5,)), *layers])
    >>> optimizer = keras_adaptive.Muon(groups=companion_groups(model))
    >>> optimizer.build(model.trainable_variables)
    >>> [row.slots for row in optimizer.describe()]
    [('m', 'v'), ('m',), ('m', 'v'), ('m', 'v'), ('m', 'v')]
    """
    checks.instance(keras.Model)("model", model)
    if not model.weights:
        raise ValueError(f"`model` must be built, with weights. Received: model={model}")
    embeddings = [w for layer in models.walk(model) if is_embedding(layer) for w in models.own_weights(layer)]
    outputs = [w for layer in _outputs(model, output_layers) for w in models.own_weights(layer)]
    found = {weight.path for weight in [*embeddings, *outputs]}
    others = [weight for weight in model.weights if weight.path not in found]
    companions = [_group(weights, companion=True) for weights in (embeddings, outputs) if weights]
    return [*companions, *([_group(others)] if others else [])]


def _outputs(model, output_layers):
    if output_layers is None:
        try:
            return models.output_layers(model)
        except models.UnknownOutput as unknown:
            raise ValueError(
                f"`output_layers` must be given, since {unknown} does not say which of its layers makes its outputs; "
                "pass a list such as [model.head], or [] for none. Received: output_layers=None"
            ) from None
    if not isinstance(output_layers, list | tuple) or not all(isinstance(x, keras.Layer) for x in output_layers):
        raise TypeError(f"`output_layers` must be None or a list of layers. Received: output_layers={output_layers!r}")
    return [part for layer in output_layers for part in models.walk(layer)]


def _group(weights, **says):
    paths = "|".join(dict.fromkeys(re.escape(weight.path) for weight in weights))
    return Group(f"^({paths})$", optional=True, **says)
