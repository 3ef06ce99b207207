"""The `post_process_*` methods: transformers' signatures and forms, whole batches, files that others can read."""

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from inference_cases import confident_case, random_case
from pycocotools import mask as coco_mask
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentationOutput

from image_processing import (
    MaskFormerImageProcessor,
    PerPixelImageProcessor,
    decode_mask,
    instance_segmentation,
    panoptic_segmentation,
    semantic_segmentation,
    tiling,
)

# pycocotools' own, when it decodes under numpy 2
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.usefixtures("both_ways"),
]

METHODS = (
    "post_process_semantic_segmentation",
    "post_process_instance_segmentation",
    "post_process_panoptic_segmentation",
)
IMAGE_SIZES = [(96, 120), (90, 61), (33, 118)]
TARGET_SIZES = [(96, 120), (180, 122), (40, 50)]


def batch_of(cases):
    class_logits, mask_logits = zip(*cases, strict=True)
    return torch.stack(class_logits), torch.stack(mask_logits)


def outputs_of(cases, image_sizes=None):
    class_logits, mask_logits = batch_of(cases)
    image_sizes = None if image_sizes is None else torch.tensor(image_sizes)
    return SimpleNamespace(
        class_queries_logits=class_logits, masks_queries_logits=mask_logits, image_sizes=image_sizes
    )


def three_images():
    return [confident_case(seed=seed) for seed in range(3)]


def nothing():
    class_logits, mask_logits = random_case()
    class_logits[:, -1] = 50
    return class_logits, mask_logits


@pytest.fixture
def processor():
    return MaskFormerImageProcessor()


