"""The assignment of least cost for every decoder layer and image, and the form in which the losses read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..to_device import to_device
from .kernels.triton_modules import triton_module

LARGEST_SIDE = 512  # queries or segments, of which the kernel keeps vectors in registers


@dataclass
class Matches:
    """The matched pairs of a batch. An image has as many in each decoder layer, so these are M pairs a layer.

    Attributes:
        queries, segments: `(M, layers)` int64, image by image.
        images: `(M,)` int64.
        num_pairs: of each image in each layer, min(Q, S_b); their sum is M.
        non_finite: `(layers, B)` int64, entries of each cost matrix that are not finite. If there are any, the loss
            must not be finite either. None where these were ignored, or there are none.
        is_error: whether the next look at the device is to raise an error about them.
    """

    queries: Tensor
    segments: Tensor
    images: Tensor
    num_pairs: list[int]
    non_finite: Tensor | None = None
    is_error: bool = False

    def rows(self, num_queries: int) -> Tensor:
        """`(M, layers)` int64, where each pair's query lies among the B * Q of a layer."""
        return self.images[:, None] * num_queries + self.queries


def assign(costs: Tensor, num_segments: Sequence[int]) -> Matches:
    """The pairs of least cost, one to one.

    Args:
        costs: `(layers, B, Q, S)` float32, finite. Beyond an image's last segment they are not read.
        num_segments: of each image.
    """
    num_layers, _, num_queries, _ = costs.shape
    num_pairs = [min(num_queries, count) for count in num_segments]
    images = to_device(np.repeat(np.arange(len(num_pairs)), num_pairs), costs.device)
    if sum(num_pairs) == 0:
        queries = segments = costs.new_zeros(0, num_layers, dtype=torch.int64)
    elif stays_on_device(costs):
        queries, segments = _kernels(costs).assign_on_device(costs, num_segments)
    else:
        pairs = assign_on_host(costs.cpu().numpy(), num_segments)
        queries, segments = to_device(pairs, costs.device)
    return Matches(queries, segments, images, num_pairs)


def stays_on_device(costs: Tensor) -> bool:
    """Whether a kernel solves these problems, so that the host does not wait for their costs."""
    return max(costs.shape[2:]) <= LARGEST_SIDE and _kernels(costs) is not None


def _kernels(costs: Tensor) -> ModuleType | None:
    return triton_module("assignment", costs)


def assign_on_host(costs: np.ndarray, num_segments: Sequence[int]) -> np.ndarray:
    """`(2, M, layers)` int64, queries and segments of costs `(layers, B, Q, S)`.

    One problem after the other: SciPy's solver holds the interpreter's lock, so threads gain nothing.
    """
    pairs = [
        np.stack([linear_sum_assignment(layer[image, :, :count]) for layer in costs], axis=-1)  # (2, pairs, layers)
        for image, count in enumerate(num_segments)
    ]
    return np.concatenate(pairs, axis=1).astype(np.int64)
