"""AdamW for the variables of a model that an optimizer of matrices leaves to it."""

import math
import re

import keras
from keras.ops import sqrt

from keras_adaptive import matrices
from keras_adaptive.core import checks
from keras_adaptive.core.groups import Group
from keras_adaptive.core.linalg import is_vector

# What an optimizer with companions has among its own hyperparameters.
HYPERPARAMETERS = {
    "companion_learning_rate_multiplier": checks.nonnegative,
    "companion_beta_1": checks.fraction,
    "companion_beta_2": checks.fraction,
    "companion_epsilon": checks.sole_stabiliser,
    "companion": checks.auto_or(checks.flag),
}


def about(path, shape, hyperparameters):
    """Whether a variable is a companion; if it is not, its columns as a matrix, and Muon's scale `s` of its step."""
    companion, empty = hyperparameters["companion"], math.prod(shape) == 0
    if empty or companion is True or (companion == "auto" and is_vector(path, shape)):
        multiplier = hyperparameters["companion_learning_rate_multiplier"]
        return {"companion": True, "elementwise": True, "learning_rate_multiplier": multiplier}
    columns = matrices.columns(path, shape, hyperparameters["output_axes"])
    return {"companion": False, "columns": columns, "s": matrices.step_scale(hyperparameters["scale"], shape, columns)}


def adam(h, g, m, v):
    """The step of a companion, and its slots."""
    m = h.companion_beta_1 * m + (1 - h.companion_beta_1) * g
    v = h.companion_beta_2 * v + (1 - h.companion_beta_2) * g * g
    m_hat, v_hat = m / h.debias(h.companion_beta_1), v / h.debias(h.companion_beta_2)
    return h.eta * m_hat / (sqrt(v_hat) + h.companion_epsilon), (m, v)


def companion_groups(model):
    """Groups that make the embeddings and the output layers of a model companions.

    Muon is for the matrices between: what an embedding's row or a class's column is moved by should not depend on the
    others. Vectors and biases are companions without a group. The layers are found by the model, not by names:

    - every Embedding at any depth (a tied one is the output layer besides), and of other layers whose class is called
      an embedding the weights that are their own, such as those of positions;
    - the layers that produce the outputs of a functional or Sequential model; behind an output that is the result of
      an activation, a normalization, a reshaping or the like, the layer before. An output that is made of several
      tensors has none;
    - of any other model, or a layer that is made of layers, the last layer with a kernel that is not an embedding, if
      no embedding is tied.

    Args:
        model: a model that is built. Frozen layers are in the groups too, for when they are unfrozen.

    Returns:
        A list of `Group`, for the argument `groups` of an optimizer that has companions. Put your own before them.

    Raises:
        ValueError: for a model without weights.

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
    if not model.weights:
        raise ValueError(f"`model` must be built, with weights. Received: model={model}")
    embeddings = [w for layer in _walk(model) if _is_embedding(layer) for w in _own_weights(layer)]
    outputs = [w for layer in _output_layers(model) for w in _own_weights(layer)]
    return [_group(weights) for weights in (embeddings, outputs) if weights]


def _group(weights):
    paths = "|".join(dict.fromkeys(re.escape(weight.path) for weight in weights))
    return Group(f"^({paths})$", optional=True, companion=True)


def _walk(layer, seen=None):
    """The layer and all that it is made of, in the order in which they were made."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for part in _parts(layer):
        yield from _walk(part, seen)


def _parts(layer):
    """The layers that are attributes of this one, or in its lists and dictionaries."""
    found = list(layer.layers) if isinstance(layer, keras.Model) else []
    held = list(vars(layer).values())
    while held:
        value = held.pop(0)
        if isinstance(value, keras.Layer):
            found.append(value)
        elif isinstance(value, list | tuple | set):
            held.extend(value)
        elif isinstance(value, dict):
            held.extend(value.values())
    return found


def _own_weights(layer):
    of_parts = {id(weight) for part in _parts(layer) for weight in part.weights}
    return [weight for weight in layer.weights if id(weight) not in of_parts]


def _is_embedding(layer):
    return isinstance(layer, keras.layers.Embedding) or type(layer).__name__.endswith("Embedding")


def _has_kernel(weights):
    return any(len(weight.shape) > 1 for weight in weights)


def _output_layers(layer):
    """The layers that make what this one gives."""
    if getattr(layer, "outputs", None):
        makers = [_maker(output) for output in keras.tree.flatten(layer.outputs)]
        return [last for maker in makers if maker is not None for last in _output_layers(maker)]
    parts = list(_walk(layer))
    if any(getattr(part, "tie_weights", False) for part in parts):
        return []
    with_kernel = [part for part in parts if not _is_embedding(part) and _has_kernel(_own_weights(part))]
    return with_kernel[-1:]


def _maker(tensor):
    """The layer with a kernel that a symbolic tensor comes from, through what has one input only."""
    while True:
        operation, node_index, _ = tensor._keras_history
        if isinstance(operation, keras.Layer) and _has_kernel(operation.weights):
            return operation
        inputs = operation._inbound_nodes[node_index].input_tensors
        if len(inputs) != 1:
            return None
        (tensor,) = inputs
