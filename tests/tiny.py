"""Tiny models of each kind of backbone, built in milliseconds."""

from torch import nn

from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

BACKBONES = {
    "timm": {"model_type": "timm_backbone", "backbone": "resnet10t"},
    "resnet": {
        "model_type": "resnet",
        "embedding_size": 16,
        "hidden_sizes": [16, 32, 48, 64],
        "depths": [1, 1, 1, 1],
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
    "swin": {
        "model_type": "swin",
        "embed_dim": 16,
        "depths": [1, 1, 2, 1],
        "num_heads": [1, 2, 4, 8],
        "window_size": 4,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    },
}
# some tests ask for this one besides: its convolutions pad more at the end, as TensorFlow's do
ALL_BACKBONES = BACKBONES | {
    "timm, SAME": {"model_type": "timm_backbone", "backbone": "tf_mobilenetv3_small_minimal_100"}
}


def tiny_config(backbone: str = "resnet", **fields) -> MaskFormerConfig:
    decoder = {
        "model_type": "detr",
        "d_model": 32,
        "decoder_layers": 3,
        "num_queries": 10,
        "decoder_attention_heads": 4,
        "encoder_attention_heads": 4,
        "decoder_ffn_dim": 64,
    } | fields.pop("decoder_config", {})
    fields = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 5} | fields
    fields = {"backbone_config": dict(ALL_BACKBONES[backbone])} | fields
    return MaskFormerConfig(decoder_config=decoder, **fields)


def tiny_model(backbone: str = "resnet", **fields) -> MaskFormerForInstanceSegmentation:
    return MaskFormerForInstanceSegmentation(tiny_config(backbone, **fields))


def untrained(model: nn.Module) -> list[str]:
    """Weights that should have learnt from a backward pass, but have no gradient, or one of zeros or NaN."""
    # the first self-attention sees zeros only, and a bias of keys changes no attention
    trained = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".decoder.layers.0.self_attn" not in name and not name.endswith("k_proj.bias")
    }
    return [name for name, grad in trained.items() if grad is None or not grad.isfinite().all() or not grad.any()]
