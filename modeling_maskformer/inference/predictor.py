"""Pictures -> predictions of one task, with a model and its image processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput


def post_process(
    task: str,
    image_processor: BaseImageProcessor,
    outputs: Any,
    target_sizes: Sequence[tuple[int, int]],
    threshold: float,
    mask_resize: str = "logits",
) -> list[Any]:
    """The predictions of one task for a batch of outputs, one per image, at the sizes (height, width) asked for.

    Semantic: `(H, W)` class map. Instance: dict of `segmentation`, a list of COCO run-length codes, and
    `segments_info`. Panoptic: dict of `segmentation`, `(H, W)` ids, and `segments_info`. `threshold` is the least
    score of a segment; semantic segmentation has none. `mask_resize` is that of `post_process_semantic_segmentation`.
    """
    target_sizes = list(target_sizes)
    if task == "semantic":
        return image_processor.post_process_semantic_segmentation(
            outputs, target_sizes=target_sizes, mask_resize=mask_resize
        )
    if task == "instance":
        return image_processor.post_process_instance_segmentation(
            outputs, threshold=threshold, target_sizes=target_sizes, return_coco_annotation=True
        )
    return image_processor.post_process_panoptic_segmentation(outputs, threshold=threshold, target_sizes=target_sizes)


def prepare_model(
    model: PreTrainedModel, device: torch.device | str, dtype: str = "float32", compiled: bool = False
) -> PreTrainedModel:
    """The model on a device and in eval mode, so that a call computes as asked for.

    Args:
        model: changed in place.
        device: where to.
        dtype: "float32", or "bfloat16" or "float16": mixed precision, whose outputs are float32 again.
        compiled: let `torch.compile` make its forward faster; the first pictures of each size take long then.
    """
    device = torch.device(device)
    model.to(device).eval()
    if dtype != "float32":
        forward = torch.autocast(device.type, getattr(torch, dtype))(model.forward)
        model.forward = lambda *args, **kwargs: _as_float32(forward(*args, **kwargs))
    if compiled:
        model.compile()
    return model


def _as_float32(outputs: ModelOutput) -> ModelOutput:
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            outputs[name] = value.float()
    return outputs


class Predictor:
    """Callable on pictures: their predictions, as `post_process` returns them.

    Args:
        model: a MaskFormer; put into eval mode.
        image_processor: the one it was trained with.
        task: "semantic", "instance" or "panoptic".
        threshold: least score of a segment.
    """

    def __init__(
        self, model: PreTrainedModel, image_processor: BaseImageProcessor, task: str, threshold: float = 0.5
    ) -> None:
        self.model = model.eval()
        self.image_processor = image_processor
        self.task = task
        self.threshold = threshold

    @torch.inference_mode()
    def __call__(self, images: Sequence[Image.Image]) -> list[Any]:
        """One prediction per RGB picture, each at the picture's own size."""
        batch = self.image_processor(images=list(images), return_tensors="pt").to(self.model.device)
        outputs = self.model(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        sizes = [(image.height, image.width) for image in images]
        return post_process(self.task, self.image_processor, outputs, sizes, self.threshold)
