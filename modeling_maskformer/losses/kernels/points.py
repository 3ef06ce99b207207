"""Focal and dice sums of matched pairs at their points, and the gradient, in one kernel each on a GPU.

The candidates are sorted by the cell of the mask logits in which they lie. Then neighbouring threads read neighbouring
cells, and the gradient of a cell is a sum over runs of candidates, without atomic operations.

Which candidates of a mask are least certain need not be written down. It is enough to know the largest distance from 0
among the k chosen logits, which is found by bisection: the bits of numbers that are not negative are in the order of
the numbers. Candidates at just this distance share what is left of k evenly. Each program keeps the candidates' logits
of the one mask that it works on, so that nothing grows with the number of masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..dense import NOWHERE
from ..focal_dice import FOCAL_ALPHA
from ..point_sampling import Candidates
from .point_kernels import gradient_kernel, sum_kernel

CANDIDATES = 1024  # worked on side by side
CELLS = 256  # the same of the gradient
STRIP = 16  # rows of cells that one thread of the gradient goes down; it has to visit one more
SUM_WARPS, GRADIENT_WARPS = 16, 8
SUM_PROGRAMS, GRADIENT_PROGRAMS = 3, 5  # on each of the GPU's processors, as many as their registers allow


@dataclass
class SortedCandidates:
    """The C candidates of a batch in the order of the cells in which they lie.

    Attributes:
        positions: `(2, C)` float32, x and y in cells from the centre of the first one, 0 .. length - 1.
        starts: `(h * w + 1,)` int32, the first candidate with its four cells from each one to the right and below.
        ids: `(B, L, C)`, the segment's id under each point, -1 at void.
        kinds: `(B, C)` uint8: 0 at void, 2 where it is a uniform point, 1 where it may be an important one only.
        num_important: `(B,)` int64.
        most_important: of an image without void.
    """

    positions: Tensor
    starts: Tensor
    ids: Tensor
    kinds: Tensor
    num_important: Tensor
    most_important: int


def sort_candidates(candidates: Candidates, size: tuple[int, int]) -> SortedCandidates:
    """The candidates for mask logits of `size` (h, w)."""
    height, width = size
    x, y = (
        candidates.points[:, axis].mul(length).sub_(0.5).clamp_(0, length - 1)
        for axis, length in enumerate((width, height))
    )
    cells, order = (y.int() * width + x.int()).sort()
    numbers = torch.arange(height * width + 1, dtype=torch.int32, device=cells.device)
    valid = ~candidates.void
    is_uniform = valid & (valid.cumsum(1) <= candidates.num_uniform[:, None])
    return SortedCandidates(
        positions=torch.stack((x, y)).index_select(1, order),
        starts=torch.searchsorted(cells, numbers, out_int32=True),
        ids=candidates.ids.index_select(2, order),
        kinds=torch.add(valid.to(torch.uint8), is_uniform).index_select(1, order),
        num_important=candidates.num_important,
        most_important=candidates.most_important,
    )


def pair_sums(
    mask_logits: Tensor, images: Tensor, segments: Tensor, layers: Tensor, candidates: SortedCandidates
) -> Tensor:
    """`(M, 4)` float32: the sums of focal loss, probability, probability inside the target, and target.

    The arguments are mask logits `(M, h, w)` of any floating dtype, and the image, the segment and the id map's layer
    of each pair, three int64 `(M,)`.
    """
    of_batch = (candidates.positions, candidates.ids, candidates.kinds, candidates.num_important)
    return _PairSums.apply(
        mask_logits, images, segments, layers, *of_batch, candidates.starts, candidates.most_important > 0
    )


def try_out(device: torch.device) -> None:
    """Compiles the kernels, or raises what keeps them from it."""
    logits = torch.zeros(1, 1, 1, device=device, requires_grad=True)
    number = torch.zeros(1, dtype=torch.int64, device=device)
    candidates = SortedCandidates(
        positions=logits.detach().view(1, 1).expand(2, 1),
        starts=torch.arange(2, dtype=torch.int32, device=device),
        ids=number.view(1, 1, 1),
        kinds=number.view(1, 1).to(torch.uint8),
        num_important=number,
        most_important=1,
    )
    torch.autograd.grad(pair_sums(logits, number, number, number, candidates).sum(), logits)


class _PairSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        mask_logits: Tensor,
        images: Tensor,
        segments: Tensor,
        layers: Tensor,
        positions: Tensor,
        ids: Tensor,
        kinds: Tensor,
        num_important: Tensor,
        starts: Tensor,
        has_important: bool,
    ) -> Tensor:
        arguments = (mask_logits, images, segments, layers, positions, ids, kinds)
        arguments = [tensor.contiguous() for tensor in arguments]
        num_pairs, num_candidates = len(mask_logits), positions.shape[1]
        sums = mask_logits.new_empty(num_pairs, 4, dtype=torch.float32)
        limits = mask_logits.new_empty(num_pairs, dtype=torch.int32)
        shares = mask_logits.new_empty(num_pairs, dtype=torch.float32)
        programs = _num_programs(mask_logits, SUM_PROGRAMS)
        logits = limits.new_empty(programs, num_candidates if has_important else 0)
        if num_pairs:
            with torch.cuda.device_of(mask_logits):
                sum_kernel[(programs,)](
                    *arguments,
                    num_important,
                    logits,
                    sums,
                    limits,
                    shares,
                    *_sizes(mask_logits, ids),
                    **_constants(has_important),
                    CANDIDATES=CANDIDATES,
                    num_warps=SUM_WARPS,
                )
        ctx.save_for_backward(*arguments, starts, limits, shares)
        ctx.has_important = has_important
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, by_sums: Tensor) -> tuple[Tensor | None, ...]:
        mask_logits, *_, ids, _, _, _, _ = ctx.saved_tensors
        programs = _num_programs(mask_logits, GRADIENT_PROGRAMS)
        # what each cell gets from the candidates to its right and to its left
        parts = mask_logits.new_empty(programs, 2, *mask_logits.shape[1:], dtype=torch.float32)
        gradient = torch.empty_like(mask_logits)
        if len(mask_logits):
            with torch.cuda.device_of(mask_logits):
                gradient_kernel[(programs,)](
                    *ctx.saved_tensors,
                    by_sums.float().contiguous(),
                    parts,
                    gradient,
                    *_sizes(mask_logits, ids),
                    **_constants(ctx.has_important),
                    CELLS=CELLS,
                    STRIP=STRIP,
                    num_warps=GRADIENT_WARPS,
                )
        return gradient, *[None] * 9


def _num_programs(mask_logits: Tensor, on_each: int) -> int:
    """At most as many as work at one time, `on_each` processor, which take pair after pair."""
    device = mask_logits.device
    # without a GPU they are interpreted, one after the other
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return min(on_each * processors, max(1, len(mask_logits)))


def _sizes(mask_logits: Tensor, ids: Tensor) -> tuple[int, ...]:
    return (*mask_logits.shape, *ids.shape[1:])


def _constants(has_important: bool) -> dict[str, float]:
    return {"ALPHA": FOCAL_ALPHA, "NOWHERE": NOWHERE, "HAS_IMPORTANT": has_important, "LARGEST": 2**31 - 1}
