"""Post-processing on a GPU: with and without Triton's kernels its results are those of a CPU, and it hardly waits."""

import importlib.util
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from grids import sizes_and_precisions
from PIL import Image
from pycocotools.mask import decode
from tiny import tiny_model
from transformers import pipeline

from image_processing import MaskFormerImageProcessor, fused, semantic_scores
from modeling_maskformer.inference.predictor import Predictor

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
TASKS = ("semantic", "instance", "panoptic")
WAITS = {"semantic": 0, "instance": 2, "panoptic": 1}  # of one size of images, whatever their number
SIZES = {  # of the mask logits, of the image in input pixels, and of the result
    "own size": ((60, 50), (240, 200), (240, 200)),
    "padded and larger": ((60, 50), (231, 175), (321, 243)),
    "smaller": ((60, 50), (240, 198), (101, 67)),
    "of the logits": ((60, 50), (240, 200), None),
    "640 x 640": ((160, 160), (640, 640), (640, 640)),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
each_task = pytest.mark.parametrize("task", TASKS)


@pytest.fixture(params=["Triton", "plain"])
def way(request, monkeypatch):
    """Which of the two ways of a GPU is taken."""
    if request.param == "plain":
        monkeypatch.setattr(fused, "use_kernels", lambda maps: False)
    elif importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    return request.param


def make_outputs(images, small, image_size, queries=100, classes=150, live=30, seed=0):
    """Outputs on the CPU like a trained model's: live queries share the image, the others see no object."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(images, queries, classes + 1, generator=generator)
    class_logits[..., -1] += 12
    labels = torch.randint(0, classes, (images, live, 1), generator=generator)
    class_logits[:, :live].scatter_add_(2, labels, torch.full(labels.shape, 20.0))
    waves = torch.randn(images, queries, 8, 8, generator=generator)
    waves = F.interpolate(waves, size=small, mode="bicubic", align_corners=False)
    best, second = (
        waves[:, :live].topk(2, dim=1).values[:, :, None].unbind(1) if live > 1 else (waves[:, :1], 0 * waves[:, :1])
    )
    shares = torch.where(waves[:, :live] == best, best - second, waves[:, :live] - best)
    masks = torch.cat((8 * torch.tanh(4 * shares), 2 * waves[:, live:] - 3), dim=1)
    masks += 0.3 * torch.randn(masks.shape, generator=generator)
    order = torch.randperm(queries, generator=generator)
    return SimpleNamespace(
        class_queries_logits=class_logits[:, order],
        masks_queries_logits=masks[:, order],
        image_sizes=[image_size] * images,
    )


def moved(outputs, device, dtype=torch.float32):
    """The outputs with both kinds of logits on a device, in a dtype."""
    logits = {
        name: getattr(outputs, name).to(device, dtype) for name in ("class_queries_logits", "masks_queries_logits")
    }
    return SimpleNamespace(**logits, image_sizes=outputs.image_sizes)


def post_process(task, outputs, target_size, **options):
    targets = None if target_size is None else [target_size] * len(outputs.image_sizes)
    process = getattr(MaskFormerImageProcessor(), f"post_process_{task}_segmentation")
    return process(outputs, target_sizes=targets, **options)


def assert_same_segments(found, expected):
    """But for pixels where two queries are equal but for rounding, and what they do to a score."""
    for result, other in zip(found, expected, strict=True):
        ids, expected_ids = result["segmentation"].cpu(), other["segmentation"]
        assert ids.dtype == expected_ids.dtype and ids.shape == expected_ids.shape
        assert (ids != expected_ids).float().mean() < 1e-4
        assert len(result["segments_info"]) == len(other["segments_info"]) > 3
        for entry, expected_entry in zip(result["segments_info"], other["segments_info"], strict=True):
            assert entry["score"] == pytest.approx(expected_entry["score"], abs=1e-4)
            assert {**entry, "score": None} == {**expected_entry, "score": None}


@sizes_and_precisions(SIZES, DTYPES)
def test_each_pixel_gets_a_class_of_the_best_score(way, precision, sizes):
    small, image_size, target_size = sizes
    outputs = moved(make_outputs(2, small, image_size), "cuda", DTYPES[precision])
    found = post_process("semantic", outputs, target_size)
    on_cpu = moved(outputs, "cpu")
    for image, classes in enumerate(found):
        logits = on_cpu.class_queries_logits[image].double(), on_cpu.masks_queries_logits[image].double()
        scores = semantic_scores(*logits, image_size, target_size)
        assert classes.dtype == torch.int64 and classes.shape == scores.shape[1:]
        chosen = scores.gather(0, classes.cpu()[None])[0]
        assert (chosen >= scores.amax(0) * (1 - 2e-5)).all()


@pytest.mark.parametrize("queries, classes", [(1, 1), (7, 3), (33, 17), (100, 133), (300, 300), (20, 1203)])
def test_any_number_of_queries_and_classes(queries, classes):
    outputs = make_outputs(2, (33, 41), (130, 161), queries, classes, live=max(1, queries // 3))
    on_gpu = moved(outputs, "cuda")
    for task in TASKS:
        assert len(post_process(task, on_gpu, (127, 150))) == 2
    for image, found in enumerate(post_process("semantic", on_gpu, (127, 150))):
        logits = outputs.class_queries_logits[image], outputs.masks_queries_logits[image]
        scores = semantic_scores(*logits, (130, 161), (127, 150))
        assert (scores.gather(0, found.cpu()[None])[0] >= scores.amax(0) * (1 - 2e-5)).all()


@sizes_and_precisions(SIZES, DTYPES)
@pytest.mark.parametrize("task", TASKS[1:])
def test_segments_are_those_of_a_cpu(way, task, precision, sizes):
    small, image_size, target_size = sizes
    outputs = moved(make_outputs(2, small, image_size), "cuda", DTYPES[precision])
    assert_same_segments(
        post_process(task, outputs, target_size), post_process(task, moved(outputs, "cpu"), target_size)
    )


@pytest.mark.parametrize("task", TASKS[1:])
def test_binary_masks_are_those_of_a_cpu(way, task):
    outputs = make_outputs(2, (60, 50), (231, 175))
    on_gpu, on_cpu = (
        post_process(task, moved(outputs, device), (321, 243), return_binary_maps=True) for device in ("cuda", "cpu")
    )
    assert_same_segments(on_gpu, on_cpu)


@pytest.mark.parametrize("task", TASKS[1:])
def test_a_batch_may_have_images_without_segments(way, task):
    outputs = make_outputs(3, (60, 50), (240, 200))
    outputs.class_queries_logits[1, :, -1] += 40
    found = post_process(task, moved(outputs, "cuda"), (240, 200))
    assert found[0]["segments_info"] and found[2]["segments_info"] and not found[1]["segments_info"]
    assert (found[1]["segmentation"] == (-1 if task == "instance" else 0)).all()


@each_task
def test_results_are_the_same_every_time(task):
    outputs = moved(make_outputs(2, (60, 50), (240, 200)), "cuda")
    first, second = (post_process(task, outputs, (321, 243)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        if task == "semantic":
            assert torch.equal(one, other)
        else:
            assert torch.equal(one["segmentation"], other["segmentation"])
            assert one["segments_info"] == other["segments_info"]


def test_kernels_are_used_where_triton_is_installed():
    pytest.importorskip("triton")
    maps = torch.zeros(1, 100, 8, 8, device="cuda")
    assert fused.use_kernels(maps)
    with torch._subclasses.FakeTensorMode() as mode:
        assert not fused.use_kernels(mode.from_tensor(maps))


@pytest.mark.parametrize("images", [1, 8])
@each_task
def test_the_host_waits_at_most_twice_whatever_the_batch(task, images):
    pytest.importorskip("triton")
    outputs = moved(make_outputs(images, (60, 50), (240, 200)), "cuda")
    post_process(task, outputs, (240, 200))  # compiles, and makes the tables of these sizes
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            post_process(task, outputs, (240, 200))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in seen if "called a synchronizing" in str(warning.message)]
    assert len(waits) <= WAITS[task], waits


@each_task
def test_little_memory_is_needed_beside_the_result(task):
    pytest.importorskip("triton")
    outputs = moved(make_outputs(2, (160, 160), (640, 640)), "cuda")
    post_process(task, outputs, (640, 640))
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = post_process(task, outputs, (640, 640))
    assert len(results) == 2
    # class maps of 8 bytes a pixel are 6.6 MB, one resized map of all queries would be 328 MB
    assert torch.cuda.max_memory_allocated() - before < 24 << 20


def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def confident_model():
    """Untrained, all queries are alike: each gets a class, and masks with both signs."""
    model = tiny_model().eval()
    with torch.no_grad():
        model.model.transformer_module.queries_embedder.weight.normal_(0, 10)
        model.class_predictor.weight.normal_(0, 3)
    return model


@each_task
def test_a_predictor_gives_what_it_gives_on_a_cpu(monkeypatch, task, way):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    model = confident_model()
    on_cpu, on_gpu = (
        Predictor(model.to(device), MaskFormerImageProcessor(), task, 0.3)([picture()])[0]
        for device in ("cpu", "cuda")
    )
    if task != "semantic":
        labels = [[entry["label_id"] for entry in result["segments_info"]] for result in (on_cpu, on_gpu)]
        assert labels[0] == labels[1] and labels[0]
        on_cpu, on_gpu = on_cpu["segmentation"], on_gpu["segmentation"]
    if task == "instance":  # run-lengths
        on_cpu, on_gpu = (torch.from_numpy(decode(masks)) for masks in (on_cpu, on_gpu))
    assert (on_gpu.cpu() != on_cpu).float().mean() < 0.01


@each_task
def test_a_pipeline_gives_pictures(task, way):
    segmenter = pipeline(
        "image-segmentation", model=confident_model(), image_processor=MaskFormerImageProcessor(), device="cuda"
    )
    segments = segmenter(picture(), subtask=task, threshold=0.3)
    assert segments and all(segment["mask"].size == (120, 90) for segment in segments)
