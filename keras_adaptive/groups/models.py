"""The parts of a model, and which of its layers make its outputs."""

import keras

from keras_adaptive.groups.layers import is_embedding


def walk(layer, seen=None):
    """The layer and all layers inside it, in the order in which they were created."""
    seen = set() if seen is None else seen
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer
    for part in parts(layer):
        yield from walk(part, seen)


def parts(layer):
    """The layers that are attributes of this layer, or in its lists and dictionaries."""
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


def own_weights(layer):
    of_parts = {id(weight) for part in parts(layer) for weight in part.weights}
    return [weight for weight in layer.weights if id(weight) not in of_parts]


def has_kernel(weights):
    return any(len(weight.shape) > 1 for weight in weights)


class UnknownOutput(ValueError):
    """It is not known which layers of a model, or of a layer that makes an output, compute the output."""


def output_layers(layer):
    """The layers with a kernel that compute the output of this layer.

    Raises:
        UnknownOutput: if it has several layers with kernels and is not functional.
    """
    if getattr(layer, "outputs", None):
        makers = [_maker(output) for output in keras.tree.flatten(layer.outputs)]
        return [last for maker in makers if maker is not None for last in output_layers(maker)]
    within = list(walk(layer))
    if any(getattr(part, "tie_weights", False) for part in within):
        return []
    # The weights of a wrapper, such as SpectralNormalization's vector, belong to the kernel of the layer inside.
    inner = [part for part in within if not is_embedding(part) and not isinstance(part, keras.layers.Wrapper)]
    with_kernel = [part for part in inner if has_kernel(own_weights(part))]
    if len(with_kernel) > 1:
        raise UnknownOutput(f"{type(layer).__name__} {layer.name!r}")
    return with_kernel


def _maker(tensor):
    """The layer with a kernel that a symbolic tensor comes from, through operations with a single input."""
    while True:
        operation, node_index, _ = tensor._keras_history
        if isinstance(operation, keras.Layer) and has_kernel(operation.weights):
            return operation
        inputs = operation._inbound_nodes[node_index].input_tensors
        if len(inputs) != 1:
            return None
        (tensor,) = inputs


def outputs_of(models, variables):
    """The places of the variables that belong to the output layers of the trained model.

    The trained model is the smallest one that has all variables. If several are equally small, only the outputs that
    they share count. The outputs of a model that is not functional are unknown.
    """
    wanted = {id(variable) for variable in variables}
    # A model whose constructor raised may still exist, without what `weights` needs.
    built = [model for model in models if wanted and vars(model).get("built")]
    holding = [(len(model.weights), model) for model in built if wanted <= {id(weight) for weight in model.weights}]
    smallest = min((size for size, _ in holding), default=None)
    common = None
    for size, model in holding:
        if size == smallest:
            found = _output_weights(model)
            common = found if common is None else common & found
    return {place for place, variable in enumerate(variables) if id(variable) in (common or set())}


def _output_weights(model):
    try:
        return {id(weight) for layer in output_layers(model) for weight in own_weights(layer)}
    except UnknownOutput:
        return set()
