"""Tiny models of all three architectures, and targets for them."""

import torch
from tiny import ALL_BACKBONES, BACKBONES, tiny_model

from modeling_maskformer import (
    PerPixelBaselineConfig,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusConfig,
    PerPixelBaselinePlusForSemanticSegmentation,
)

ARCHITECTURES = ("maskformer", "per_pixel", "per_pixel_plus")
# every backbone under MaskFormer, and each other architecture once
KINDS = [*(("maskformer", backbone) for backbone in BACKBONES), ("per_pixel", "resnet"), ("per_pixel_plus", "swin")]


def tiny(kind="maskformer", backbone="resnet", **fields):
    """A model with loss, in training mode, without dropout and stochastic depth."""
    torch.manual_seed(0)
    decoder = {"model_type": "detr", "d_model": 32, "decoder_layers": 3, "decoder_attention_heads": 4, "dropout": 0.0}
    decoder |= {"encoder_attention_heads": 4, "decoder_ffn_dim": 64, "encoder_ffn_dim": 64}
    backbone_config = ALL_BACKBONES[backbone] | ({"drop_path_rate": 0.0} if backbone == "swin" else {})
    fields = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 5} | fields
    if kind == "maskformer":
        return tiny_model(backbone, decoder_config=decoder, **fields | {"backbone_config": backbone_config}).train()
    config_class, model_class = {
        "per_pixel": (PerPixelBaselineConfig, PerPixelBaselineForSemanticSegmentation),
        "per_pixel_plus": (PerPixelBaselinePlusConfig, PerPixelBaselinePlusForSemanticSegmentation),
    }[kind]
    return model_class(config_class(backbone_config=backbone_config, decoder_config=decoder, **fields)).train()


def batch_of(size=(64, 96), batch_size=2):
    """Pixels and targets: three segments an image."""
    generator = torch.Generator().manual_seed(1)
    masks = [(torch.rand(3, *size, generator=generator) > 0.5).float() for _ in range(batch_size)]
    return {
        "pixel_values": torch.randn(batch_size, 3, *size, generator=generator),
        "mask_labels": masks,
        "class_labels": [torch.tensor([0, 1, 4])] * batch_size,
    }


def logits_of(output):
    """The mask or class maps of an output of any architecture."""
    return output["masks_queries_logits"] if "masks_queries_logits" in output else output["logits"]
