"""Images of any size get the original's padding: zeros at the bottom and right to multiples of 32, cropped again."""

import math

import pytest
import torch
import transformers
from tiny import BACKBONES, tiny_config, tiny_model
from torch.nn import functional as F

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineConfig,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusConfig,
    PerPixelBaselinePlusForSemanticSegmentation,
)
from modeling_maskformer.inference.multi_scale import MultiScalePredictor

ODD_SIZES = [(75, 109), (33, 64)]
# convolutions with TensorFlow's SAME and with symmetric padding, one that wants multiples, one without strides
TIMM = (
    "tf_efficientnet_lite0",
    "tf_mobilenetv3_small_minimal_100",
    "resnet10t",
    "convnext_atto",
    "vit_tiny_patch16_224",
)
MODELS = [*BACKBONES, *TIMM]


def model_of(name):
    torch.manual_seed(0)
    if name in BACKBONES:
        return tiny_model(name).eval()
    config = tiny_config(backbone_config={"model_type": "timm_backbone", "backbone": name})
    return MaskFormerForInstanceSegmentation(config).eval()


def padded_by_hand(pixels, divisor=32):
    height, width = pixels.shape[-2:]
    return F.pad(pixels, (0, -width % divisor, 0, -height % divisor))


def cropped(logits, size):
    return logits[..., : math.ceil(size[0] / 4), : math.ceil(size[1] / 4)]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_an_image_of_odd_size_gives_what_it_gives_padded_by_hand(name, training):
    model = model_of(name)
    for size in ODD_SIZES[: 1 if training else None]:
        pixels = torch.randn(2, 3, *size)
        outputs = []
        for values in (pixels, padded_by_hand(pixels)):
            torch.manual_seed(1)  # of dropout
            outputs.append(model.train(training)(values))
        odd, by_hand = outputs
        assert odd.image_sizes.tolist() == [list(size)] * 2
        assert odd.masks_queries_logits.shape[-2:] == (math.ceil(size[0] / 4), math.ceil(size[1] / 4))
        torch.testing.assert_close(odd.class_queries_logits, by_hand.class_queries_logits, atol=1e-4, rtol=1e-4)
        expected = cropped(by_hand.masks_queries_logits, size)
        torch.testing.assert_close(odd.masks_queries_logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_backbone_that_needs_more_than_32_gets_it():
    model = model_of("hiera_tiny_224")
    divisor = model.model.pixel_level_module.size_divisor
    assert divisor > 32
    pixels = torch.randn(1, 3, 70, 100)
    odd, by_hand = model(pixels), model(padded_by_hand(pixels, divisor))
    torch.testing.assert_close(odd.class_queries_logits, by_hand.class_queries_logits, atol=1e-4, rtol=1e-4)
    expected = cropped(by_hand.masks_queries_logits, (70, 100))
    torch.testing.assert_close(odd.masks_queries_logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_all_maps_cover_the_image_and_no_more():
    outputs = model_of("resnet")(torch.randn(1, 3, 75, 109), output_hidden_states=True, output_auxiliary_logits=True)
    cells = {stride: (math.ceil(75 / stride), math.ceil(109 / stride)) for stride in (4, 8, 16, 32)}
    sizes = [tuple(feature.shape[-2:]) for feature in outputs.hidden_states[:7]]
    assert sizes == [cells[stride] for stride in (4, 8, 16, 32, 16, 8, 4)]
    assert outputs.encoder_last_hidden_state.shape[-2:] == cells[32]
    assert outputs.pixel_decoder_last_hidden_state.shape[-2:] == cells[4]
    assert {layer["masks_queries_logits"].shape[-2:] for layer in outputs.auxiliary_logits} == {cells[4]}


@pytest.mark.parametrize("size_divisor", [0, 32, 64])
@pytest.mark.parametrize("name", [*BACKBONES, "tf_efficientnet_lite0"])
@torch.no_grad()
def test_what_the_processor_padded_makes_no_difference(name, size_divisor):
    model = model_of(name)
    image = torch.randint(0, 256, (3, 75, 109), dtype=torch.uint8)
    results = []
    for divisor in (0, size_divisor):
        processor = MaskFormerImageProcessor(do_resize=False, size_divisor=divisor)
        outputs = model(**processor(images=[image], return_tensors="pt"))
        results.append(processor.post_process_semantic_segmentation(outputs, [(75, 109)], True)[0])
    scores = [result.segmentation_scores for result in results]
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*BACKBONES, "tf_efficientnet_lite0"])
@torch.no_grad()
def test_equal_to_transformers_on_what_its_processor_returns(name):
    ours = model_of(name)
    theirs = transformers.MaskFormerForInstanceSegmentation(transformers.MaskFormerConfig(**ours.config.to_dict()))
    theirs.eval().load_state_dict(
        {key: value for key, value in ours.state_dict().items() if "relative_position_index" not in key}, strict=False
    )
    image = torch.randint(0, 256, (3, 75, 109), dtype=torch.uint8)
    batch = transformers.MaskFormerImageProcessor(do_resize=False)(images=[image], return_tensors="pt")
    assert batch["pixel_values"].shape[-2:] == (96, 128)
    expected = theirs(**batch)
    for inputs, crop in (
        (batch, lambda maps: maps),
        ({"pixel_values": batch["pixel_values"][..., :75, :109]}, cropped),
    ):
        outputs = ours(**inputs)
        torch.testing.assert_close(outputs.class_queries_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
        masks, expected_masks = outputs.masks_queries_logits, expected.masks_queries_logits
        if crop is cropped:
            expected_masks = cropped(expected_masks, (75, 109))
        torch.testing.assert_close(masks, expected_masks, atol=1e-4, rtol=1e-4)


BASELINES = [
    (PerPixelBaselineConfig, PerPixelBaselineForSemanticSegmentation),
    (PerPixelBaselinePlusConfig, PerPixelBaselinePlusForSemanticSegmentation),
]


@pytest.mark.parametrize(("config_class", "model_class"), BASELINES)
@torch.no_grad()
def test_the_baselines_too_alone_and_in_a_mixed_batch(config_class, model_class):
    torch.manual_seed(0)
    fields = tiny_config(
        backbone_config={"model_type": "timm_backbone", "backbone": "tf_efficientnet_lite0"}
    ).to_dict()
    names = ("backbone_config", "decoder_config", "fpn_feature_size", "mask_feature_size")
    model = model_class(config_class(**{name: fields[name] for name in names}, num_labels=5)).eval()
    images = [torch.randn(3, *size) for size in ODD_SIZES]
    size = [max(lengths) for lengths in zip(*ODD_SIZES, strict=True)]
    pixels = torch.stack(
        [F.pad(image, (0, size[1] - image.shape[2], 0, size[0] - image.shape[1])) for image in images]
    )
    mask = torch.zeros(len(images), *size)
    for inside, image in zip(mask, images, strict=True):
        inside[: image.shape[1], : image.shape[2]] = 1
    together = model(pixels, pixel_mask=mask)
    assert together.logits.shape[-2:] == (math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    for image, logits in zip(images, together.logits, strict=True):
        expected = cropped(model(padded_by_hand(image[None])).logits, image.shape[-2:])
        torch.testing.assert_close(cropped(logits[None], image.shape[-2:]), expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(model(image[None]).logits, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_test_time_augmentation_pads_every_scale():
    model = model_of("tf_efficientnet_lite0")
    image = torch.randint(0, 256, (3, 75, 109), dtype=torch.uint8)
    scores = []
    for divisor in (0, 32):
        processor = MaskFormerImageProcessor(size={"shortest_edge": 75, "longest_edge": 200}, size_divisor=divisor)
        scores.append(MultiScalePredictor(model, processor, scales=(0.7, 1.0)).mean_scores(image))
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "tf_efficientnet_lite0"])
@torch.no_grad()
def test_a_captured_graph_pads_images_of_any_size_with_and_without_a_mask(name):
    model = model_of(name)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    for size in ODD_SIZES:
        pixels = torch.randn(1, 3, *size)
        expected = cropped(model(padded_by_hand(pixels)).masks_queries_logits, size)
        torch.testing.assert_close(compiled(pixels).masks_queries_logits, expected, atol=1e-4, rtol=1e-4)
        mask = torch.zeros(1, size[0], size[1] + 40)  # what lies beside the image is no part of it
        mask[..., : size[1]] = 1
        canvas = F.pad(pixels, (0, 40), value=3.0)
        expected = model(F.pad(pixels, (0, 40))).masks_queries_logits
        with_mask = compiled(canvas, pixel_mask=mask)
        assert with_mask.image_sizes.tolist() == [list(size)]
        torch.testing.assert_close(with_mask.masks_queries_logits, expected, atol=1e-4, rtol=1e-4)
