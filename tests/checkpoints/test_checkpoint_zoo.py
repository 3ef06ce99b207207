"""Every model of the original's zoo in its real size, without its numbers: names, shapes, sizes, presets."""

import pytest
import timm
import torch
from original_models import ZOO_BACKBONES, OriginalModel, zoo_names

from modeling_maskformer.architectures import architecture_of
from modeling_maskformer.checkpoints import (
    CheckpointError,
    SwinArchitecture,
    build_config,
    convert_weights,
    find_preset,
    infer_architecture,
)

# the backbone, what else differs from ADE20K's models; then what must be found: millions of parameters as the paper's
# tables say (None where they do not), the backbone, the dataset
COCO = {"num_classes": 133}
ENCODER = {"encoder_layers": 6}
ZOO = {
    "ade20k R50": ("R50", {}, 41, "resnet50", ("ade20k", "semantic", 512, 2048)),
    "ade20k R101": ("R101", {}, 60, "resnet101", ("ade20k", "semantic", 512, 2048)),
    "ade20k R101c": ("R101c", {}, 60, "resnet101s", ("ade20k", "semantic", 512, 2048)),
    "ade20k Swin-T": ("Swin-T", {}, 42, (96, 7), ("ade20k", "semantic", 512, 2048)),
    "ade20k Swin-S": ("Swin-S", {}, 63, (96, 7), ("ade20k", "semantic", 512, 2048)),
    "ade20k Swin-B": ("Swin-B", {}, 102, (128, 12), ("ade20k", "semantic", 640, 2560)),
    "ade20k Swin-L": ("Swin-L", {}, 212, (192, 12), ("ade20k", "semantic", 640, 2560)),
    "ade20k PerPixelBaseline": ("R50", {"kind": "per_pixel"}, None, "resnet50", ("ade20k", "semantic", 512, 2048)),
    "ade20k PerPixelBaseline+": (
        "R50",
        {"kind": "per_pixel_plus"},
        None,
        "resnet50",
        ("ade20k", "semantic", 512, 2048),
    ),
    "ade20k panoptic R50": ("R50", ENCODER, None, "resnet50", ("ade20k", "panoptic", 640, 2560)),
    "ade20k full R101c": ("R101c", {"num_classes": 847}, None, "resnet101s", ("ade20k_full", "semantic", 512, 2048)),
    "coco stuff R50": ("R50", {"num_classes": 171}, None, "resnet50", ("coco_stuff_10k", "semantic", 640, 2560)),
    "cityscapes R101c": ("R101c", {"num_classes": 19}, None, "resnet101s", ("cityscapes", "semantic", 1024, 2048)),
    "mapillary R50": ("R50", {"num_classes": 65}, None, "resnet50", ("mapillary_vistas", "semantic", 2048, 2048)),
    "coco R50": ("R50", COCO | ENCODER, 45, "resnet50", ("coco", "panoptic", 800, 1333)),
    "coco R101": ("R101", COCO | ENCODER, 64, "resnet101", ("coco", "panoptic", 800, 1333)),
    "coco Swin-B": ("Swin-B", COCO, 102, (128, 12), ("coco", "panoptic", 800, 1333)),
}


def weights_of(backbone, fields):
    with torch.device("meta"):
        return zoo_names(OriginalModel(ZOO_BACKBONES[backbone](), **fields).state_dict())


@pytest.mark.parametrize("name", ZOO)
def test_each_model_of_the_zoo_is_recognised_and_all_of_it_used(name):
    backbone, fields, millions, expected_backbone, expected_preset = ZOO[name]
    weights = weights_of(backbone, fields)
    architecture = infer_architecture(weights)
    assert architecture.num_labels == fields.get("num_classes", 150)
    assert architecture.num_encoder_layers == fields.get("encoder_layers", 0)
    found = architecture.backbone
    if isinstance(found, SwinArchitecture):
        assert (found.embed_dim, found.window_size) == expected_backbone
    else:
        assert found.timm_name == expected_backbone
    preset = find_preset(architecture)
    assert (preset.dataset, preset.task, preset.shortest_edge, preset.longest_edge) == expected_preset

    converted = convert_weights(weights, architecture)  # raises if a name is left over
    sizes = {
        key: value.numel()
        for key, value in converted.items()
        if not key.endswith(("position_index", "empty_weight", "num_batches_tracked", "running_mean", "running_var"))
    }
    if millions is not None:
        unused = 0 if isinstance(expected_backbone, str) else 2 * found.last_channels  # transformers' last norm
        assert (sum(sizes.values()) - unused) / 1e6 == pytest.approx(millions, abs=1)


@pytest.mark.parametrize(
    "name",
    ["ade20k R50", "ade20k R101c", "coco Swin-B", "ade20k PerPixelBaseline", "ade20k PerPixelBaseline+"],
)
def test_names_and_shapes_are_those_of_this_packages_model(name):
    backbone, fields, *_ = ZOO[name]
    weights = weights_of(backbone, fields)
    architecture = infer_architecture(weights)
    config = build_config(architecture)
    with torch.device("meta"):
        model = architecture_of(config).model_class(config)
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    converted = convert_weights(weights, architecture)
    assert {key: tuple(value.shape) for key, value in converted.items()} == expected


