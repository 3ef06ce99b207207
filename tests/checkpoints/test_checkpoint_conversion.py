"""Converted weights give the logits that the original's modules give."""

import re

import pytest
import torch
import transformers
from original_backbones import ResNet, Swin
from original_models import OriginalModel, randomize, write_checkpoint, zoo_names
from torch import nn

from modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusForSemanticSegmentation,
)
from modeling_maskformer.checkpoints import (
    Kind,
    LayoutError,
    convert_weights,
    infer_architecture,
    load_original,
    load_weights,
)

SMALL = {"num_classes": 5, "num_queries": 7, "channels": 64, "mask_channels": 32, "hidden": 48, "decoder_layers": 2}
TOLERANCE = 1e-4


def tiny_swin():
    return Swin(32, (2, 1, 2, 2), (2, 4, 4, 8), window=3)


def tiny_original(**fields):
    backbone = fields.pop("backbone", tiny_swin)
    return randomize(OriginalModel(backbone(), **SMALL | fields))


@pytest.fixture
def pixels():
    return torch.randn(2, 3, 96, 160)  # padded by no model, but windows and merging need padding


def assert_same(found, expected):
    assert expected.std() > 0.1  # else closeness would say nothing
    torch.testing.assert_close(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("backbone", [tiny_swin, ResNet], ids=["swin", "R50"])
def test_a_loaded_checkpoint_gives_the_originals_logits(tmp_path, pixels, backbone):
    original = randomize(OriginalModel(backbone(), **SMALL))
    model = load_original(write_checkpoint(tmp_path / "model_final.pkl", zoo_names(original.state_dict())))
    with torch.no_grad():
        output = model(pixels)
    classes, masks = original(pixels)
    assert_same(output.class_queries_logits, classes)
    assert_same(output.masks_queries_logits, masks)


def test_transformers_own_model_gives_the_originals_logits_too(tmp_path, pixels):
    original = tiny_original()
    weights = zoo_names(original.state_dict())
    load_weights(weights, infer_architecture(weights)).save_pretrained(tmp_path)
    plain, info = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values()), info
    with torch.no_grad():
        output = plain.eval()(pixels)
    classes, masks = original(pixels)
    assert_same(output.class_queries_logits, classes)
    assert_same(output.masks_queries_logits, masks)


def test_both_of_the_originals_names_for_the_pixel_decoder_are_read():
    state = tiny_original().state_dict()
    assert zoo_names(state).keys() != state.keys()
    new, old = (convert_weights(names, infer_architecture(names)) for names in (state, zoo_names(state)))
    assert new.keys() == old.keys()
    assert all(torch.equal(new[name], old[name]) for name in new)


PREDICTOR_LAYER = "sem_seg_head.predictor.transformer.decoder.layers.0"
DECODER_LAYER = "model.transformer_module.decoder.layers.0"


@pytest.mark.parametrize(
    ("source", "target", "parts"),
    [
        (
            "backbone.layers.2.blocks.1.attn.qkv.",
            "model.pixel_level_module.encoder.model.encoder.layers.2.blocks.1.attention.self.{}",
            ("query", "key", "value"),
        ),
        (
            "sem_seg_head.transformer.encoder.layers.1.self_attn.in_proj_",
            "model.pixel_level_module.decoder.encoder.layers.1.self_attn.{}_proj",
            "qkv",
        ),
        (f"{PREDICTOR_LAYER}.self_attn.in_proj_", DECODER_LAYER + ".self_attn.{}_proj", "qkv"),
        (f"{PREDICTOR_LAYER}.multihead_attn.in_proj_", DECODER_LAYER + ".encoder_attn.{}_proj", "qkv"),
    ],
)
@pytest.mark.parametrize("leaf", ["weight", "bias"])
def test_one_matrix_is_queries_keys_and_values_in_this_order(source, target, parts, leaf):
    """Some of these no logits show: biases of keys, and the first self-attention of queries that are all zero."""
    weights = zoo_names(tiny_original(encoder_layers=2).state_dict())
    converted = convert_weights(weights, infer_architecture(weights))
    rows = [converted[f"{target.format(part)}.{leaf}"] for part in parts]
    assert torch.equal(torch.cat(rows), weights[source + leaf])


def test_an_original_of_the_decoders_width_has_no_input_projection(pixels):
    original = randomize(OriginalModel(Swin(32, (1, 1, 1, 1), (2, 2, 2, 2), window=3), **SMALL | {"channels": 256}))
    weights = original.state_dict()
    assert not any("input_proj" in name for name in weights)
    with torch.no_grad():
        output = load_weights(weights, infer_architecture(weights))(pixels)
    assert_same(output.class_queries_logits, original(pixels)[0])


