"""What the processes that prepare batches need of memory, and what is said where they lack it."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from ...targets import Segments
from ..errors import WorkerError


def where_others_read(batch: dict[str, Any]) -> dict[str, Any]:
    """The batch; in a worker its tensors lie in shared memory, where the program reads them.

    They would be put there when they are sent, by a thread of the worker: where there is no room, that says so, drops
    the batch, and the program waits for it for ever.

    Raises:
        WorkerError: there is no room for them.
    """
    if get_worker_info() is None:
        return batch
    try:
        for value in batch.values():
            for part in value if isinstance(value, (list, tuple)) else [value]:
                tensors = (part.ids, part.class_ids, part.is_crowd) if isinstance(part, Segments) else (part,)
                for tensor in tensors:
                    if isinstance(tensor, Tensor) and tensor.untyped_storage().nbytes():
                        tensor.share_memory_()
    except RuntimeError as error:
        raise WorkerError(
            f"Shared memory, /dev/shm, has no room for a batch ({error}); containers get more by --shm-size."
        ) from error
    return batch


def problem_of_worker(error: BaseException) -> WorkerError | None:
    """What is wrong with a worker, in a sentence, where that is what the error of a DataLoader says; else None."""
    if isinstance(error, WorkerError):
        return WorkerError(error.sentence)
    if isinstance(error, MemoryError) and "DataLoader worker" in str(error):
        return WorkerError("There is no memory left for a process that reads images.")
    if isinstance(error, RuntimeError) and (found := re.match(r"DataLoader worker \(.*", str(error))):
        lost = found[0].strip().rstrip(".")
        return WorkerError(f"A process that reads images was ended from outside, as for want of memory: {lost}.")
    return None
