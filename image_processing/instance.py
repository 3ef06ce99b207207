"""Instance inference: the most probable (query, class) pairs, each with its own mask; masks may overlap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .panoptic import probability_to_logit
from .resampling import crop_to_image, target_taps
from .tiling.tiles import Tiling

NO_INSTANCE_ID = -1  # pixels of no instance; instance ids start at 0


def instance_segmentation(
    class_logits: Tensor,
    mask_logits: Tensor,
    image_size: tuple[int, int] | None = None,
    target_size: tuple[int, int] | None = None,
    threshold: float = 0.5,
    mask_threshold: float = 0.5,
) -> Instances:
    """The instances of one image, best first.

    Of all pairs of a query and a class, the Q most probable are considered. A pair's mask are the pixels where the
    query's resized mask logits are above the threshold; its score is the class probability times the mean mask
    probability over the mask. Pairs with an empty mask or a score below `threshold` are left out.

    Args:
        class_logits: `(Q, K + 1)`, the last class is "no object".
        mask_logits: `(Q, h, w)` at stride 4, possibly with padding at the bottom and at the right.
        image_size: (height, width) of the image in input pixels, without padding. None: there is no padding.
        target_size: (H, W) of the result. None: the resolution of the (cropped) logits.
        threshold: the least score.
        mask_threshold: pixels of a mask have a probability above this; 0.5 is a logit above 0.
    """
    probs = class_logits.float().softmax(-1)[:, :-1]  # (Q, K)
    class_scores, pairs = probs.flatten().topk(len(probs))  # (Q,)
    possible = class_scores >= threshold  # a mean of probabilities is at most 1
    class_scores, pairs = class_scores[possible], pairs[possible]
    labels = pairs % probs.shape[1]
    queries, query_of = (pairs // probs.shape[1]).unique(return_inverse=True)  # each mask once
    logits, image_size = crop_to_image(mask_logits.index_select(0, queries), image_size)  # (S, h, w)
    rows, columns = target_taps(logits, image_size, target_size)
    tiling = Tiling.of(rows, columns, logits.device)
    parts, areas, sums = _find_masks(tiling, logits, probability_to_logit(mask_threshold))
    scores = class_scores * (sums / areas.clamp(min=1)).float()[query_of]
    order = scores.argsort(descending=True, stable=True)
    order = order[(areas[query_of[order]] > 0) & (scores[order] >= threshold)]
    entries = zip(labels[order].tolist(), scores[order].tolist(), strict=True)
    segments_info = [
        {"id": number, "label_id": label, "was_fused": False, "score": round(score, 6)}
        for number, (label, score) in enumerate(entries)
    ]
    return Instances(segments_info, tiling, query_of[order], parts)


@dataclass(frozen=True)
class MaskPart:
    """Tiles of masks: pair i is the tile `tiles[i]` of the mask `masks[i]`, and `pixels[:, i]` its pixels.

    Attributes:
        tiles: `(n,)` int64.
        masks: `(n,)` int64, ascending.
        pixels: `(P, n)` bool.
    """

    tiles: Tensor
    masks: Tensor
    pixels: Tensor


@dataclass(frozen=True)
class Instances:
    """The instances of an image, best first; masks are kept as tiles and drawn on demand.

    Attributes:
        segments_info: n entries {"id" (0, 1, ...), "label_id", "was_fused" (False), "score"}.
        tiling: what the tiles are.
        mask_of: `(n,)` int64, the mask of each instance; two instances share one where a query has two classes.
        parts: the masks' tiles.
    """

    segments_info: list[dict]
    tiling: Tiling
    mask_of: Tensor
    parts: list[MaskPart]

    def __len__(self) -> int:
        return len(self.segments_info)

    def mask(self, number: int) -> Tensor:
        """`(H, W)` bool, the whole mask of an instance."""
        canvas = self.tiling.canvas(torch.bool).zero_()
        for part in self.parts:
            own = (part.masks == self.mask_of[number]).nonzero().flatten()
            self.tiling.put(canvas, part.tiles[own], part.pixels[:, own])
        return self.tiling.crop(canvas)

    def masks(self) -> Tensor:
        """`(n, H, W)` bool, all masks; they may overlap."""
        size = (self.tiling.rows.length, self.tiling.columns.length)
        masks = torch.empty(len(self), *size, dtype=torch.bool, device=self.mask_of.device)
        for number in range(len(self)):
            masks[number] = self.mask(number)
        return masks

    def id_map(self) -> Tensor:
        """`(H, W)` int32, the id of the best instance at each pixel, -1 where there is none."""
        none = len(self)
        numbers = torch.arange(none, dtype=torch.int32, device=self.mask_of.device)
        masks = max((int(part.masks[-1]) + 1 for part in self.parts if len(part.masks)), default=0)
        best = torch.full((masks,), none, dtype=torch.int32, device=self.mask_of.device)
        best.scatter_reduce_(0, self.mask_of, numbers, "amin")  # the best instance that has the mask
        canvas = self.tiling.canvas(torch.int32).fill_(none)
        for part in self.parts:
            found = torch.where(part.pixels, best[part.masks], best.new_tensor(none)).flatten()
            canvas.view(-1).scatter_reduce_(0, self.tiling.index(part.tiles).flatten(), found, "amin")
        canvas[canvas == none] = NO_INSTANCE_ID
        return self.tiling.crop(canvas)


def _find_masks(tiling: Tiling, logits: Tensor, least: float) -> tuple[list[MaskPart], Tensor, Tensor]:
    """Where each resampled `(S, h, w)` map is above `least`: parts, areas (S,) and summed probabilities (S,)."""
    areas = torch.zeros(len(logits), dtype=torch.int64, device=logits.device)
    sums = torch.zeros(len(logits), dtype=torch.float64, device=logits.device)
    parts = []
    for part, canvas_rows in tiling.parts(len(logits)):
        _, high = part.bounds(logits)  # (S, T)
        first_tile = canvas_rows.start // tiling.rows.size * tiling.columns.count
        for masks, tiles in (pair.T for pair in (high > least).nonzero().split(tiling.step(1))):
            values = part.pixels(logits, masks[None], tiles)[0]  # (P, n)
            pixels = part.inside(values > least, tiles)
            areas.index_add_(0, masks, pixels.sum(0))
            sums.index_add_(0, masks, (values.sigmoid_() * pixels).sum(0).double())
            parts.append(MaskPart(tiles + first_tile, masks, pixels))
    return parts, areas, sums