def test_a_needless_input_projection_is_kept(pixels):
    backbone = Swin(32, (1, 1, 1, 1), (2, 2, 2, 2), window=3)
    original = OriginalModel(backbone, **SMALL | {"channels": 256})
    original.sem_seg_head.predictor.input_proj = nn.Conv2d(256, 256, kernel_size=1)
    weights = zoo_names(randomize(original).state_dict())
    with torch.no_grad():
        output = load_weights(weights, infer_architecture(weights))(pixels)
    assert_same(output.class_queries_logits, original(pixels)[0])


def test_r101cs_deep_stem_and_dilated_last_stage(tmp_path, pixels):
    """With the blocks of R50, which is the same and smaller."""
    original = randomize(OriginalModel(ResNet(deep_stem=True), **SMALL))
    weights = zoo_names(original.state_dict())
    architecture = infer_architecture(weights)
    assert architecture.backbone.timm_name == "resnet50s"
    assert architecture.backbone.last_stage_dilations == (1, 2, 4)
    model = load_original(write_checkpoint(tmp_path / "model_final.pkl", weights))
    model.save_pretrained(tmp_path / "converted")
    saved = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path / "converted").eval()
    pixels = pixels.double()  # so many layers round too differently in float32
    classes, masks = original.double()(pixels)
    for loaded in (model, saved):
        with torch.no_grad():
            output = loaded.double()(pixels)
        assert_same(output.class_queries_logits, classes)
        assert_same(output.masks_queries_logits, masks)
    model.config.last_stage_dilations = None
    undilated = MaskFormerForInstanceSegmentation(model.config).double().eval()
    undilated.load_state_dict(model.state_dict())
    with torch.no_grad():  # plain timm would give other results, silently
        assert (undilated(pixels).class_queries_logits - classes).abs().max() > 10 * TOLERANCE


@pytest.mark.parametrize(
    "fields", [{}, {"encoder_layers": 2}, {"backbone": ResNet}], ids=["swin", "encoder layers", "R50"]
)
def test_per_pixel_baseline(tmp_path, pixels, fields):
    original = tiny_original(kind="per_pixel", **fields)
    weights = zoo_names(original.state_dict())
    architecture = infer_architecture(weights)
    assert (architecture.kind, architecture.num_labels, architecture.decoder) == (Kind.PER_PIXEL, 5, None)
    model = load_original(write_checkpoint(tmp_path / "model_final.pkl", weights))
    assert type(model) is PerPixelBaselineForSemanticSegmentation and not model.training
    with torch.no_grad():
        assert_same(model(pixels).logits, original(pixels)[1])


@pytest.mark.parametrize(
    "fields", [{}, {"encoder_layers": 2}, {"backbone": ResNet}], ids=["swin", "encoder layers", "R50"]
)
def test_per_pixel_baseline_plus(tmp_path, pixels, fields):
    original = tiny_original(kind="per_pixel_plus", **fields)
    weights = zoo_names(original.state_dict())
    architecture = infer_architecture(weights)
    assert (architecture.kind, architecture.num_labels) == (Kind.PER_PIXEL_PLUS, 5)
    assert architecture.decoder.num_queries == 5
    model = load_original(write_checkpoint(tmp_path / "model_final.pkl", weights))
    assert type(model) is PerPixelBaselinePlusForSemanticSegmentation and not model.training
    with torch.no_grad():
        assert_same(model(pixels).logits, original(pixels)[1])


@pytest.mark.parametrize("kind", ["per_pixel", "per_pixel_plus"])
def test_what_a_baselines_weights_do_not_say_is_as_in_the_original(kind):
    weights = zoo_names(tiny_original(kind=kind).state_dict())
    names = ["wall", "sky", "tree", "road", "person"]
    config = load_weights(weights, infer_architecture(weights), names).config
    assert config.freeze_backbone_batch_norm
    assert [config.id2label[number] for number in range(5)] == names
    if kind == "per_pixel_plus":
        assert config.use_auxiliary_loss
        assert (config.decoder_config.decoder_attention_heads, config.decoder_config.dropout) == (8, 0.1)


def test_the_pixel_decoder_with_transformer_encoder_layers(tmp_path, pixels):
    original = tiny_original(encoder_layers=2)
    weights = zoo_names(original.state_dict())
    architecture = infer_architecture(weights)
    assert (architecture.num_encoder_layers, architecture.encoder_ffn_channels) == (2, 48)
    assert not architecture.decoder.has_input_projection
    model = load_original(write_checkpoint(tmp_path / "model_final.pkl", weights))
    with torch.no_grad():
        output = model(pixels)
    classes, masks = original(pixels)
    assert_same(output.class_queries_logits, classes)
    assert_same(output.masks_queries_logits, masks)


