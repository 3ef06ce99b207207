"""What is done to images and maps of timm's models, against timm's own numbers; pyramids; what is refused."""

import json
import math
from types import SimpleNamespace

import pytest
import timm
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from tiny import BACKBONES, tiny_config
from torch import nn

from modeling_maskformer import MaskFormerForInstanceSegmentation, PerPixelBaselineForSemanticSegmentation
from modeling_maskformer.backbone import FeaturePyramid, build_backbone, load_backbone_weights, timm_out_indices
from modeling_maskformer.backbone.timm_models import SizeRule, _meta_model, timm_size_rule
from modeling_maskformer.training.model_building import load_timm_weights
from modeling_maskformer.training.optimizer import parameter_groups

VIT = "test_vit"  # timm's own for tests: patches of 16, images of 160


def config_on(name, **fields):
    backbone = {"model_type": "timm_backbone", "backbone": name}
    return tiny_config(backbone_config=backbone | fields.pop("backbone_config", {}), **fields)


def model_on(name, **fields):
    return MaskFormerForInstanceSegmentation(config_on(name, **fields)).eval()


def backbone_on(name, **fields):
    return build_backbone(config_on(name, **fields).backbone_config).eval()


def maps_of(backbone, pixels):
    with torch.no_grad():
        return backbone(pixels).feature_maps


def spread(module):
    """Every weight random: position embeddings and layer scales start at almost nothing."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module


def timms_own(backbone):
    """The function from pixels to maps of timm's model with the same weights, built as timm builds it."""
    model = timm.create_model(backbone.config.backbone, features_only=True, out_indices=backbone.out_indices)
    model.load_state_dict(backbone._backbone.state_dict())
    model.eval()

    def run(pixels):
        with torch.no_grad():
            return model(pixels)

    return run


def assert_close(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def assert_same_in_transformers(model, pixels, folder):
    """Transformers' own class opens the checkpoint with nothing left over, and gives these pixels the same logits."""
    model.save_pretrained(folder)
    plain, info = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        expected, found = plain.eval()(pixels), model(pixels)
    for name in ("masks_queries_logits", "class_queries_logits"):
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(found[name], expected[name], atol=1e-4 * scale, rtol=0)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("resnet10t", SizeRule(1)),
        ("tf_efficientnet_lite0", SizeRule(1)),
        ("swin_tiny_patch4_window7_224", SizeRule(4)),
        ("test_convnext", SizeRule(32)),
        (VIT, SizeRule(16)),
        ("eva02_tiny_patch14_224", SizeRule(14)),
        ("test_maxvit", SizeRule(160)),
        ("test_coatnet", SizeRule(160, is_tiled=True)),
    ],
)
def test_each_model_is_fed_what_it_takes(name, rule):
    assert timm_size_rule(name) == rule


def test_what_a_model_takes_does_not_depend_on_the_type_it_is_loaded_as():
    name = "test_convnext2"
    timm_out_indices(name)  # asked for the first time in float32
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert timm_size_rule(name) == SizeRule(32)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_model_that_takes_any_size_sees_the_image_as_it_is():
    backbone = backbone_on("resnet10t")
    pixels = torch.randn(1, 3, 75, 109)
    assert_close(maps_of(backbone, pixels), timms_own(backbone)(pixels))


def test_zeros_fill_up_the_image_and_are_cut_off_the_maps():
    backbone = spread(backbone_on("test_convnext"))
    pixels = torch.randn(2, 3, 75, 109)
    expected = timms_own(backbone)(F.pad(pixels, (0, 128 - 109, 0, 96 - 75)))
    sizes = [(19, 28), (10, 14), (5, 7), (3, 4)]
    expected = [feature[..., :height, :width] for feature, (height, width) in zip(expected, sizes, strict=True)]
    assert_close(maps_of(backbone, pixels), expected)


def test_swin_gives_at_its_own_size_what_timm_s_gives():
    backbone = backbone_on("swin_tiny_patch4_window7_224")
    pixels = torch.randn(1, 3, 224, 224)
    assert_close(maps_of(backbone, pixels), [x.permute(0, 3, 1, 2) for x in timms_own(backbone)(pixels)])
    # as high in cells as it has channels: which axis is which cannot be told by its length
    assert maps_of(backbone, torch.randn(1, 3, 384, 32))[0].shape == (1, 96, 96, 8)


