"""Whether a checkpoint is of the model that is to go on from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils import CONFIG_NAME

from ...inference.loading import load_config
from ..arguments.model_arguments import LOSS_WEIGHTS, MASK_LOSS

# what says nothing of the weights or follows from other fields, and what may be changed while a model is trained
_NOT_COMPARED = {"_name_or_path", "architectures", "category_ids", "dtype", "label2id", "transformers_version"}
_NOT_COMPARED |= {*MASK_LOSS, *LOSS_WEIGHTS, "dropout", "drop_path_rate"}
MAX_NAMED = 3


def check_same_model(config: PreTrainedConfig, checkpoint: Path) -> None:
    """Refuses to go on from the checkpoint of another model, whose weights or optimizer would not fit, or mean others.

    Args:
        config: of the model to be trained.
        checkpoint: a folder; one without a configuration says nothing.

    Raises:
        ValueError: up to three fields that differ, and what they are in each.
    """
    if not (checkpoint / CONFIG_NAME).is_file():
        return
    saved = load_config(checkpoint)
    wanted, found = (dict(_fields(json.loads(each.to_json_string(use_diff=False)))) for each in (config, saved))
    names = ["model_type"] if wanted["model_type"] != found["model_type"] else sorted({**wanted, **found})
    differing = [name for name in names if wanted.get(name) != found.get(name)]
    if differing:
        shown = [
            f"{name.rpartition('.')[2]} is {_shown(found.get(name))} there and {_shown(wanted.get(name))} here"
            for name in differing[:MAX_NAMED]
        ]
        raise ValueError(
            f"{checkpoint} is of another model: {', '.join(shown)}. A run goes on with the data and the flags of the "
            "model that it began with; --model fine-tunes a checkpoint in a run of its own."
        )


def _fields(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each field by its name, those of configurations within as `backbone_config.depths`."""
    for name, value in values.items():
        if name in _NOT_COMPARED:
            continue
        if isinstance(value, Mapping) and name.endswith("_config"):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
