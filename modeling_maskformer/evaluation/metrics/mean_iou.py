"""Mean intersection over union, the metric of semantic segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...targets import VOID, Segments
from .base import SegmentationMetric, flat_map, integer_map, mean_of_defined, ratio, strips


class MeanIoU(SegmentationMetric):
    """Mean IoU, pixel accuracy and mean accuracy, from the confusion matrix of all pixels of all images.

    Void pixels of the reference count nowhere. Where the reference has a class and the prediction has none, the pixel
    is a miss of that class. Where the reference has no class (a pixel of no segment, as beside the objects of an
    instance dataset), a predicted class is a false alarm. A crowd region is an area of its class like any other.

    Memory: the (K+1) x (K+1) confusion matrix, however many images.

    Args:
        id2label: class id -> name, for ids 0..K-1.
        ignore_index: the value of predicted pixels without a class; never one of the class ids.
    """

    def __init__(self, id2label: Mapping[int, str], ignore_index: int = VOID) -> None:
        super().__init__(id2label)
        if 0 <= ignore_index < self.num_labels:
            raise ValueError(f"ignore_index {ignore_index} is also a class: classes are 0 to {self.num_labels - 1}.")
        self.ignore_index = ignore_index

    def compute(self) -> dict[str, float | dict[str, dict[str, float]]]:
        """`mean_iou`, `pixel_accuracy`, `mean_accuracy`, and `per_class` with `iou` and `accuracy` of each label.

        A class in neither reference nor prediction has IoU NaN and is left out of the mean; so is the accuracy of a
        class without a reference pixel.
        """
        confusion = self._state["confusion"]  # (K+1, K+1)
        correct = confusion.diagonal()[:-1]  # (K,)
        referred, predicted = confusion.sum(1)[:-1], confusion.sum(0)[:-1]
        iou = ratio(correct, referred + predicted - correct)
        accuracy = ratio(correct, referred)
        return {
            "mean_iou": mean_of_defined(iou),
            "pixel_accuracy": float(ratio(correct.sum(), referred.sum())),
            "mean_accuracy": mean_of_defined(accuracy),
            "per_class": self._per_class(iou=iou, accuracy=accuracy),
        }

    def _empty_state(self) -> dict[str, np.ndarray]:
        # rows: class of the reference, columns: predicted class, last of each: no class
        return {"confusion": np.zeros((self.num_labels + 1, self.num_labels + 1), dtype=np.int64)}

    def _update(self, prediction: Any, reference: Segments) -> None:
        """`prediction`: `(H, W)` integer class map, tensor, array, PIL image or nested list."""
        no_class = self.num_labels
        confusion = np.zeros_like(self._state["confusion"])
        class_map = integer_map(prediction, "the predicted class map", reference.size)
        for part, predicted in strips(reference, class_map):
            expected = flat_map(part, part.class_ids.cpu().numpy(), nothing=no_class, void=VOID)
            labelled = expected != VOID
            expected, predicted = expected[labelled], predicted[labelled]  # (P,) each
            ignored = predicted == self.ignore_index
            if (outside := predicted[((predicted < 0) | (predicted >= no_class)) & ~ignored]).size:
                self._check_class_ids("prediction", outside[:1].tolist())
            predicted = np.where(ignored, no_class, predicted)
            cells = np.bincount(expected * (no_class + 1) + predicted, minlength=confusion.size)
            confusion += cells.reshape(confusion.shape)
        self._state["confusion"] += confusion
