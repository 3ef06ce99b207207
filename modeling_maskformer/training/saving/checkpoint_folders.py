"""The checkpoints of a run on disk: whole or not there, so that a killed run goes on from the last whole one.

A checkpoint is written into a folder of another name, which becomes `checkpoint-<step>` in one step when everything is
on disk; one that is no longer wanted loses its name before its files. So whatever is called `checkpoint-<step>` is
whole, unless another program wrote it or the disk lost something: that is looked at too.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

from transformers.trainer import OPTIMIZER_NAME, OPTIMIZER_NAME_BIN, SCHEDULER_NAME, TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging

from .weight_average import IN_TRAINING_NAME

logger = logging.get_logger(__name__)

UNFINISHED = "unfinished"  # folders of this name hold what is being written or removed


def checkpoints_in(folder: Path) -> list[Path]:
    """The `checkpoint-<step>` folders in `folder`, by rising step."""
    return sorted((path for path in folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if _step_of(path) >= 0), key=_step_of)


def _step_of(checkpoint: Path) -> int:
    step = checkpoint.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
    return int(step) if step.isdecimal() else -1


def unfinished_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step is written, or removed."""
    return folder / f"{UNFINISHED}-{step}"


def finish_checkpoint(written: Path, checkpoint: Path) -> None:
    """Makes a written folder the checkpoint, in one step, once all of it is on disk."""
    for path in [*written.rglob("*"), written]:
        _flush(path)
    if checkpoint.exists():  # as when a run is resumed from an earlier one and comes by again
        remove_checkpoint(checkpoint)
    os.rename(written, checkpoint)
    _flush(checkpoint.parent)


def remove_checkpoint(checkpoint: Path) -> None:
    """Removes a checkpoint. Killed in between, no part of it is left under its name."""
    doomed = unfinished_folder(checkpoint.parent, _step_of(checkpoint)) / "removed"
    doomed.parent.mkdir(exist_ok=True)
    shutil.rmtree(doomed, ignore_errors=True)
    os.rename(checkpoint, doomed)
    shutil.rmtree(doomed)
    if not any(doomed.parent.iterdir()):  # else the checkpoint of that step is being written once more
        doomed.parent.rmdir()


def remove_old_checkpoints(folder: Path, limit: int | None, best: str | None) -> None:
    """Removes the oldest checkpoints beyond `limit`; the newest and the best one stay. None or 0: all stay."""
    checkpoints = checkpoints_in(folder)
    if not limit or limit < 0:
        return
    kept = {checkpoints[-1].name} | ({Path(best).name} if best else set())
    removable = [path for path in checkpoints if path.name not in kept]
    excess = max(0, len(checkpoints) - limit)
    for checkpoint in removable[:excess]:
        remove_checkpoint(checkpoint)


def remove_unfinished(folder: Path) -> None:
    """Removes what a killed run was writing or removing."""
    for path in folder.glob(f"{UNFINISHED}-*"):
        if path.is_dir() and path.name.removeprefix(f"{UNFINISHED}-").isdecimal():
            logger.warning(f"{path} is what a run that was ended was writing or removing: it is removed.")
            shutil.rmtree(path)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint; None if there is none. Others are named in a warning."""
    for checkpoint in reversed(checkpoints_in(folder)):
        problem = problem_of(checkpoint)
        if problem is None:
            return checkpoint
        logger.warning(f"{checkpoint} is not whole ({problem}): it is skipped.")
    return None


def problem_of(checkpoint: Path) -> str | None:
    """What is missing or cut off in a checkpoint that a run is to go on from; None if it is whole."""
    try:
        json.loads((checkpoint / TRAINER_STATE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"no {TRAINER_STATE_NAME} that can be read"
    if (checkpoint / SAFE_WEIGHTS_INDEX_NAME).is_file():
        index = json.loads((checkpoint / SAFE_WEIGHTS_INDEX_NAME).read_text(encoding="utf-8"))
        missing = [name for name in set(index["weight_map"].values()) if not (checkpoint / name).is_file()]
        if missing:
            return f"no {min(missing)}"
    elif {path.name for path in checkpoint.glob("*.safetensors")} <= {IN_TRAINING_NAME} and not any(
        path.is_dir() for path in checkpoint.iterdir()
    ):
        return f"no {SAFE_WEIGHTS_NAME}"  # several processes may write folders of shards instead
    names = {path.name for path in checkpoint.iterdir()}
    if not any(path.is_dir() for path in checkpoint.iterdir()):  # several processes may write folders of optimizers
        for written in ({OPTIMIZER_NAME, OPTIMIZER_NAME_BIN}, {SCHEDULER_NAME}):
            if not written & names:
                return f"no {max(written)}, without which a run starts anew, as save_only_model leaves it"
    for path in sorted(checkpoint.glob("*.safetensors")):
        if not _is_whole_safetensors(path):
            return f"{path.name} is cut off"
    for path in sorted(checkpoint.glob("*.pt")) + sorted(checkpoint.glob("*.pth")):
        if not zipfile.is_zipfile(path):  # the directory of torch's files comes last
            return f"{path.name} is cut off"
    return None


def _is_whole_safetensors(path: Path) -> bool:
    """Whether the file is as long as its header says."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if 8 + length > path.stat().st_size:
            return False
        header = json.loads(file.read(length))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return path.stat().st_size == 8 + length + max(ends, default=0)


def _flush(path: Path) -> None:
    """Waits until a file's content, or a folder's list of names, is on disk."""
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
