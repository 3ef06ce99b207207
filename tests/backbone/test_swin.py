"""ImageNet weights of timm's Swin compute the same features in transformers' Swin, which MaskFormer is built on."""

import re
from dataclasses import replace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import layer_norm

from modeling_maskformer.backbone import build_backbone, load_backbone_weights
from modeling_maskformer.backbone.swin import SWINS, Swin, swin_weights
from modeling_maskformer.configuration_maskformer import MaskFormerConfig
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.model_building import build_model

SMALL = Swin(16, (1, 2, 2, 1), (1, 2, 4, 8), 4, 128, "")


def classifier():
    """A small Swin of timm with its head."""
    model = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=128,
        window_size=4,
        embed_dim=16,
        depths=(1, 2, 2, 1),
        num_heads=(1, 2, 4, 8),
        num_classes=10,
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.eval()


def small_backbone():
    return build_backbone(MaskFormerConfig(backbone_config=SMALL.config()).backbone_config).eval()


def as_microsoft_writes_it(weights):
    """The merging of patches at the end of a stage, and tables that timm computes for itself."""

    def earlier(match):
        return f"layers.{int(match[1]) - 1}.downsample"

    renamed = {re.sub(r"layers\.(\d+)\.downsample", earlier, name): tensor for name, tensor in weights.items()}
    backbone = small_backbone().state_dict()
    index = backbone["model.encoder.layers.0.blocks.0.attention.self.relative_position_index"]
    return renamed | {"layers.0.blocks.0.attn.relative_position_index": index}


@pytest.mark.parametrize("layout", ["timm", "microsoft"])
def test_features_are_those_of_the_classifier(tmp_path, layout):
    model = classifier()
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if layout == "microsoft":
        weights = as_microsoft_writes_it(weights)
        assert "layers.0.downsample.reduction.weight" in weights
    save_file(weights, tmp_path / "swin.safetensors")
    backbone = small_backbone()
    load_backbone_weights(backbone, tmp_path / "swin.safetensors")
    pixels = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        found = backbone(pixels).feature_maps
        expected = model.forward_intermediates(pixels, intermediates_only=True)
    for maps, features in zip(found, expected, strict=True):
        normed = layer_norm(features.movedim(1, -1), features.shape[1:2]).movedim(-1, 1)  # as a norm starts
        torch.testing.assert_close(maps, normed, atol=1e-4, rtol=1e-4)


def test_pretrained_weights_of_timm_start_a_new_model(monkeypatch):
    monkeypatch.setitem(SWINS, "swin-tiny", replace(SMALL, timm_name="swin_of_the_hub"))
    source, asked = classifier(), []

    def create_model(name, pretrained):
        asked.append((name, pretrained))
        return source

    monkeypatch.setattr(timm, "create_model", create_model)
    model = build_model(ModelArguments(backbone="swin-tiny", drop_path=0.2), {0: "sky"}, "semantic")
    assert asked == [("swin_of_the_hub", True)]
    backbone = model.get_backbone()
    assert torch.equal(backbone.model.embeddings.patch_embeddings.projection.weight, source.patch_embed.proj.weight)
    assert max(getattr(module, "drop_prob", 0) or 0 for module in backbone.modules()) == pytest.approx(0.2)
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: 1 / 0)
    with pytest.raises(OSError, match="weights of swin_of_the_hub could not be loaded"):
        build_model(ModelArguments(backbone="swin-tiny"), {0: "sky"}, "semantic")


def test_its_own_names_are_read_too(tmp_path):
    one, other = small_backbone(), small_backbone()
    save_file({name: tensor.clone() for name, tensor in one.state_dict().items()}, tmp_path / "own.safetensors")
    load_backbone_weights(other, tmp_path / "own.safetensors")
    torch.testing.assert_close(other.state_dict(), one.state_dict(), rtol=0, atol=0)


def test_weights_of_another_size_are_refused(tmp_path):
    weights = {name: tensor.contiguous() for name, tensor in classifier().state_dict().items()}
    save_file(weights, tmp_path / "swin.safetensors")
    larger = MaskFormerConfig(backbone_config=Swin(32, (1, 2, 2, 1), (1, 2, 4, 8), 4, 128, "").config())
    with pytest.raises(ValueError, match=r"Of another shape: model\.embeddings"):
        load_backbone_weights(build_backbone(larger.backbone_config), tmp_path / "swin.safetensors")


@pytest.mark.parametrize("name", SWINS)
def test_timm_has_weights_for_each_size(name):
    swin = SWINS[name]
    settings = timm.get_pretrained_cfg(swin.timm_name)
    assert settings is not None and settings.input_size == (3, swin.image_size, swin.image_size)
    with torch.device("meta"):
        weights = timm.create_model(swin.timm_name).state_dict()
        backbone = build_backbone(MaskFormerConfig(backbone_config=swin.config()).backbone_config)
    own, converted = backbone.state_dict(), swin_weights(backbone, weights)
    assert {name: tensor.shape for name, tensor in own.items()} == {
        name: tensor.shape for name, tensor in converted.items() if name in own
    }
    assert {name for name in converted if name not in own} == {"model.head.fc.weight", "model.head.fc.bias"}
