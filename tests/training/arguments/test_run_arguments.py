"""What a run makes of augmentation, model and training flags."""

import numpy as np
import pytest
import torch
from tiny import tiny_model

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusForSemanticSegmentation,
)
from modeling_maskformer.data.labels.label_set import NamedIds, make_label_set
from modeling_maskformer.data.views.augmentation import AugmentationConfig
from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_arguments import DataArguments
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.arguments.run_arguments import RunArguments
from modeling_maskformer.training.model_building import build_model, normalization_of
from modeling_maskformer.training.run import build_image_processor


def run_arguments(output_dir, **settings):
    return RunArguments(output_dir=str(output_dir), use_cpu=True, **settings)


def test_one_number_is_a_square_crop_and_sets_the_size_of_evaluation():
    arguments = AugmentationArguments(crop_size=[96])
    assert arguments.config().crop_size == (96, 96)
    assert (arguments.shortest_edge, arguments.longest_edge) == (120, 480)  # scales of 0.5 to 2.0, at their mean


def test_the_default_augmentation_is_that_of_the_paper():
    assert AugmentationArguments().config() == AugmentationConfig()


def test_colour_and_flip_can_be_turned_off():
    config = AugmentationArguments(colour_jitter=False, flip=False).config()
    assert (config.brightness, config.contrast, config.saturation, config.hue, config.horizontal_flip) == (0,) * 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale_range": [1.0]}, "--scale_range takes two numbers"),
        ({"scale_range": [2.0, 1.0]}, "scale_range must be two rising"),
        ({"shortest_edge": 100, "longest_edge": 50}, "--shortest_edge must lie between 1 and --longest_edge"),
        ({"crop_size": [0]}, "crop_size must be"),
        ({"crop": False}, "short_edges are needed"),
        ({"early_crop_range": [384]}, "--early_crop_range takes two numbers"),
    ],
)
def test_impossible_augmentation_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        AugmentationArguments(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "a", "backbone": "b"}, "Pass either --model .* or --backbone .*, got both"),
        ({"backbone_weights": "a.safetensors"}, "--backbone_weights a.safetensors needs --backbone"),
        ({"model": "a", "num_queries": 7}, "--num_queries goes with --backbone"),
        ({"backbone": "a", "decoder_layers": 0}, "--decoder_layers must be at least 1"),
        ({"model": "a", "architecture": "per_pixel"}, "--architecture goes with --backbone"),
        ({"backbone": "a", "architecture": "per_pixel", "ffn_dim": 9}, "--ffn_dim has no effect on a per_pixel model"),
        ({"backbone": "a", "architecture": "per_pixel_plus", "num_queries": 9}, "it has one query for each class"),
        (
            {"backbone": "a", "architecture": "per_pixel_plus", "dice_weight": 5.0},
            "--dice_weight has no effect on a per",
        ),
        ({"backbone": "a", "dropout": 1.0}, "--dropout must be less than 1, got 1.0"),
        ({"backbone": "a", "dropout": -0.1}, "--dropout must be at least 0"),
        ({"backbone": "a", "architecture": "per_pixel", "dropout": 0.1}, "--dropout has no effect on a per_pixel"),
        ({"model": "a", "dropout": 0.1}, "--dropout goes with --backbone"),
        ({"backbone": "a", "encoder_layers": -1}, "--encoder_layers must be at least 0"),
        ({"backbone": "a", "drop_path": 0.1}, "--drop_path goes with --backbone swin-tiny, .*, got a"),
        ({"backbone": "swin-tiny", "drop_path": 1.0}, r"--drop_path must lie in \[0, 1\)"),
        ({"model": "a", "drop_path": 0.1}, "--drop_path goes with --backbone"),
    ],
)
def test_contradictory_model_flags_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ModelArguments(**settings)