@pytest.mark.parametrize("name", METHODS)
def test_signatures_begin_with_those_of_transformers(name):
    ours = inspect.signature(getattr(MaskFormerImageProcessor, name)).parameters
    theirs = inspect.signature(getattr(TheirProcessor, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for parameter in theirs:
        assert ours[parameter].default == theirs[parameter].default


def test_a_batch_gives_each_images_own_result(processor):
    """Fault 3 of transformers: in a batch of mixed sizes, padding stretched every result."""
    cases = three_images()
    outputs = outputs_of(cases, IMAGE_SIZES)
    semantic = processor.post_process_semantic_segmentation(outputs, TARGET_SIZES)
    instance = processor.post_process_instance_segmentation(
        outputs, target_sizes=TARGET_SIZES, return_binary_maps=True
    )
    panoptic = processor.post_process_panoptic_segmentation(outputs, target_sizes=torch.tensor(TARGET_SIZES))
    for index, (class_logits, mask_logits) in enumerate(cases):
        height, width = IMAGE_SIZES[index]
        alone = (
            class_logits,
            mask_logits[:, : -(-height // 4), : -(-width // 4)],
            (height, width),
            TARGET_SIZES[index],
        )
        assert torch.equal(semantic[index], semantic_segmentation(*alone))
        found = instance_segmentation(*alone)
        assert torch.equal(instance[index]["segmentation"], found.masks())
        assert instance[index]["segments_info"] == found.segments_info
        ids, info = panoptic_segmentation(*alone, threshold=0.5)
        assert torch.equal(panoptic[index]["segmentation"], ids) and panoptic[index]["segments_info"] == info


def test_outputs_of_transformers_are_taken(processor):
    class_logits, mask_logits = batch_of(three_images())
    outputs = MaskFormerForInstanceSegmentationOutput(
        class_queries_logits=class_logits, masks_queries_logits=mask_logits
    )
    for name in METHODS:
        assert len(getattr(processor, name)(outputs)) == 3
        assert len(getattr(processor, name)(outputs, target_sizes=TARGET_SIZES)) == 3


def test_unfused_panoptic_results_of_sure_masks_equal_transformers(processor):
    """Where none of the faults plays a part, the results are transformers' own."""
    outputs = outputs_of(three_images())
    outputs.class_queries_logits *= 4  # probabilities of nearly 1: weighting changes no area
    sizes = [(96, 120)] * 3
    ours = processor.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=set(), target_sizes=sizes)
    theirs = TheirProcessor().post_process_panoptic_segmentation(outputs, label_ids_to_fuse=set(), target_sizes=sizes)
    for mine, other in zip(ours, theirs, strict=True):
        assert len(mine["segments_info"]) > 2
        assert [s["label_id"] for s in mine["segments_info"]] == [s["label_id"] for s in other["segments_info"]]
        assert (mine["segmentation"] != other["segmentation"]).float().mean() < 0.01


def test_semantic_scores_are_returned_on_request(processor):
    outputs = outputs_of(three_images(), IMAGE_SIZES)
    results = processor.post_process_semantic_segmentation(outputs, TARGET_SIZES, return_segmentation_scores=True)
    maps = processor.post_process_semantic_segmentation(outputs, TARGET_SIZES)
    for result, expected, size in zip(results, maps, TARGET_SIZES, strict=True):
        assert result.segmentation_scores.shape == (12, *size)
        assert torch.equal(result["segmentation"], result.segmentation_scores.argmax(0))
        assert (result.segmentation != expected).sum() <= 1  # equal scores, but for rounding


def test_scores_resized_as_transformers_does_equal_transformers(processor):
    outputs = outputs_of(three_images())
    ours = processor.post_process_semantic_segmentation(outputs, TARGET_SIZES, True, mask_resize="scores")
    theirs = TheirProcessor().post_process_semantic_segmentation(outputs, TARGET_SIZES, True)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.segmentation_scores, other.segmentation_scores, atol=1e-5, rtol=1e-5)


def test_instance_maps_binary_maps_and_rle_tell_the_same(processor):
    outputs = outputs_of(three_images(), IMAGE_SIZES)
    forms = [
        processor.post_process_instance_segmentation(outputs, target_sizes=TARGET_SIZES, **form)
        for form in ({}, {"return_binary_maps": True}, {"return_coco_annotation": True})
    ]
    for ids, maps, rle, size in zip(*forms, TARGET_SIZES, strict=True):
        assert maps["segments_info"] == rle["segments_info"]
        visible = set(ids["segmentation"].unique().tolist()) - {-1}
        assert ids["segments_info"] == [info for info in maps["segments_info"] if info["id"] in visible]
        scores = [segment["score"] for segment in maps["segments_info"]]
        assert scores == sorted(scores, reverse=True) and len(scores) > 1
        masks = maps["segmentation"]
        assert masks.dtype == torch.bool and masks.shape == (len(scores), *size)
        expected = torch.full(size, -1)
        for number in reversed(range(len(masks))):
            expected[masks[number]] = number
        assert ids["segmentation"].dtype == torch.int32 and torch.equal(ids["segmentation"].long(), expected)
        decoded = coco_mask.decode(json.loads(json.dumps(rle["segmentation"])))  # (H, W, n)
        np.testing.assert_array_equal(decoded.transpose(2, 0, 1).astype(bool), masks.numpy())
        assert torch.equal(decode_mask(rle["segmentation"][0]), masks[0])


def test_panoptic_maps_binary_maps_and_rle_tell_the_same(processor):
    outputs = outputs_of(three_images(), IMAGE_SIZES)
    forms = [
        processor.post_process_panoptic_segmentation(outputs, target_sizes=TARGET_SIZES, **form)
        for form in ({}, {"return_binary_maps": True}, {"return_coco_annotation": True})
    ]
    for ids, maps, rle in zip(*forms, strict=True):
        assert ids["segments_info"] == maps["segments_info"] == rle["segments_info"] and ids["segments_info"]
        numbers = torch.tensor([segment["id"] for segment in ids["segments_info"]])
        assert torch.equal(maps["segmentation"], ids["segmentation"][None] == numbers[:, None, None])
        decoded = coco_mask.decode(json.loads(json.dumps(rle["segmentation"])))
        np.testing.assert_array_equal(decoded.transpose(2, 0, 1).astype(bool), maps["segmentation"].numpy())


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_image_without_segments_has_empty_results(processor, method):
    outputs = outputs_of([nothing()])
    for target_sizes, size in ((None, (9, 12)), ([(30, 40)], (30, 40))):
        call = lambda **form: getattr(processor, method)(outputs, target_sizes=target_sizes, **form)[0]  # noqa: B023, E731
        assert call()["segments_info"] == []
        void = 0 if "panoptic" in method else -1
        assert (call()["segmentation"] == void).all() and call()["segmentation"].shape == size
        assert call(return_binary_maps=True)["segmentation"].shape == (0, *size)
        assert call(return_coco_annotation=True)["segmentation"] == []


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_image_without_segments_takes_none_from_the_one_beside_it(processor, method):
    cases = [confident_case(seed=seed) for seed in range(2)]
    cases[0][0][:, -1] = 50
    call = getattr(processor, method)
    empty, full = call(outputs_of(cases), target_sizes=[(96, 120)] * 2)
    (alone,) = call(outputs_of(cases[1:]), target_sizes=[(96, 120)])
    assert empty["segments_info"] == [] and len(full["segments_info"]) > 2
    assert full["segments_info"] == alone["segments_info"]
    assert torch.equal(full["segmentation"], alone["segmentation"])


def test_the_saved_stuff_classes_are_used_unless_others_are_given(tmp_path):
    class_logits, mask_logits = confident_case()
    class_logits[:, 0] += torch.where(class_logits.argmax(1) < 12, 30.0, 0.0)  # all live queries are class 0
    outputs = outputs_of([(class_logits, mask_logits)])
    MaskFormerImageProcessor(label_ids_to_fuse=[0]).save_pretrained(tmp_path)
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path)
    assert len(processor.post_process_panoptic_segmentation(outputs)[0]["segments_info"]) == 1
    unfused = processor.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=set())[0]
    assert len(unfused["segments_info"]) > 1