def test_a_model_of_one_size_sees_the_image_in_tiles():
    backbone = spread(backbone_on("test_coatnet"))
    own = timms_own(backbone)
    pixels = torch.randn(2, 3, 160, 250)
    left, right = own(pixels[..., :160]), own(F.pad(pixels[..., 160:], (0, 320 - 250)))
    widths = [math.ceil(250 / stride) for stride in (4, 8, 16, 32)]
    expected = [torch.cat(pair, dim=3)[..., :width] for *pair, width in zip(left, right, widths, strict=True)]
    assert_close(maps_of(backbone, pixels), expected)


def test_position_embeddings_are_resized_to_the_image():
    backbone = spread(backbone_on(VIT))
    pixels = torch.randn(1, 3, 75, 109)
    padded = F.pad(pixels, (0, 112 - 109, 0, 80 - 75))
    (found,) = maps_of(backbone, pixels)
    table = backbone._backbone.model.pos_embed  # (1, tokens, C)
    others = table.shape[1] - 10 * 10
    cropped = table[:, others:].unflatten(1, (10, 10))[:, :5, :7].flatten(1, 2)
    tables = {
        "resized": resample_abs_pos_embed(table, new_size=(5, 7), num_prefix_tokens=others),
        "cropped": torch.cat((table[:, :others], cropped), dim=1),
    }
    results = {}
    for how, values in tables.items():
        # built for this size alone, with the table that was made for it
        own = timm.create_model(
            VIT, features_only=True, out_indices=backbone.out_indices, img_size=(80, 112), dynamic_img_size=False
        )
        own.load_state_dict(backbone._backbone.state_dict() | {"model.pos_embed": values})
        with torch.no_grad():
            results[how] = own.eval()(padded)[0]
    torch.testing.assert_close(found, results["resized"], atol=1e-4, rtol=1e-4)
    assert (found - results["cropped"]).abs().max() > 0.01


def test_cells_of_14_pixels_become_cells_of_16_in_their_place():
    backbone = backbone_on("eva02_tiny_patch14_224")

    class Places(nn.Module):
        """In each cell the place of its middle in the image."""

        def forward(self, pixels):
            y, x = ((torch.arange(length // 14) + 0.5) * 14 for length in pixels.shape[-2:])
            return [torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]]

    backbone._backbone = Places()
    (found,) = maps_of(backbone, torch.randn(1, 3, 96, 130))
    assert found.shape == (1, 2, 6, 9)
    middles = [(torch.arange(length) + 0.5) * 16 for length in (6, 9)]
    expected = torch.stack(torch.meshgrid(*middles, indexing="ij"))[None]
    torch.testing.assert_close(found, expected)


def test_a_plain_vit_gets_a_pyramid_as_in_vitdet():
    model = model_on(VIT)
    pyramid = model.model.pixel_level_module.pyramid
    assert model.config.backbone_config.out_indices == [5]  # the last block
    assert pyramid.channels == [16, 32, 64, 64]
    pixels = torch.randn(1, 3, 75, 109)
    (plain,) = maps_of(model.get_backbone(), pixels)
    with torch.no_grad():
        maps = model.model.pixel_level_module.extract_features(pixels)
        normed = F.layer_norm(plain.permute(0, 2, 3, 1), (64,), eps=1e-6).permute(0, 3, 1, 2)
        convs = [level for level in pyramid.levels[0] if isinstance(level, nn.ConvTranspose2d)]
        finer = F.conv_transpose2d(normed, convs[0].weight, convs[0].bias, stride=2)
        finer = F.gelu(F.layer_norm(finer.permute(0, 2, 3, 1), (32,), eps=1e-6).permute(0, 3, 1, 2))
        finest = F.conv_transpose2d(finer, convs[1].weight, convs[1].bias, stride=2)
    assert_close([maps[0]], [finest[..., :19, :28]])
    assert_close([maps[2]], [normed])
    padded = F.pad(normed, (0, 1, 0, 1), value=-math.inf)
    assert_close([maps[3]], [padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))])


