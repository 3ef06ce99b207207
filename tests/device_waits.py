"""Counts what would make the host wait for a GPU, and what would start a kernel there, in a run on a CPU."""

from collections import Counter
from contextlib import ExitStack

import numpy as np
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result's size or value the host has to know, by their name without overload.
WAITING = {
    "_local_scalar_dense",  # item, int, float, bool
    "bincount",
    "equal",
    "masked_select",
    "nonzero",
    "_unique2",
    "unique_consecutive",
    "unique_dim",
}
HOST_CALLS = {torch.Tensor.tolist: "tolist", torch.Tensor.cpu: "cpu"}
INDEXING = (torch.Tensor.__getitem__, torch.Tensor.__setitem__)
NO_KERNELS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh", "_unsafe_view"}


class DeviceWaits:
    """Counts within a `with`, whose code runs on a CPU the way written for devices (fixture `plain_path`).

    Attributes:
        waits: how often the host would wait, by cause.
        kernels: how often each operation would start a kernel, about: some start several. What is computed for the
            host alone counts too, as on a CPU nothing tells it apart.
        float64: how often each operation would put out such numbers, which Apple's GPUs do not have.
    """

    def __init__(self):
        self.waits: Counter[str] = Counter()
        self.kernels: Counter[str] = Counter()
        self.float64: Counter[str] = Counter()

    def __enter__(self):
        self._modes = ExitStack()
        self._modes.enter_context(_Calls(self.waits))
        self._modes.enter_context(_Operations(self))
        return self

    def __exit__(self, *error):
        self._modes.close()


class _Calls(TorchFunctionMode):
    """Counts what no operation shows on a CPU: copies to the host, and lists sent to a device, as an index too."""

    def __init__(self, waits: Counter):
        super().__init__()
        self.waits = waits

    def __torch_function__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function in HOST_CALLS:
            self.waits[HOST_CALLS[function]] += 1
        elif function in (torch.tensor, torch.as_tensor) and named.get("device") is not None:
            if not isinstance(arguments[0], torch.Tensor):
                self.waits["tensor from a list"] += 1
        elif function is torch.Tensor.new_tensor and not isinstance(arguments[1], torch.Tensor):
            self.waits["tensor from a list"] += 1
        elif function in INDEXING and _has_list(arguments[1]):
            self.waits["index from a list"] += 1
        return function(*arguments, **named)


class _Operations(TorchDispatchMode):
    def __init__(self, counts: DeviceWaits):
        super().__init__()
        self.waits, self.kernels, self.float64 = counts.waits, counts.kernels, counts.float64

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        name = function.overloadpacket.__name__
        if name in WAITING:
            self.waits[name] += 1
        elif name in ("index", "index_put", "index_put_") and _has_mask(arguments[1]):
            self.waits["boolean index"] += 1
        elif name == "repeat_interleave" and named.get("output_size") is None:
            self.waits["repeat_interleave"] += 1
        if name not in NO_KERNELS and not _is_view(function):
            self.kernels[name] += 1
        result = function(*arguments, **named)
        parts = torch.utils._pytree.tree_leaves(result)
        if any(isinstance(part, torch.Tensor) and part.dtype == torch.float64 for part in parts):
            self.float64[name] += 1
        return result


def _has_list(index) -> bool:
    return any(isinstance(part, list | np.ndarray) for part in (index if isinstance(index, tuple) else (index,)))


def _has_mask(indices) -> bool:
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)


def _is_view(function) -> bool:
    aliases = [result.alias_info for result in function._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)
