"""Pictures -> predictions of one task, with a model and its image processor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput, logging

from ..half_precision import slow_precision_text
from .draw_prediction import draw_prediction
from .exported_folder import check_flags
from .loading import choose_task, load_image_processor, load_model

logger = logging.get_logger(__name__)

Picture = Image.Image | Tensor

# task -> least score of a segment
DEFAULT_THRESHOLDS = {"semantic": 0.0, "instance": 0.5, "panoptic": 0.8}


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

    Raises:
        ValueError: the model is an exported graph, whose precision is fixed, and which is compiled.
    """
    check_flags(model, dtype, compiled)
    device = torch.device(device)
    model.to(device).eval()
    if slow := slow_precision_text(device, getattr(torch, dtype)):
        logger.warning(f"{slow}.")
    if dtype != "float32":
        forward = torch.autocast(device.type, getattr(torch, dtype))(model.forward)
        model.forward = lambda *args, **kwargs: _as_float32(forward(*args, **kwargs))
    if compiled:
        model.compile()
    return model


def as_rgb(image: Image.Image) -> Image.Image:
    """The picture as 8-bit RGB.

    Raises:
        ValueError: it has more than 8 bits a channel, of which converting would keep the lowest values only.
    """
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"A picture has more than 8 bits a channel (mode {image.mode}): 8-bit grey or RGB is expected."
        )
    return image if image.mode == "RGB" else image.convert("RGB")


def _as_float32(outputs: ModelOutput) -> ModelOutput:
    for name, value in outputs.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            outputs[name] = value.float()
    return outputs


def check_finite(outputs: ModelOutput) -> None:
    """Raises a ValueError where logits are NaN or infinite: half precision may be too little for a model."""
    names = [name for name in ("class_queries_logits", "masks_queries_logits", "logits") if name in outputs]
    if not bool(torch.stack([outputs[name].isfinite().all() for name in names]).all()):
        raise ValueError("the model's outputs are NaN or infinite: predict in float32, or look at how it was trained")


class Predictor:
    """Callable on pictures: their predictions, as `post_process` returns them.

        predictor = Predictor.from_pretrained("outputs/street")
        image = Image.open("photo.jpg")
        (prediction,) = predictor([image])
        predictor.draw(image, prediction).save("photo_seen.png")

    Args:
        model: a MaskFormer; put into eval mode.
        image_processor: the one it was trained with.
        task: "semantic", "instance" or "panoptic".
        threshold: least score of a segment; None takes that of `DEFAULT_THRESHOLDS`.
    """

    def __init__(
        self, model: PreTrainedModel, image_processor: BaseImageProcessor, task: str, threshold: float | None = None
    ) -> None:
        self.model = model.eval()
        self.image_processor = image_processor
        self.task = task
        self.threshold = DEFAULT_THRESHOLDS[task] if threshold is None else threshold

    @classmethod
    def from_pretrained(
        cls,
        checkpoint: str | os.PathLike,
        task: str | None = None,
        threshold: float | None = None,
        device: torch.device | str | None = None,
        trust_remote_code: bool = False,
    ) -> Predictor:
        """The predictor of a folder or Hub name, of this package or of transformers' MaskFormer.

        Args:
            checkpoint: folder or name.
            task: None takes what the checkpoint was trained for.
            threshold: as above.
            device: None takes a GPU where there is one.
            trust_remote_code: open an exported folder of format torch, which holds pickled code.

        Raises:
            ValueError: there is no such checkpoint, or it cannot do the task or run on the device; says what was found
                and expected.
        """
        model = load_model(checkpoint, trust_remote_code)
        task = choose_task(model.config, task)
        model = prepare_model(model, device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if device is not None and model.device.type != torch.device(device).type:
            raise ValueError(f"{checkpoint} runs on {model.device} alone, not on {device}: leave the device out.")
        return cls(model, load_image_processor(checkpoint), task, threshold)

    def draw(self, image: Image.Image, prediction: Any) -> Image.Image:
        """The picture with its prediction over it: classes or segments in colour, with names and scores."""
        return draw_prediction(self.task, image, prediction, self.model.config.id2label)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Picture]) -> list[Any]:
        """One prediction per picture (PIL, or (3, H, W) uint8), each at the picture's own size."""
        return post_process(self.task, self.image_processor, self.outputs(images), sizes_of(images), self.threshold)

    @torch.inference_mode()
    def score_strips(self, images: Sequence[Picture]) -> Iterator[Iterator[tuple[slice, Tensor]]]:
        """For each picture its semantic scores at its own size, in strips of rows: the rows and `(K, h, W)`."""
        return self.image_processor.semantic_score_strips(self.outputs(images), sizes_of(images))

    @torch.inference_mode()
    def outputs(self, images: Sequence[Picture]) -> ModelOutput:
        """What the model puts out for pictures of any sizes."""
        images = [image if isinstance(image, Tensor) else as_rgb(image) for image in images]
        batch = self.image_processor(images=images, return_tensors="pt").to(self.model.device)
        outputs = self.model(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        check_finite(outputs)
        return outputs


def sizes_of(images: Sequence[Picture]) -> list[tuple[int, int]]:
    """(height, width) of each picture."""
    return [tuple(F.get_size(image)) for image in images]
