"""What the layers of Keras, KerasHub and torch say about their variables: one function for each kind of layer.

Each returns the fields of a `Role` (keras_adaptive.groups.roles), or None where the layer says nothing.
"""

import re

# The kernels of attention that have a purpose.
ATTENDS = ("query", "key", "value")
PURPOSES = (*ATTENDS, "scale", "offset")
EMBEDDING, OUTPUT, BIAS, NORM, KERNEL, OTHER = KINDS = ("embedding", "output", "bias", "norm", "kernel", "other")

# Layers of KerasHub that compute several projections with one kernel: the class of the layer, the attribute that holds
# the kernel (or the layer with the kernel), and the number of parts along the last axis.
FUSED = {
    ("GPTNeoXAttention", "qkv_dense"): 3,
    ("WindowAttention", "qkv"): 3,
    ("MultiHeadAttentionWithRelativePE", "qkv"): 3,
    ("SelfAttention", "qkv"): 3,
    ("DismantledBlock", "attention_qkv"): 3,
    ("DismantledBlock", "attention_qkv2"): 3,
    ("QwenMoeExperts", "expert_feedforward_gate_dense"): 2,
    ("Qwen3MoeExperts", "expert_feedforward_gate_dense"): 2,
    ("Qwen3_5MoeExperts", "expert_feedforward_gate_dense"): 2,
}


def matrix(inputs, outputs, **others):
    """A kernel with these axes; without inputs or without outputs it is not a matrix."""
    kind = KERNEL if inputs and outputs else OTHER
    return {"kind": kind, "inputs": tuple(inputs), "outputs": tuple(outputs), **others}


def complete(role):
    """All fields of a role, with empty values for those that are missing."""
    nothing: dict = dict.fromkeys(("inputs", "outputs", "batch", "apart"), ())
    return nothing | dict.fromkeys(("parts", "heads", "purpose")) | role


def of_layer(layer, attribute, shape, variable=None):
    """The fields of a role according to the layer's class; None if the class says nothing about this variable.

    Args:
        layer: the layer that owns the variable.
        attribute: the attribute that holds it, without leading underscores.
        shape: of the variable.
        variable: the variable, for layers that have no attribute for it.
    """
    for cls in type(layer).__mro__:
        if cls.__name__ in RULES and cls.__module__.startswith("keras."):
            found = RULES[cls.__name__](layer, attribute, shape, variable)
            return found and {"source": type(layer).__name__, **found}
    return _experts(layer, attribute, shape) or _by_class_name(layer, attribute, shape)


def _dense(layer, attribute, shape, variable):
    if attribute == "bias":
        return {"kind": BIAS}
    if attribute == "quantized_kernel":
        return matrix((1,), (0,))
    if attribute in ("kernel", "lora_kernel_a", "lora_kernel_b"):
        return matrix((0,), (1,))
    return _scale(attribute)


def _scale(attribute):
    """The scales, zero points and histories of quantized layers are not part of a matrix."""
    return {"kind": OTHER} if re.search("scale|zero|amax_history", attribute) else None


def _einsum(layer, attribute, shape, variable):
    if attribute == "bias":
        return {"kind": BIAS}
    axes = equation_axes(layer.equation)
    if attribute == "kernel":
        return {**matrix(**axes), "source": f"EinsumDense {layer.equation}"}
    if attribute not in ("lora_kernel_a", "lora_kernel_b"):
        return _scale(attribute)
    # kernel = a b, where b has the kernel's last axis and a all other axes. In a, the rank replaces the axis of b.
    last = sum(map(len, axes.values())) - 1
    if attribute == "lora_kernel_a":
        return matrix(**axes)
    return matrix((1,), (0,)) if last in axes["inputs"] else matrix((0,), (1,))


def equation_axes(equation):
    """Which axes of an EinsumDense's kernel are inputs, outputs and batch.

    A letter of the kernel that only the inputs share is summed over: an input axis. One that only the result shares is
    an output axis. One that both share is a batch axis, along which each place has its own matrix.
    """
    factors, result = equation.replace(" ", "").replace("...", "").split("->")
    given, kernel = factors.split(",")
    axes: dict[str, list[int]] = {"inputs": [], "outputs": [], "batch": []}
    for axis, letter in enumerate(kernel):
        role = "inputs" if letter not in result else "batch" if letter in given else "outputs"
        axes[role].append(axis)
    return {role: tuple(found) for role, found in axes.items()}


