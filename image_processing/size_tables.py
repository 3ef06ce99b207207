"""Tables that depend on sizes only, such as the weights of a resampling: made once for each size, then kept."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch


def size_table(maxsize: int) -> Callable[[Callable], Callable]:
    """Makes a function of hashable arguments keep its last `maxsize` results.

    A table is on the device that is among the arguments, or else on the CPU, whatever the default device is; tables of
    different default dtypes are different ones. Nothing is kept, and nothing kept is used, where tensors are not what
    they seem: under `torch.compile`, `torch.export` and tracing, whose graphs hold the computation itself, and under
    fake tensors.
    """

    def decorate(function: Callable) -> Callable:
        @lru_cache(maxsize=maxsize)
        def kept(_: torch.dtype, *arguments: Any) -> Any:
            # a tensor made under inference_mode could not serve a later training step
            with torch.inference_mode(False), torch.device("cpu"):
                return function(*arguments)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return kept(torch.get_default_dtype(), *arguments) if tensors_are_real() else function(*arguments)

        call.cache_clear = kept.cache_clear
        return call

    return decorate


def tensors_are_real() -> bool:
    """Whether a tensor made now holds numbers: nobody is recording a graph or working with fake tensors."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # exporting is compiling too
        return False
    return type(torch.empty(0, device="cpu")) is torch.Tensor
