"""ErrorKinds: whether each reference segment was found, or how it was lost, and what was invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from ...targets import Segments
from .base import SegmentationMetric, check_result, integer_map, numbered, strips
from .rle import pixels, predicted_rles, reference_rles, shared_pixels

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
        predicted, overlaps = self._overlaps(prediction, reference)
        self._check_class_ids("prediction", predicted.tolist())
        areas, predicted_areas, shared, on_void = overlaps
        same = classes[:, None] == predicted[None]  # (S, N)
        iou = shared / np.maximum(areas[:, None] + predicted_areas[None] - shared, 1)
        wanted = ~is_crowd & (areas > 0)

        finder = _find(np.where(same & wanted[:, None], iou, 0.0))  # (S,) number of the prediction, -1: none
        is_free = ~np.isin(np.arange(len(predicted)), finder)  # (N,)
        is_reason = np.zeros(len(predicted), dtype=bool)  # (N,)
        covers = same & wanted[:, None] & (shared > areas[:, None] / 2)  # (S, N) more than half of the reference
        merges = covers.sum(0) > 1  # (N,)
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
                "merged": covers[number] & merges,
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

    def _overlaps(self, prediction: Mapping[str, Any], reference: Segments) -> tuple[np.ndarray, Overlaps]:
        """`(N,)` classes of the predicted segments that count, the surest first, and their pixels."""
        check_result(prediction)
        segmentation, segments = prediction["segmentation"], prediction["segments_info"]
        scores = np.array([segment.get("score", 1.0) for segment in segments], dtype=np.float64)
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] >= self.threshold].tolist()
        if isinstance(segmentation, list):
            rles = predicted_rles(prediction, reference.size)
            overlaps = _overlaps_of_rles([rles[place] for place in order], reference)
        else:
            ids = integer_map(segmentation, "the predicted segmentation", reference.size)
            overlaps = _overlaps_of_map(ids, [segments[place]["id"] for place in order], reference)
        areas, predicted_areas, shared, on_void = overlaps
        seen = predicted_areas + on_void > 0  # a mask without a pixel is none
        classes = np.array([segments[place]["label_id"] for place in order], dtype=np.int64)
        return classes[seen], Overlaps(areas, predicted_areas[seen], shared[:, seen], on_void[seen])


class Overlaps(NamedTuple):
    """Pixels of S reference segments and of N predicted ones, those of void apart."""

    areas: np.ndarray  # (S,)
    predicted_areas: np.ndarray  # (N,)
    shared: np.ndarray  # (S, N)
    on_void: np.ndarray  # (N,) pixels of the predicted ones that are void


def _overlaps_of_map(ids: np.ndarray, listed: Sequence[int], reference: Segments) -> Overlaps:
    """Those of an `(H, W)` map of ids, in the order in which these are listed."""
    pairs = np.zeros((len(reference) + 1, len(listed) + 1), dtype=np.int64)
    outside, on_void = np.zeros((2, len(listed) + 1), dtype=np.int64)
    for part, part_ids in strips(reference, ids):
        predicted, void = numbered(part_ids, listed), part.void.cpu().numpy()  # (h, W)
        outside += np.bincount(predicted[~void], minlength=len(outside))
        on_void += np.bincount(predicted[void], minlength=len(on_void))
        for layer in part.ids.cpu().numpy():
            cells = np.where(void, 0, layer).astype(np.int64) * len(outside) + predicted
            pairs += np.bincount(cells.ravel(), minlength=pairs.size).reshape(pairs.shape)
    return Overlaps(pairs[1:].sum(1), outside[1:], pairs[1:, 1:], on_void[1:])


def _overlaps_of_rles(rles: Sequence[Mapping[str, Any]], reference: Segments) -> Overlaps:
    """Those of masks that may overlap, by their runs: none is decoded."""
    void = reference.void
    (void_rle,) = reference_rles(Segments(void.to(torch.uint8), [0]))
    expected = reference_rles(Segments(torch.where(void, 0, reference.ids), reference.class_ids))
    on_void = shared_pixels(rles, [void_rle])[:, 0]
    return Overlaps(pixels(expected), pixels(rles) - on_void, shared_pixels(rles, expected).T, on_void)


def _find(iou: np.ndarray) -> np.ndarray:
    """`(S,)`: which prediction finds each reference segment, -1 for none, of `(S, N)` IoUs, the surest first."""
    finder = np.full(len(iou), -1)
    for number in range(iou.shape[1]):
        free = np.where(finder < 0, iou[:, number], 0.0)
        if free.size and free.max() > 0.5:
            finder[free.argmax()] = number
    return finder
