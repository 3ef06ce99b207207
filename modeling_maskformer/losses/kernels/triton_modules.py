"""Which modules of kernels work on a GPU: where Triton or a compiler is missing, plain twins run instead."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor
from transformers.utils import logging

logger = logging.get_logger(__name__)


def triton_module(name: str, where: Tensor) -> ModuleType | None:
    """The module of this package with that name, if its kernels work on this tensor, as its `try_out` finds.

    They do not while a graph is captured, nor on tensors of another class (fake ones, or spread over several devices).
    """
    if type(where) is not Tensor or not where.is_cuda or torch.compiler.is_compiling():
        return None
    return _working_module(name, where.device)


@cache
def _working_module(name: str, device: torch.device) -> ModuleType | None:
    """The module, if Triton is there and can compile for this device, which also takes a C compiler."""
    if find_spec("triton") is None or torch.cuda.get_device_capability(device) < (7, 0):
        return None
    try:
        module = import_module(f".{name}", __package__)
        # the answer holds for all calls: not only for those in inference mode or autocast, if the first one is
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast("cuda", enabled=False):
            module.try_out(device)
    except Exception as error:
        logger.warning(f"Triton cannot compile {name} here, so it is computed without: {error}")
        return None
    return module
