"""Half precision on a CPU: faster where the CPU has instructions for it, many times slower where it has none."""

from __future__ import annotations

import torch

# what oneDNN, which does PyTorch's convolutions on a CPU, is asked for
_SUPPORT = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}


def cpu_computes(dtype: torch.dtype) -> bool:
    """Whether this machine's CPU computes with `dtype` itself, rather than value by value as another type.

    True where that cannot be told: for other types than bfloat16 and float16, and in a PyTorch without oneDNN.
    """
    ask = getattr(torch.ops.mkldnn, _SUPPORT.get(dtype, ""), None) if torch.backends.mkldnn.is_available() else None
    return ask is None or ask()


def slow_precision_text(device: torch.device, dtype: torch.dtype) -> str | None:
    """A sentence without its full stop on a precision that the CPU does not have; None if it is well chosen.

    Args:
        device: where the model computes.
        dtype: what it computes in, mixed or not.
    """
    if device.type != "cpu" or cpu_computes(dtype):
        return None
    name = str(dtype).removeprefix("torch.")
    return f"This CPU has no instructions for {name} and computes it many times slower than float32: choose float32"
