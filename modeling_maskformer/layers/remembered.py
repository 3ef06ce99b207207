"""What depends on sizes only, computed once for each."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import torch


def remembered(maxsize: int) -> Callable[[Callable], Callable]:
    """Makes a function of hashable arguments keep its last `maxsize` results, but in a compiled graph.

    The graph holds the computation itself: it must follow the input's size.
    """

    def decorate(function: Callable) -> Callable:
        @lru_cache(maxsize=maxsize)
        def kept(*arguments: Any) -> Any:
            # a tensor made under inference_mode could not serve a later training step
            with torch.inference_mode(False):
                return function(*arguments)

        @wraps(function)
        def call(*arguments: Any) -> Any:
            return function(*arguments) if torch.compiler.is_compiling() else kept(*arguments)

        return call

    return decorate
