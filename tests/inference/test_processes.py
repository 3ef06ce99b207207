"""The processes that share a prediction wait for each other, whatever devices they have."""

from types import SimpleNamespace

import pytest
import torch

from modeling_maskformer.inference.prediction_run.processes import LostProcessError, wait_for_all


def four_processes(left):
    """What Accelerate says to the last of four; `left` takes in that it has left them."""
    return SimpleNamespace(
        num_processes=4,
        local_process_index=3,
        wait_for_everyone=lambda: torch.distributed.barrier(device_ids=[3]),
        destroy_process_group=lambda: left.append(True),
    )


def test_processes_that_share_a_gpu_wait_without_one(monkeypatch):
    """A barrier with the number of a device makes a tensor there, and there may be fewer GPUs than processes."""
    waits, left = [], []
    monkeypatch.setattr(torch.distributed, "barrier", lambda **devices: waits.append(devices))
    wait_for_all(four_processes(left))
    assert waits == [{}] and left == [True]


def test_a_process_that_has_ended_early_is_told(monkeypatch):
    def closed():
        raise RuntimeError("Connection closed by peer\nand more")

    monkeypatch.setattr(torch.distributed, "barrier", closed)
    with pytest.raises(LostProcessError, match=r"^Another process ended early \(Connection closed by peer\)\.$"):
        wait_for_all(four_processes([]))
