"""The plain way, which every device but a CPU goes: it hardly waits, needs no float64, and can be captured."""

from types import SimpleNamespace

import pytest
import torch
from device_waits import DeviceWaits
from inference_cases import confident_case

from image_processing import (
    MaskFormerImageProcessor,
    per_pixel_segmentation,
    resampling,
    semantic_segmentation,
    tiling,
)

METHODS = tuple(f"post_process_{task}_segmentation" for task in ("semantic", "instance", "panoptic"))


def batch_of(images, sizes=((96, 120),)):
    class_logits, mask_logits = zip(*(confident_case(seed=seed) for seed in range(images)), strict=True)
    return SimpleNamespace(
        class_queries_logits=torch.stack(class_logits),
        masks_queries_logits=torch.stack(mask_logits),
        image_sizes=torch.tensor([sizes[number % len(sizes)] for number in range(images)]),
    )


def waits_of(method, images, **options):
    outputs = batch_of(images)
    with DeviceWaits() as device:
        results = getattr(MaskFormerImageProcessor(), method)(outputs, target_sizes=[(190, 238)] * images, **options)
    assert len(results) == images
    assert not device.float64
    return device.waits


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("method, most", list(zip(METHODS, (1, 4, 4), strict=True)))
def test_a_device_is_waited_for_a_few_times_whatever_the_batch(monkeypatch, method, most):
    waits_of(method, 1)  # makes the tables of these sizes
    one, many = (waits_of(method, images) for images in (1, 7))
    assert one.total() == many.total() <= most, (one, many)
    monkeypatch.setattr(resampling, "CPU_STRIP_ELEMENTS", 5000)
    waits_of(method, 1)
    assert waits_of(method, 7) == one


@pytest.mark.usefixtures("plain")
def test_binary_maps_need_no_more_waits():
    for method in METHODS[1:]:
        waits_of(method, 1, return_binary_maps=True)
        assert waits_of(method, 7, return_binary_maps=True).total() <= 4


def test_waits_are_seen():
    values = torch.rand(4)
    with DeviceWaits() as device:
        values.tolist(), values[0].item(), values[values > 0.5], values.nonzero(), bool(values.sum() > 1)
        values.cpu(), torch.tensor([1.0], device="cpu"), values[[0, 2]], values.double()
    assert device.waits.total() >= 8 and device.float64


@pytest.mark.usefixtures("plain")
def test_images_of_equal_sizes_go_together_and_results_keep_their_order(monkeypatch):
    sizes = ((96, 120), (90, 61), (33, 118))
    outputs, targets = batch_of(7, sizes), [(80, 70) if number % 3 else (40, 50) for number in range(7)]
    processor = MaskFormerImageProcessor()
    calls = []
    plain = resampling.resized_strips
    monkeypatch.setattr(
        "image_processing.semantic.resized_strips", lambda maps, *rest: calls.append(len(maps)) or plain(maps, *rest)
    )
    together = processor.post_process_semantic_segmentation(outputs, targets)
    assert sorted(calls) == [2, 2, 3]
    for number in range(7):
        alone = semantic_segmentation(
            outputs.class_queries_logits[number],
            outputs.masks_queries_logits[number],
            sizes[number % 3],
            targets[number],
        )
        assert torch.equal(together[number], alone)


@pytest.mark.usefixtures("plain")
@pytest.mark.parametrize("method", METHODS)
def test_the_plain_way_leaves_the_outputs_as_they_were(method):
    outputs = batch_of(2)
    masks = outputs.masks_queries_logits.clone()
    getattr(MaskFormerImageProcessor(), method)(outputs)
    assert torch.equal(outputs.masks_queries_logits, masks)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("method", METHODS)
def test_autocast_rounds_nothing(method):
    outputs = batch_of(2)
    process = getattr(MaskFormerImageProcessor(), method)
    expected = process(outputs, target_sizes=[(95, 119)] * 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = process(outputs, target_sizes=[(95, 119)] * 2)
    for one, other in zip(found, expected, strict=True):
        same = (one, other) if method == METHODS[0] else (one["segmentation"], other["segmentation"])
        assert torch.equal(*same)


class Semantic(torch.nn.Module):
    def forward(self, class_logits, mask_logits):
        return semantic_segmentation(class_logits, mask_logits, (90, 97), (135, 146))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("capture", ["compile", "export", "trace"])
def test_semantic_results_can_be_captured(capture):
    first, second = confident_case(seed=1), confident_case(seed=2)
    if capture == "compile":
        captured = torch.compile(Semantic(), backend="eager", fullgraph=True)
    elif capture == "export":
        captured = torch.export.export(Semantic(), first).module()
    else:
        captured = torch.jit.trace(Semantic(), first)
    for case in (first, second):
        expected = Semantic()(*case)
        assert (captured(*case) != expected).sum() <= 2  # equal scores, but for rounding


def test_nothing_made_with_fake_tensors_is_kept():
    sizes = ((93, 117), (61, 75))  # of no other test
    case = confident_case(seed=3)
    with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=False) as mode:
        fake = semantic_segmentation(*(mode.from_tensor(logits) for logits in case), *sizes)
        assert fake.shape == sizes[1] and type(fake) is not torch.Tensor
        assert not tiling.use_tiles(mode.from_tensor(case[1]))
    real = semantic_segmentation(*case, *sizes)
    assert type(real) is torch.Tensor and real.unique().numel() > 1
    with torch._subclasses.FakeTensorMode() as mode:  # and what is real is not used among fake ones
        semantic_segmentation(*(mode.from_tensor(logits) for logits in case), *sizes)


@pytest.mark.usefixtures("both_ways")
@pytest.mark.parametrize("method", METHODS)
def test_the_default_device_does_not_matter(method):
    outputs, targets = batch_of(2), [(71, 83)] * 2
    torch.set_default_device("meta")
    try:
        results = getattr(MaskFormerImageProcessor(), method)(outputs, target_sizes=targets)
        per_pixel_segmentation(outputs.masks_queries_logits[0], None, (71, 83))
    finally:
        torch.set_default_device(None)
    again = getattr(MaskFormerImageProcessor(), method)(outputs, target_sizes=targets)
    for result, other in zip(results, again, strict=True):
        if method == METHODS[0]:
            assert torch.equal(result, other)
        else:
            assert torch.equal(result["segmentation"], other["segmentation"])
            assert result["segments_info"] == other["segments_info"]
