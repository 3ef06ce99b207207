"""What several processes do together: one finds out for all of them, they agree, and in the end they part."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from torch import Tensor

Result = TypeVar("Result")


def on_first_process(find: Callable[[], Result]) -> Result:
    """What `find()` returns on the first process, on each of them; it is not called on the others, which wait.

    Args:
        find: its result can be pickled.

    Raises:
        ValueError, OSError: on every process, what `find` raised on the first one.
    """
    state = PartialState()  # as whoever has joined the processes has set it up
    if state.num_processes == 1:
        return find()
    result, problem = None, None
    if state.is_main_process:
        try:
            result = find()
        except (ValueError, OSError) as error:
            problem = error
    result, problem = broadcast_object_list([result, problem])
    if problem is not None:
        raise problem
    return result


def take_from_first_process(tensors: Iterable[Tensor]) -> None:
    """Every process gets the first one's values, in place, as of statistics that each has of its own images."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, src=0)


def leave_processes() -> None:
    """Leaves the group of processes, if there is one, at the end of a program that went well in all of them."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@atexit.register
def leave_gloo() -> None:
    """Leaves a group on CPUs however the program ends: beside its threads, half of all processes end in an abort.

    A group of GPUs is left as it is: after an error in one process it would wait for the others.
    """
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and distributed.get_backend() == "gloo":
        leave_processes()
