"""Which of two ways runs: the one written for a CPU's caches, or its plain twin of batched tensor operations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

FAST_DEVICES = ("cpu",)  # tests empty it: then a CPU computes as every other device does


def use_cpu_path(where: Tensor | torch.device) -> bool:
    """Whether the way written for a CPU runs on this tensor, or on tensors of this device.

    It does not on other devices, nor while a graph is captured (compiled, exported or traced: it loops over sizes that
    the graph has to leave open), nor on tensors of another class (fake ones, or those spread over several devices).
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # exporting is compiling too
        return False
    if isinstance(where, torch.device):
        return where.type in FAST_DEVICES
    return type(where) in (Tensor, nn.Parameter) and where.device.type in FAST_DEVICES
