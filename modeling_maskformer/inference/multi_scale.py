"""Test-time augmentation of semantic segmentation: the mean of the scores at several scales, mirrored too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import ModelOutput

from .predictor import check_finite

SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the paper's multi-scale results


class MultiScalePredictor:
    """Callable on pictures like `Predictor`, for semantic segmentation: the class of the highest mean score.

    The mean is over all scales and, with `flip`, over the picture and its mirror image. Each view is the original
    picture, resized by the image processor to its usual size times the scale; its scores are computed at the picture's
    own size (`(K, H, W)`, mirrored back) and added to a sum. So there are at any time the outputs of one scale, that
    sum, and strips of a few rows of one view's scores, whatever the number of scales.

    Args:
        model: a semantic model; put into eval mode.
        image_processor: the one it was trained with.
        scales: factors of the size that the image processor resizes to.
        flip: whether mirror images take part.

    Raises:
        ValueError: no scale, one that is not positive, or an image processor that does not resize.
    """

    task = "semantic"

    def __init__(
        self,
        model: PreTrainedModel,
        image_processor: BaseImageProcessor,
        scales: Sequence[float] = SCALES,
        flip: bool = True,
    ) -> None:
        check_scales(scales)
        if not image_processor.do_resize:
            raise ValueError(
                "The image processor does not resize pictures (do_resize is off), so it cannot scale them."
            )
        self.model = model.eval()
        self.image_processor = image_processor
        self.scales = tuple(scales)
        self.flip = flip

    def __call__(self, images: Sequence[Image.Image | Tensor]) -> list[Tensor]:
        """One `(H, W)` int64 class map per picture (RGB, or (3, H, W) uint8), each at the picture's own size."""
        return [self.mean_scores(image).argmax(0) for image in images]

    def score_strips(self, images: Sequence[Image.Image | Tensor]) -> Iterator[Iterator[tuple[slice, Tensor]]]:
        """For each picture its mean scores as `Predictor` gives scores, here all rows at once."""
        for image in images:
            scores = self.mean_scores(image)
            yield iter([(slice(0, scores.shape[1]), scores)])

    @torch.inference_mode()
    def mean_scores(self, image: Image.Image | Tensor) -> Tensor:
        """`(K, H, W)` float32: the scores of one picture, averaged over scales and mirror images."""
        views = [image, F.horizontal_flip(image)] if self.flip else [image]
        total = None
        for scale in self.scales:
            total = self._add_scores(total, views, scale)
        return total.div_(len(self.scales) * len(views))

    def _add_scores(self, total: Tensor | None, views: list[Image.Image | Tensor], scale: float) -> Tensor:
        """The sum `(K, H, W)` with the scores of a picture and its mirror image at one scale added."""
        height, width = F.get_size(views[0])
        outputs = self._outputs(views, scale)
        scores_of_views = self.image_processor.semantic_score_strips(outputs, [(height, width)] * len(views))
        for mirrored, strips in enumerate(scores_of_views):
            for rows, scores in strips:
                if total is None:
                    total = scores.new_zeros(len(scores), height, width)
                total[:, rows] += scores.flip(-1) if mirrored else scores
        return total

    def _outputs(self, views: list[Image.Image | Tensor], scale: float) -> ModelOutput:
        """What the model puts out for views of one size."""
        size = {name: max(1, round(length * scale)) for name, length in dict(self.image_processor.size).items()}
        batch = self.image_processor(images=views, size=size, return_tensors="pt")
        batch = batch.to(self.model.device)
        outputs = self.model(pixel_values=batch["pixel_values"], pixel_mask=batch["pixel_mask"])
        check_finite(outputs)
        return outputs


@dataclass
class TtaArguments:
    """The flags of scripts that predict with test-time augmentation on request."""

    _argument_group_name = "test-time augmentation"

    tta: bool = field(
        default=False,
        metadata={
            "help": "Semantic segmentation by the mean of the scores at --tta_scales and of mirror images: more "
            "accurate, and as it stands some seventeen times the work."
        },
    )
    tta_scales: list[float] = field(
        default_factory=lambda: list(SCALES), metadata={"help": "Sizes of the pictures relative to the usual one."}
    )
    tta_flip: bool = field(default=True, metadata={"help": "Whether mirror images take part."})

    def __post_init__(self) -> None:
        check_scales(self.tta_scales)
        if not self.tta and (tuple(self.tta_scales) != SCALES or not self.tta_flip):
            raise ValueError("--tta_scales and --tta_flip go with --tta: pass it too.")

    def check_task(self, task: str) -> None:
        """Raises a ValueError where `tta` is on and the task is not semantic."""
        if self.tta and task != "semantic":
            raise ValueError(
                f"--tta averages the scores of classes at each pixel, which only semantic segmentation has: the task "
                f"is {task}. Leave it out, or pass --task semantic."
            )

    def predictor_of(self, image_processor: BaseImageProcessor) -> partial[MultiScalePredictor]:
        """Model -> predictor with these settings."""
        return partial(
            MultiScalePredictor, image_processor=image_processor, scales=self.tta_scales, flip=self.tta_flip
        )


def check_scales(scales: Sequence[float]) -> None:
    """Raises a ValueError unless there are scales, all above 0."""
    if not scales or not all(0 < scale < float("inf") for scale in scales):
        raise ValueError(
            f"Scales of test-time augmentation must be numbers above 0, at least one, got {list(scales)}."
        )
