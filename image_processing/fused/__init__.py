"""The fast way on an NVIDIA GPU: resizing, sigmoid and decision in one kernel, so that no resized map is ever written.

What each kernel computes, the plain form of the same inference computes beside it, of batched tensor operations.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ..size_tables import tensors_are_real

logger = logging.getLogger(__name__)

LEAST_CAPABILITY = (8, 0)  # of a GPU whose shared memory holds what a program works on


def use_kernels(maps: Tensor) -> bool:
    """Whether the kernels run on these maps `(B, Q, h, w)`: on an NVIDIA GPU where Triton can compile for it.

    They do not in graphs, nor on fake tensors.
    """
    if not maps.is_cuda or torch.version.cuda is None or not tensors_are_real():
        return False
    return _can_compile(maps.device)


@cache
def _can_compile(device: torch.device) -> bool:
    """Whether Triton is there and works, for which it also needs a C compiler."""
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return False
    try:
        from .semantic_kernels import relative_probabilities

        relative_probabilities(torch.zeros(1, 1, 2, device=device))
    except Exception as error:
        logger.warning(f"Triton cannot compile here, so post-processing runs without its kernels: {error}")
        return False
    return True