@pytest.mark.parametrize(("backbone", "timm_name"), [("R101", "resnet101"), ("R101c", "resnet101s")])
def test_names_and_shapes_of_a_resnet_are_timms(backbone, timm_name):
    weights = weights_of(backbone, {})
    prefix = "model.pixel_level_module.encoder._backbone."
    converted = convert_weights(weights, infer_architecture(weights))
    found = {name.removeprefix(prefix): tensor.shape for name, tensor in converted.items() if prefix in name}
    with torch.device("meta"):
        expected = timm.create_model(timm_name, features_only=True).state_dict()
    assert found == {name: tensor.shape for name, tensor in expected.items()}


# Written down from the public code, one by one: a mistake in the stand-ins could hide one in the conversion.
KNOWN_NAMES = {
    "R50": """
        backbone.stem.conv1.weight (64, 3, 7, 7)
        backbone.stem.conv1.norm.running_var (64,)
        backbone.res2.0.shortcut.weight (256, 64, 1, 1)
        backbone.res2.0.shortcut.norm.bias (256,)
        backbone.res3.3.conv2.weight (128, 128, 3, 3)
        backbone.res5.2.conv3.norm.running_mean (2048,)
        sem_seg_head.adapter_1.weight (256, 256, 1, 1)
        sem_seg_head.adapter_3.norm.weight (256,)
        sem_seg_head.layer_4.weight (256, 2048, 3, 3)
        sem_seg_head.mask_features.bias (256,)
        sem_seg_head.predictor.query_embed.weight (100, 256)
        sem_seg_head.predictor.input_proj.weight (256, 2048, 1, 1)
        sem_seg_head.predictor.class_embed.weight (151, 256)
        sem_seg_head.predictor.mask_embed.layers.2.bias (256,)
        sem_seg_head.predictor.transformer.decoder.layers.5.multihead_attn.in_proj_weight (768, 256)
        sem_seg_head.predictor.transformer.decoder.layers.0.linear1.weight (2048, 256)
        sem_seg_head.predictor.transformer.decoder.norm.weight (256,)
        criterion.empty_weight (151,)
    """,
    "R101c": """
        backbone.stem.conv1.weight (64, 3, 3, 3)
        backbone.stem.conv2.weight (64, 64, 3, 3)
        backbone.stem.conv3.weight (128, 64, 3, 3)
        backbone.stem.conv3.norm.weight (128,)
        backbone.res2.0.shortcut.weight (256, 128, 1, 1)
        backbone.res4.22.conv1.weight (256, 1024, 1, 1)
    """,
    "Swin-B": """
        backbone.patch_embed.proj.weight (128, 3, 4, 4)
        backbone.patch_embed.norm.bias (128,)
        backbone.layers.0.downsample.reduction.weight (256, 512)
        backbone.layers.0.downsample.norm.weight (512,)
        backbone.layers.2.blocks.17.attn.qkv.weight (1536, 512)
        backbone.layers.2.blocks.17.attn.relative_position_bias_table (529, 16)
        backbone.layers.3.blocks.1.attn.relative_position_index (144, 144)
        backbone.layers.3.blocks.1.mlp.fc1.weight (4096, 1024)
        backbone.norm3.weight (1024,)
        sem_seg_head.predictor.input_proj.weight (256, 1024, 1, 1)
    """,
}


@pytest.mark.parametrize("backbone", KNOWN_NAMES)
def test_the_stand_ins_have_the_originals_names_and_shapes(backbone):
    weights = weights_of(backbone, {})
    for line in KNOWN_NAMES[backbone].strip().splitlines():
        name, _, shape = line.strip().partition(" ")
        assert str(tuple(weights[name].shape)) == shape, name


def test_the_dataset_can_be_given_and_is_checked():
    architecture = infer_architecture(weights_of("Swin-T", {}))
    assert find_preset(architecture).reduce_labels
    panoptic = find_preset(architecture, "ade20k", "panoptic")
    assert (panoptic.task, panoptic.shortest_edge, len(panoptic.label_ids_to_fuse)) == ("panoptic", 640, 50)
    with pytest.raises(CheckpointError, match="150 classes, but cityscapes has 19"):
        find_preset(architecture, "cityscapes")
    with pytest.raises(CheckpointError, match="dataset cityscapes, task panoptic"):
        find_preset(architecture, "cityscapes", "panoptic")


def test_a_number_of_classes_that_no_dataset_has_is_said():
    architecture = infer_architecture(weights_of("Swin-T", {"num_classes": 11}))
    with pytest.raises(CheckpointError, match=r"11 classes.*ade20k \(semantic, 150 classes\)"):
        find_preset(architecture)
