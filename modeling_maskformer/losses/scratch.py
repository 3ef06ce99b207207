"""Memory for intermediate results of what is written for a CPU, reused from block to block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

CPU_BLOCK = 1 << 18  # pixels in one block, whose few maps then stay in the cache


class Scratch:
    """Named buffers, each grown to the largest shape asked for.

    On a CPU fresh memory costs more than the arithmetic done in it: the system clears every page at first touch.
    """

    def __init__(self):
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialised tensor; it shares its memory with every earlier one of the same name."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype)
        return buffer[:size].view(shape)


def block_size() -> int:
    """How many pixels to work on at once."""
    return CPU_BLOCK
