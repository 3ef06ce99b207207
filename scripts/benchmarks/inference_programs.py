"""Inference of this package and of transformers' MaskFormer, with the same weights on the same inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

from .device.measuring import Meter, timed

OURS, TRANSFORMERS = "this package", "transformers"


def make_outputs(
    size: tuple[int, int], num_queries: int, num_classes: int, num_live: int, seed: int = 0
) -> SimpleNamespace:
    """Outputs like a trained model's: the live queries divide the image among them, the others see no object.

    A model trained on CamVid was the measure. Two thirds of its pixels belong to one query by more than 0.9; logits of
    a mask are about 8 inside, change by about 1 from one to the next at the border, and fall on outside; masks of the
    queries that see no object are soft everywhere, and all classes together have about 0.001 there.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size[0] // 4, size[1] // 4

    def waves(maps: int, across: int) -> Tensor:  # (maps, h, w)
        grid = torch.randn(1, maps, across, across, generator=generator)
        return F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)[0]

    classes = torch.randn(1, num_queries, num_classes + 1, generator=generator)
    classes[..., -1] += 12
    classes[0, torch.arange(num_live), torch.randint(0, num_classes, (num_live,), generator=generator)] += 20
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    centres = torch.rand(num_live, 2, generator=generator)
    distance = ((rows - centres[:, :1, None]) ** 2 + (columns - centres[:, 1:, None]) ** 2).sqrt()  # (L, h, w)
    distance += 0.03 * waves(num_live, 12)
    nearest = distance.topk(2, dim=0, largest=False).values
    inside = (torch.where(distance == nearest[0], nearest[1], nearest[0]) - distance) * max(height, width) / 2
    live = torch.where(inside > 0, 8 * torch.tanh(inside / 8), inside)
    masks = torch.cat((live, 2 * waves(num_queries - num_live, 8) - 2.2))  # (Q, h, w)
    masks += 0.3 * torch.randn(masks.shape, generator=generator)
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks[None])


def make_noisy_outputs(size: tuple[int, int], num_queries: int, num_classes: int, num_live: int) -> SimpleNamespace:
    """Outputs that no shortcut likes: the live queries are as sure of their classes, but their masks overlap.

    The masks are waves of all sizes of objects with noise of one logit at stride 4, so that bounds tell of few tiles.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size[0] // 4, size[1] // 4
    waves = torch.randn(1, num_queries, 8, 8, generator=generator)
    masks = 4 * F.interpolate(waves, size=(height, width), mode="bicubic", align_corners=False)[0]
    masks[num_live:] = masks[num_live:] / 2 - 2.2
    masks += torch.randn(masks.shape, generator=generator)
    classes = make_outputs(size, num_queries, num_classes, num_live).class_queries_logits
    return SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks[None])


def post_process(name: str, task: str, outputs: SimpleNamespace, size: tuple[int, int]) -> Any:
    """The results of one post-processing, for every image of the outputs."""
    processor = MaskFormerImageProcessor() if name == OURS else TheirProcessor()
    sizes = [size] * len(outputs.masks_queries_logits)
    extra = {"label_ids_to_fuse": set()} if task == "panoptic" else {}
    return getattr(processor, f"post_process_{task}_segmentation")(outputs, target_sizes=sizes, **extra)


def post_processing_program(
    meter: Meter, name: str, task: str, outputs: SimpleNamespace, size: tuple[int, int]
) -> Callable[[], dict[str, float]]:
    """A post-processing for `time_in_turn`, every time on fresh logits: whoever writes into them does so on a copy."""
    program = timed(meter, post_process, name, task, outputs, size)
    masks = outputs.masks_queries_logits.clone()

    def run_on_fresh_logits() -> dict[str, float]:
        outputs.masks_queries_logits.copy_(masks)
        return program()

    return run_on_fresh_logits


def post_process_alone(
    name: str, task: str, size: tuple[int, int], queries: int, classes: int, live: int, threads: int
) -> Callable[[], Any]:
    """One post-processing, for a process of its own whose memory is measured."""
    torch.set_num_threads(threads)
    outputs = make_outputs(size, queries, classes, live)
    return lambda: post_process(name, task, outputs, size)


def build_models(
    backbone: dict, num_queries: int, num_classes: int, prepare: Callable[[torch.nn.Module], None] | None = None
) -> dict[str, torch.nn.Module]:
    """Both models with the same weights for inference: random, and then what `prepare` makes of them."""
    decoder = {"model_type": "detr", "num_queries": num_queries}
    torch.manual_seed(0)
    config = MaskFormerConfig(backbone_config=dict(backbone), decoder_config=decoder, num_labels=num_classes)
    ours = MaskFormerForInstanceSegmentation(config).eval()
    if prepare is not None:
        prepare(ours)
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


def build_pipelines(models: dict[str, torch.nn.Module], device: str = "cpu") -> dict[str, Any]:
    """Both image-segmentation pipelines, each with its own library's model and image processor."""
    size = {"shortest_edge": 800, "longest_edge": 1333}
    processors = {
        OURS: MaskFormerImageProcessor(size=size, label_ids_to_fuse=[]),
        TRANSFORMERS: TheirProcessor(size=size),
    }
    return {
        name: transformers.pipeline("image-segmentation", model=model, image_processor=processors[name], device=device)
        for name, model in models.items()
    }