@pytest.mark.parametrize(
    ("strides", "sources", "channels"),
    [
        ((8, 16, 32), [0, 0, 1, 2], [32, 64, 128, 256]),
        ((4, 8, 16), [0, 1, 2, 2], [64, 128, 256, 256]),
        ((16, 32), [0, 0, 0, 1], [16, 32, 64, 128]),
        ((8,), [0, 0, 0, 0], [32, 64, 64, 64]),
        ((4, 16, 32), [0, 1, 1, 2], [64, 64, 128, 256]),
    ],
)
def test_missing_strides_are_made_of_the_nearest(strides, sources, channels):
    widths = [64, 128, 256][: len(strides)]
    pyramid = FeaturePyramid(strides, widths)
    assert (pyramid.sources, pyramid.channels) == (sources, channels)
    size = (75, 109)
    features = [
        torch.randn(1, width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        for stride, width in zip(strides, widths, strict=True)
    ]
    maps = pyramid(features, size)
    assert [tuple(feature.shape[1:]) for feature in maps] == [
        (width, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        for stride, width in zip((4, 8, 16, 32), channels, strict=True)
    ]
    if len(strides) > 1:  # what there is stays as it is
        for stride, feature in zip(strides, features, strict=True):
            assert torch.equal(maps[(4, 8, 16, 32).index(stride)], feature)


def test_gradients_reach_the_pyramid_and_the_backbone():
    model = model_on(VIT).train()
    ids = torch.randint(0, 3, (1, 1, 75, 109), dtype=torch.uint8)
    model(torch.randn(1, 3, 75, 109), segment_ids=ids, class_labels=[torch.tensor([0, 1])]).loss.backward()
    module = model.model.pixel_level_module
    for name, parameter in [*module.pyramid.named_parameters(), *module.encoder.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.any(), name


def test_the_pyramid_learns_at_the_full_rate_and_the_backbone_at_its_own():
    model = model_on(VIT)
    groups = parameter_groups(model, learning_rate=1.0, weight_decay=0.1, backbone_lr_factor=0.25)
    settings = {parameter: (group["lr"], group["weight_decay"]) for group in groups for parameter in group["params"]}
    module = model.model.pixel_level_module
    assert {settings[parameter][0] for parameter in module.encoder.parameters()} == {0.25}
    assert {settings[parameter][0] for parameter in module.pyramid.parameters()} == {1.0}
    assert settings[module.pyramid.levels[0][0].weight] == (1.0, 0.1)
    assert settings[module.pyramid.norm.weight] == (1.0, 0.0)
    vit = module.encoder._backbone.model
    assert settings[vit.cls_token] == settings[vit.pos_embed] == (0.25, 0.0)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        (VIT, {}),
        ("eva02_tiny_patch14_224", {}),
        ("resnet26", {"last_stage_dilations": [1, 2]}),
        ("resnet10t", {"backbone_config": {"out_indices": [2, 3, 4]}}),
    ],
    ids=["vit", "eva02", "dilated", "three maps"],
)
def test_a_checkpoint_with_pyramid_or_dilation_has_a_model_type_of_its_own(name, fields, tmp_path):
    model = spread(model_on(name, **fields))
    model.save_pretrained(tmp_path)
    # without the import of this package, no class of transformers answers this model type
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "maskformer-extended"
    assert "maskformer-extended" not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    _meta_model.cache_clear()  # as in a process that begins with loading
    timm_size_rule.cache_clear()
    again, info = transformers.AutoModelForUniversalSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    pixels = torch.randn(1, 3, 75, 109)
    with torch.no_grad():
        expected, found = model(pixels), again.eval()(pixels)
    torch.testing.assert_close(found.masks_queries_logits, expected.masks_queries_logits)
    torch.testing.assert_close(found.class_queries_logits, expected.class_queries_logits)


def test_transformers_gives_the_same_logits_on_images_that_it_takes(tmp_path):
    assert_same_in_transformers(spread(model_on("test_convnext")), torch.randn(1, 3, 96, 128), tmp_path)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "test_maxvit", "test_coatnet", "inception_v3"])
