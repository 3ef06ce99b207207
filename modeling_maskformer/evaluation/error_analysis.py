"""ErrorAnalysis: beside a metric, what goes wrong, and on which images most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..targets import Segments
from .metrics.error_kinds import ErrorKinds
from .metrics.mean_iou import MeanIoU

SCORE_THRESHOLD = 0.5  # least score of an instance that counts; average precision has no such bound


@dataclass(frozen=True)
class MeasuredImage:
    """An image, its score in [0, 1] and what was predicted for it.

    Attributes:
        score: see `ErrorAnalysis`.
        index: of the image in its dataset.
        prediction: as `post_process` returned it, but maps in the smallest dtype; of instances those that count.
    """

    score: float
    index: int
    prediction: Any


class ErrorAnalysis:
    """Takes in every image once. It keeps counts, scores and the predictions of the worst images, no others.

    The score of an image is, for semantic segmentation, its own mean IoU over the classes in its reference or
    prediction; else the panoptic quality of all its segments taken together (see `ErrorKinds`), where predicted
    instances have a score of at least 0.5.

    Args:
        task: "semantic", "instance" or "panoptic".
        id2label: class id -> name.
        num_worst: how many images are kept.

    Attributes:
        counts: `MeanIoU`, whose confusion matrix it is about, or `ErrorKinds`, over all images.
        scores: (score, index) of each image that has something to find or something found.
        worst: the worst images, the very worst first.
        score_name: what the score of an image is, in words.
    """

    def __init__(self, task: str, id2label: Mapping[int, str], num_worst: int = 8) -> None:
        self.task = task
        self.id2label = id2label
        self.num_worst = num_worst
        self.score_name = "mean IoU" if task == "semantic" else "panoptic quality"
        self.reset()

    def reset(self) -> None:
        """Forget every image."""
        self.counts = self._new_counts()
        self.scores: list[tuple[float, int]] = []
        self.worst: list[MeasuredImage] = []

    def update(self, prediction: Any, reference: Segments, index: int) -> None:
        """Takes in an image: its prediction, its reference and its index in the dataset."""
        counts = self._new_counts()
        counts.update(prediction, reference)
        score = counts.compute()["mean_iou" if self.task == "semantic" else "quality"]
        self.counts.merge(counts.state())
        if not math.isnan(score):  # nothing to find, and nothing found
            self.scores.append((score, index))
            self._keep(MeasuredImage(score, index, prediction))

    def state(self) -> dict[str, Any]:
        """All that was taken in so far, picklable."""
        return {"counts": self.counts.state(), "scores": list(self.scores), "worst": list(self.worst)}

    def merge(self, other: Mapping[str, Any]) -> None:
        """Takes in the state of another analysis of the same kind, as if its images had been seen here."""
        self.counts.merge(other["counts"])
        self.scores += other["scores"]
        for image in other["worst"]:
            self._keep(image)

    def confusion(self) -> np.ndarray:
        """Of semantic segmentation: `(K+1, K+1)` pixels by class of the reference and predicted class, last: none."""
        return self.counts.state()["confusion"]

    def _new_counts(self) -> MeanIoU | ErrorKinds:
        if self.task == "semantic":
            return MeanIoU(self.id2label)
        return ErrorKinds(self.id2label, SCORE_THRESHOLD if self.task == "instance" else 0.0)

    def _keep(self, image: MeasuredImage) -> None:
        order = [(kept.score, kept.index) for kept in self.worst]
        if len(order) == self.num_worst and (not order or (image.score, image.index) > order[-1]):
            return
        image = replace(image, prediction=self._reduced(image.prediction))
        self.worst = sorted([*self.worst, image], key=lambda kept: (kept.score, kept.index))[: self.num_worst]

    def _reduced(self, prediction: Any) -> Any:
        """What is drawn, on the CPU, maps in the fewest bytes: of instances those that count."""
        if self.task == "semantic":
            return _compact(prediction)
        segmentation, segments = prediction["segmentation"], prediction["segments_info"]
        if not isinstance(segmentation, list):
            return {"segmentation": _compact(segmentation), "segments_info": segments}
        kept = [place for place, segment in enumerate(segments) if segment["score"] >= SCORE_THRESHOLD]
        return {
            "segmentation": [segmentation[place] for place in kept],
            "segments_info": [segments[place] for place in kept],
        }


def _compact(id_map: Any) -> Tensor:
    """The `(H, W)` map on the CPU in the smallest signed dtype that holds its values."""
    id_map = torch.as_tensor(id_map).cpu()
    least, most = (int(value) for value in id_map.aminmax())
    dtypes = (torch.int8, torch.int16, torch.int32)
    fitting = (dtype for dtype in dtypes if torch.iinfo(dtype).min <= least and most <= torch.iinfo(dtype).max)
    return id_map.to(next(fitting, torch.int64))
