"""ErrorKinds: whether each reference segment was found, or how it was lost, and what was invented."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils

from image_processing.run_lengths import compressed_run_lengths

from ..targets import Segments
from .base import SegmentationMetric, check_result, integer_map

# what becomes of a reference segment
KINDS = ("found", "wrong class", "merged", "split", "inexact", "missed")
INVENTED = "invented"  # predicted segments that explain nothing


class ErrorKinds(SegmentationMetric):
    """Counts by class what became of each reference segment. Each is of one kind, the first of these that holds:

    - **found**: a predicted segment of its class has an IoU over 0.5 with it. Of several the surest takes it, and each
      predicted segment finds one reference segment at most, that of the highest IoU.
    - **wrong class**: a predicted segment of another class, which found none, has an IoU over 0.5 with it.
    - **merged**: a predicted segment of its class covers more than half of it, and more than half of another reference
      segment of that class.
    - **split**: two or more predicted segments of its class lie with more than half of their pixels in it, and cover
      together more than half of it.
    - **inexact**: a predicted segment of its class, which found none, has an IoU from 0.1 to 0.5 with it.
    - **missed**: none of these.

    A predicted segment that found none and is no reason for one of the middle four is **invented**, counted for its
    own class, unless more than half of it lies on void or on crowd of its class. Void pixels of the reference count in
    no area; crowd regions are neither found nor lost.

    Args:
        id2label: class id -> name, for ids 0..K-1.
        threshold: predicted segments of a lower score are left out, as a list of detections has many.
    """

    def __init__(self, id2label: Mapping[int, str], threshold: float = 0.0) -> None:
        super().__init__(id2label)
        self.threshold = threshold

    def compute(self) -> dict[str, float | dict[str, dict[str, int]]]:
        """`quality`, and `per_class`: label -> how many segments are of each kind, and how many are invented.

        `quality` is the panoptic quality of all segments taken together: the sum of the IoUs of what was found over
        the number found, and half the number of all other segments on both sides. NaN where there are none.
        """
        state = self._state
        counted = state["kinds"][:, 0].sum() + (state["kinds"][:, 1:].sum() + state["unmatched"]) / 2
        counts = np.concatenate([state["kinds"], state["invented"][:, None]], 1)  # (K, kinds + 1)
        return {
            "quality": float(state["iou_sum"] / counted) if counted else float("nan"),
            "per_class": self._per_class(**dict(zip((*KINDS, INVENTED), counts.T, strict=True))),
        }

    def _empty_state(self) -> dict[str, np.ndarray]:
        return {
            "kinds": np.zeros((self.num_labels, len(KINDS)), dtype=np.int64),
            "invented": np.zeros(self.num_labels, dtype=np.int64),
            "unmatched": np.zeros((), dtype=np.int64),  # predicted segments that found none, crowd and void left out
            "iou_sum": np.zeros(()),
        }

    def _update(self, prediction: Mapping[str, Any], reference: Segments) -> None:
        """`prediction`: as for `PanopticQuality` or `MaskAP`."""
        classes, is_crowd = reference.class_ids.cpu().numpy(), reference.is_crowd.cpu().numpy()  # (S,), (S,)
        masks = list(predicted_masks(prediction, reference.size, self.threshold))
        predicted = np.array([label for _, label in masks], dtype=np.int64)  # (N,)
        self._check_class_ids("prediction", predicted.tolist())
        areas, predicted_areas, shared, on_void = _overlaps([mask for mask, _ in masks], reference)
        same = classes[:, None] == predicted[None]  # (S, N)
        iou = shared / np.maximum(areas[:, None] + predicted_areas[None] - shared, 1)
        wanted = ~is_crowd & (areas > 0)

        finder = _find(np.where(same & wanted[:, None], iou, 0.0))  # (S,) number of the prediction, -1: none
        is_free = ~np.isin(np.arange(len(predicted)), finder)  # (N,)
        is_reason = np.zeros(len(predicted), dtype=bool)  # (N,)
        covers = same & wanted[:, None] & (shared > areas[:, None] / 2)  # (S, N) more than half of the reference
        inside = same & (shared > predicted_areas[None] / 2)  # (S, N) more than half of the prediction
        for number in np.flatnonzero(wanted):
            if finder[number] >= 0:
                self._count(classes[number], "found")
                self._state["iou_sum"] += iou[number, finder[number]]
                continue
            kind, reasons = "missed", np.zeros(len(predicted), dtype=bool)
            pieces = inside[number]
            for name, candidates in {
                "wrong class": ~same[number] & is_free & (iou[number] > 0.5),
                "merged": covers[number] & (covers.sum(0) > 1),
                "split": pieces & (pieces.sum() > 1) & (shared[number][pieces].sum() > areas[number] / 2),
                "inexact": same[number] & is_free & (iou[number] >= 0.1),
            }.items():
                if candidates.any():
                    kind, reasons = name, candidates
                    break
            self._count(classes[number], kind)
            is_reason |= reasons
        on_crowd = (shared * (same & is_crowd[:, None])).sum(0)
        is_ignored = on_void + on_crowd > (predicted_areas + on_void) / 2
        self._state["unmatched"] += int((is_free & ~is_ignored).sum())
        np.add.at(self._state["invented"], predicted[is_free & ~is_reason & ~is_ignored], 1)

    def _count(self, class_id: int, kind: str) -> None:
        self._state["kinds"][class_id, KINDS.index(kind)] += 1


def predicted_masks(
    prediction: Mapping[str, Any], size: tuple[int, int], threshold: float = 0.0
) -> Iterator[tuple[np.ndarray, int]]:
    """The `(H, W)` bool mask and class of each segment of a panoptic or instance prediction, the surest first."""
    check_result(prediction)
    segmentation, segments = prediction["segmentation"], list(prediction["segments_info"])
    ids = None if isinstance(segmentation, list) else integer_map(segmentation, "the predicted segmentation", size)
    for place in sorted(range(len(segments)), key=lambda place: -segments[place].get("score", 1.0)):
        segment = segments[place]
        if segment.get("score", 1.0) < threshold:
            return
        if ids is None:
            mask = mask_utils.decode(compressed_run_lengths(segmentation[place])).astype(bool)
        else:
            mask = ids == segment["id"]
        if mask.any():
            yield mask, int(segment["label_id"])


def _overlaps(masks: list[np.ndarray], reference: Segments) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels, without those of void: `(S,)` of each reference segment, `(N,)` of each mask, `(S, N)` shared by both.

    Last the `(N,)` pixels of each mask that are void.
    """
    void = reference.void.cpu().numpy()  # (H, W)
    layers = np.where(void, 0, reference.ids.cpu().numpy()).astype(np.int64)  # (L, H, W)
    length = len(reference) + 1
    areas = np.bincount(layers.ravel(), minlength=length)[1:]
    shared = np.zeros((len(reference), len(masks)), dtype=np.int64)
    for number, mask in enumerate(masks):
        shared[:, number] = np.bincount(layers[:, mask].ravel(), minlength=length)[1:]
    predicted_areas = np.array([int((mask & ~void).sum()) for mask in masks], dtype=np.int64)
    on_void = np.array([int((mask & void).sum()) for mask in masks], dtype=np.int64)
    return areas, predicted_areas, shared, on_void


def _find(iou: np.ndarray) -> np.ndarray:
    """`(S,)`: which prediction finds each reference segment, -1 for none, of `(S, N)` IoUs, the surest first."""
    finder = np.full(len(iou), -1)
    for number in range(iou.shape[1]):
        free = np.where(finder < 0, iou[:, number], 0.0)
        if free.size and free.max() > 0.5:
            finder[free.argmax()] = number
    return finder
