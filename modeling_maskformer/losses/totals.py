"""What losses are divided by: totals of a batch, the same in all processes of a training."""

from __future__ import annotations

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor


def num_processes() -> int:
    """Of this training; 1 where Accelerate was not set up, as asking it would do."""
    return PartialState().num_processes if PartialState._shared_state else 1


def as_bits(totals: Tensor) -> Tensor:
    """Float32 totals as int32 of the same bits. What goes into a model as floats, FSDP rounds to 16 bits.

    Then bfloat16 makes 256 of 257, and more than 65,504 pixels are infinitely many in float16: a loss of 0.
    """
    return totals.float().view(torch.int32)


def from_bits(totals: Tensor) -> Tensor:
    """Totals that may have come `as_bits`."""
    return totals.view(torch.float32) if totals.dtype == torch.int32 else totals


def mean_over_processes(totals: Tensor) -> Tensor:
    """The mean over all processes of what each of them counts in its batch, on its device."""
    return totals if num_processes() == 1 else reduce(totals, reduction="mean")
