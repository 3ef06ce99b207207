"""Ends a run whose loss or gradient is no longer finite, and keeps the batch where that was first seen."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

MAX_UNREAD = 4  # values that a device may still owe, of some two steps; their batches are kept until then
MAX_IN_A_ROW_OF_FLOAT16 = 10  # steps that its gradient scaler leaves out; more of them no smaller scale will mend


@dataclass
class _Value:
    """A loss or gradient norm on its way to the host.

    Attributes:
        what: "loss" or "gradient".
        step, number: the optimizer step, from 0, and the batch within it, from 1.
        batch, names: that it comes from.
        value: on the CPU; valid once `event`, if there is one, has happened.
    """

    what: str
    step: int
    number: int
    batch: Mapping[str, Any]
    names: Sequence[str]
    value: Tensor
    event: torch.cuda.Event | None

    @property
    def is_there(self) -> bool:
        return self.event is None or self.event.query()

    def read(self) -> float:
        if self.event is not None:
            self.event.synchronize()
        return float(self.value)


class DivergenceWatch:
    """Raises a FloatingPointError that names step, batch and samples once a loss or gradient is not finite.

    On a GPU values are read when they have arrived, a batch or two later, so that nothing waits for the device;
    `check_all` before anything is logged, measured or saved makes sure that none is missed.

    Args:
        folder: where the batch is saved, as `diverged_batch_step_<step>.safetensors`: the tensors that the model got,
            pixels as they came, and the samples' names as metadata.
        process: number of this process, part of the file's name if it is not the first.
        scaled: whether a float16 gradient scaler is at work, which expects a step that is not finite now and then and
            leaves it out: then only losses count, ten of them in a row.
    """

    def __init__(self, folder: Path, process: int = 0, scaled: bool = False) -> None:
        self._folder = folder
        self._process = process
        self._scaled = scaled
        self._in_a_row = 0
        self._unread: deque[_Value] = deque()

    def add(self, what: str, value: Tensor, step: int, number: int, batch: Mapping[str, Any], names: Sequence[str]):
        """Takes the "loss" or "gradient" norm of a batch, a scalar, and checks those that have arrived."""
        if what == "gradient" and self._scaled:
            return
        value, event = value.detach().float(), None
        if value.device.type == "cuda":
            host = torch.empty((), pin_memory=True).copy_(value, non_blocking=True)
            value, event = host, torch.cuda.Event()
            event.record()
        self._unread.append(_Value(what, step, number, batch, names, value, event))
        while self._unread and (self._unread[0].is_there or len(self._unread) > MAX_UNREAD):
            self._check(self._unread.popleft())

    def check_all(self) -> None:
        """Waits for all values and checks them."""
        while self._unread:
            self._check(self._unread.popleft())

    def refuse(self, reason: str, step: int, number: int, batch: Mapping[str, Any], names: Sequence[str]) -> None:
        """Raises the error for a batch of which something else was found not to be finite.

        Raises:
            FloatingPointError: always.
        """
        self.check_all()  # what went wrong before is the cause
        shown = ", ".join(map(str, names)) or "of unknown name"
        file = self._save(step, batch, names)
        raise FloatingPointError(
            f"Step {step}: {reason} Batch {number} of the step, samples: {shown}; it is saved as {file}. The model "
            "has diverged or these samples are bad: lower the learning rate, clip gradients (max_grad_norm), or look "
            "at the samples."
        )

    def _check(self, entry: _Value) -> None:
        value = entry.read()
        if torch.tensor(value).isfinite():
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._scaled and self._in_a_row < MAX_IN_A_ROW_OF_FLOAT16:
            return
        self._unread.clear()
        self.refuse(f"the {entry.what} is {value}.", entry.step, entry.number, entry.batch, entry.names)

    def _save(self, step: int, batch: Mapping[str, Any], names: Sequence[str]) -> Path:
        """Writes the tensors of a batch, those of lists as `<name>_<place>`."""
        tensors = {}
        for name, value in batch.items():
            entries = {name: value} if isinstance(value, Tensor) else {f"{name}_{i}": v for i, v in enumerate(value)}
            tensors |= {key: entry.cpu().clone().contiguous() for key, entry in entries.items()}
        process = f"_process_{self._process}" if self._process else ""
        file = self._folder / f"diverged_batch_step_{step}{process}.safetensors"
        self._folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file, metadata={"names": json.dumps(list(map(str, names)))})
        return file