@pytest.mark.parametrize("method", METHODS)
def test_images_of_one_size_need_not_be_neighbours(processor, method):
    cases = [confident_case(seed=seed) for seed in range(4)]
    sizes = [(40, 50), (30, 20), (30, 20), (40, 50)]

    def maps(cases, sizes):
        results = getattr(processor, method)(outputs_of(cases), target_sizes=sizes)
        return [result["segmentation"] if isinstance(result, dict) else result for result in results]

    for found, case, size in zip(maps(cases, sizes), cases, sizes, strict=True):
        assert torch.equal(found, *maps([case], [size]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "sizes, message",
    [
        ([(8, 8)] * 2, "`target_sizes` has 2 entries for 3 images: image 2 has none"),
        ([(8, 8)] * 4, "`target_sizes` has 4 entries for 3 images: there is no image 3"),
        ([(8, 8), (8, 0), (8, 8)], r"`target_sizes\[1\]` must be .* got \(8, 0\)"),
        ([(8, 8), (8, 8.5), (8, 8)], r"`target_sizes\[1\]` must be .* whole numbers.* got \(8, 8.5\)"),
        ([(8, 8), (8, float("nan")), (8, 8)], r"`target_sizes\[1\]` must be .* whole numbers.* got \(8, nan\)"),
        ([(8, 8), (float("inf"), 8), (8, 8)], r"`target_sizes\[1\]` must be .* whole numbers.* got \(inf, 8\)"),
        (8, r"`target_sizes` must be a \(height, width\) for each image, got 8"),
        ("8x8", r"`target_sizes` must be a \(height, width\) for each image, got '8x8'"),
        ([8, 8, 8], r"`target_sizes\[0\]` must be .* got 8"),
        ([(8, 8), (8, 8), (8, 8, 3)], r"`target_sizes\[2\]` must be .* got \(8, 8, 3\)"),
    ],
)
def test_wrong_target_sizes_are_named(processor, method, sizes, message):
    with pytest.raises(ValueError, match=message):
        getattr(processor, method)(outputs_of(three_images()), target_sizes=sizes)


@pytest.mark.parametrize("method", METHODS[1:])
def test_two_forms_at_once_are_refused(processor, method):
    with pytest.raises(ValueError, match="exclude each other"):
        getattr(processor, method)(outputs_of([nothing()]), return_binary_maps=True, return_coco_annotation=True)


@pytest.mark.parametrize("labels", ["sky", ["sky"], [1.5], 3], ids=str)
def test_what_are_no_classes_to_fuse_is_named(processor, labels):
    with pytest.raises(ValueError, match="`label_ids_to_fuse` must be ids of classes, got"):
        processor.post_process_panoptic_segmentation(outputs_of([nothing()]), label_ids_to_fuse=labels)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf")])
def test_thresholds_outside_0_to_1_are_named(processor, value):
    outputs = outputs_of(three_images())
    names = ["threshold", "mask_threshold", "overlap_mask_area_threshold"]
    for method, taken in (("instance", names[:2]), ("panoptic", names)):
        for name in taken:
            with pytest.raises(ValueError, match=rf"`{name}` must lie in \[0, 1\], got {value}"):
                getattr(processor, f"post_process_{method}_segmentation")(outputs, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("class_queries_logits", value) for value in (float("nan"), float("inf"), -float("inf"))],
        *[("masks_queries_logits", value) for value in (float("nan"), float("inf"))],
    ],
)
def test_logits_that_are_not_finite_are_refused_with_their_image_where_no_device_is_waited_for(
    name, value, monkeypatch
):
    monkeypatch.setattr(tiling, "use_tiles", lambda maps: True)
    logits = {"class_queries_logits": torch.zeros(2, 4, 3), "masks_queries_logits": torch.zeros(2, 4, 5, 6)}
    logits[name][1, 2] = value
    logits["masks_queries_logits"][0, 1] = -float("inf")  # which is a mask that is nowhere
    outputs = SimpleNamespace(**logits, image_sizes=None)
    processor = MaskFormerImageProcessor()
    for task in ("semantic", "instance", "panoptic"):
        with pytest.raises(ValueError, match=rf"`outputs.{name}\[1\]` have \d+ values that are NaN or infinite"):
            getattr(processor, f"post_process_{task}_segmentation")(outputs)