def _convolution(layer, attribute, shape, variable):
    if attribute == "bias":
        return {"kind": BIAS}
    if attribute == "lora_kernel_b":
        return matrix((0,), (1,))
    if attribute not in ("kernel", "lora_kernel_a"):
        return None
    # Each group of filters has its own inputs.
    return _to_the_last(shape, layer.groups if attribute == "kernel" else 1)


def _transposed_convolution(layer, attribute, shape, variable):
    """The matrix from one place of the inputs to the patch of outputs to which it adds."""
    if attribute == "bias":
        return {"kind": BIAS}
    last = len(shape) - 1
    return matrix((last,), range(last), apart=tuple(range(last - 1))) if attribute == "kernel" else None


def _depthwise(layer, attribute, shape, variable):
    """One matrix for each channel, from its patch to its outputs."""
    if attribute == "bias":
        return {"kind": BIAS}
    if attribute == "pointwise_kernel":
        return _to_the_last(shape)
    if attribute not in ("kernel", "depthwise_kernel"):
        return None
    spatial = tuple(range(len(shape) - 2))
    return matrix(spatial, (len(shape) - 1,), batch=(len(shape) - 2,), apart=spatial)


def _cell(gates):
    """The gates of a recurrent cell are separate matrices, one after the other along the last axis."""

    def rule(layer, attribute, shape, variable):
        if attribute == "bias":
            return {"kind": BIAS}
        if attribute not in ("kernel", "recurrent_kernel"):
            return None
        return _to_the_last(shape, gates)

    return rule


def _to_the_last(shape, parts=1):
    """From all axes but the last, which are the spatial axes of a convolution and then its channels."""
    last = len(shape) - 1
    split = (last, parts) if parts > 1 else None
    return matrix(range(last), (last,), apart=tuple(range(last - 1)), parts=split)


def _embedding(layer, attribute, shape, variable):
    # The untied output kernel of a ReversibleEmbedding, (width, tokens), makes the logits.
    if attribute == "reverse_embeddings":
        return {**matrix((0,), (1,)), "kind": OUTPUT}
    if attribute == "lora_embeddings_b":
        return matrix((0,), (1,))
    # A subclass may have another name for its table.
    if attribute in ("embeddings", "lora_embeddings_a") or tuple(shape) == (layer.input_dim, layer.output_dim):
        return {**matrix((0,), (1,)), "kind": EMBEDDING}
    return _scale(attribute)


def _norm(layer, attribute, shape, variable):
    return {"kind": NORM, "purpose": of_norm(attribute)}


def of_norm(name):
    """Whether a norm multiplies by the variable with this name ("scale") or adds it ("offset")."""
    return "offset" if name in ("beta", "bias", "offset", "shift") else "scale"


def _slopes(layer, attribute, shape, variable):
    """The slopes of PReLU: one number for each unit, whatever their shape."""
    return {"kind": OTHER}


def _experts(layer, attribute, shape):
    """Kernels of a mixture of experts: (experts, inputs, outputs) in a layer that has `num_experts`."""
    experts = getattr(layer, "num_experts", None)
    if len(shape) != 3 or isinstance(experts, bool) or not isinstance(experts, int) or shape[0] != experts:
        return None
    count = _fused(layer, attribute)
    parts = None if count is None else (2, count)
    return {**matrix((1,), (2,), batch=(0,), parts=parts), "source": f"{type(layer).__name__}.num_experts"}


def is_embedding(layer):
    """Whether the weights that it holds directly are tables of tokens, positions and the like."""
    bases = {cls.__name__ for cls in type(layer).__mro__ if cls.__module__.startswith("keras.")}
    return "Embedding" in bases or type(layer).__name__.endswith(("Embedding", "Embeddings"))