def test_the_default_is_maskformer_with_the_point_loss():
    model = build_model(ModelArguments(backbone="resnet10t", backbone_weights="random"), {0: "sky"}, "semantic")
    assert type(model) is MaskFormerForInstanceSegmentation
    assert (model.criterion.mask_loss, model.criterion.num_points) == ("points", 12544)
    assert model.criterion.importance_sample_ratio == 0.75
    assert (model.criterion.weights["loss_mask"], model.criterion.weights["loss_dice"]) == (10, 2.5)


def test_an_architecture_gets_the_flags_that_it_has():
    flags = {"backbone": "resnet10t", "backbone_weights": "random", "fpn_feature_size": 64, "mask_feature_size": 32}
    plain = build_model(ModelArguments(architecture="per_pixel", **flags), {0: "sky", 1: "sea"}, "semantic")
    assert type(plain) is PerPixelBaselineForSemanticSegmentation
    assert (plain.config.fpn_feature_size, tuple(plain.classifier.weight.shape)) == (64, (2, 32, 1, 1))
    flags |= {"hidden_dim": 48, "decoder_layers": 3, "attention_heads": 4, "ffn_dim": 40, "dropout": 0.2}
    plus = build_model(ModelArguments(architecture="per_pixel_plus", **flags), {0: "sky", 1: "sea"}, "semantic")
    assert type(plus) is PerPixelBaselinePlusForSemanticSegmentation and plus.config.use_auxiliary_loss
    transformer = plus.model.transformer_module
    assert tuple(transformer.queries_embedder.weight.shape) == (2, 48)
    assert (len(transformer.decoder.layers), transformer.decoder.layers[0].fc1.out_features) == (3, 40)
    assert {layer.dropout.p for layer in transformer.decoder.layers} == {0.2}


def test_batch_norm_is_trained_only_where_the_backbone_starts_from_nothing():
    assert ModelArguments(backbone="resnet18", backbone_weights="random").train_batch_norm
    assert not ModelArguments(backbone="resnet18").train_batch_norm
    assert not ModelArguments(model="checkpoint").train_batch_norm
    assert ModelArguments(model="checkpoint", train_batch_norm=True).train_batch_norm


def test_normalisation_is_that_of_the_backbones_weights():
    assert normalization_of("tf_efficientnet_lite0") == ((0.5,) * 3, (0.5,) * 3)
    assert normalization_of("resnet50")[0] == pytest.approx((0.485, 0.456, 0.406))


def test_pixels_have_the_scale_that_the_weights_of_a_checkpoint_expect(tmp_path):
    tiny_model("resnet").save_pretrained(tmp_path)
    scale = {"do_normalize": False, "rescale_factor": 1 / 127.5}
    MaskFormerImageProcessor(**scale).save_pretrained(tmp_path)
    processor = build_image_processor(
        ModelArguments(model=str(tmp_path)),
        DataArguments("shapes", "semantic"),
        AugmentationArguments(shortest_edge=64, longest_edge=128),
        make_label_set(NamedIds({0: "sky", 1: "road"})),
    )
    assert {name: getattr(processor, name) for name in scale} == scale
    pixels = processor(np.full((64, 64, 3), 255, np.uint8), return_tensors="pt").pixel_values
    torch.testing.assert_close(pixels, torch.full((1, 3, 64, 64), 2.0))


def test_the_part_of_important_points_reaches_the_model():
    arguments = ModelArguments(backbone="resnet10t", backbone_weights="random", importance_sample_ratio=0.25)
    assert build_model(arguments, {0: "sky"}, "semantic").criterion.importance_sample_ratio == 0.25