def test_a_class_may_be_made_impossible_by_minus_infinity():
    outputs = SimpleNamespace(
        class_queries_logits=torch.tensor([[[-float("inf"), 1.0, 0.0]] * 4]),
        masks_queries_logits=torch.ones(1, 4, 5, 6),
        image_sizes=None,
    )
    (classes,) = MaskFormerImageProcessor().post_process_semantic_segmentation(outputs)
    assert (classes == 1).all()


def with_masks_nowhere():
    """Outputs of which some masks are minus infinity everywhere, and all of them in the left half."""
    outputs = outputs_of(three_images())
    outputs.class_queries_logits *= 4
    outputs.masks_queries_logits[:, ::3] = -float("inf")
    outputs.masks_queries_logits[..., :12] = -float("inf")
    return outputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_mask_may_be_nowhere_by_minus_infinity(processor, dtype):
    outputs = with_masks_nowhere()
    outputs.masks_queries_logits = outputs.masks_queries_logits.to(dtype)
    low = outputs_of(three_images())
    low.class_queries_logits *= 4
    low.masks_queries_logits = outputs.masks_queries_logits.clamp(min=-1000)
    sizes = [(96, 120)] * 3
    for target_sizes in (None, sizes):
        for task, options in (
            ("semantic", {"return_segmentation_scores": True}),
            ("instance", {"return_binary_maps": True}),
            ("panoptic", {}),
        ):
            method = getattr(processor, f"post_process_{task}_segmentation")
            results = (method(each, target_sizes=target_sizes, **options) for each in (outputs, low))
            for found, expected in zip(*results, strict=True):
                torch.testing.assert_close(found["segmentation"], expected["segmentation"], rtol=0, atol=0)
                if task == "semantic":
                    torch.testing.assert_close(found["segmentation_scores"], expected["segmentation_scores"])
                else:
                    assert found["segments_info"] == expected["segments_info"] != []


def test_masks_that_are_nowhere_give_the_results_of_transformers(processor):
    outputs = with_masks_nowhere()
    for target_sizes in (None, [(96, 120)] * 3):
        ours, theirs = (
            each.post_process_panoptic_segmentation(outputs, label_ids_to_fuse=set(), target_sizes=target_sizes)
            for each in (processor, TheirProcessor())
        )
        for mine, other in zip(ours, theirs, strict=True):
            assert [s["label_id"] for s in mine["segments_info"]] == [s["label_id"] for s in other["segments_info"]]
            assert len(mine["segments_info"]) > 0
    options = {"target_sizes": None, "mask_resize": "scores", "return_segmentation_scores": True}
    ours = processor.post_process_semantic_segmentation(outputs, **options)
    masks, classes = outputs.masks_queries_logits.sigmoid(), outputs.class_queries_logits.softmax(-1)[..., :-1]
    for mine, expected in zip(ours, torch.einsum("bqc,bqhw->bchw", classes, masks), strict=True):
        torch.testing.assert_close(mine.segmentation_scores, expected, atol=1e-5, rtol=1e-5)


