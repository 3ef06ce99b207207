"""Calls of the image processor: images and maps of odd kinds, sizes and values."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from PIL import Image

from image_processing import MaskFormerImageProcessor

from .values import odd_numbers, odd_values

DTYPES = [
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint16",
    "uint32",
    "float16",
    "float32",
    "float64",
    "bool",
    "complex64",
    "U3",
    "object",
]
lengths = st.sampled_from([0, 1, 1, 2, 3, 4, 5, 16, 31, 33, 64])
shapes = st.one_of(
    st.tuples(st.sampled_from([1, 3, 3, 3, 4, 2]), lengths, lengths),
    st.tuples(lengths, lengths, st.sampled_from([1, 3, 3, 4])),
    st.tuples(lengths, lengths),
    st.lists(lengths, max_size=5).map(tuple).filter(lambda shape: math.prod(shape) < 100_000),
)
arrays = st.fixed_dictionaries(
    {
        "shape": shapes,
        "dtype": st.sampled_from(DTYPES),
        "values": st.lists(st.one_of(st.integers(0, 255), odd_numbers), min_size=1, max_size=4),
        "form": st.sampled_from(["numpy", "numpy", "torch", "torch", "PIL", "list"]),
    }
).filter(lambda described: described["form"] != "list" or described["dtype"] not in ("U3", "object"))
usual_images = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.just(3), st.integers(1, 64), st.integers(1, 64)),
        "dtype": st.sampled_from(["uint8", "uint8", "float32", "int64"]),
        "values": st.lists(st.integers(0, 255), min_size=1, max_size=4),
        "form": st.sampled_from(["numpy", "torch"]),
    }
)
maps = st.one_of(
    st.none(),
    st.none(),
    st.lists(arrays, max_size=3),
    arrays,
    st.just("like the images"),
    st.just("like the images"),
    st.just("like the images"),
)
ARGUMENTS = {
    "do_resize": st.one_of(st.booleans(), odd_values),
    "size": st.one_of(
        st.sampled_from(
            [
                {"shortest_edge": 16, "longest_edge": 40},
                {"height": 8, "width": 12},
                {"shortest_edge": 16},
                {},
                16,
                (8, 12),
            ]
        ),
        st.sampled_from(
            [{"max_height": 20, "max_width": 9}, {"height": 0, "width": 3}, {"shortest_edge": -4}, {"height": 9}]
        ),
        odd_values,
    ),
    "size_divisor": st.one_of(st.sampled_from([0, 1, 32]), odd_values),
    "rescale_factor": st.one_of(st.just(1 / 255), odd_values),
    "image_mean": st.one_of(st.just([0.5, 0.5, 0.5]), odd_values),
    "image_std": st.one_of(st.just([0.5, 0.5, 0.5]), st.just([0.0, 1.0, 1.0]), odd_values),
    "pad_size": st.one_of(st.sampled_from([{"height": 64, "width": 64}, {"height": 1, "width": 1}]), odd_values),
    "ignore_index": st.one_of(st.sampled_from([None, 0, 255]), odd_values),
    "do_reduce_labels": st.booleans(),
    "instance_id_to_semantic_id": st.one_of(st.just({0: 1, 1: 2}), odd_values),
    "class_labels": odd_values,
    "resample": st.one_of(st.integers(0, 6), odd_values),
    "return_tensors": st.sampled_from(["pt", "pt", None, "np", "x"]),
    "input_data_format": st.sampled_from([None, "channels_first", "channels_last", "none", "x"]),
}


def _has_no_text(value: Any) -> bool:
    """Texts are names of files, or URLs, which transformers reads."""
    if isinstance(value, (list, dict)):
        return all(map(_has_no_text, value))
    return not isinstance(value, str)


odd_images = odd_values.filter(_has_no_text)


@st.composite
def calls(draw: Any) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(sorted(ARGUMENTS)), max_size=2, unique=True))
    return {
        "images": draw(
            st.one_of(st.lists(usual_images, min_size=1, max_size=3), st.lists(arrays, max_size=3), arrays, odd_images)
        ),
        "maps": draw(maps),
        "arguments": {name: draw(ARGUMENTS[name]) for name in names},
    }


cases = calls()


def run(case: dict[str, Any]) -> None:
    processor = MaskFormerImageProcessor(size={"shortest_edge": 16, "longest_edge": 64})
    images, arguments = build_all(case["images"]), copy.deepcopy(case["arguments"])
    if case["maps"] == "like the images":
        listed = images if isinstance(images, list) else [images]
        arguments["segmentation_maps"] = [np.zeros(size_of(image), np.uint8) for image in listed]
    elif case["maps"] is not None:
        arguments["segmentation_maps"] = build_all(case["maps"])
    batch = processor(images, **{"return_tensors": "pt"} | arguments)
    if isinstance(batch["pixel_values"], torch.Tensor):
        assert batch["pixel_values"].ndim == 4 and batch["pixel_mask"].shape == batch["pixel_values"][:, 0].shape
        if not set(arguments) & {"rescale_factor", "image_mean", "image_std"}:
            assert batch["pixel_values"].isfinite().all()


def build_all(described: Any) -> Any:
    if isinstance(described, list):
        return [build(item) if isinstance(item, dict) and "form" in item else item for item in described]
    return build(described) if isinstance(described, dict) and "form" in described else described


def build(described: dict[str, Any]) -> Any:
    """The image; where its kind does not exist in this form, the array."""
    shape, dtype, values = described["shape"], described["dtype"], described["values"]
    with np.errstate(all="ignore"):
        flat = np.resize(np.array(values, dtype=np.float64), shape)
        array = flat.astype(dtype) if dtype not in ("U3", "object") else flat.astype(str).astype(dtype)
    try:
        if described["form"] == "torch":
            return torch.from_numpy(array)
        if described["form"] == "PIL":
            return Image.fromarray(array)
    except (TypeError, ValueError, IndexError):
        return array
    return array.tolist() if described["form"] == "list" else array


def size_of(image: Any) -> tuple[int, int]:
    if isinstance(image, Image.Image):
        return image.size[::-1]
    shape = np.shape(image)
    if len(shape) != 3:
        return (shape[0], shape[1]) if len(shape) == 2 else (1, 1)
    return shape[1:] if shape[0] in (1, 3) else shape[:2]