def test_what_the_weights_do_not_say_is_as_in_the_original():
    original = tiny_original()
    original.criterion.empty_weight[-1] = 0.25
    weights = original.state_dict()
    model = load_weights(weights, infer_architecture(weights))
    config = model.config
    assert not model.training
    assert config.use_auxiliary_loss
    assert config.mask_loss == "dense"
    assert config.freeze_backbone_batch_norm
    assert config.no_object_weight == 0.25
    assert config.id2label == {number: f"class_{number}" for number in range(5)}
    assert config.decoder_config.decoder_attention_heads == 8
    assert config.decoder_config.dropout == 0.1
    assert config.backbone_config.drop_path_rate == 0.3
    assert config.backbone_config.window_size == 3


def test_label_names_are_kept_and_counted():
    weights = tiny_original().state_dict()
    architecture = infer_architecture(weights)
    names = ["wall", "sky", "tree", "road", "person"]
    config = load_weights(weights, architecture, names).config
    assert [config.id2label[number] for number in range(5)] == names
    assert config.label2id["tree"] == 2
    with pytest.raises(ValueError, match="There are 4 label names, but the checkpoint has 5 classes"):
        load_weights(weights, architecture, names[:4])


def change(weights, removed=(), **added):
    kept = {name: value for name, value in weights.items() if name not in removed}
    return kept | {name.replace("__", "."): value for name, value in added.items()}


def test_every_missing_and_every_unknown_name_is_listed():
    weights = zoo_names(tiny_original().state_dict())
    removed = (
        "backbone.layers.2.blocks.1.attn.qkv.bias",
        "sem_seg_head.adapter_2.norm.weight",
        "sem_seg_head.predictor.transformer.decoder.layers.1.norm3.weight",
        "criterion.empty_weight",
    )
    broken = change(
        weights, removed, sem_seg_head__predictor__box_embed__weight=torch.zeros(2), backbone__norm4__weight=None
    )
    with pytest.raises(LayoutError) as raised:
        convert_weights(broken, infer_architecture(broken))
    missing, unknown = str(raised.value).split("Missing: ")[1].split(". Unknown: ")
    assert sorted(missing.split(", ")) == sorted(removed)
    assert sorted(unknown.rstrip(".").split(", ")) == [
        "backbone.norm4.weight",
        "sem_seg_head.predictor.box_embed.weight",
    ]


def test_a_gap_in_the_layers_is_missing_names_not_a_smaller_model():
    weights = zoo_names(tiny_original().state_dict())
    gap = [name for name in weights if ".decoder.layers.0.multihead_attn." in name]
    broken = change(weights, gap)
    with pytest.raises(LayoutError, match="Missing: " + re.escape(", ".join(gap))):
        convert_weights(broken, infer_architecture(broken))


@pytest.mark.parametrize(
    ("removed", "reason"),
    [
        (r"sem_seg_head\.predictor\.", "no weights under sem_seg_head.predictor. Its names begin with backbone, cr"),
        (r"backbone\.", "neither a ResNet of detectron2"),
        (r"sem_seg_head\.predictor\.class_embed\.weight", "no weight sem_seg_head.predictor.class_embed.weight"),
        (r"backbone\.patch_embed\.proj\.weight", "no weight backbone.patch_embed.proj.weight"),
    ],
)
def test_what_the_architecture_is_told_from_is_named_where_it_is_missing(removed, reason):
    weights = zoo_names(tiny_original().state_dict())
    broken = {name: value for name, value in weights.items() if not re.match(removed, name)}
    with pytest.raises(LayoutError, match=re.escape(reason)):
        infer_architecture(broken)


def test_a_weight_of_another_shape_is_named():
    weights = zoo_names(tiny_original().state_dict())
    architecture = infer_architecture(weights)
    query_bias = "sem_seg_head.predictor.transformer.decoder.layers.0.self_attn.in_proj_bias"
    with pytest.raises(LayoutError, match=re.escape(f"{query_bias} has shape (191,), expected 3 equal parts")):
        load_weights(weights | {query_bias: torch.zeros(191)}, architecture)
    mask_bias = "sem_seg_head.mask_features.bias"
    with pytest.raises(LayoutError, match=r"decoder\.mask_projection\.bias"):
        load_weights(weights | {mask_bias: torch.zeros(31)}, architecture)


def test_a_resnet_that_timm_does_not_have_is_named():
    weights = zoo_names(OriginalModel(ResNet((3, 4, 5, 3)), **SMALL).state_dict())
    with pytest.raises(LayoutError, match=re.escape("[3, 4, 5, 3] blocks")):
        load_weights(weights, infer_architecture(weights))
