"""Evaluator: outputs of the model -> predictions of one task -> its metric, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers.image_processing_utils import BaseImageProcessor

from image_processing.output_groups import check_on_device

from ..inference.predictor import post_process
from ..targets import Segments
from . import MAIN_METRIC, SegmentationMetric, metric_for_task
from .error_analysis import ErrorAnalysis
from .metrics.mask_ap import MAX_DETECTIONS
from .results import totals_of


class Evaluator:
    """Measures one task over a stream of batches. It keeps the metric's state, never a prediction.

    Args:
        task: "semantic", "instance" or "panoptic".
        image_processor: has `post_process_{task}_segmentation`; for panoptic, its `label_ids_to_fuse` are the stuff.
        id2label: class id -> name.
        panoptic_threshold: least class probability of a panoptic segment (the paper: 0.8, on ADE20K 0.7).
        mask_resize: of semantic segmentation, "logits" (the paper) or "scores" (transformers).
        analysis: takes in each image too, if given; batches then come with the images' indices.
        max_detections: of instance segmentation, how many detections of an image and class count.

    Attributes:
        main_metric: name of the number the task is judged by.
        results: everything the last `compute` found, `per_class` included.
    """

    def __init__(
        self,
        task: str,
        image_processor: BaseImageProcessor,
        id2label: Mapping[int, str],
        panoptic_threshold: float = 0.8,
        mask_resize: str = "logits",
        analysis: ErrorAnalysis | None = None,
        max_detections: int = MAX_DETECTIONS,
    ) -> None:
        self.metric: SegmentationMetric = metric_for_task(
            task, id2label, image_processor.label_ids_to_fuse, max_detections
        )
        self.task = task
        self.image_processor = image_processor
        # average precision ranks all detections, so none is left out for its score
        self.threshold = panoptic_threshold if task == "panoptic" else 0.0
        self.mask_resize = mask_resize
        self.analysis = analysis
        self.main_metric = MAIN_METRIC[task]
        self.results: dict[str, Any] = {}

    @property
    def num_images(self) -> int:
        return self.metric.num_images

    @property
    def metric_names(self) -> list[str]:
        """What `compute` returns a number for."""
        return list(totals_of(self.metric.compute()))

    def reset(self) -> None:
        self.metric.reset()
        if self.analysis is not None:
            self.analysis.reset()

    def update(
        self,
        outputs: Any,
        references: Sequence[Segments],
        count: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> None:
        """Takes in a batch: its outputs, and for each image its segments at the original size.

        With `count`, only the first `count` images. With `analysis`, `indices` are those of the images.

        Raises:
            ValueError: logits are NaN or infinite, of which a wrong number would be made.
        """
        check_on_device(outputs)  # the results are waited for anyway
        sizes = [reference.size for reference in references]
        predictions = post_process(self.task, self.image_processor, outputs, sizes, self.threshold, self.mask_resize)
        self.measure(predictions, references, count, indices)

    def measure(
        self,
        predictions: Sequence[Any],
        references: Sequence[Segments],
        count: int | None = None,
        indices: Sequence[int] | None = None,
    ) -> None:
        """Takes in a batch whose outputs are post-processed already; otherwise as `update`."""
        indices = [None] * len(references) if indices is None else indices
        for prediction, reference, index in list(zip(predictions, references, indices, strict=True))[:count]:
            self.metric.update(prediction, reference)
            if self.analysis is not None:
                self.analysis.update(prediction, reference, index)

    def gather(self, accelerator: Accelerator) -> None:
        """Makes the state of every process the one of all processes together."""
        if accelerator.num_processes == 1:
            return
        for part in (self.metric, self.analysis):
            if part is not None:
                states = gather_object([part.state()])
                part.reset()
                for state in states:
                    part.merge(state)

    def compute(self) -> dict[str, float]:
        """The metric's numbers over all images; those of each class are in `results`."""
        self.results = self.metric.compute()
        return totals_of(self.results)
