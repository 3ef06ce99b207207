"""Focal and dice loss at points drawn for each matched mask (Mask2Former, section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ..fast_on_cpu import use_cpu_path
from ..targets import VOID
from .dense import NOWHERE
from .focal_dice import BlockTerms, block_terms, dice_loss, focal_loss
from .kernels.triton_modules import triton_module
from .point_sampling import BilinearPoints, Candidates, draw_candidates, sample
from .scratch import Scratch, block_size

CANDIDATES_AT_ONCE = 1 << 26  # of the plain form, which needs some 20 bytes for each
MASKS_IN_CACHE = 4  # blocks of candidates that a CPU works on at once, since most steps look at few of them


def point_losses(
    mask_logits: Tensor,
    images: Tensor,
    segments: Tensor,
    layers: Tensor,
    ids: Tensor,
    void: Tensor,
    num_points: int = 12544,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss of N matched pairs, `(N,)` float32 each, at points that are not void.

    Computed in float32 whatever the dtype of the logits, also under autocast, and without waiting for the device.

    Args:
        mask_logits: `(N, h, w)`, N at least 1, of any floating dtype.
        images, segments, layers: `(N,)` int64, the image of each pair, its segment, and this segment's layer in `ids`.
        ids: `(B, L, H, W)` id maps, in which segment s has the number s + 1.
        void: `(B, H, W)` bool.
        num_points, oversample_ratio, importance_sample_ratio: see `MaskFormerConfig`. The points of an image are fewer
            by its share of void.
    """
    with torch.autocast(mask_logits.device.type, enabled=False):
        small = tuple(mask_logits.shape[-2:])
        candidates = draw_candidates(ids, void, small, num_points, oversample_ratio, importance_sample_ratio)
        if use_cpu_path(mask_logits):
            return _BlockedLosses.apply(mask_logits, images, segments, layers, candidates)
        kernels = triton_module("points", mask_logits)
        if kernels:
            candidates_by_cell = kernels.sort_candidates(candidates, small)
            focal, *sums = kernels.pair_sums(mask_logits, images, segments, layers, candidates_by_cell).unbind(1)
            return focal / candidates.num_points[images], dice_loss(*sums)[0]
        masks_at_once = max(1, CANDIDATES_AT_ONCE // len(candidates.points))
        losses = []
        for some in zip(
            *(tensor.split(masks_at_once) for tensor in (mask_logits, images, segments, layers)), strict=True
        ):
            chosen = choose_points(*some[:2], candidates)
            # what autograd would keep of each point is worked out again
            losses.append(
                checkpoint(losses_at, *some, chosen, candidates, use_reentrant=False, preserve_rng_state=False)
            )
        focal, dice = (torch.cat(parts) for parts in zip(*losses, strict=True))
        return focal, dice


@torch.no_grad()
def choose_points(mask_logits: Tensor, images: Tensor, candidates: Candidates) -> Tensor:
    """`(N, P)` int32, for each mask the first candidates, then those where it is least certain.

    Images with void have fewer than P points: their other places hold candidates at void.
    """
    certainty = sample(mask_logits.float(), candidates.grid.expand(len(images), -1, -1)).abs_()  # (N, C)
    certainty += candidates.penalty[images]
    uncertain = certainty.topk(candidates.most_important, largest=False, sorted=False).indices
    return torch.cat((candidates.first[images], uncertain), 1).int()


def losses_at(
    mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, chosen: Tensor, candidates: Candidates
) -> tuple[Tensor, Tensor]:
    """Focal and dice loss `(N,)` at the chosen candidates `(N, P)` but those at void."""
    chosen = chosen.long()
    logits = sample(mask_logits.float(), candidates.grid[chosen])  # (N, P)
    num_layers, num_candidates = candidates.ids.shape[1:]
    maps = (images * num_layers + layers)[:, None] * num_candidates  # where each mask's id map begins
    numbers = candidates.ids.flatten()[maps + chosen]  # (N, P)
    inside = numbers == (segments + 1)[:, None]
    logits = logits.masked_fill(numbers == VOID, NOWHERE)
    focal = focal_loss(logits, inside).sum(1) / candidates.num_points[images]
    probability = logits.sigmoid()
    overlap, areas = (probability * inside).sum(1), probability.sum(1) + inside.sum(1)
    return focal, 1 - (2 * overlap + 1) / (areas + 1)


class _BlockedLosses(torch.autograd.Function):
    """`point_losses` on a CPU: image by image, its masks some at a time; the backward pass scales and gathers."""

    @staticmethod
    def forward(
        ctx, mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, candidates: Candidates
    ) -> tuple[Tensor, Tensor]:
        focal, dice = torch.empty(2, len(mask_logits))
        ctx.inputs, ctx.images, saved = (mask_logits.shape, mask_logits.dtype), [], []
        buffers = _Buffers()
        for image in images.unique().tolist():
            pairs = (images == image).nonzero()[:, 0]
            points = _ImagePoints(candidates, image, tuple(mask_logits.shape[-2:]), buffers)
            focal[pairs], dice[pairs], *of_image = points.losses(
                mask_logits[pairs].float(), segments[pairs], layers[pairs], ctx.needs_input_grad[0]
            )
            ctx.images.append((pairs, points))
            saved += of_image
        ctx.save_for_backward(*saved)
        return focal, dice

    @staticmethod
    @once_differentiable
    def backward(ctx, by_focal: Tensor, by_dice: Tensor) -> tuple[Tensor | None, ...]:
        shape, dtype = ctx.inputs
        result = torch.zeros(shape, dtype=dtype)
        saved = zip(*(iter(ctx.saved_tensors),) * 3, strict=True)  # three of each image
        for (pairs, points), of_image in zip(ctx.images, saved, strict=True):
            result[pairs] = points.gradient(*of_image, by_focal[pairs], by_dice[pairs]).to(dtype)
        return result, None, None, None, None


class _Buffers:
    """Memory for candidates, and for the uniform and the important points, whose gradients are needed at one time."""

    def __init__(self):
        self.candidates, self.uniform, self.important = (Scratch() for _ in range(3))


class _ImagePoints:
    """The points of one image, at which masks of `size` (h, w) are scored, those at void left out."""

    def __init__(self, candidates: Candidates, image: int, size: tuple[int, int], buffers: _Buffers):
        valid = ~candidates.void[image]
        points, ids = candidates.points, candidates.ids[image]
        if not valid.all():
            points, ids = points[valid], ids[:, valid]
        self.ids = ids.float()  # (L, C), exact up to 2^24, and faster to compare than integers
        counts = candidates.num_uniform[image], candidates.num_important[image]
        self.num_uniform, self.num_important = (min(int(count), len(points)) for count in counts)  # 0: all is void
        self.num_points = max(1, self.num_uniform + self.num_important)
        self.interpolation, self.buffers = BilinearPoints(points, size), buffers
        self.masks_at_once = max(1, MASKS_IN_CACHE * block_size() // max(1, len(points)))

    def losses(
        self, mask_logits: Tensor, segments: Tensor, layers: Tensor, with_gradients: bool
    ) -> tuple[Tensor, ...]:
        """Losses `(M,)` of mask logits `(M, h, w)` and, if wanted, what `gradient` needs.

        This is which candidates are important, `(M, P)`, and the derivatives of both losses by all points' logits.
        """
        num_masks, num_points = len(mask_logits), self.num_uniform + self.num_important
        focal, dice = torch.empty(2, num_masks)
        saved: tuple[Tensor, ...] = ()
        if with_gradients:
            saved = (
                torch.empty(num_masks, self.num_important, dtype=torch.int32),
                *torch.empty(2, num_masks, num_points),
            )
        for start in range(0, num_masks, self.masks_at_once):
            some = slice(start, start + self.masks_at_once)
            candidates = self.interpolation.values(mask_logits[some], self.buffers.candidates)  # (M, C)
            of_some = tuple(tensor[some] for tensor in saved)
            focal[some], dice[some] = self._score(candidates, segments[some], layers[some], of_some)
        return focal, dice, *saved

    def gradient(
        self, chosen: Tensor, of_focal: Tensor, of_dice: Tensor, focal_scale: Tensor, dice_scale: Tensor
    ) -> Tensor:
        """`(M, h, w)`, given the derivatives `(M,)` of the loss by each mask's focal and dice loss."""
        num_masks, buffer = len(chosen), self.buffers.candidates
        result = torch.empty(num_masks, *self.interpolation.size)
        for start in range(0, num_masks, self.masks_at_once):
            some = slice(start, start + self.masks_at_once)
            by_points = torch.mul(
                of_focal[some], focal_scale[some, None], out=buffer("by points", *of_focal[some].shape)
            )
            by_points.addcmul_(of_dice[some], dice_scale[some, None])
            result[some] = self.interpolation.gather(by_points, chosen[some], buffer)
        return result

    def _score(
        self,
        candidates: Tensor,  # (M, C), their logits
        segments: Tensor,  # (M,)
        layers: Tensor,  # (M,)
        saved: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        """Focal and dice loss `(M,)` at the first candidates and the least certain; fills `saved`."""
        with_gradients, numbers = len(saved) > 0, segments[:, None] + 1.0  # (M, 1), in ids
        first = slice(self.num_uniform)
        buffer = self.buffers.uniform
        logits = buffer("logits", len(candidates), self.num_uniform).copy_(candidates[:, first])
        owners = self.ids[layers, first] if len(self.ids) > 1 else self.ids[:, first]
        masks = torch.eq(owners, numbers, out=buffer("masks", *logits.shape))
        parts = [block_terms(logits, masks, buffer, with_gradients)]
        if self.num_important:
            certainty = torch.abs(candidates, out=self.buffers.candidates("certainty", *candidates.shape))
            # the least certain, as topk finds them too, but on a CPU in four times the time
            order = np.argpartition(certainty.numpy(), self.num_important - 1, axis=1)
            chosen = torch.from_numpy(order[:, : self.num_important])  # (M, P)
            buffer = self.buffers.important
            logits = torch.gather(candidates, 1, chosen, out=buffer("logits", *chosen.shape))
            masks = self._masks_at(chosen, layers, numbers)
            parts.append(block_terms(logits, masks, buffer, with_gradients))
            if with_gradients:
                saved[0].copy_(chosen)
        sums = (sum(getattr(part, name) for part in parts) for name in ("predicted", "overlap", "target"))
        dice, by_predicted, by_overlap = dice_loss(*sums)
        if with_gradients:
            self._combine_gradients(parts, by_predicted, by_overlap, *saved[1:])
        return sum(part.focal for part in parts) / self.num_points, dice

    def _combine_gradients(
        self, parts: list[BlockTerms], by_predicted: Tensor, by_overlap: Tensor, of_focal: Tensor, of_dice: Tensor
    ) -> None:
        """Writes the derivatives of both losses by all points' logits, `(M, P)` each."""
        start = 0
        for part in parts:
            focal, predicted, overlap = part.gradients.unbind(1)  # (M, P) each
            places = slice(start, start + focal.shape[1])
            start = places.stop
            torch.div(focal, self.num_points, out=of_focal[:, places])
            torch.addcmul(predicted.mul_(by_predicted[:, None]), overlap, by_overlap[:, None], out=of_dice[:, places])

    def _masks_at(self, chosen: Tensor, layers: Tensor, numbers: Tensor) -> Tensor:
        """`(M, P)` zeros and ones: which of the `chosen` candidates lie in the segment of id `numbers` (M, 1)."""
        ids, buffer = self.ids, self.buffers.important
        if len(ids) > 1:
            owners = ids.take(chosen + layers[:, None] * ids.shape[1])
        else:
            owners = buffer("owners", *chosen.shape)
            torch.index_select(ids[0], 0, chosen.flatten(), out=owners.view(-1))
        return torch.eq(owners, numbers, out=buffer("masks", *chosen.shape))
