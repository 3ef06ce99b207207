"""What it takes to make a batch of an image with many segments, beside transformers' image processor."""

from __future__ import annotations

import time
from typing import Any

import torch
from PIL import Image
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import SegmentationDataset, TrainingCollator
from modeling_maskformer.targets import Segments

from .measuring import summary, time_in_turn
from .training_programs import TRANSFORMERS, Setting, make_batch

OURS = "this package"


def measure_preparation(num_segments: int, side: int, rounds: int = 3) -> dict[str, Any]:
    """Seconds of making a batch of one image of so many segments, beside transformers' processor, and target bytes."""
    batch = make_batch(Setting(image_size=side, batch_size=1), num_segments)
    pixels, ids, labels = torch.zeros(3, side, side, dtype=torch.uint8), batch.segment_ids[0], batch.class_labels[0]
    sample = Sample(Image.fromarray(pixels.permute(1, 2, 0).numpy()), Segments(ids, labels), "cells", 0)
    view = AugmentationConfig(crop_size=(side, side), scale_range=(1.0, 1.0))
    dataset = SegmentationDataset([sample], Augmentation(view))
    collate, theirs = TrainingCollator(), TheirProcessor()
    classes = {number: int(label) for number, label in enumerate(labels, start=1)}
    of_void = {"ignore_index": 0, "do_resize": False, "instance_id_to_semantic_id": classes}
    targets: dict[str, Any] = {}

    def ours() -> dict[str, float]:
        start = time.perf_counter()
        targets[OURS] = [collate([dataset[0]])["segment_ids"]]
        return {"seconds": time.perf_counter() - start}

    def transformers_own() -> dict[str, float]:
        start = time.perf_counter()
        targets[TRANSFORMERS] = theirs([pixels], [ids[0].numpy()], return_tensors="pt", **of_void)["mask_labels"]
        return {"seconds": time.perf_counter() - start}

    results = time_in_turn({OURS: ours, TRANSFORMERS: transformers_own}, rounds + 1)
    return {
        "segments": num_segments,
        "side": side,
        "seconds": {name: summary(phases["seconds"][1:]) for name, phases in results.items()},
        "target_bytes": {name: sum(masks.nbytes for masks in kept) for name, kept in targets.items()},
    }