def test_a_backbone_that_transformers_runs_otherwise_is_refused_there_and_opens_here(name, tmp_path):
    model = model_on(name)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="maskformer-extended"):
        transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path)
    file = tmp_path / "config.json"
    fields = json.loads(file.read_text())
    assert fields["model_type"] == "maskformer-extended"
    pixels = torch.randn(1, 3, 75, 109)
    with torch.no_grad():
        expected = model(pixels).masks_queries_logits
        for _ in range(2):
            again = transformers.AutoModelForUniversalSegmentation.from_pretrained(tmp_path).eval()
            torch.testing.assert_close(again(pixels).masks_queries_logits, expected)
            # then as earlier versions wrote it
            fields |= {"model_type": "maskformer", "decoder_config": fields["decoder_config"] | {"model_type": "detr"}}
            file.write_text(json.dumps(fields))


@pytest.mark.parametrize("fields", [{}, {"output_stride": 16}, {"output_stride": 8}], ids=str)
def test_four_maps_are_taken_as_transformers_takes_them(fields, tmp_path):
    model = model_on("resnet26", backbone_config={"out_indices": [1, 2, 3, 4]} | fields)
    assert model.model.pixel_level_module.pyramid is None
    assert_same_in_transformers(model, torch.randn(1, 3, 64, 96), tmp_path)


@pytest.mark.parametrize(
    ("name", "out_indices", "strides", "right"),
    [
        ("resnet10t", [0, 1, 2, 3], "2, 4, 8, 16", r"\[1, 2, 3, 4\]"),
        (VIT, [2, 3, 4, 5], "16, 16, 16, 16", r"\[5\]"),
    ],
)
@pytest.mark.parametrize("model_class", [MaskFormerForInstanceSegmentation, PerPixelBaselineForSemanticSegmentation])
def test_four_maps_whose_finest_is_not_that_of_masks_are_refused(model_class, name, out_indices, strides, right):
    """Such masks would show a part of the image."""
    backbone = {"model_type": "timm_backbone", "backbone": name, "out_indices": out_indices}
    message = rf"of the timm model '{name}' have the strides {strides}, but .* stride 4, .*out_indices .* to {right}"
    with pytest.raises(ValueError, match=message):
        model_class(model_class.config_class(backbone_config=backbone))


def test_dilation_keeps_the_size_and_widens_the_view():
    pixels = torch.randn(1, 3, 161, 161)
    plain, dilated = (model_on("resnet26", last_stage_dilations=value) for value in (None, [1, 3]))
    dilated.load_state_dict(spread(plain).state_dict())  # its blocks start at zero
    one, other = (maps_of(model.get_backbone(), pixels) for model in (plain, dilated))
    for level in range(3):
        assert torch.equal(one[level], other[level])
    assert one[3].shape == other[3].shape
    assert (one[3] - other[3]).abs().max() > 1e-3
    convs = [block.conv2 for block in dilated.get_backbone()._backbone.layer4]
    assert [(conv.dilation, conv.stride) for conv in convs] == [((1, 1), (2, 2)), ((3, 3), (1, 1))]


@pytest.mark.parametrize(
    ("name", "dilations", "message"),
    [
        ("resnet26", [1, 2, 4], "has 3 values, but the last stage of 'resnet26' has 2 blocks"),
        ("resnet10t", [2], "bottleneck blocks .*, got 'resnet10t'"),
        ("test_convnext", [1, 2], "bottleneck blocks .*, got 'test_convnext'"),
        ("resnet26", [1, 0], r"must be whole numbers, at least 1 each, got \[1, 0\]"),
    ],
)
def test_dilations_that_do_not_fit_are_refused(name, dilations, message):
    with pytest.raises(ValueError, match=message):
        model_on(name, last_stage_dilations=dilations)


def test_a_model_without_feature_maps_is_refused_in_a_sentence(monkeypatch):
    def create_without(name, **settings):
        raise RuntimeError("features_only not implemented")

    monkeypatch.setattr(timm, "create_model", create_without)
    message = r"timm model 'test_vit2' gives no feature maps \(features_only\): features_only not implemented"
    with pytest.raises(ValueError, match=message):
        timm_out_indices("test_vit2")


