"""A model of each family of timm: any image size, four maps at strides 4, 8, 16 and 32 that cover the image."""

import math

import pytest
import torch
import transformers
from tiny import tiny_config

from modeling_maskformer import MaskFormerForInstanceSegmentation
from modeling_maskformer.backbone import build_backbone

# the smallest of each family, or nearly
HIERARCHICAL = (
    "resnet10t",
    "resnetv2_18",
    "resnext26ts",
    "seresnet18",
    "regnety_002",
    "convnext_atto",
    "convnextv2_atto",
    "efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "mobilenetv2_035",
    "mobilenetv3_small_050",
    "mobilenetv4_conv_small_035",
    "ghostnet_050",
    "lcnet_035",
    "repvgg_a0",
    "dla46x_c",
    "ese_vovnet19b_slim_dw",
    "densenet121",
    "hrnet_w18_small",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_pico_rw_256",
    "pvt_v2_b0",
    "davit_tiny",
    "hiera_tiny_224",
    "nextvit_small",
    "fastvit_t8",
    "edgenext_xx_small",
    "tiny_vit_5m_224",
    "hgnetv2_b0",
    "mobilevit_xxs",
    "poolformer_s12",
    "efficientformer_l1",
    "starnet_s050",
    "mambaout_femto",
    "inception_v3",
    "mvitv2_tiny",
)
# one stride, or some of the four
BRIDGED = (
    "vit_tiny_patch16_224",
    "vit_small_patch14_dinov2",
    "vit_tiny_patch16_dinov3_qkvb",
    "eva02_tiny_patch14_224",
    "vit_wee_patch16_reg1_gap_256",
    "vit_base_patch16_siglip_224",
    "deit_tiny_patch16_224",
    "vit_tiny_r_s16_p8_224",
    "xcit_nano_12_p16_224",
    "nest_tiny",
    "pit_b_224",
    "levit_128s",
)

# what transformers' own timm backbone gives wrong maps of, or fails on, where height and width are multiples of 32
ONLY_HERE = (
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_pico_rw_256",
    "hiera_tiny_224",
    "efficientformer_l1",
    "mambaout_femto",
    "inception_v3",
    "mvitv2_tiny",
)


@pytest.mark.parametrize("name", HIERARCHICAL + BRIDGED)
def test_any_size_gives_four_maps_that_cover_the_image(name):
    config = tiny_config(backbone_config={"model_type": "timm_backbone", "backbone": name})
    assert (config.to_dict()["model_type"] == "maskformer-extended") == (name in BRIDGED + ONLY_HERE)
    model = MaskFormerForInstanceSegmentation(config).eval()
    height, width = 75, 109  # no multiple of anything
    with torch.no_grad():
        outputs = model(torch.randn(1, 3, height, width), output_hidden_states=True)
    sizes = [(math.ceil(height / stride), math.ceil(width / stride)) for stride in (4, 8, 16, 32)]
    assert [tuple(feature.shape[-2:]) for feature in outputs.encoder_hidden_states] == sizes
    assert outputs.masks_queries_logits.shape == (1, 10, *sizes[0])
    for tensor in (*outputs.encoder_hidden_states, outputs.class_queries_logits, outputs.masks_queries_logits):
        assert tensor.isfinite().all()


@pytest.mark.parametrize("name", [name for name in HIERARCHICAL if name not in ONLY_HERE])
def test_what_is_saved_for_transformers_computes_the_same_there(name, tmp_path):
    model = MaskFormerForInstanceSegmentation(
        tiny_config(backbone_config={"model_type": "timm_backbone", "backbone": name})
    )
    model.eval().save_pretrained(tmp_path)
    plain, info = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    pixels = torch.randn(1, 3, 96, 160, dtype=torch.float64)  # in float32 the norms of new weights magnify rounding
    with torch.no_grad():
        expected, found = plain.double().eval()(pixels), model.double()(pixels)
    for logits in ("masks_queries_logits", "class_queries_logits"):
        torch.testing.assert_close(found[logits], expected[logits], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_a_model_whose_positions_are_of_one_size_sees_larger_images_in_tiles():
    config = tiny_config(backbone_config={"model_type": "timm_backbone", "backbone": "mvitv2_tiny"})
    backbone = build_backbone(config.backbone_config).eval()
    pixels = torch.randn(1, 3, 224, 448)
    maps = backbone(pixels).feature_maps
    halves = zip(*(backbone(half).feature_maps for half in pixels.split(224, dim=3)), strict=True)
    for found, expected in zip(maps, halves, strict=True):
        torch.testing.assert_close(found, torch.cat(expected, dim=3), atol=1e-4, rtol=1e-4)