def _by_class_name(layer, attribute, shape):
    """Custom layers whose class is called an embedding or a norm: tables of positions, scales and the like."""
    name = type(layer).__name__
    if name.endswith(("Norm", "Normalization")):
        return {"kind": NORM, "purpose": of_norm(attribute), "source": f"class {name}"}
    if len(shape) >= 2 and is_embedding(layer):
        return {**matrix(range(len(shape) - 1), (len(shape) - 1,)), "kind": EMBEDDING, "source": f"class {name}"}
    return None


def _torch(layer, attribute, shape, variable):
    """A torch module has its outputs first. Its class is found by name, since torch may not be installed."""
    for module in layer.module.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter is variable.value:
                return _of_module(module, name, shape)
    return None


def _of_module(module, name, shape):
    kinds = {cls.__name__ for cls in type(module).__mro__}
    source = {"source": f"torch {type(module).__name__}"}
    if name.startswith("bias") or name.endswith("bias"):
        return {"kind": BIAS, **source}
    if len(shape) < 2:
        is_norm = any("Norm" in kind for kind in kinds)
        return {**({"kind": NORM, "purpose": "scale"} if is_norm else {"kind": OTHER}), **source}
    if "Embedding" in kinds or "EmbeddingBag" in kinds:
        return {**matrix((0,), (1,)), "kind": EMBEDDING, **source}
    if "_ConvTransposeNd" in kinds:
        return {**matrix((0,), range(1, len(shape)), apart=tuple(range(2, len(shape)))), **source}
    if "_ConvNd" in kinds:
        parts = (0, module.groups) if module.groups > 1 else None
        axes = matrix(range(1, len(shape)), (0,), apart=tuple(range(2, len(shape))), parts=parts)
        return {**axes, **source}
    if len(shape) == 2:
        gates = 4 if "LSTM" in kinds or "LSTMCell" in kinds else 3 if "GRU" in kinds or "GRUCell" in kinds else 1
        count = 3 if name == "in_proj_weight" else gates
        return {**matrix((1,), (0,), parts=(0, count) if count > 1 else None), **source}
    return None


# By the names of Keras's classes, since some are not public. A user's subclass has one of them as a base.
RULES = {
    "EinsumDense": _einsum,
    "Dense": _dense,
    "BaseConv": _convolution,
    "BaseConvTranspose": _transposed_convolution,
    "BaseDepthwiseConv": _depthwise,
    "BaseSeparableConv": _depthwise,
    "LSTMCell": _cell(4),
    "GRUCell": _cell(3),
    "SimpleRNNCell": _cell(1),
    "ConvLSTMCell": _cell(4),
    "Embedding": _embedding,
    "BatchNormalization": _norm,
    "LayerNormalization": _norm,
    "GroupNormalization": _norm,
    "RMSNormalization": _norm,
    "PReLU": _slopes,
    "TorchModuleWrapper": _torch,
}


def fused(parents, role):
    """The number of projections that a parent computes with this layer's kernel, as (axis, count), or None."""
    for parent, attribute in parents:
        count = _fused(parent, attribute)
        if count is not None and role["outputs"]:
            return (role["outputs"][-1], count)
    return None


def _fused(layer, attribute):
    return FUSED.get((type(layer).__name__, attribute)) if type(layer).__module__.startswith("keras_hub.") else None


def of_attention(parents, role, shape):
    """The axis of the heads of attention, and the purpose of the kernel, according to the layer that holds this layer.

    Empty if no parent is an attention layer.
    """
    found: dict = {}
    for parent, attribute in parents:
        counts = {v for k, v in vars(parent).items() if k.endswith("_heads") and isinstance(v, int)}
        axis = next(
            (a[0] for a in (role["outputs"], role["inputs"]) if len(a) == 2 and shape[a[0]] in counts),
            None,
        )
        if axis is not None:
            # A parent also has a list of its layers, which says nothing about the purpose.
            words = attribute.split("_")
            purpose = next((word for word in ATTENDS if word in words), found.get("purpose"))
            found = {"heads": found.get("heads", axis), "purpose": purpose}
    return found
