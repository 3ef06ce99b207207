"""Configurations and calls at the edge: a result, or a sentence that names the argument."""

import pytest
import torch
from models import ARCHITECTURES, batch_of, logits_of, tiny

from modeling_maskformer import (
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineConfig,
    PerPixelBaselinePlusConfig,
)
from modeling_maskformer.inference.predictor import check_finite
from modeling_maskformer.layers.pixel_decoder import GroupNorm

CONFIGS = {
    "maskformer": MaskFormerConfig,
    "per_pixel": PerPixelBaselineConfig,
    "per_pixel_plus": PerPixelBaselinePlusConfig,
}


@pytest.mark.parametrize("kind", ["maskformer", "per_pixel_plus"])
@pytest.mark.parametrize(
    "name", ["decoder_layers", "num_queries", "d_model", "decoder_attention_heads", "decoder_ffn_dim"]
)
def test_a_decoder_of_nothing_is_refused(kind, name):
    if (kind, name) == ("per_pixel_plus", "num_queries"):
        pytest.skip("there the classes are the queries")
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        CONFIGS[kind](decoder_config={"model_type": "detr", name: 0})


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_labels", 0),
        ("num_labels", None),
        ("num_labels", 2.5),
        ("fpn_feature_size", 0),
        ("fpn_feature_size", True),
        ("mask_feature_size", -32),
        ("mask_feature_size", {}),
        ("pixel_decoder_layers", -1),
        ("pixel_decoder_layers", []),
        ("last_stage_dilations", [None]),
        ("last_stage_dilations", 3),
    ],
)
def test_a_field_of_another_kind_is_refused_by_name(kind, field, value):
    with pytest.raises(Exception, match=field) as raised:
        CONFIGS[kind](**{field: value})
    assert isinstance(raised.value, (ValueError, TypeError)) or "Strict" in type(raised.value).__name__


@pytest.mark.parametrize(
    ("kind", "fields", "message"),
    [
        ("maskformer", {"mask_loss": "Dense"}, "mask_loss must be one of dense, points, got 'Dense'"),
        ("maskformer", {"num_points": 0}, "num_points must be at least 1, got 0"),
        ("maskformer", {"non_finite_cost": "warn"}, "non_finite_cost must be one of"),
        ("maskformer", {"oversample_ratio": 0.5}, "oversample_ratio must be at least 1"),
        ("maskformer", {"no_object_weight": -0.1}, "no_object_weight must be at least 0 and finite, got -0.1"),
        ("maskformer", {"cross_entropy_weight": float("nan")}, "cross_entropy_weight must be at least 0 .* got nan"),
        ("per_pixel", {"fpn_feature_size": 40}, "fpn_feature_size must be a multiple of 32"),
        ("per_pixel", {"mask_feature_size": 0}, "mask_feature_size must be at least 1, got 0"),
        ("per_pixel_plus", {"pixel_decoder_layers": -1}, "pixel_decoder_layers must not be negative"),
    ],
    ids=str,
)
def test_a_field_changed_on_loading_is_checked_too(kind, fields, message, tmp_path):
    model = tiny(kind)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=message):
        type(model).from_pretrained(tmp_path, **fields)


def test_a_change_on_loading_that_is_right_is_taken(tmp_path):
    tiny("maskformer").save_pretrained(tmp_path)
    model = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, mask_loss="points", num_points=64)
    assert model.criterion.mask_loss == "points" and model.criterion.num_points == 64


@pytest.mark.parametrize("kind", CONFIGS)
def test_backbone_kwargs_are_the_timm_backbone_s(kind):
    config = CONFIGS[kind](backbone="resnet10t", backbone_kwargs={"num_channels": 4, "out_indices": [1, 2, 3, 4]})
    assert config.backbone_config.num_channels == 4
    assert list(config.backbone_config.out_indices) == [1, 2, 3, 4]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_missing_pixels_are_named(kind):
    with pytest.raises(ValueError, match="pixel_values are missing"):
        tiny(kind)(None)


def test_heads_have_to_divide_the_channels():
    with pytest.raises(ValueError, match="decoder_attention_heads must divide the 256 channels"):
        MaskFormerConfig(decoder_config={"model_type": "detr", "decoder_attention_heads": 7})


@pytest.mark.parametrize("kind", ["maskformer", "per_pixel_plus"])
@pytest.mark.parametrize("channels", [1, 6, 30])
def test_positions_need_four_channels_each(kind, channels):
    decoder = {"model_type": "detr", "d_model": channels, "decoder_attention_heads": 1}
    with pytest.raises(ValueError, match=f"d_model must be a multiple of 4 .*, got {channels}"):
        CONFIGS[kind](decoder_config=decoder)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("channels", [1, 20])
def test_embeddings_of_pixels_have_any_number_of_channels(kind, channels, tmp_path):
    """No norm is over them."""
    model, batch = tiny(kind, mask_feature_size=channels), batch_of()
    model(**batch).loss.backward()
    model.eval().save_pretrained(tmp_path)
    again = type(model).from_pretrained(tmp_path)
    with torch.no_grad():
        expected, found = (logits_of(each(batch["pixel_values"])) for each in (model, again))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("size", [(1, 1), (1, 65), (33, 65), (32, 32)])
def test_images_of_a_few_pixels_train_and_predict(kind, size):
    model = tiny(kind)
    target = {"mask_labels": [torch.ones(1, *size)], "class_labels": [torch.tensor([1])]}
    loss = model(torch.randn(1, 3, *size), **target).loss
    loss.backward()
    assert loss.isfinite()
    assert model.eval()(torch.randn(1, 3, *size)).image_sizes.tolist() == [list(size)]


def test_group_norm_is_torchs_and_takes_single_values():
    norm, torchs = GroupNorm(4, 8), torch.nn.GroupNorm(4, 8)
    for module in (norm, torchs):
        torch.nn.init.constant_(module.bias, 3.0)
    values = torch.randn(2, 8, 3, 5)
    assert torch.equal(norm(values), torchs(values))
    one = GroupNorm(8, 8)
    torch.nn.init.constant_(one.bias, 3.0)
    torch.testing.assert_close(one(torch.randn(1, 8, 1, 1)), torch.full((1, 8, 1, 1), 3.0), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_calls_without_pixels_are_refused(kind):
    model = tiny(kind)
    for shape in ((0, 3, 32, 32), (1, 3, 0, 32), (1, 3, 32, 0)):
        with pytest.raises(ValueError, match="there are no pixels"):
            model(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"pixel_values are torch\.uint8"):
        model(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_pixels_that_are_not_finite_spoil_their_image_alone(kind):
    model = tiny(kind).eval()
    pixels = torch.randn(2, 3, 32, 64)
    expected = model(pixels)
    pixels[0, 0, 5, 5] = float("nan")
    outputs = model(pixels)
    name = "logits" if "logits" in outputs else "masks_queries_logits"
    assert not outputs[name][0].isfinite().all()
    torch.testing.assert_close(outputs[name][1], expected[name][1], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="NaN or infinite"):
        check_finite(outputs)
    check_finite(expected)
