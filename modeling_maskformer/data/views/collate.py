"""Samples -> views -> batches: the dataset that a DataLoader reads and the collators that make its batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from image_processing.inputs.annotations import pad_segment_ids

from ...targets import Segments
from ..samples import Sample, SampleSource
from ..streams import StreamedRow
from .augmentation import Augmentation
from .copy_paste import CopyPaste
from .view_sampler import View
from .worker_memory import where_others_read


class SegmentationDataset(Dataset):
    """Image and segments of each sample, as a random view where there is an augmentation, with things pasted on it.

    Items are dicts of `image` ((3, H, W) uint8), `segments`, `name`, `image_id` and `index`. For training, crowd
    regions are void; for evaluation (no augmentation) they keep their flag and everything its original size.

    An item is asked for by its index, or by a `View`, whose seed then alone decides what is drawn. Those of a stream
    have rows in the place of indices.
    """

    def __init__(
        self,
        samples: SampleSource,
        augmentation: Augmentation | None = None,
        copy_paste: CopyPaste | None = None,
    ) -> None:
        self.samples = samples
        self.augmentation = augmentation
        self.copy_paste = copy_paste

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | StreamedRow | View) -> dict[str, Any]:
        generator = None
        if isinstance(key, View):
            key, generator = key.index, torch.Generator().manual_seed(key.seed)
        sample = self.samples[key]
        index = key.number if isinstance(key, StreamedRow) else key
        if self.augmentation is None:
            image, segments = F.pil_to_tensor(sample.image), sample.segments
        else:
            image, segments = self._view(sample, generator)
            partner = None
            if self.copy_paste is not None:
                partner = self.copy_paste.draw_partner(index, len(self), generator)
            if partner is not None:
                other = self._view(self.samples[partner], generator)
                image, segments = self.copy_paste(image, segments, *other, generator)
        names = {"name": sample.name, "image_id": sample.image_id, "index": index}
        return {"image": image, "segments": segments, **names}

    def _view(self, sample: Sample, generator: Generator | None) -> tuple[Tensor, Segments]:
        return self.augmentation(replace(sample, segments=sample.segments.without_crowd()), generator)


class TrainingCollator:
    """A batch of views: `pixel_values`, `pixel_mask`, `segment_ids` and `class_labels`, padded and never resized.

    The samples' `names` come with it, which the model does not take.

    `pixel_values` (B, 3, H, W) stay uint8, a quarter of what normalised ones would weigh on their way from a worker
    to the device: `PixelNormalization` finishes them there. `pixel_mask` (B, H, W) is boolean.

    Args:
        pad_size: (height, width) to pad to, as the crop size; None pads to the largest of the batch.
    """

    def __init__(self, pad_size: tuple[int, int] | None = None) -> None:
        self.pad_size = pad_size

    def __call__(self, examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        images: list[Tensor] = [example["image"] for example in examples]
        segments: list[Segments] = [example["segments"] for example in examples]
        size = self.pad_size
        if size is None:
            size = max(image.shape[1] for image in images), max(image.shape[2] for image in images)
        pixel_values = torch.zeros(len(images), 3, *size, dtype=torch.uint8)
        pixel_mask = torch.zeros(len(images), *size, dtype=torch.bool)
        for number, image in enumerate(images):
            height, width = image.shape[1:]
            pixel_values[number, :, :height, :width] = image
            pixel_mask[number, :height, :width] = True
        batch = {
            "pixel_values": pixel_values,
            "pixel_mask": pixel_mask,
            "segment_ids": pad_segment_ids([target.ids for target in segments], size),
            "class_labels": [target.class_ids for target in segments],
            "names": [example["name"] for example in examples],
        }
        return where_others_read(batch)


class PixelNormalization:
    """uint8 pixels -> what the image processor makes of them: rescaled and normalised, on the pixels' own device.

    Args:
        image_processor: whose `do_rescale`, `rescale_factor`, `do_normalize`, `image_mean` and `image_std` hold.
    """

    def __init__(self, image_processor: Any) -> None:
        factor = image_processor.rescale_factor if image_processor.do_rescale else 1.0
        mean, std = (
            (image_processor.image_mean, image_processor.image_std) if image_processor.do_normalize else (0.0, 1.0)
        )
        mean, std = torch.tensor(mean, dtype=torch.float64), torch.tensor(std, dtype=torch.float64)
        scale, shift = factor / std, -mean / std
        self._scale_and_shift = {torch.device("cpu"): torch.stack((scale, shift)).float().reshape(2, -1, 1, 1)}

    def __call__(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Tensor:
        """`(B, 3, H, W)` uint8 -> float32. Where the `(B, H, W)` mask is 0, padding, there are zeros."""
        device = pixel_values.device
        if device not in self._scale_and_shift:  # sent there once: a copy in each step would wait for the device
            self._scale_and_shift[device] = self._scale_and_shift[torch.device("cpu")].to(device)
        scale, shift = self._scale_and_shift[device]  # (3, 1, 1) each
        values = torch.addcmul(shift, pixel_values.to(torch.float32), scale)
        return values if pixel_mask is None else values.masked_fill_(pixel_mask[:, None] == 0, 0.0)


class EvaluationCollator:
    """A batch of whole images, resized as the processor does it, and what their results are measured against.

    Beside `pixel_values` and `pixel_mask` there are `references` (segments at the original size), `target_sizes`
    ((height, width) of each), `names`, `image_ids` and `indices` in the dataset, and, for the loss, `segment_ids` and
    `class_labels`.
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
        batch = dict(batch) | {
            "references": references,
            "target_sizes": [reference.size for reference in references],
            "names": [example["name"] for example in examples],
            "image_ids": [example["image_id"] for example in examples],
            "indices": [example.get("index") for example in examples],
        }
        return where_others_read(batch)


def collate_images(examples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of whole `images`, (3, H, W) uint8 as they are, for predictors that resize them.

    With them come `references` and `indices`, as of `EvaluationCollator`.
    """
    batch = {
        "images": [example["image"] for example in examples],
        "references": [example["segments"] for example in examples],
        "indices": [example.get("index") for example in examples],
    }
    return where_others_read(batch)
