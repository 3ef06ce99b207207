"""This package's Swin is transformers' own, to the number, by whatever way."""

import pytest
import torch
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig
from transformers.models.maskformer.modeling_maskformer_swin import MaskFormerSwinBackbone, MaskFormerSwinLayer

from modeling_maskformer import MaskFormerConfig
from modeling_maskformer.backbone import build_backbone
from modeling_maskformer.backbone.swin_backbone import SwinBlock

FIELDS = {
    "embed_dim": 16,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 4, 8],
    "window_size": 4,
    "drop_path_rate": 0.0,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def both():
    """Ours and transformers' backbone with the same random weights, training without dropout."""
    ours = build_backbone(MaskFormerConfig(backbone_config={"model_type": "swin"} | FIELDS).backbone_config)
    theirs = MaskFormerSwinBackbone(MaskFormerSwinConfig(**FIELDS))
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    theirs.load_state_dict(ours.state_dict())
    return ours.train(), theirs.train()


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (32, 160)], ids=str)
def test_maps_and_gradients_are_transformers(size):
    ours, theirs = both()
    pixels = torch.randn(2, 3, *size)
    mine, other = ours(pixels).feature_maps, theirs(pixels).feature_maps
    for found, expected in zip(mine, other, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    for maps in (mine, other):
        sum(feature.square().mean() for feature in maps).backward()
    expected = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(weight.grad, expected[name].grad, atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_what_else_it_gives_is_transformers():
    ours, theirs = both()
    pixels = torch.randn(1, 3, 64, 96)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    mine, other = ours(pixels, **wanted), theirs(pixels, **wanted)
    for found, expected in zip(mine.attentions, other.attentions, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shift", [0, 2])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (3, 12), (4, 4), (1, 7)], ids=str)
@torch.no_grad()
def test_windows_found_by_number_are_those_of_padded_and_rolled_maps(size, shift):
    config = MaskFormerSwinConfig(**FIELDS)
    block = SwinBlock(config, dim=16, input_resolution=size, num_heads=2, shift_size=shift).eval()
    for weight in block.parameters():
        weight.add_(0.3 * torch.randn_like(weight))
    hidden = torch.randn(2, size[0] * size[1], 16)
    (expected,) = MaskFormerSwinLayer.forward(block, hidden, size)
    torch.testing.assert_close(block.forward_by_numbers(hidden, size), expected, atol=1e-5, rtol=1e-4)


def test_its_config_names_the_swin_that_it_is():
    """By "swin" transformers and peft would rename its weights to those of another Swin."""
    ours, _ = both()
    assert {m.config.model_type for m in ours.modules() if hasattr(m, "config")} == {"maskformer-swin"}
