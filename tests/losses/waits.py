"""What would make the host wait for a device, seen on a CPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITING = ("_local_scalar_dense", "nonzero", "_unique", "unique", "bincount", "masked_select", "equal")


class Waits(TorchDispatchMode):
    """Collects the names of the operations whose result, or its size, the host would wait for."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        name = operation.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_", "_index_put_impl_") else []
        by_mask = any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if by_mask or name.startswith(WAITING):
            self.seen.append(name)
        return operation(*args, **(kwargs or {}))
