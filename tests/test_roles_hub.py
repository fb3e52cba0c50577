"""Roles of the variables of KerasHub's models: small models with random weights, nothing is downloaded."""

import keras
import pytest

from keras_adaptive import Muon

pytestmark = [pytest.mark.full, pytest.mark.on("torch", "tensorflow")]
TEXT = {"vocabulary_size": 11, "num_layers": 1, "hidden_dim": 8, "intermediate_dim": 12}
HEADS = {**TEXT, "num_heads": 2}
GROUPED = {**TEXT, "num_query_heads": 4, "num_key_value_heads": 2}


def d_fine(models):
    backbone = models.HGNetV2Backbone(
        stem_channels=[3, 4, 4],
        stackwise_stage_filters=[[4, 4, 8, 1, 1, 3], [8, 4, 16, 1, 1, 3], [16, 4, 16, 1, 1, 3], [16, 4, 16, 1, 1, 3]],
        apply_downsample=[False, True, True, True],
        use_lightweight_conv_block=[False, False, True, True],
        depths=[1, 1, 1, 1],
        hidden_sizes=[8, 16, 16, 16],
        embedding_size=4,
        use_learnable_affine_block=True,
        hidden_act="relu",
        image_shape=(None, None, 3),
        out_features=["stage3", "stage4"],
    )
    return models.DFineBackbone(
        backbone=backbone,
        decoder_in_channels=[8, 8],
        encoder_hidden_dim=8,
        num_denoising=0,
        num_labels=3,
        hidden_dim=8,
        learn_initial_query=False,
        num_queries=5,
        anchor_image_size=(64, 64),
        feat_strides=[16, 32],
        num_feature_levels=2,
        encoder_in_channels=[16, 16],
        encode_proj_layers=[1],
        num_attention_heads=2,
        encoder_ffn_dim=12,
        num_encoder_layers=1,
        hidden_expansion=0.5,
        depth_multiplier=0.5,
        eval_idx=-1,
        num_decoder_layers=1,
        decoder_attention_heads=2,
        decoder_ffn_dim=12,
        decoder_n_points=[2, 2],
        lqe_hidden_dim=4,
        num_lqe_layers=2,
        out_features=["stage3", "stage4"],
        image_shape=(64, 64, 3),
    )


