"""Which training images a run has set aside to be measured on, kept beside the model: evaluation takes the same."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

HELD_OUT_NAME = "held_out.json"


@dataclass(frozen=True)
class HeldOut:
    """How a dataset without a validation split was parted; see `SegmentationData.train_and_validation`."""

    train_split: str | None
    validation_fraction: float
    seed: int

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / HELD_OUT_NAME).write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")


def held_out_of(model: str) -> HeldOut | None:
    """What the run behind a model's folder, or one of its checkpoints, has set aside; None where that is not known."""
    for folder in (Path(model), Path(model).parent):
        if (folder / HELD_OUT_NAME).is_file():
            return HeldOut(**json.loads((folder / HELD_OUT_NAME).read_text(encoding="utf-8")))
    return None
