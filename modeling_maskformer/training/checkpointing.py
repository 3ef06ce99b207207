"""CheckpointingTrainer: transformers' Trainer, whose checkpoints are whole or not there, and which ends on SIGTERM."""

from __future__ import annotations

import shutil
import signal
import threading
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from .checkpoint_folders import finish_checkpoint, remove_old_checkpoints, unfinished_folder

logger = logging.get_logger(__name__)

TERMINATED = 75  # exit code of a run that was asked to end and has saved: EX_TEMPFAIL, "try again later"


class CheckpointingTrainer(Trainer):
    """Writes each checkpoint under another name and renames it when every process has written its part."""

    _unfinished: Path | None = None  # where a checkpoint is being written

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._unfinished is None else str(self._unfinished)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Nothing where all steps are made already: transformers would make one more after a last, saved one."""
        if self.state.global_step >= self.state.max_steps or self.control.should_training_stop:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        unfinished = unfinished_folder(folder, self.state.global_step)
        if self.args.should_save:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._unfinished = unfinished
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._unfinished = None
        best = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
        if best == checkpoint or best.is_dir():  # what has been saved before this one is there under its name
            self.state.best_model_checkpoint = str(best)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            written = unfinished / checkpoint.name
            self.state.save_to_json(str(written / TRAINER_STATE_NAME))
            finish_checkpoint(written, checkpoint)
            unfinished.rmdir()
            remove_old_checkpoints(folder, self.args.save_total_limit, self.state.best_model_checkpoint)
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._unfinished is None:  # uploads go on in the background: only what keeps its name is given to them
            super()._push_from_checkpoint(checkpoint_folder)


class EndOnSigterm(TrainerCallback):
    """On SIGTERM, as a machine that is about to be taken away sends it: saves after the step and exits with 75.

    An evaluation that is due then is made first, so that the run that is resumed equals one that was not ended. All
    processes end after the same step, whichever of them got the signal.
    """

    def __init__(self) -> None:
        self._asked = False
        self._ending = False
        self._before: Any = None
        self._group: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        if args.world_size > 1:  # gloo: to agree on it, no process waits for its device
            self._group = torch.distributed.new_group(backend="gloo")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        self._ending = self._anyone_asked()
        if self._ending and not float(state.epoch or 0.5).is_integer():
            control.should_save = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        control.should_save |= self._ending
        return control

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if self._ending:
            logger.warning(f"SIGTERM: the run is saved at step {state.global_step} and ends.")
            raise SystemExit(TERMINATED)

    def _ask(self, *_: Any) -> None:
        self._asked = True

    def _anyone_asked(self) -> bool:
        if self._group is None:
            return self._asked
        asked = torch.tensor([int(self._asked)])
        torch.distributed.all_reduce(asked, torch.distributed.ReduceOp.MAX, group=self._group)
        return bool(asked)
