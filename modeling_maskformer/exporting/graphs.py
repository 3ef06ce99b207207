"""What an exported graph computes: a model's logits, or a finished result.

Each takes `pixel_values` `(B, 3, H, W)` and gives a dict of tensors; results are at the size of the pixels. Finished
results are the plain forms of `image_processing` without a question that depends on the values, so that a graph can
hold them.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..common.batching import crop

LOGITS = ("class_queries_logits", "masks_queries_logits", "logits")  # of MaskFormer; of the per-pixel baselines
RESULTS = ("logits", "semantic", "panoptic")
# of panoptic results: as in `maskformer predict`
THRESHOLD, MASK_THRESHOLD, OVERLAP_MASK_AREA_THRESHOLD = 0.8, 0.5, 0.8


class LogitsGraph(nn.Module):
    """`class_queries_logits` and `masks_queries_logits`, or `logits`, as float32: what post-processing reads."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        self.config = model.config

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        outputs = self.model(pixel_values=pixel_values)
        return {name: outputs[name].float() for name in LOGITS if name in outputs}


class SemanticGraph(LogitsGraph):
    """`segmentation` `(B, H, W)` int64, the class of each pixel."""

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        logits = super().forward(pixel_values)
        size = pixel_values.shape[-2:]
        if "logits" in logits:
            return {"segmentation": enlarge(logits["logits"], size).argmax(1)}
        classes = logits["class_queries_logits"].softmax(-1)[..., :-1]  # (B, Q, K)
        masks = probabilities(enlarge(logits["masks_queries_logits"], size))  # (B, Q, H, W)
        return {"segmentation": torch.einsum("bqk,bqhw->bkhw", classes, masks).argmax(1)}


class PanopticGraph(LogitsGraph):
    """The panoptic result: which segment each pixel is of, and what the segments are.

    `segmentation` `(B, H, W)` int64, ids from 1 on, 0 where there is no segment; for each query `segment_ids`
    `(B, Q)`, the segment it is of (0: of none), and that segment's `label_ids` and `scores`. Several queries are of
    one segment where its class is stuff.

    Args:
        model: a MaskFormer.
        label_ids_to_fuse: classes of stuff; what is none of the model's classes, as of a processor of another dataset,
            is passed over.
    """

    def __init__(self, model: PreTrainedModel, label_ids_to_fuse: Collection[int] = ()):
        super().__init__(model)
        is_stuff = [label in label_ids_to_fuse for label in range(model.config.num_labels + 1)]
        self.register_buffer("is_stuff", torch.tensor(is_stuff))

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        logits = super().forward(pixel_values)
        scores, labels = logits["class_queries_logits"].softmax(-1).max(-1)  # (B, Q)
        is_object = (labels != self.config.num_labels) & (scores > THRESHOLD)
        masks = probabilities(enlarge(logits["masks_queries_logits"], pixel_values.shape[-2:]))  # (B, Q, H, W)
        winners = (masks * torch.where(is_object, scores, -1.0)[:, :, None, None]).argmax(1)  # (B, H, W)
        queries = torch.arange(masks.shape[1], device=masks.device)
        areas = (winners[:, None] == queries[:, None, None]).sum((2, 3))  # (B, Q)
        own_areas = (masks >= MASK_THRESHOLD).sum((2, 3))
        is_kept = is_object & (areas > 0) & (own_areas > 0) & (areas >= OVERLAP_MASK_AREA_THRESHOLD * own_areas)

        is_stuff = self.is_stuff[labels]
        together = is_stuff[:, :, None] & is_stuff[:, None] & (labels[:, :, None] == labels[:, None])
        together = (together | (queries[:, None] == queries)) & is_kept[:, :, None] & is_kept[:, None]  # (B, Q, Q)
        first = together.long().argmax(2)  # (B, Q), the first query of the same segment
        ids = (is_kept & (first == queries)).long().cumsum(1).gather(1, first) * is_kept
        scores = torch.where(together, scores[:, None], 0.0).amax(2)  # of a segment, the best
        segmentation = ids.gather(1, winners.flatten(1)).reshape(winners.shape)
        return {"segmentation": segmentation, "segment_ids": ids, "label_ids": labels * is_kept, "scores": scores}


def probabilities(logits: Tensor) -> Tensor:
    """The logistic function of mask logits, which tells apart masks that are all far from a pixel.

    ONNX Runtime's own is 0 for all logits below -17: the order of the queries would decide such pixels.
    """
    return 1 / (1 + torch.exp(-logits))


def enlarge(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps `(B, C, ceil(H / 4), ceil(W / 4))` at the image's own `size` (H, W), bilinear, in float32."""
    height, width = maps.shape[-2:]
    enlarged = F.interpolate(maps.float(), size=(4 * height, 4 * width), mode="bilinear", align_corners=False)
    return crop(enlarged, list(size))