def test_a_model_with_maps_of_no_use_is_refused_in_a_sentence(monkeypatch):
    class Coarse(nn.Module):
        feature_info = SimpleNamespace(info=[{"reduction": 2, "module": "a"}, {"reduction": 64, "module": "b"}])

    monkeypatch.setattr(timm, "create_model", lambda name, **settings: Coarse())
    with pytest.raises(ValueError, match=r"'test_vit3' has feature maps at strides \[2, 64\], expected one of \[4, 8"):
        timm_out_indices("test_vit3")


def test_a_model_whose_maps_have_no_names_of_their_own_is_refused_in_a_sentence():
    with pytest.raises(
        ValueError, match=r"'coat_tiny' gives several feature maps one name, .*parallel_blocks, parallel_blocks"
    ):
        timm_out_indices("coat_tiny")


@pytest.mark.parametrize("name", [VIT, "test_convnext", "test_maxvit"])
def test_a_file_of_the_whole_model_loads_into_its_backbone(name, tmp_path):
    whole = spread(timm.create_model(name))
    save_file({key: tensor.contiguous() for key, tensor in whole.state_dict().items()}, tmp_path / "w.safetensors")
    model = model_on(name)
    load_backbone_weights(model.get_backbone(), tmp_path / "w.safetensors")
    size = whole.pretrained_cfg["input_size"][-1]
    pixels = torch.randn(1, 3, size, size)
    with torch.no_grad():
        features = whole.eval().forward_intermediates(pixels, norm=False, intermediates_only=True)
    torch.testing.assert_close(maps_of(model.get_backbone(), pixels)[-1], features[-1], atol=1e-4, rtol=1e-4)


def test_position_embeddings_of_another_grid_are_resized_when_they_are_loaded(tmp_path):
    whole = spread(timm.create_model(VIT, img_size=64))
    weights = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    backbone = backbone_on(VIT)
    load_backbone_weights(backbone, tmp_path / "w.safetensors")
    others = weights["pos_embed"].shape[1] - 4 * 4
    expected = resample_abs_pos_embed(weights["pos_embed"], new_size=(10, 10), num_prefix_tokens=others)
    torch.testing.assert_close(backbone._backbone.model.pos_embed.data, expected)


def test_weights_of_another_model_are_refused(tmp_path):
    weights = {name: tensor.clone() for name, tensor in timm.create_model("resnet10t").state_dict().items()}
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit the backbone\. Missing: model\.cls_token"):
        load_backbone_weights(backbone_on(VIT), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", [VIT, "test_convnext"])
def test_timm_s_pretrained_weights_go_into_the_backbone_alone(name, monkeypatch):
    create = timm.create_model

    def create_pretrained(name, pretrained=False, **settings):
        model = create(name, **settings)
        if pretrained:
            for tensor in model.state_dict().values():
                tensor.fill_(0.5)
        return model

    model = model_on(name)
    monkeypatch.setattr(timm, "create_model", create_pretrained)
    load_timm_weights(model)
    for key, tensor in model.state_dict().items():
        in_backbone = key.startswith("model.pixel_level_module.encoder.")
        assert bool((tensor == 0.5).all()) is in_backbone, key


@pytest.mark.parametrize(
    ("backbone", "fields", "found"),
    [
        ("swin", {"patch_size": 2}, "32x32, 16x16, 8x8, 4x4"),
        ("resnet", {"downsample_in_first_stage": True}, "8x8, 4x4, 2x2, 1x1"),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_backbone_of_transformers_with_other_strides_is_refused(backbone, fields, found, training):
    """Its masks would show a part of the image, or none of its pixels where they are."""
    config = tiny_config(backbone, backbone_config=BACKBONES[backbone] | fields)
    model = MaskFormerForInstanceSegmentation(config).train(training)
    with pytest.raises(ValueError, match=f"'[a-z-]*{backbone}' gives maps of {found} for pixels of 64x64, expected"):
        model(torch.randn(2, 3, 50, 64))
