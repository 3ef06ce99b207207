"""Images of any size get the original's padding: zeros at the bottom and right to multiples of 32, cropped again."""

import math

import pytest
import torch
import transformers
from device_waits import DeviceWaits
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


@pytest.mark.parametrize("pad_size", [(96, 128), (128, 200)])
@pytest.mark.parametrize("name", [*BACKBONES, "tf_efficientnet_lite0"])
@torch.no_grad()
def test_what_the_processor_padded_makes_no_difference(name, pad_size):
    model = model_of(name)
    image = torch.randint(0, 256, (3, 75, 109), dtype=torch.uint8)
    scores = []
    for padding in (None, {"height": pad_size[0], "width": pad_size[1]}):
        processor = MaskFormerImageProcessor(do_resize=False, pad_size=padding)
        outputs = model(**processor(images=[image], return_tensors="pt"))
        result = processor.post_process_semantic_segmentation(outputs, [(75, 109)], return_segmentation_scores=True)
        scores.append(result[0].segmentation_scores)
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", [*BACKBONES, "tf_efficientnet_lite0"])
@torch.no_grad()
def test_equal_to_transformers_on_what_its_processor_returns_and_on_the_padded_image(name, tmp_path):
    ours = model_of(name)
    ours.save_pretrained(tmp_path)
    theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path)
    image = torch.randint(0, 256, (3, 75, 109), dtype=torch.uint8)
    processor = transformers.MaskFormerImageProcessor(size={"shortest_edge": 75, "longest_edge": 200})
    batch = processor(images=[image], return_tensors="pt")
    assert batch["pixel_values"].shape[-2:] == (96, 128)
    odd = torch.randn(1, 3, 75, 109)
    for mine, its in ((batch, batch), ({"pixel_values": odd}, {"pixel_values": padded_by_hand(odd)})):
        outputs, expected = ours(**mine), theirs(**its)
        torch.testing.assert_close(outputs.class_queries_logits, expected.class_queries_logits, atol=1e-4, rtol=1e-4)
        expected_masks = cropped(expected.masks_queries_logits, mine["pixel_values"].shape[-2:])
        torch.testing.assert_close(outputs.masks_queries_logits, expected_masks, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_batch_of_several_sizes_waits_for_the_device_once_however_many_there_are(plain_path):
    """For the sizes, by which it is taken apart."""
    model, mask = model_of("resnet"), torch.zeros(4, 96, 96)
    for image, size in enumerate((40, 90, 60, 20)):
        mask[image, :size, :size] = 1
    with DeviceWaits() as device:
        model(torch.randn(4, 3, 96, 96), pixel_mask=mask)
    assert device.waits == {"tolist": 1}


@torch.no_grad()
def test_images_of_one_padded_size_cost_a_device_no_more_launches_the_more_there_are(plain_path):
    model, launches = tiny_model().eval(), []
    for number in (2, 6):
        mask = torch.ones(number, 64, 64, dtype=torch.bool)
        for image in range(1, number):  # each ends elsewhere, in its own last cells
            mask[image, 64 - 3 * image :] = False
        with DeviceWaits() as device:
            model(torch.randn(number, 3, 64, 64), pixel_mask=mask)
        launches.append(device.kernels.total())
    assert launches[0] == launches[1]


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
    size, scores = {"shortest_edge": 75, "longest_edge": 200}, []
    for padding in (None, {"height": 200, "width": 150}):
        processor = MaskFormerImageProcessor(size=size, size_divisor=0, pad_size=padding)
        scores.append(MultiScalePredictor(model, processor, scales=(0.7, 1.0)).mean_scores(image))
    torch.testing.assert_close(scores[1], scores[0], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_captured_graph_pads_as_well_and_takes_no_notice_of_what_lies_beside_the_image():
    model = model_of("tf_efficientnet_lite0")
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend="eager")  # all sizes: test_compile.py
    pixels = torch.randn(1, 3, 75, 109)
    mask = torch.zeros(1, 75, 140)
    mask[..., :109] = 1
    outputs = compiled(F.pad(pixels, (0, 31), value=3.0), pixel_mask=mask)
    expected = model(F.pad(pixels, (0, 31))).masks_queries_logits
    assert outputs.image_sizes.tolist() == [[75, 109]]
    torch.testing.assert_close(outputs.masks_queries_logits, expected, atol=1e-4, rtol=1e-4)
