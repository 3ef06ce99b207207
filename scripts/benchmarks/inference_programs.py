"""Inference of this package and of transformers' MaskFormer, with the same weights on the same inputs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from torch import Tensor
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

from .backbones import EFFICIENTNET_LITE0, RESNET_50, SWIN_TINY

OURS, TRANSFORMERS = "this package", "transformers"
TASKS = ("semantic", "instance", "panoptic")
BACKBONES = {"Swin-T": SWIN_TINY, "ResNet-50": RESNET_50, "tf_efficientnet_lite0": EFFICIENTNET_LITE0}


def make_outputs(size: tuple[int, int], num_queries: int, num_classes: int, num_live: int) -> SimpleNamespace:
    """Outputs like a trained model's: `num_live` queries with a class and a compact mask each, the others none."""
    generator = torch.Generator().manual_seed(0)
    height, width = size[0] // 4, size[1] // 4
    classes = torch.randn(1, num_queries, num_classes + 1, generator=generator)
    classes[..., -1] += 10
    classes[0, torch.arange(num_live), torch.randint(0, num_classes, (num_live,), generator=generator)] += 22
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    centres = torch.rand(num_queries, 2, generator=generator)
    radius = 0.05 + 0.2 * torch.rand(num_queries, generator=generator)
    distance = ((rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2).sqrt()  # (Q, h, w)
    masks = (radius[:, None, None] - distance) * 60 + torch.randn(num_queries, height, width, generator=generator)
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks[None])


def post_process(name: str, task: str, outputs: SimpleNamespace, size: tuple[int, int]) -> Any:
    """The result of one post-processing."""
    processor = MaskFormerImageProcessor() if name == OURS else TheirProcessor()
    extra = {"label_ids_to_fuse": set()} if task == "panoptic" else {}
    return getattr(processor, f"post_process_{task}_segmentation")(outputs, target_sizes=[size], **extra)


def post_process_alone(
    name: str, task: str, size: tuple[int, int], queries: int, classes: int, live: int, threads: int
) -> Callable[[], Any]:
    """One post-processing, for a process of its own whose memory is measured."""
    torch.set_num_threads(threads)
    outputs = make_outputs(size, queries, classes, live)
    return lambda: post_process(name, task, outputs, size)


def timed(function: Callable[..., Any], *arguments: Any) -> Callable[[], dict[str, float]]:
    """A program for `time_in_turn`, without gradients."""

    def run() -> dict[str, float]:
        start = time.perf_counter()
        with torch.no_grad():
            function(*arguments)
        return {"seconds": time.perf_counter() - start}

    return run


def build_models(backbone: dict, num_classes: int) -> dict[str, torch.nn.Module]:
    """Both models with the same random weights, for inference."""
    config = MaskFormerConfig(backbone_config=dict(backbone), num_labels=num_classes)
    ours = MaskFormerForInstanceSegmentation(config).eval()
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(folder).eval()
    return {OURS: ours, TRANSFORMERS: theirs}


def largest_difference(models: dict[str, torch.nn.Module], pixels: Tensor) -> float:
    """The largest difference of any logit of the two models."""
    with torch.no_grad():
        ours, theirs = (models[name](pixels) for name in (OURS, TRANSFORMERS))
    return max(
        (ours[field] - theirs[field]).abs().max().item() for field in ("class_queries_logits", "masks_queries_logits")
    )


def build_pipelines(models: dict[str, torch.nn.Module]) -> dict[str, Any]:
    """Both image-segmentation pipelines, each with its own library's model and image processor."""
    processors = {OURS: MaskFormerImageProcessor(label_ids_to_fuse=[]), TRANSFORMERS: TheirProcessor()}
    return {
        name: transformers.pipeline("image-segmentation", model=model, image_processor=processors[name])
        for name, model in models.items()
    }


def photo(width: int, height: int) -> Image.Image:
    """A noise picture."""
    pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
