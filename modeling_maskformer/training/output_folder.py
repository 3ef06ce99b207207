"""The folder of a run: what an earlier run has left there, and which checkpoint to go on from."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import CONFIG_NAME, SAFE_WEIGHTS_NAME

from .arguments.run_arguments import RunArguments
from .cards.card_text import CARD_NAME, is_signed


def prepare_output_dir(arguments: RunArguments) -> None:
    """Settles what `output_dir` and `resume_from_checkpoint` mean for this run.

    Raises:
        ValueError: the folder holds another run, or there is no checkpoint to resume from.
    """
    folder = Path(arguments.output_dir)
    found = traces_of_a_run(folder)
    if arguments.resume_from_checkpoint is not None:
        arguments.resume_from_checkpoint = str(find_checkpoint(arguments.resume_from_checkpoint, folder))
        return
    if not found:
        return
    if not arguments.overwrite_output_dir:
        raise ValueError(
            f"{folder} holds another run ({', '.join(path.name for path in found)}): choose another --output_dir, "
            "go on with it (--resume_from_checkpoint last) or replace it (--overwrite_output_dir)."
        )
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def traces_of_a_run(folder: Path) -> list[Path]:
    """Checkpoints, model, results and card that an earlier run has left in `folder`, sorted by name.

    A card that somebody has written or edited is none of them.
    """
    results = ("train_results.json", "eval_results.json", "all_results.json", "trainer_state.json")
    files = [folder / name for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, *results)]
    if is_signed(folder / CARD_NAME):
        files.append(folder / CARD_NAME)
    return sorted([path for path in files if path.exists()] + checkpoints_in(folder))


def checkpoints_in(folder: Path) -> list[Path]:
    """The `checkpoint-<step>` folders in `folder`, by rising step."""
    prefix = f"{PREFIX_CHECKPOINT_DIR}-"
    numbered = [path for path in folder.glob(f"{prefix}*") if path.name.removeprefix(prefix).isdigit()]
    return sorted(numbered, key=lambda path: int(path.name.removeprefix(prefix)))


def find_checkpoint(wanted: str, output_dir: Path) -> Path:
    """The checkpoint folder to resume from: the path `wanted`, or the newest in `output_dir` for "last"."""
    if wanted == "last":
        checkpoints = checkpoints_in(output_dir)
        if not checkpoints:
            raise ValueError(f"There is no checkpoint to resume from in {output_dir}.")
        return checkpoints[-1]
    if not (Path(wanted) / "trainer_state.json").is_file():
        raise ValueError(
            f"{wanted} is no checkpoint to resume from (it has no trainer_state.json): "
            "pass a checkpoint-<step> folder, or last."
        )
    return Path(wanted)
