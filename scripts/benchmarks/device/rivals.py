"""What a user would take instead: transformers' Mask2Former on Swin-T and EoMT on ViT-S/16, with random weights."""

from __future__ import annotations

import torch
from torch import nn
from transformers import (
    EomtConfig,
    EomtForUniversalSegmentation,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SwinConfig,
)

MASK2FORMER, EOMT = "transformers' Mask2Former, Swin-T", "transformers' EoMT, ViT-S/16"
RIVALS = (MASK2FORMER, EOMT)


def build_rival(name: str, image_size: int, num_queries: int, num_labels: int, tiny: bool = False) -> nn.Module:
    """One of `RIVALS` for images of this height and width; `tiny`: narrow and shallow, for tests."""
    torch.manual_seed(0)
    build = build_mask2former if name == MASK2FORMER else build_eomt
    return build(image_size, num_queries, num_labels, tiny)


def build_mask2former(image_size: int, num_queries: int, num_labels: int, tiny: bool) -> nn.Module:
    """Mask2Former as its authors' Swin-T models: six layers in the pixel decoder, nine in the other."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    if tiny:
        swin = SwinConfig(embed_dim=16, depths=[1] * 4, num_heads=[1, 2, 4, 8], window_size=4, out_features=stages)
        sizes = {
            **dict.fromkeys(("hidden_dim", "feature_size", "mask_feature_size"), 32),
            **{"dim_feedforward": 32, "encoder_feedforward_dim": 32, "num_attention_heads": 4},
            **{"encoder_layers": 1, "decoder_layers": 2, "train_num_points": 64},
        }
    else:
        # drop_path_rate as that of this package's Swin-T
        swin = SwinConfig(window_size=7, drop_path_rate=0.3, out_features=stages)
        sizes = {}
    config = Mask2FormerConfig(backbone_config=swin, num_queries=num_queries, num_labels=num_labels, **sizes)
    return Mask2FormerForUniversalSegmentation(config)


def build_eomt(image_size: int, num_queries: int, num_labels: int, tiny: bool) -> nn.Module:
    """EoMT as its authors' ViT-S model: queries in the last three blocks, without masked attention in inference."""
    if tiny:
        sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "num_blocks": 1}
        sizes["train_num_points"] = 64
    else:
        sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "num_blocks": 3}
    config = EomtConfig(image_size=image_size, num_queries=num_queries, num_labels=num_labels, **sizes)
    model = EomtForUniversalSegmentation(config)
    model.attn_mask_probs.zero_()  # as its training leaves them; in training mode masks are there all the same
    return model