def test_a_class_of_pixels_may_be_made_impossible_by_minus_infinity():
    logits = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    logits[:, 1] = -float("inf")
    results = PerPixelImageProcessor().post_process_semantic_segmentation(
        SimpleNamespace(logits=logits), [(24, 32), (24, 32)], return_segmentation_scores=True
    )
    for found, image in zip(results, logits, strict=True):
        possible = image[[0, 2, 3]]
        (alone,) = PerPixelImageProcessor().post_process_semantic_segmentation(
            SimpleNamespace(logits=possible[None]), [(24, 32)]
        )
        assert torch.equal(found.segmentation, torch.tensor([0, 2, 3])[alone])
        assert not found.segmentation_scores.isnan().any()


@pytest.mark.parametrize("beside", [0.0, -float("inf")], ids=["nothing infinite", "minus infinity beside it"])
@pytest.mark.usefixtures("both_ways")
def test_logits_that_are_very_low_are_resized_as_they_are(beside):
    """Between a cell of -1e6 and one of 2e4 nearly all pixels are outside, whatever other images hold."""
    masks = torch.full((2, 1, 2, 4), -1e6)
    masks[0, ..., 2:], masks[1] = 2e4, beside
    (inside, _), size = masks.double()[:, 0], (8, 64)
    expected = torch.nn.functional.interpolate(inside[None, None], size=(8, 16), mode="bilinear")
    expected = torch.nn.functional.interpolate(expected, size=size, mode="bilinear")[0, 0] > 0
    outputs = SimpleNamespace(
        class_queries_logits=torch.tensor([[[9.0, 0.0, -9.0]]]).repeat(2, 1, 1), masks_queries_logits=masks
    )
    processor, sizes = MaskFormerImageProcessor(), [size] * 2
    (found, _) = processor.post_process_instance_segmentation(outputs, target_sizes=sizes, return_binary_maps=True)
    assert torch.equal(found["segmentation"][0], expected)
    (scored, _) = processor.post_process_semantic_segmentation(outputs, sizes, return_segmentation_scores=True)
    assert torch.equal(scored.segmentation_scores[0] > 0.1, expected)
    pixels = SimpleNamespace(logits=torch.cat((masks, torch.zeros_like(masks)), 1))
    (classes, _) = PerPixelImageProcessor().post_process_semantic_segmentation(pixels, sizes)
    assert torch.equal(classes == 0, expected)


@pytest.mark.parametrize("size", [(1, 4), (4, 1)], ids=str)
def test_maps_may_have_one_row_or_column(processor, size):
    case, sizes = random_case(height=size[0], width=size[1]), [(9, 7)]
    (found,) = processor.post_process_semantic_segmentation(outputs_of([case]), sizes)
    assert torch.equal(found, semantic_segmentation(*case, None, sizes[0]))


@pytest.mark.parametrize(
    ("classes", "masks"),
    [
        ((1, 0, 3), (1, 0, 4, 4)),
        ((1, 2, 1), (1, 2, 4, 4)),
        ((1, 2, 3), (1, 2, 0, 4)),
        ((1, 2, 3), (1, 3, 4, 4)),
        ((2, 2, 3), (1, 2, 4, 4)),
    ],
)
def test_logits_of_nothing_and_of_different_batches_are_refused(classes, masks):
    outputs = SimpleNamespace(
        class_queries_logits=torch.zeros(classes), masks_queries_logits=torch.zeros(masks), image_sizes=None
    )
    with pytest.raises(ValueError, match=r"of shape .* expected \(batch, queries"):
        MaskFormerImageProcessor().post_process_instance_segmentation(outputs)


def test_an_empty_batch_has_no_results():
    outputs = SimpleNamespace(
        class_queries_logits=torch.zeros(0, 2, 3), masks_queries_logits=torch.zeros(0, 2, 4, 4), image_sizes=None
    )
    for task in ("semantic", "instance", "panoptic"):
        assert getattr(MaskFormerImageProcessor(), f"post_process_{task}_segmentation")(outputs) == []
