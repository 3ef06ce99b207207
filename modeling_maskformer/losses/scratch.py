"""Memory for intermediate results, reused from block to block."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Pixels in one block: on a CPU the block's few maps stay in the cache; a GPU wants much work at once.
CPU_BLOCK, GPU_BLOCK = 1 << 18, 1 << 24


class Scratch:
    """Named buffers on one device, each grown to the largest shape asked for.

    On a CPU fresh memory costs more than the arithmetic done in it: the system clears every page at first touch.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._buffers: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """An uninitialised tensor; it shares its memory with every earlier one of the same name."""
        size = math.prod(shape)
        buffer = self._buffers.get(name)
        if buffer is None or len(buffer) < size:
            buffer = self._buffers[name] = torch.empty(size, dtype=dtype, device=self.device)
        return buffer[:size].view(shape)


def block_size(device: torch.device) -> int:
    """How many pixels to work on at once."""
    return CPU_BLOCK if device.type == "cpu" else GPU_BLOCK
