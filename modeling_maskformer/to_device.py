"""Values of the host -> tensors of a device, without a wait for it where it is one of CUDA."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def to_device(values: Tensor | np.ndarray, device: torch.device) -> Tensor:
    """The values on `device`. On the way to a GPU of CUDA nothing waits; elsewhere they are there on return."""
    values = torch.from_numpy(values) if isinstance(values, np.ndarray) else values
    return values.to(device, non_blocking=copies_first(device))


def copies_first(device: torch.device) -> bool:
    """Whether a copy to the device that nobody waits for has read its source, which may be gone soon, on return.

    CUDA copies memory that is not pinned before it goes on. MPS does not (pytorch issue 189690).
    """
    return device.type == "cuda"
