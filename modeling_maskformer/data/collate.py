"""Samples -> views -> batches: the dataset that a DataLoader reads and the collators that make its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from ..targets import Segments
from .augmentation import Augmentation
from .samples import SampleSource


class SegmentationDataset(Dataset):
    """Image and segments of each sample, as a random view where there is an augmentation.

    Items are dicts of `image` ((3, H, W) uint8), `segments`, `name` and `image_id`. For training, crowd regions are
    void; for evaluation (no augmentation) they keep their flag and everything its original size.
    """

    def __init__(self, samples: SampleSource, augmentation: Augmentation | None = None) -> None:
        self.samples = samples
        self.augmentation = augmentation

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        sample = self.samples[index]
        if self.augmentation is None:
            image, segments = F.pil_to_tensor(sample.image), sample.segments
        else:
            image, segments = self.augmentation(replace(sample, segments=sample.segments.without_crowd()))
        return {"image": image, "segments": segments, "name": sample.name, "image_id": sample.image_id}


class TrainingCollator:
    """A batch of views: `pixel_values`, `pixel_mask`, `segment_ids` and `class_labels`, padded and never resized.

    Args:
        image_processor: normalises and pads.
        pad_size: (height, width) to pad to, as the crop size; None pads to the largest of the batch.
    """

    def __init__(self, image_processor: Any, pad_size: tuple[int, int] | None = None) -> None:
        self.image_processor = image_processor
        self.pad_size = None if pad_size is None else {"height": pad_size[0], "width": pad_size[1]}

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        segments = [example["segments"] for example in examples]
        batch = self.image_processor(
            images=[example["image"] for example in examples],
            segment_ids=[target.ids for target in segments],
            class_labels=[target.class_ids for target in segments],
            do_resize=False,
            pad_size=self.pad_size,
            return_tensors="pt",
        )
        return dict(batch)


class EvaluationCollator:
    """A batch of whole images, resized as the processor does it, and what their results are measured against.

    Beside `pixel_values` and `pixel_mask` there are `references` (segments at the original size), `target_sizes`
    ((height, width) of each), `names` and `image_ids`, and, for the loss, `segment_ids` and `class_labels`.
    """

    def __init__(self, image_processor: Any) -> None:
        self.image_processor = image_processor

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        references: list[Segments] = [example["segments"] for example in examples]
        targets = [reference.without_crowd() for reference in references]
        batch = self.image_processor(
            images=[example["image"] for example in examples],
            segment_ids=[target.ids for target in targets],
            class_labels=[target.class_ids for target in targets],
            return_tensors="pt",
        )
        return dict(batch) | {
            "references": references,
            "target_sizes": [reference.size for reference in references],
            "names": [example["name"] for example in examples],
            "image_ids": [example["image_id"] for example in examples],
        }


def collate_images(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of whole `images`, (3, H, W) uint8 as they are, for predictors that resize them, and `references`."""
    return {
        "images": [example["image"] for example in examples],
        "references": [example["segments"] for example in examples],
    }
