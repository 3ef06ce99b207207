"""The processes that share a prediction, as `accelerate launch` or torchrun has started them; or this one alone."""

from __future__ import annotations

import os
from datetime import timedelta

import torch
from accelerate import PartialState

from ...files.error_text import first_line

LONGEST_WAIT = timedelta(days=30)  # of the first to be done for the last


class LostProcessError(RuntimeError):
    """Another of the processes has ended early."""


def join_processes(use_gpu: bool) -> PartialState:
    """Which of the processes this is, and its device. They only wait for each other, for which Gloo is enough."""
    several = "LOCAL_RANK" in os.environ and use_gpu
    return PartialState(cpu=not use_gpu, timeout=LONGEST_WAIT, **({"backend": "gloo"} if several else {}))


def device_of(state: PartialState) -> torch.device:
    """The GPU of this process."""
    return torch.device("cuda", state.local_process_index % torch.cuda.device_count())


def wait_for_all(state: PartialState) -> None:
    """Returns when all processes have come here; from then on each is alone.

    Raises:
        LostProcessError: one of them has ended before.
    """
    if state.num_processes == 1:
        return
    try:
        torch.distributed.barrier()  # Accelerate's is on the GPU of the process's number, which two on one GPU lack
        state.destroy_process_group()
    except RuntimeError as error:
        raise LostProcessError(f"Another process ended early ({first_line(error)}).") from error
