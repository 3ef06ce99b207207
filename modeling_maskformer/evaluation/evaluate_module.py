"""A metric of this package behind the interface of the `evaluate` library.

`evaluate` writes every prediction to disk and reads all of them back into lists to compute: for pixels that is more
memory than the dataset. These modules take in each batch as it is added and keep only the metric's state.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import evaluate

from ..targets import Segments
from .metrics.base import SegmentationMetric


class StreamingModule(evaluate.Metric, ABC):
    """`add`, `add_batch` and `compute` as in every `evaluate` module, in memory that does not grow with pixels.

    For several processes gather `module.metric.state()` of each and `merge` them; `num_process` must stay 1.
    """

    def __init__(
        self,
        config_name: str | None = None,
        keep_in_memory: bool = False,
        cache_dir: str | None = None,
        num_process: int = 1,
        process_id: int = 0,
        seed: int | None = None,
        experiment_id: str | None = None,
        hash: str | None = None,
        id2label: Mapping[int, str] | None = None,
        **options: Any,
    ) -> None:
        if id2label is None:
            raise ValueError(
                f"{type(self).__name__} needs the labels: evaluate.load(path, id2label={{0: 'road', ...}})."
            )
        if num_process != 1:
            raise ValueError(
                f"{type(self).__name__} keeps its state in memory, so num_process must be 1, got {num_process}: "
                "gather `module.metric.state()` of each process and merge them instead."
            )
        super().__init__(
            config_name=config_name,
            keep_in_memory=keep_in_memory,
            cache_dir=cache_dir,
            seed=seed,
            process_id=process_id,
            experiment_id=experiment_id,
            hash=hash,
        )
        self.metric = self.make_metric(id2label, **options)

    @abstractmethod
    def make_metric(self, id2label: Mapping[int, str]) -> SegmentationMetric:
        """The metric behind the module; its further arguments are those of `evaluate.load`."""

    @abstractmethod
    def read_reference(self, prediction: Any, reference: Any) -> Segments:
        """The segments of one image from the plain data in which users of `evaluate` hold them."""

    def __len__(self) -> int:
        return self.metric.num_images

    def add(self, *, prediction: Any, reference: Any) -> None:
        """Take in one image."""
        self.metric.update(prediction, self.read_reference(prediction, reference))

    def add_batch(self, *, predictions: Sequence[Any], references: Sequence[Any]) -> None:
        """Take in some images."""
        if len(predictions) != len(references):
            raise ValueError(f"{len(predictions)} predictions but {len(references)} references: one each is expected.")
        for prediction, reference in zip(predictions, references, strict=True):
            self.add(prediction=prediction, reference=reference)

    def compute(
        self, *, predictions: Sequence[Any] | None = None, references: Sequence[Any] | None = None
    ) -> dict[str, float | dict[str, dict[str, float]]]:
        """The metric over all images added since the last call, and these; then starts anew."""
        if (predictions is None) != (references is None):
            raise ValueError("compute takes predictions and references, or neither: got only one of them.")
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        results = self.metric.compute()
        self.metric.reset()
        return results
