"""The folder of a run: what an earlier run has left there, and which checkpoint to go on from."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from ...data.held_out import HELD_OUT_NAME
from ..arguments.run_arguments import RunArguments
from ..cards.card_text import CARD_NAME, is_signed
from ..divergence import DIVERGED
from ..first_process import on_first_process
from .checkpoint_folders import UNFINISHED, checkpoints_in, last_checkpoint, problem_of, remove_unfinished
from .weight_average import check_average_in


def prepare_output_dir(arguments: RunArguments) -> None:
    """Settles what `output_dir` and `resume_from_checkpoint` mean for this run: one answer for all its processes.

    Raises:
        ValueError: the folder holds another run, or there is no checkpoint to resume from.
    """
    # while the first process looks, others would already see what it removes
    arguments.resume_from_checkpoint = on_first_process(arguments, lambda: _settle(arguments))


def _settle(arguments: RunArguments) -> str | None:
    """The checkpoint to resume from, None to start anew, in a folder that is ready for it."""
    folder = Path(arguments.output_dir)
    found = traces_of_a_run(folder)
    if arguments.resume_from_checkpoint is not None:
        checkpoint = find_checkpoint(arguments.resume_from_checkpoint, folder)
        check_average_in(checkpoint, arguments.ema_decay)
        remove_unfinished(folder)
        return str(checkpoint)
    if found and not arguments.overwrite_output_dir:
        raise ValueError(
            f"{folder} holds another run ({', '.join(path.name for path in found)}): choose another --output_dir, "
            "go on with it (--resume_from_checkpoint last) or replace it (--overwrite_output_dir)."
        )
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return None


def traces_of_a_run(folder: Path) -> list[Path]:
    """Checkpoints, model, results, diverged batches and card that an earlier run has left in `folder`, sorted by name.

    A card that somebody has written or edited is none of them.
    """
    results = ("train_results.json", "eval_results.json", "all_results.json", "trainer_state.json")
    files = [folder / name for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, HELD_OUT_NAME, *results)]
    if is_signed(folder / CARD_NAME):
        files.append(folder / CARD_NAME)
    unfinished = [path for path in folder.glob(f"{UNFINISHED}-*") if path.is_dir()]
    diverged = list(folder.glob(f"{DIVERGED}*.safetensors"))
    return sorted([path for path in files if path.exists()] + checkpoints_in(folder) + unfinished + diverged)


def find_checkpoint(wanted: str, output_dir: Path) -> Path:
    """The checkpoint folder to resume from: the path `wanted`, or the newest whole one in `output_dir` for "last"."""
    if wanted == "last":
        checkpoint = last_checkpoint(output_dir)
        if checkpoint is None:
            raise ValueError(
                f"There is no checkpoint to resume from in {output_dir}: start anew (--overwrite_output_dir, if there "
                "is anything)."
            )
        return checkpoint
    problem = problem_of(Path(wanted))
    if problem is not None:
        raise ValueError(
            f"{wanted} is no checkpoint to resume from ({problem}): pass a whole checkpoint-<step> folder, or last."
        )
    return Path(wanted)