def test_the_weights_of_the_mask_losses_reach_loss_and_matching(tmp_path):
    arguments = ModelArguments(backbone="resnet10t", backbone_weights="random", mask_weight=5.0, dice_weight=2.0)
    model = build_model(arguments, {0: "sky"}, "semantic")
    for config in (model.config, model.criterion.matcher):
        assert (config.mask_weight, config.dice_weight) == (5, 2)
    assert model.criterion.weights == {"loss_cross_entropy": 1, "loss_mask": 5, "loss_dice": 2}
    model.save_pretrained(tmp_path)  # a checkpoint keeps what it was trained with
    for flags, dice_weight in (({}, 2), ({"dice_weight": 3.0}, 3)):
        config = build_model(ModelArguments(model=str(tmp_path), **flags), {0: "sky"}, "semantic").config
        assert (config.mask_weight, config.dice_weight) == (5, dice_weight)
    arguments = ModelArguments(backbone="resnet10t", backbone_weights="random", dice_weight=-1.0)
    with pytest.raises(ValueError, match="dice_weight must be at least 0 and finite, got -1"):
        build_model(arguments, {0: "sky"}, "semantic")


def test_masks_weigh_half_as_much_beside_classes_as_in_the_paper_and_dice_more(tmp_path):
    fresh = build_model(ModelArguments(backbone="resnet10t", backbone_weights="random"), {0: "sky"}, "semantic")
    assert (fresh.config.mask_weight, fresh.config.dice_weight) == (10, 2.5)
    tiny_model(num_labels=1).save_pretrained(tmp_path)  # with the paper's, which a checkpoint keeps
    tuned = build_model(ModelArguments(model=str(tmp_path)), {0: "sky"}, "semantic")
    assert (tuned.config.mask_weight, tuned.config.dice_weight) == (20, 1)


def test_whole_images_at_given_short_edges_need_no_crop():
    arguments = AugmentationArguments(crop=False, short_edges=[480, 800], max_long_edge=1333)
    config = arguments.config()
    assert (config.crop_size, config.short_edges, config.max_long_edge) == (None, (480, 800), 1333)
    assert (arguments.shortest_edge, arguments.longest_edge) == (800, 3200)


def test_the_early_crop_reaches_the_augmentation():
    settings = {"early_crop_probability": 0.5, "early_crop_short_edges": [50], "early_crop_range": [20, 30]}
    config = AugmentationArguments(**settings).config()
    assert (config.early_crop_probability, config.early_crop_short_edges, config.early_crop_range) == (
        0.5,
        (50,),
        (20, 30),
    )


def test_gradients_are_accumulated_up_to_the_total_batch(tmp_path):
    run = run_arguments(tmp_path, per_device_train_batch_size=2, total_batch_size=16)
    assert run.gradient_accumulation_steps == 8
    assert run_arguments(tmp_path, gradient_accumulation_steps=3).gradient_accumulation_steps == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"total_batch_size": 6}, "must be a multiple of the 4 images that all devices take at once .*, got 6"),
        ({"total_batch_size": 0}, "must be a multiple of the 4"),
        ({"total_batch_size": 8, "gradient_accumulation_steps": 2}, "pass one of them"),
        ({"panoptic_threshold": 1.5}, r"panoptic_threshold must lie in \[0, 1\], got 1.5"),
        ({"max_detections": 0}, "max_detections must be at least 1, got 0"),
    ],
)
def test_impossible_runs_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run_arguments(tmp_path, **settings)


def test_encoder_layers_stand_before_the_pixel_decoder():
    flags = {"encoder_layers": 2, "attention_heads": 4, "ffn_dim": 64, "fpn_feature_size": 64}
    arguments = ModelArguments(backbone="resnet10t", backbone_weights="random", **flags)
    layers = build_model(arguments, {0: "sky"}, "panoptic").model.pixel_level_module.decoder.encoder.layers
    assert len(layers) == 2 and layers[0].fc1.out_features == 64


def test_stochastic_depth_is_the_papers_unless_told_otherwise():
    assert ModelArguments(backbone="swin-tiny").drop_path == 0.3
    assert ModelArguments(backbone="swin-tiny", drop_path=0.1).drop_path == 0.1
    assert ModelArguments(backbone="resnet18").drop_path is None
