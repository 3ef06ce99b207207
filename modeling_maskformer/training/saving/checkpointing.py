"""CheckpointingTrainer: transformers' Trainer, whose checkpoints are whole or not there, and which ends on SIGTERM."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from torch import nn
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import logging

from ...files.error_text import first_line
from .checkpoint_folders import finish_checkpoint, remove_old_checkpoints, unfinished_folder

logger = logging.get_logger(__name__)

TERMINATED = 75  # exit code of a run that was asked to end and has saved: EX_TEMPFAIL, "try again later"


# what json, torch.save and safetensors raise where a file cannot be written
WRITE_ERRORS = (OSError, RuntimeError, SafetensorError)


class NotSavedError(OSError):
    """A checkpoint, or the trained model, could not be written, as on a full disk. Checkpoints before it are whole."""


class CheckpointingTrainer(Trainer):
    """Writes each checkpoint under another name and renames it when every process has written its part.

    Where one of them cannot write, all raise a `NotSavedError`, and what was written is removed.
    """

    _unfinished: Path | None = None  # where a checkpoint is being written
    _problem: str | None = None  # why that did not work

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers'. After it, also where it ends by an error, SIGTERM does what it did before."""
        before = signal.getsignal(signal.SIGTERM)
        try:
            return super().train(*args, **kwargs)
        except SystemExit:
            before = None  # a launcher asks a second time while the program ends: that does not change its code
            raise
        finally:
            if before is not None and signal.getsignal(signal.SIGTERM) is not before:
                signal.signal(signal.SIGTERM, before)

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._unfinished is None else str(self._unfinished)

    def _init_training_state(
        self,
        max_steps: int,
        num_update_steps_per_epoch: int,
        num_train_epochs: int,
        resume_from_checkpoint: str | None,
        trial: Any,
    ) -> tuple[int, int]:
        """As transformers', which does not find the best checkpoint of a run whose folder has another path by now."""
        begun = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if resume_from_checkpoint is not None:
            checkpoint = Path(resume_from_checkpoint)
            name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
            beside = [folder / name for folder in (checkpoint.parent, checkpoint.resolve().parent)]
            best = next((path for path in beside if path.is_dir()), None)
            if best is not None:
                if self.state.best_model_checkpoint is None:
                    logger.warning(f"The best checkpoint is {best} now: it is not ignored.")
                self.state.best_model_checkpoint = str(best)
        return begun

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
        self._unfinished, self._problem = unfinished, None
        try:
            with self._noting_problems():
                super()._save_checkpoint(model, trial)
            self._raise_problem_of_any(unfinished)
            best = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.best_global_step}"
            if best == checkpoint or best.is_dir():  # what has been saved before this one is there under its name
                self.state.best_model_checkpoint = str(best)
            if self.args.should_save:
                with self._noting_problems():
                    written = unfinished / checkpoint.name
                    self.state.save_to_json(str(written / TRAINER_STATE_NAME))
                    finish_checkpoint(written, checkpoint)
                    unfinished.rmdir()
                    remove_old_checkpoints(folder, self.args.save_total_limit, self.state.best_model_checkpoint)
            self._raise_problem_of_any(unfinished)
        finally:
            self._unfinished = None
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._unfinished is None:  # uploads go on in the background: only what keeps its name is given to them
            super()._push_from_checkpoint(checkpoint_folder)

    # Between these parts processes wait for each other, so that one which cannot write has to go on to the end.

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        with self._noting_problems():
            super().save_model(*args, **kwargs)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        with self._noting_problems():
            super()._save_optimizer_and_scheduler(output_dir)

    def _save_rng_state(self, output_dir: str) -> None:
        with self._noting_problems():
            super()._save_rng_state(output_dir)

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        """Keeps what goes wrong while a checkpoint is being written; at other times it is raised."""
        try:
            yield
        except WRITE_ERRORS as error:
            if self._unfinished is None:
                raise
            free = shutil.disk_usage(self.args.output_dir).free / 1e6
            self._problem = self._problem or f"{first_line(error)} ({free:.0f} MB are free there)"

    def _raise_problem_of_any(self, unfinished: Path) -> None:
        """Waits for all processes; where one could not write, raises the error in each.

        Raises:
            NotSavedError: which step, what went wrong, and how to go on.
        """
        problems = [self._problem] if self.args.world_size == 1 else gather_object([self._problem])
        problem = next((problem for problem in problems if problem is not None), None)
        if problem is None:
            return
        if self.args.should_save:
            shutil.rmtree(unfinished, ignore_errors=True)
        raise NotSavedError(
            f"The checkpoint of step {self.state.global_step} could not be written to {unfinished.parent}: "
            f"{problem}. Those before it are whole: make room there and go on with --resume_from_checkpoint last."
        )


class EndOnSigterm(TrainerCallback):
    """On SIGTERM, as a machine that is about to be taken away sends it: saves after the step and exits with 75.

    An evaluation that is due then is made first, so that the run that is resumed equals one that was not ended. A run
    that is asked while it evaluates or saves ends with that checkpoint, if there is one. All processes end after the
    same step, whichever of them got the signal.
    """

    def __init__(self) -> None:
        self._asked = False
        self._ending = False
        self._group: Any = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._ask)  # until `CheckpointingTrainer.train` ends
        if args.world_size > 1:  # gloo: to agree on it, no process waits for its device
            self._group = torch.distributed.new_group(backend="gloo")

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
        if self._ending or self._anyone_asked():
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
