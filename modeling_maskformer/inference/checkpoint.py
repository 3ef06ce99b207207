"""Checkpoint: a model with its image processor, for who asks it for another task or threshold with each picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from ..targets import TASKS
from .loading import category_ids_of, check_task, load_image_processor, load_model, task_of
from .pipeline import READ_BY_POST_PROCESSING
from .predictor import DEFAULT_THRESHOLDS, Predictor, post_process, prepare_model, sizes_of


@dataclass(frozen=True)
class Request:
    """A picture (RGB), what to find in it, and the least score of a segment."""

    image: Image.Image
    task: str
    threshold: float


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        name: the folder or Hub name that it was loaded from.
        model, image_processor: its parts.
    """

    name: str
    model: PreTrainedModel
    image_processor: BaseImageProcessor

    @classmethod
    def load(
        cls,
        name: str | PathLike,
        device: str = "cpu",
        dtype: str = "float32",
        compiled: bool = False,
        trust_remote_code: bool = False,
    ) -> Checkpoint:
        """The checkpoint of a folder or Hub name, ready to compute; arguments as for `prepare_model`, `load_model`.

        Raises:
            ValueError: there is none, or it is an exported folder that is to compute otherwise.
        """
        model = prepare_model(load_model(name, trust_remote_code), device, dtype, compiled)
        return cls(str(name), model, load_image_processor(name))

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it can do."""
        return tuple(task for task in TASKS if self._can(task))

    @property
    def task(self) -> str:
        """What it was trained for; panoptic where it does not say."""
        return task_of(self.model.config) or "panoptic"

    @property
    def id2label(self) -> dict[int, str]:
        """class id -> name."""
        return {int(label): name for label, name in self.model.config.id2label.items()}

    @property
    def category_ids(self) -> dict[int, int]:
        """class id -> id of the class in the annotations that it was trained on."""
        return category_ids_of(self.model.config)

    @property
    def stuff(self) -> tuple[int, ...]:
        """The classes that are no things, as far as the checkpoint says."""
        return tuple(self.image_processor.label_ids_to_fuse or ())

    def request(self, image: Image.Image, task: str | None = None, threshold: float | None = None) -> Request:
        """A request with what is left out filled in.

        Raises:
            ValueError: the checkpoint cannot do the task, or the threshold is not for it.
        """
        task = task or self.task
        if task not in self.tasks:
            raise ValueError(f"This model cannot do {task} segmentation, but {', '.join(self.tasks)}.")
        if task == "semantic" and threshold is not None:
            raise ValueError("A threshold has no meaning for semantic segmentation: every pixel gets its best class.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"The threshold must lie in [0, 1], got {threshold}.")
        return Request(image, task, DEFAULT_THRESHOLDS[task] if threshold is None else threshold)

    @torch.inference_mode()
    def segment(self, requests: Sequence[Request]) -> list[Any]:
        """The predictions of pictures of any sizes, which go through the model together."""
        images = [request.image for request in requests]
        outputs = Predictor(self.model, self.image_processor, self.task).outputs(images)
        sizes = sizes_of(images)
        wishes: dict[tuple[str, float], list[int]] = {}
        for place, request in enumerate(requests):
            wishes.setdefault((request.task, request.threshold), []).append(place)
        predictions: list[Any] = [None] * len(requests)
        for (task, threshold), places in wishes.items():
            own = ModelOutput({name: outputs[name][places] for name in READ_BY_POST_PROCESSING if name in outputs})
            found = post_process(task, self.image_processor, own, [sizes[place] for place in places], threshold)
            for place, prediction in zip(places, found, strict=True):
                predictions[place] = prediction
        return predictions

    def _can(self, task: str) -> bool:
        try:
            check_task(type(self.model.config), task)
        except ValueError:
            return False
        return True
