"""Results -> files that other tools read: COCO panoptic, COCO instances, and class-id images."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage
from torch import Tensor

from .boxed_masks import BoxedMask, masks_of_ids
from .run_lengths import compressed_run_lengths

LARGEST_ID = 256**3 - 1


def encode_mask(mask: np.ndarray | Tensor) -> dict:
    """{"size": [H, W], "counts": str}: COCO's compressed RLE of an `(H, W)` mask, as JSON can hold it."""
    if isinstance(mask, Tensor):
        mask = mask.cpu().numpy()
    encoded = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(length) for length in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def encode_ids(id_map: Tensor, ids: Iterable[int]) -> list[dict]:
    """One RLE per id of an `(H, W)` id map, in the order of `ids`."""
    by_column = id_map.cpu().numpy().T.copy().T  # one transposition for all ids: RLE runs along columns
    return [encode_boxed(mask) for mask in masks_of_ids(by_column, list(ids))]


def encode_boxed(mask: BoxedMask) -> dict:
    """What `encode_mask` gives for the whole mask."""
    return encode_runs(*runs_of_mask(mask.pixels, mask.corner, mask.size[0]), mask.size)


def runs_of_mask(mask: np.ndarray, corner: tuple[int, int], height: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the runs of an `(h, w)` mask start and stop, (n,) int64 each, counted column by column of the image.

    Args:
        mask: a part of the image's mask.
        corner: its top and left in the image.
        height: the image's.
    """
    length = mask.shape[0] + 1  # of a column and a pixel outside, at which each run stops
    pixels = np.zeros(1 + mask.shape[1] * length, dtype=bool)
    pixels[1:].reshape(mask.shape[1], length)[:, :-1] = mask.T
    columns, rows = np.divmod(np.flatnonzero(pixels[1:] != pixels[:-1]), length)
    top, left = corner
    changes = (left + columns) * height + top + rows
    return changes[::2], changes[1::2]


def encode_runs(starts: np.ndarray, stops: np.ndarray, size: tuple[int, int]) -> dict:
    """What `encode_mask` gives for the mask of these runs, which may touch, overlap, and come in any order.

    Args:
        starts, stops: `(n,)` integers, counted column by column; n may be 0.
        size: (height, width) of the mask.
    """
    order = np.argsort(starts, kind="stable")
    starts, reach = starts[order], np.maximum.accumulate(stops[order])
    is_gap = starts[1:] > reach[:-1]
    starts, stops = starts[np.append(True, is_gap)[: len(starts)]], reach[np.append(is_gap, True)[: len(reach)]]
    ends = np.concatenate([[0], np.stack((starts, stops), axis=1).ravel(), [size[0] * size[1]]])
    counts = np.diff(ends).tolist()
    if len(counts) > 1 and counts[-1] == 0:
        counts.pop()
    encoded = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    return {"size": [int(length) for length in size], "counts": encoded["counts"].decode("ascii")}


def decode_mask(rle: dict) -> Tensor:
    """`(H, W)` bool mask of a COCO RLE; a ValueError where its runs do not cover its size."""
    return torch.from_numpy(coco_mask.decode(compressed_run_lengths(rle))).view(torch.bool)


def ids_to_rgb(ids: Tensor | np.ndarray) -> np.ndarray:
    """`(H, W, 3)` uint8 with id = red + 256 green + 65536 blue, of `(H, W)` ids in 0..16777215."""
    ids = np.asarray(ids)
    if ids.size and (ids.min() < 0 or ids.max() > LARGEST_ID):
        raise ValueError(f"COCO panoptic images hold ids from 0 to {LARGEST_ID}, got {ids.min()} to {ids.max()}.")
    return ids.astype("<u4", order="C")[..., None].view(np.uint8)[..., :3].copy()  # its bytes, the lowest first


def rgb_to_ids(rgb: Image.Image | np.ndarray) -> np.ndarray:
    """`(H, W)` int32 ids of a COCO panoptic image."""
    channels = np.asarray(rgb).astype(np.int32)
    if channels.ndim != 3 or channels.shape[2] < 3:
        raise ValueError(f"A COCO panoptic image has three channels, got an array of shape {channels.shape}.")
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def save_panoptic(
    result: Mapping[str, Any], path: str | Path, image_id: int | str, category_ids: Mapping[int, int] | None = None
) -> dict:
    """The image's entry for the "annotations" of COCO panoptic JSON; its segment ids are written to the PNG `path`.

    Args:
        result: the image's entry of `post_process_panoptic_segmentation`, with an id map (0 is void).
        path: the PNG to write.
        image_id: what the dataset calls the image.
        category_ids: the dataset's category of each label; without it, the label ids themselves.
    """
    Image.fromarray(ids_to_rgb(result["segmentation"].cpu())).save(path)
    segments = panoptic_segments(result, category_ids)
    return {"image_id": image_id, "file_name": Path(path).name, "segments_info": segments}


def panoptic_segments(result: Mapping[str, Any], category_ids: Mapping[int, int] | None = None) -> list[dict]:
    """The "segments_info" of an image in COCO panoptic JSON; arguments as for `save_panoptic`."""
    ids = result["segmentation"].cpu().numpy()
    most = max((info["id"] for info in result["segments_info"]), default=0)
    areas, boxes = np.bincount(ids.ravel(), minlength=most + 1), ndimage.find_objects(ids, most)
    return [
        {
            "id": info["id"],
            "category_id": _category(info["label_id"], category_ids),
            "iscrowd": 0,
            "area": int(areas[info["id"]]),
            "bbox": _bounding_box(boxes[info["id"] - 1]),
            "score": info["score"],
        }
        for info in result["segments_info"]
    ]


def coco_instances(
    result: Mapping[str, Any], image_id: int | str, category_ids: Mapping[int, int] | None = None
) -> list[dict]:
    """The image's entries of a COCO results file, which are also annotations.

    Each has "image_id", "category_id", "segmentation" (RLE), "bbox", "score", "area" and "iscrowd" (0).

    Args:
        result: the image's entry of `post_process_instance_segmentation`, of binary maps or RLE (an id map has lost
            what overlaps).
        image_id, category_ids: as for `save_panoptic`.
    """
    masks: Sequence[Any] = result["segmentation"]
    if len(masks) != len(result["segments_info"]) or (isinstance(masks, Tensor) and masks.ndim != 3):
        raise ValueError(
            "coco_instances needs one mask per instance: post-process with return_coco_annotation or "
            "return_binary_maps set to True."
        )
    entries = []
    for mask, info in zip(masks, result["segments_info"], strict=True):
        rle = encode_mask(mask) if isinstance(mask, Tensor) else dict(mask)
        entries.append(
            {
                "image_id": image_id,
                "category_id": _category(info["label_id"], category_ids),
                "segmentation": rle,
                "bbox": [float(number) for number in coco_mask.toBbox(rle)],
                "score": info["score"],
                "area": int(coco_mask.area(rle)),
                "iscrowd": 0,
            }
        )
    return entries


def coco_categories(
    id2label: Mapping[int, str], stuff: Collection[int], category_ids: Mapping[int, int] | None = None
) -> list[dict]:
    """The "categories" of a COCO file, one a label: {"id", "name", "isthing"}, which is 0 for classes of stuff."""
    return [
        {"id": _category(label, category_ids), "name": name, "isthing": int(label not in stuff)}
        for label, name in id2label.items()
    ]


def save_class_map(class_map: Tensor, path: str | Path, num_classes: int) -> None:
    """Writes `(H, W)` class ids to the PNG `path`: see `class_map_image`."""
    class_map_image(class_map, num_classes).save(path)


def class_map_image(class_map: Tensor, num_classes: int) -> Image.Image:
    """The image of `(H, W)` class ids: of 8 bits, or of 16 where there are more than 255 classes."""
    dtype = np.uint8 if num_classes <= 255 else np.uint16
    low, high = int(class_map.min()), int(class_map.max())
    if low < 0 or high > np.iinfo(dtype).max:
        raise ValueError(
            f"The class map has ids from {low} to {high}; an image of {num_classes} classes cannot hold them."
        )
    return Image.fromarray(class_map.cpu().numpy().astype(dtype))


def _category(label_id: int, category_ids: Mapping[int, int] | None) -> int:
    return int(label_id) if category_ids is None else int(category_ids[label_id])


def _bounding_box(box: tuple[slice, slice] | None) -> list[int]:
    """COCO's [left, top, width, height] in pixels; zeros where there is no pixel."""
    if box is None:
        return [0, 0, 0, 0]
    rows, columns = box
    return [columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start]
