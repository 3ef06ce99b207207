"""Post-processing of logits, sizes and thresholds of odd kinds; drawing of what comes out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from hypothesis import strategies as st
from PIL import Image

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor
from image_processing.drawing.visualization import draw_instances, draw_semantic

from .values import INF, NAN, odd_values

lengths = st.sampled_from([0, 1, 2, 4, 7, 8, 16, 24, 33])
usual = st.sampled_from([0, 0.0, 0.5, 1, 1.0, 0.8])
thresholds = st.one_of(
    usual,
    usual,
    usual,
    usual,
    st.sampled_from([0, 0.0, 0.5, 1, 1.0, 0.8]),
    st.sampled_from([NAN, INF, -0.1, 1.1]),
    odd_values,
)
numbers = st.one_of(st.integers(0, 70), st.sampled_from([-1, 0, 1.0, 2.5, NAN, INF, None, True]))
sizes = st.one_of(
    st.none(),
    st.just("one each"),
    st.just("one each"),
    st.lists(st.lists(numbers, max_size=3), max_size=3),
    st.just("tensor"),
    odd_values,
).filter(lambda value: not _is_large(value))


def _is_large(value: Any) -> bool:
    """Whether a result of this size was asked for that no machine holds."""
    if isinstance(value, (list, tuple)):
        return any(map(_is_large, value))
    return isinstance(value, (int, float)) and value > 300


cases = st.fixed_dictionaries(
    {
        "task": st.sampled_from(["semantic", "instance", "panoptic", "per_pixel"]),
        "batch": st.sampled_from([0, 1, 2, 2]),
        "queries": st.sampled_from([0, 1, 4, 4, 9, 9]),
        "classes": st.sampled_from([0, 1, 2, 5, 5, 5]),
        "map": st.tuples(lengths, lengths),
        "values": st.sampled_from(["random"] * 20 + ["zeros", "nan", "inf", "-inf", "huge", "one nan"]),
        "dtype": st.sampled_from(["float32"] * 20 + ["float16", "bfloat16", "float64", "int64", "bool"]),
        "target_sizes": sizes,
        "image_sizes": st.one_of(
            st.none(), st.just("whole"), st.lists(st.lists(st.integers(0, 200), max_size=3), max_size=3)
        ),
        "threshold": thresholds,
        "mask_threshold": thresholds,
        "overlap": thresholds,
        "form": st.sampled_from(["ids", "ids", "binary", "coco", "both"]),
        "fuse": st.one_of(st.none(), st.just([0]), st.just([1, 2]), odd_values),
        "mask_resize": st.sampled_from(["logits", "scores", "x"]),
    }
)


def run(case: dict[str, Any]) -> None:
    count, (height, width) = case["batch"], case["map"]
    generator = torch.Generator().manual_seed(0)

    def logits(*shape: int) -> torch.Tensor:
        values = 4 * torch.randn(*shape, generator=generator)
        fill = {"zeros": 0.0, "nan": NAN, "inf": INF, "-inf": -INF, "huge": 1e30}.get(case["values"])
        if fill is not None:
            values.fill_(fill)
        if case["values"] == "one nan" and values.numel():
            values.view(-1)[-1] = NAN
        return values.to(getattr(torch, case["dtype"]))

    outputs = SimpleNamespace(image_sizes=None)
    if case["image_sizes"] == "whole":
        outputs.image_sizes = torch.tensor([[4 * height, 4 * width]] * count)
    elif case["image_sizes"] is not None:
        outputs.image_sizes = case["image_sizes"]
    if case["task"] == "per_pixel":
        outputs.logits = logits(count, case["classes"], height, width)
        processor = PerPixelImageProcessor()
    else:
        outputs.class_queries_logits = logits(count, case["queries"], case["classes"] + 1)
        outputs.masks_queries_logits = logits(count, case["queries"], height, width)
        processor = MaskFormerImageProcessor()
    sizes = case["target_sizes"]
    if isinstance(sizes, str) and sizes in ("one each", "tensor"):
        sizes = [[5 + number, 9] for number in range(count)]
        sizes = torch.tensor(sizes) if case["target_sizes"] == "tensor" else sizes
    if case["task"] in ("semantic", "per_pixel"):
        results = processor.post_process_semantic_segmentation(outputs, sizes, mask_resize=case["mask_resize"])
    else:
        options = {"threshold": case["threshold"], "mask_threshold": case["mask_threshold"]}
        options["overlap_mask_area_threshold"] = case["overlap"]
        options["return_binary_maps"] = case["form"] in ("binary", "both")
        options["return_coco_annotation"] = case["form"] in ("coco", "both")
        if case["task"] == "panoptic":
            options["label_ids_to_fuse"] = case["fuse"]
        method = getattr(processor, f"post_process_{case['task']}_segmentation")
        results = method(outputs, target_sizes=sizes, **options)
    assert len(results) == count
    for number, result in enumerate(results):
        if case["task"] in ("semantic", "per_pixel"):
            assert sizes is None or list(result.shape) == [int(length) for length in sizes[number]]
            draw_semantic(Image.new("RGB", (result.shape[1], result.shape[0])), result)
        elif sizes is not None:
            height, width = (int(length) for length in sizes[number])
            assert all(0 <= entry["score"] <= 1 for entry in result["segments_info"])
            draw_instances(Image.new("RGB", (width, height)), result)