# Attention in the form of Keras, (inputs, heads, size), and the feed-forward part.
ATTENTION = {
    "query/kernel": ((8, 2, 4), (8, 8, 1)),
    "key/kernel": ((8, 2, 4), (8, 8, 1)),
    "value/kernel": ((8, 2, 4), (8, 8, 1)),
    "attention_output/kernel": ((2, 4, 8), (8, 8, 1)),
}
FEED_FORWARD = {
    "feedforward_intermediate_dense/kernel": ((8, 12), (8, 12, 1)),
    "feedforward_output_dense/kernel": ((12, 8), (12, 8, 1)),
}
# Queries of 4 heads of 2, keys and values of 2.
GROUPED_ATTENTION = {
    "query/kernel": ((8, 4, 2), (8, 8, 1)),
    "key/kernel": ((8, 2, 2), (8, 4, 1)),
    "value/kernel": ((8, 2, 2), (8, 4, 1)),
    "attention_output/kernel": ((4, 2, 8), (8, 8, 1)),
}
# For each model how it is made, the ends of the paths of its kernels with their shapes, rows, columns and number, and
# those of its tables: by hand, from the layers' equations and documentation. All that is not named is no matrix.
MODELS = {
    "Gemma": (
        lambda m: m.GemmaBackbone(**(GROUPED | {"num_key_value_heads": 1, "head_dim": 2})),
        {
            "query/kernel": ((4, 8, 2), (8, 8, 1)),
            "key/kernel": ((1, 8, 2), (8, 2, 1)),
            "value/kernel": ((1, 8, 2), (8, 2, 1)),
            "attention_output/kernel": ((4, 2, 8), (8, 8, 1)),
            "ffw_gating/kernel": ((8, 6), (8, 6, 1)),
            "ffw_gating_2/kernel": ((8, 6), (8, 6, 1)),
            "ffw_linear/kernel": ((6, 8), (6, 8, 1)),
        },
        {"token_embedding/embeddings": "embedding"},
    ),
    "Llama": (
        lambda m: m.LlamaBackbone(**GROUPED),
        {**GROUPED_ATTENTION, **FEED_FORWARD, "feedforward_gate_dense/kernel": ((8, 12), (8, 12, 1))},
        {"token_embedding/embeddings": "embedding", "token_embedding/reverse_embeddings": "output"},
    ),
    "Bloom": (
        lambda m: m.BloomBackbone(**HEADS),
        {
            "query_dense/kernel": ((8, 2, 4), (8, 8, 1)),
            "key_dense/kernel": ((8, 2, 4), (8, 8, 1)),
            "value_dense/kernel": ((8, 2, 4), (8, 8, 1)),
            "self_attention/output_dense/kernel": ((8, 8), (8, 8, 1)),
            "mlp_intermediate_dense/kernel": ((8, 12), (8, 12, 1)),
            "mlp_output_dense/kernel": ((12, 8), (12, 8, 1)),
        },
        {"token_embedding/embeddings": "embedding"},
    ),
    "GPT-NeoX": (
        lambda m: m.GPTNeoXBackbone(**HEADS),
        # Query, key and value of a head stand one after the other.
        {
            "query_key_value/kernel": ((8, 2, 12), (8, 8, 3)),
            "attention_output/kernel": ((8, 8), (8, 8, 1)),
            **FEED_FORWARD,
        },
        {"token_embedding/embeddings": "embedding"},
    ),
    "T5": (
        lambda m: m.T5Backbone(**HEADS),
        {
            "query_projector/kernel": ((8, 8), (8, 8, 1)),
            "key_projector/kernel": ((8, 8), (8, 8, 1)),
            "value_projector/kernel": ((8, 8), (8, 8, 1)),
            "attention/output_projector/kernel": ((8, 8), (8, 8, 1)),
            "input_projector/kernel": ((8, 12), (8, 12, 1)),
            "gate_projector/kernel": ((8, 12), (8, 12, 1)),
            "layer_0/output_projector/kernel": ((12, 8), (12, 8, 1)),
        },
        {"token_embedding/embeddings": "embedding", "self_attention/embeddings": "embedding"},
    ),
    "Whisper": (
        lambda m: m.WhisperBackbone(**HEADS, num_mels=4, max_encoder_sequence_length=6, max_decoder_sequence_length=6),
        {
            **ATTENTION,
            **FEED_FORWARD,
            "conv_layer_1/kernel": ((3, 4, 8), (12, 8, 1)),
            "conv_layer_2/kernel": ((3, 8, 8), (24, 8, 1)),
        },
        {"token_embedding/embeddings": "embedding", "position_embedding/embeddings": "embedding"},
    ),
    "ViT": (
        lambda m: m.ViTBackbone(
            image_shape=(8, 8, 3), patch_size=(4, 4), num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=12
        ),
        {
            **ATTENTION,
            "patch_embedding/kernel": ((4, 4, 3, 8), (48, 8, 1)),
            "dense_1/kernel": ((8, 12), (8, 12, 1)),
            "dense_2/kernel": ((12, 8), (12, 8, 1)),
        },
        {"position_embedding/embeddings": "embedding", "class_token": "embedding"},
    ),
    "Mixtral": (
        lambda m: m.MixtralBackbone(**GROUPED, num_experts=3, top_k=2),
        {
            **GROUPED_ATTENTION,
            "sparse_feedforward_gate_dense/kernel": ((8, 3), (8, 3, 1)),
            "experts/expert_feedforward_gate_dense": ((3, 8, 12), (8, 12, 3)),
            "experts/expert_feedforward_intermediate_dense": ((3, 8, 12), (8, 12, 3)),
            "experts/expert_feedforward_output_dense": ((3, 12, 8), (12, 8, 3)),
        },
        {"token_embedding/embeddings": "embedding", "token_embedding/reverse_embeddings": "output"},
    ),
    "XLNet": (
        lambda m: m.XLNetBackbone(**HEADS),
        {
            **{name: of_one for name, of_one in ATTENTION.items() if "output" not in name},
            # ibnd,hnd->ibh: its first axis is the outputs.
            "attention_output/kernel": ((8, 2, 4), (8, 8, 1)),
            "encoding/kernel": ((8, 2, 4), (8, 8, 1)),
            **FEED_FORWARD,
        },
        {"word_embedding/embeddings": "embedding"},
    ),
    "DeBERTa": (
        lambda m: m.DebertaV3Backbone(**HEADS, max_sequence_length=6, bucket_size=4),
        {
            **{name: of_one for name, of_one in ATTENTION.items() if "output" not in name},
            "attention_output/kernel": ((8, 8), (8, 8, 1)),
            **FEED_FORWARD,
        },
        {"token_embedding/embeddings": "embedding", "rel_embedding/rel_embedding": "embedding"},
    ),
}


@pytest.fixture(scope="module")
def models():
    hub = pytest.importorskip("keras_hub", reason="the extra keras-adaptive[keras-hub] is not installed")
    return hub.models


def described(model):
    optimizer = Muon()
    optimizer.build(model.trainable_variables)
    return [state.role for state in optimizer.plan.states]


@pytest.mark.filterwarnings("ignore:Layer .* does not support masking:UserWarning")
@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_keras_hub(name, models):
    make, kernels, tables = MODELS[name]
    found, missing = described(make(models)), set(kernels) | set(tables)
    for role in found:
        end = next((end for end in {**kernels, **tables} if role.path.endswith(end)), None)
        missing.discard(end)
        if end in tables:
            assert role.kind == tables[end], role
        elif end in kernels:
            assert (role.kind, role.shape, role.matrices) == ("kernel", *kernels[end]), role
        else:
            assert role.matrices is None, role
    assert not missing


def test_d_fine(models):
    """Convolutions, depthwise ones among them, and dense layers: each kernel by its shape."""
    model = d_fine(models)
    kinds = {id(layer._kernel if hasattr(layer, "_kernel") else layer.kernel): layer for layer in _with_kernels(model)}
    by_path = {v.path: kinds.get(id(v)) for v in model.trainable_variables}
    seen = set()
    for role in described(model):
        layer = by_path[role.path]
        if layer is None:
            continue
        *window, inputs, outputs = role.shape
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            expected = (window[0] * window[1], outputs, inputs)
        elif isinstance(layer, keras.layers.Conv2D):
            filters = outputs // layer.groups
            expected = (window[0] * window[1] * inputs, filters, layer.groups)
        else:
            assert isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)
            # The projections to the heads have their inputs first, the one from them has its outputs last.
            rows = role.shape[0] if len(role.shape) == 2 or "attention_output" not in role.path else inputs * window[0]
            size = 1
            for length in role.shape:
                size *= length
            expected = (rows, size // rows, 1)
        assert role.matrices == expected, role
        seen.add(type(layer).__name__)
    assert {"Conv2D", "Dense"} <= seen


def _with_kernels(model):
    kinds = (keras.layers.Dense, keras.layers.EinsumDense, keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
    return [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]
