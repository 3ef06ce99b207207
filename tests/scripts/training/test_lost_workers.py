"""Processes that read images and are killed, or lack memory: the run ends with a sentence that says what to do."""

import os
import signal

import pytest
import torch
from script_runs import BRIEF, SMALL, run
from torch.utils.data import get_worker_info

from modeling_maskformer.commands import evaluate, train
from modeling_maskformer.data.views.collate import SegmentationDataset


def is_killed(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def has_no_memory(*_):
    raise MemoryError


def finds_no_room(*_):
    raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)")


HAPPENINGS = [
    (
        SegmentationDataset,
        "__getitem__",
        is_killed,
        "was ended from outside, as for want of memory: DataLoader worker",
    ),
    (SegmentationDataset, "__getitem__", has_no_memory, "There is no memory left for a process that reads images."),
    (torch.Tensor, "share_memory_", finds_no_room, "Shared memory, /dev/shm, has no room for a batch (unable"),
]


def happen_in_workers(monkeypatch, owner, name, happening):
    usual = getattr(owner, name)

    def one(*arguments):
        return usual(*arguments) if get_worker_info() is None else happening()

    monkeypatch.setattr(owner, name, one)


@pytest.mark.parametrize(("owner", "name", "happening", "sentence"), HAPPENINGS)
def test_training_ends_with_a_sentence(street, tmp_path, refused, monkeypatch, owner, name, happening, sentence):
    happen_in_workers(monkeypatch, owner, name, happening)
    flags = ["--dataset", street, "--task", "semantic", "--output_dir", tmp_path / "run", "--eval_strategy", "no"]
    said = refused(train.main, *flags, *SMALL, *BRIEF, "--dataloader_num_workers", 1, code=1)
    assert sentence in said and "Lower --dataloader_num_workers" in said and said.endswith("and start anew.\n")


@pytest.mark.parametrize(("owner", "name", "happening", "sentence"), HAPPENINGS)
def test_so_does_evaluation(street, trained, tmp_path, refused, monkeypatch, owner, name, happening, sentence):
    happen_in_workers(monkeypatch, owner, name, happening)
    flags = ["--dataset", street, "--model", trained["semantic"], "--output_file", tmp_path / "results.json"]
    said = refused(evaluate.main, *flags, "--use_cpu", "--num_workers", 1, code=1)
    assert sentence in said and "Nothing is measured. Lower --num_workers" in said


def test_other_errors_stay_as_they_are(street, tmp_path, monkeypatch):
    happen_in_workers(monkeypatch, SegmentationDataset, "__getitem__", lambda: 1 / 0)
    flags = ["--dataset", street, "--task", "semantic", "--output_dir", tmp_path / "run", "--eval_strategy", "no"]
    with pytest.raises(ZeroDivisionError):
        run(train.main, *flags, *SMALL, *BRIEF, "--dataloader_num_workers", 1)
