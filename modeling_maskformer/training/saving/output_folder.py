"""The folder of a run: what an earlier run has left there, and which checkpoint to go on from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from image_processing.drawing.signature import is_drawn_here

from ...data.held_out import HELD_OUT_NAME, HeldOut
from ...inference.pictures import drawn_in
from ..arguments.run_arguments import RunArguments
from ..cards.card_text import CARD_NAME, is_signed
from ..cards.training_plot import PLOT_NAME
from ..divergence import DIVERGED
from ..first_process import on_first_process
from .checkpoint_folders import UNFINISHED, checkpoints_in, last_checkpoint, problem_of, remove_unfinished
from .only_run import FolderInUseError
from .weight_average import check_average_in

PICTURES_NAME = "pictures"  # the folder of evaluation images that the final model's predictions are drawn for


def prepare_output_dir(arguments: RunArguments, start_from: Mapping[str, str | None] | None = None) -> None:
    """Settles what `output_dir` and `resume_from_checkpoint` mean for this run: one answer for all its processes.

    Nothing is removed yet: what is checked after this may still refuse the run. See `TakeFolder`.

    Args:
        arguments: of the run.
        start_from: flag -> folder or file that the run reads its first weights from.

    Raises:
        ValueError: the folder holds another run, or what this one starts from, or there is no checkpoint to resume
            from.
    """
    arguments.resume_from_checkpoint = on_first_process(lambda: _settle(arguments, start_from or {}))


def _settle(arguments: RunArguments, start_from: Mapping[str, str | None]) -> str | None:
    """The checkpoint to resume from, None to start anew, in a folder that may be taken for it."""
    folder = Path(arguments.output_dir)
    _check_writable(folder)
    checkpoint = None
    if arguments.resume_from_checkpoint is not None:
        checkpoint = find_checkpoint(arguments.resume_from_checkpoint, folder)
        check_average_in(checkpoint, arguments.ema_decay)
        if _is_of(checkpoint, folder):
            if arguments.overwrite_output_dir:
                raise ValueError(
                    f"overwrite_output_dir would remove {checkpoint}, which resume_from_checkpoint goes on from: pass "
                    "one of them."
                )
            return str(checkpoint)
    traces = traces_of_a_run(folder)
    _check_may_remove(traces, arguments)
    for flag, path in start_from.items():
        parts = [] if path is None else [Path(path), Path(path) / CONFIG_NAME]  # without which a folder is no model
        if any(_lies_in(part, trace) for part in parts for trace in traces):
            raise ValueError(
                f"overwrite_output_dir would remove {path}, which --{flag} starts from: choose another --output_dir."
            )
    return None if checkpoint is None else str(checkpoint)


def _check_may_remove(traces: Sequence[Path], arguments: RunArguments) -> None:
    """Refuses to remove what another run has left in the folder, where `overwrite_output_dir` does not say so."""
    folder = Path(arguments.output_dir)
    found = sorted({path.relative_to(folder).parts[0] for path in traces} - {HELD_OUT_NAME})
    if found and not arguments.overwrite_output_dir:
        raise FolderInUseError(
            f"{folder} holds another run ({', '.join(found)}): choose another --output_dir, "
            "go on with it (--resume_from_checkpoint last) or replace it (--overwrite_output_dir)."
        )


def _check_writable(folder: Path) -> None:
    """Refuses a folder that nothing can be written to, or that cannot be made, before hours of training."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ValueError(f"output_dir {folder} cannot be a folder: {there} is a file.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir {folder} cannot be written to: choose another, or make {there} writable.")


def goes_on(arguments: RunArguments) -> bool:
    """Whether a run resumes from a checkpoint of its own folder, and not from one elsewhere or none."""
    checkpoint = arguments.resume_from_checkpoint
    return checkpoint is not None and _is_of(Path(checkpoint), Path(arguments.output_dir))


def _is_of(checkpoint: Path, folder: Path) -> bool:
    """Whether a checkpoint is one of the run in a folder, also as a link there, or by a link to it."""
    return folder.resolve() in (checkpoint.parent.resolve(), checkpoint.resolve().parent)


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a file or folder is another one, or in it."""
    return path.resolve().is_relative_to(folder.resolve())


class TakeFolder(TrainerCallback):
    """Makes the output folder this run's when its training starts, and not before: a refused run leaves it as it was.

    A run that starts anew removes what an earlier one has left; one that goes on, what that was writing when it ended.

    Args:
        held_out: which training images are set aside, to be kept beside the model; None where none are, or where the
            run goes on and has kept it.
    """

    def __init__(self, held_out: HeldOut | None = None) -> None:
        self._held_out = held_out
        self._is_taken = False

    def on_train_begin(self, args: RunArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if not self._is_taken:  # a trainer that trains once more goes on in its own folder
            self._is_taken = True
            on_first_process(lambda: self._take(args))

    def _take(self, args: RunArguments) -> None:
        folder = Path(args.output_dir)
        if goes_on(args):
            remove_unfinished(folder)
        else:
            traces = traces_of_a_run(folder)
            _check_may_remove(traces, args)  # once more: a run that began meanwhile may have ended, too
            for path in traces:
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            if self._held_out is not None:
                self._held_out.save(folder)


def traces_of_a_run(folder: Path) -> list[Path]:
    """Checkpoints, model, results, pictures, diverged batches and card that an earlier run has left, sorted by name.

    A card that somebody has written or edited is none of them, nor are pictures that a run has not drawn.
    """
    results = ("train_results.json", "eval_results.json", "all_results.json", "trainer_state.json")
    files = [folder / name for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, HELD_OUT_NAME, *results)]
    if is_signed(folder / CARD_NAME):
        files.append(folder / CARD_NAME)
    files += [path for path in [folder / PLOT_NAME] if is_drawn_here(path)] + drawn_in(folder / PICTURES_NAME)
    unfinished = [path for path in folder.glob(f"{UNFINISHED}-*") if path.is_dir()]
    diverged = list(folder.glob(f"{DIVERGED}*.safetensors"))
    return sorted([path for path in files if path.exists()] + checkpoints_in(folder) + unfinished + diverged)


def find_checkpoint(wanted: str, output_dir: Path) -> Path:
    """The checkpoint folder to resume from: the path `wanted`, or the newest whole one in `output_dir` for "last"."""
    if wanted == "last":
        checkpoint = last_checkpoint(output_dir)
        if checkpoint is None:
            found = [f" ({path.name}: {problem_of(path)})" for path in checkpoints_in(output_dir)[-1:]]
            raise ValueError(
                f"There is no checkpoint to resume from in {output_dir}{''.join(found)}: start "
                "anew (--overwrite_output_dir, if there is anything)."
            )
        return checkpoint
    problem = problem_of(Path(wanted))
    if problem is not None:
        raise ValueError(
            f"{wanted} is no checkpoint to resume from ({problem}): pass a whole checkpoint-<step> folder, or last."
        )
    return Path(wanted)
