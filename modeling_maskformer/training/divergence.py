"""Ends a run whose loss or gradient is no longer finite, and keeps the batch where that was first seen."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

DIVERGED = "diverged_batch_step_"  # the files of batches begin like that
MAX_UNREAD = 4  # values that a device may still owe, of some two steps; their batches are kept until then
MAX_IN_A_ROW_OF_FLOAT16 = 10  # steps that its gradient scaler leaves out; more of them no smaller scale will mend


@dataclass
class _Value:
    """A loss or gradient norm on its way to the host.

    Attributes:
        what: "loss" or "gradient", or "processes": in how many the loss of the step is not finite.
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
    `check_all` before anything is logged, measured or saved makes sure that none is missed. Several processes end
    after the same step, since each would wait for one that ends alone: what each has found is added up at the end of a
    step and read, on a GPU, at the end of the next one.

    Args:
        folder: where the batch is saved, as `diverged_batch_step_<step>.safetensors`: the tensors that the model got,
            pixels as they came, and the samples' names as metadata.
        process: number of this process, part of the file's name if it is not the first.
        scaled: whether a float16 gradient scaler is at work, which expects a step that is not finite now and then and
            leaves it out: then only losses count, ten of them in a row.
        add_up: tensor -> its sum over all processes; None where there is one.
    """

    def __init__(
        self,
        folder: Path,
        process: int = 0,
        scaled: bool = False,
        add_up: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self._folder = folder
        self._process = process
        self._scaled = scaled
        self._add_up = add_up
        self._of_step: list[Tensor] = []  # losses, where several processes end a step together
        self._in_a_row = 0
        self._unread: deque[_Value] = deque()

    def add(self, what: str, value: Tensor, step: int, number: int, batch: Mapping[str, Any], names: Sequence[str]):
        """Takes the "loss" or "gradient" norm of a batch, a scalar, and checks those that have arrived."""
        if what == "gradient" and self._scaled:
            return
        if what == "loss" and self._add_up is not None:
            self._of_step.append(value.detach().float())
        self._unread.append(_Value(what, step, number, batch, names, *_on_its_way(value)))
        if self._add_up is None:
            while self._unread and (self._unread[0].is_there or len(self._unread) > MAX_UNREAD):
                self._check(self._unread.popleft())

    def end_step(self, device: torch.device) -> None:
        """Tells all processes what each has found in the step. Does nothing where there is one."""
        if self._add_up is None:
            return
        is_bad = ~torch.stack(self._of_step).isfinite().all()
        self._of_step.clear()
        last = self._unread[-1]
        found = self._add_up(is_bad.float().to(device))
        self._unread.append(_Value("processes", last.step, last.number, last.batch, last.names, *_on_its_way(found)))
        while self._num_ended() > (device.type != "cpu"):  # not whatever has arrived, which may differ among processes
            self._check_step()

    def check_all(self) -> None:
        """Waits for all values and checks them; of several processes those of steps that have ended."""
        while self._unread and self._add_up is None:
            self._check(self._unread.popleft())
        while self._num_ended():
            self._check_step()

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
        if math.isfinite(value):
            self._in_a_row = 0
            return
        self._in_a_row += 1
        if self._scaled and self._in_a_row < MAX_IN_A_ROW_OF_FLOAT16:
            return
        self._unread.clear()
        self.refuse(f"the {entry.what} is {value}.", entry.step, entry.number, entry.batch, entry.names)

    def _num_ended(self) -> int:
        """Steps of which all processes know what each has found."""
        return sum(entry.what == "processes" for entry in self._unread)

    def _check_step(self) -> None:
        """Checks the values of one step of several processes, of which all or none ends here."""
        values: list[_Value] = []
        while (entry := self._unread.popleft()).what != "processes":
            values.append(entry)
        num_processes = int(entry.read())
        bad = [value for value in values if not math.isfinite(value.read())]
        # where there is a loss that is not finite, each gradient is not finite for that
        bad = [value for value in bad if value.what == "loss" or not num_processes]
        self._in_a_row = self._in_a_row + 1 if bad or num_processes else 0
        if self._in_a_row < (MAX_IN_A_ROW_OF_FLOAT16 if self._scaled else 1):
            return
        self._unread.clear()
        if bad:
            self.refuse(
                f"the {bad[0].what} is {bad[0].read()}.", bad[0].step, bad[0].number, bad[0].batch, bad[0].names
            )
        raise FloatingPointError(
            f"Step {entry.step}: the loss is not finite in {num_processes} of the other processes, which tell where. "
            "All of them end here."
        )

    def _save(self, step: int, batch: Mapping[str, Any], names: Sequence[str]) -> Path:
        """Writes the tensors of a batch, those of lists as `<name>_<place>`."""
        tensors = {}
        for name, value in batch.items():
            entries = {name: value} if isinstance(value, Tensor) else {f"{name}_{i}": v for i, v in enumerate(value)}
            tensors |= {key: entry.cpu().clone().contiguous() for key, entry in entries.items()}
        process = f"_process_{self._process}" if self._process else ""
        file = self._folder / f"{DIVERGED}{step}{process}.safetensors"
        self._folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file, metadata={"names": json.dumps(list(map(str, names)))})
        return file


def _on_its_way(value: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    """A scalar on its way to the host, and the event after which it is there."""
    value = value.detach().float()
    if value.device.type != "cuda":
        return value, None
    host, event = torch.empty((), pin_memory=True).copy_(value, non_blocking=True), torch.cuda.Event()
    event.record()
    return host, event
