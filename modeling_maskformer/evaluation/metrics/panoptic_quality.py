"""Panoptic quality, the metric of panoptic segmentation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from ...targets import Segments
from .base import SegmentationMetric, check_result, flat_map, integer_map, mean_of_defined, numbered, ratio, strips


class PanopticQuality(SegmentationMetric):
    """PQ, SQ and RQ (Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4), over all, thing, stuff classes.

    A predicted and a reference segment of one class match if their IoU is over 0.5, where void pixels of the reference
    count in neither. Per class over all images:

        SQ = mean IoU of matches (0 if there is none)
        RQ = matches / (matches + unmatched predictions / 2 + unmatched references / 2)
        PQ = SQ * RQ

    A crowd region of the reference matches nothing and is no miss. An unmatched prediction is no false alarm if more
    than half of it lies on void and on crowd of its own class. Pixels of the reference in no segment and not void are
    background: to predict a segment there is an error.

    Memory: four numbers a class, however many images.

    Args:
        id2label: class id -> name, for ids 0..K-1.
        label_ids_to_fuse: the stuff classes; all others are things. Only means depend on it.
    """

    def __init__(self, id2label: Mapping[int, str], label_ids_to_fuse: Collection[int] = ()) -> None:
        super().__init__(id2label)
        self._check_class_ids("list label_ids_to_fuse", list(label_ids_to_fuse))
        self.is_stuff = np.isin(np.arange(self.num_labels), list(label_ids_to_fuse))  # (K,)

    def compute(self) -> dict[str, float | dict[str, dict[str, float]]]:
        """`pq`, `sq`, `rq`, each also with `_things` and `_stuff`, and `per_class` with all three of each label.

        A class with neither reference nor predicted segment to count is NaN and left out of the means.
        """
        matches = self._state["true_positives"]
        counted = matches + (self._state["false_positives"] + self._state["false_negatives"]) / 2  # (K,)
        pq = ratio(self._state["iou_sum"], counted)
        rq = ratio(matches, counted)
        sq = np.where(counted > 0, self._state["iou_sum"] / np.maximum(matches, 1), np.nan)
        results: dict[str, Any] = {}
        for suffix, group in (("", slice(None)), ("_things", ~self.is_stuff), ("_stuff", self.is_stuff)):
            for name, values in (("pq", pq), ("sq", sq), ("rq", rq)):
                results[name + suffix] = mean_of_defined(values[group])
        return results | {"per_class": self._per_class(pq=pq, sq=sq, rq=rq)}

    def _empty_state(self) -> dict[str, np.ndarray]:
        counts = ("true_positives", "false_positives", "false_negatives")
        return {"iou_sum": np.zeros(self.num_labels)} | {
            name: np.zeros(self.num_labels, dtype=np.int64) for name in counts
        }

    def _update(self, prediction: Mapping[str, Any], reference: Segments) -> None:
        """`prediction`: `segmentation`, an `(H, W)` map of segment ids, and `segments_info` with `id`, `label_id`."""
        ids, listed, predicted_classes = self._read_prediction(prediction, reference.size)  # (H, W), (N,), (N,)
        classes, is_crowd = reference.class_ids.cpu().numpy(), reference.is_crowd.cpu().numpy()  # (S,), (S,)
        num_reference, num_predicted = len(classes), len(predicted_classes)

        # pixels shared by each reference segment (row 0: none, last row: void) and each prediction (column 0: none)
        pairs = np.zeros((num_reference + 2, num_predicted + 1), dtype=np.int64)
        for part, part_ids in strips(reference, ids):
            expected = flat_map(part, np.arange(1, num_reference + 1), nothing=0, void=num_reference + 1)
            predicted = numbered(part_ids, listed)
            if (unlisted := part_ids[(predicted == 0) & (part_ids > 0)]).size:
                raise ValueError(f"segment {unlisted[0]} of the prediction is not listed in its segments_info.")
            cells = expected * (num_predicted + 1) + predicted
            pairs += np.bincount(cells.ravel(), minlength=pairs.size).reshape(pairs.shape)
        shared, on_void = pairs[1:-1, 1:], pairs[-1, 1:]  # (S, N), (N,)
        areas, predicted_areas = pairs[1:-1].sum(1), pairs[:, 1:].sum(0)  # (S,), (N,)
        if (predicted_areas == 0).any():
            raise ValueError("segments_info of the prediction lists a segment without a pixel.")

        union = areas[:, None] + (predicted_areas - on_void)[None] - shared  # (S, N)
        same_class = classes[:, None] == predicted_classes[None]
        iou = np.where(same_class & ~is_crowd[:, None], shared / np.maximum(union, 1), 0.0)
        matched = iou > 0.5  # at most one a row and one a column, as segments of one map are disjoint
        on_crowd = (shared * (same_class & is_crowd[:, None])).sum(0)  # (N,)
        missed = ~matched.any(1) & ~is_crowd & (areas > 0)
        false_alarm = ~matched.any(0) & ((on_void + on_crowd) / predicted_areas <= 0.5)

        rows, columns = np.nonzero(matched)
        np.add.at(self._state["iou_sum"], classes[rows], iou[rows, columns])
        np.add.at(self._state["true_positives"], classes[rows], 1)
        np.add.at(self._state["false_negatives"], classes[missed], 1)
        np.add.at(self._state["false_positives"], predicted_classes[false_alarm], 1)

    def _read_prediction(
        self, prediction: Mapping[str, Any], size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(H, W)` ids, and of the N listed segments `(N,)` ids and `(N,)` classes."""
        check_result(prediction)
        ids = integer_map(prediction["segmentation"], "the predicted segmentation", size)
        listed = np.array([segment["id"] for segment in prediction["segments_info"]], dtype=np.int64)
        classes = np.array([segment["label_id"] for segment in prediction["segments_info"]], dtype=np.int64)
        self._check_class_ids("prediction", classes.tolist())
        ascending = np.sort(listed)
        if (repeated := ascending[1:][np.diff(ascending) == 0]).size:
            raise ValueError(f"segments_info of the prediction lists id {repeated[0]} more than once.")
        return ids, listed, classes
