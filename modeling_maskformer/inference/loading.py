"""Saved checkpoints -> model and image processor, with errors that say what is missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.trainer_utils import get_last_checkpoint
from transformers.utils import CONFIG_NAME, IMAGE_PROCESSOR_NAME

from image_processing.image_processing_maskformer import SegmentationImageProcessor

from ..architectures import ARCHITECTURES, architecture_of
from ..configuration_per_pixel import PerPixelBaselineConfig
from ..files.error_text import first_line
from ..files.hub_names import hub_hint, is_hub_name


def load_config(checkpoint: str | os.PathLike) -> PreTrainedConfig:
    """The configuration of a folder or Hub name, of one of the `ARCHITECTURES`.

    Raises:
        ValueError: what is there is no checkpoint of these; says what was found and expected.
    """
    check_folder(checkpoint, CONFIG_NAME, "the model's configuration")
    config = _from_hub_or_folder(AutoConfig, checkpoint)
    if architecture_of(config) is None:
        expected = ", ".join(repr(entry.config_class.model_type) for entry in ARCHITECTURES.values())
        raise ValueError(f"{checkpoint} holds a model of type {config.model_type!r}, expected one of {expected}.")
    return config


def load_model(checkpoint: str | os.PathLike, trust_remote_code: bool = False, **settings: Any) -> PreTrainedModel:
    """The model of a folder or Hub name, of this package or of transformers' MaskFormer, or of an exported folder.

    Its weights are float32, also where they were saved in half precision: training changes them by less than half
    precision can hold.

    Args:
        checkpoint: folder or name.
        trust_remote_code: open an exported folder of format torch, which holds pickled code; nothing else needs it.
        settings: what `from_pretrained` takes: fields of the config to change, `ignore_mismatched_sizes`, another
            `dtype`. An exported folder takes none.

    Raises:
        ValueError: what is there is no MaskFormer or per-pixel baseline; says what was found and expected.
    """
    model_class = architecture_of(load_config(checkpoint)).model_class
    settings = {"dtype": torch.float32, "trust_remote_code": trust_remote_code} | settings
    return _from_hub_or_folder(model_class, checkpoint, **settings)


def load_image_processor(checkpoint: str | os.PathLike) -> SegmentationImageProcessor:
    """The image processor saved with a checkpoint.

    Raises:
        ValueError: there is none.
    """
    check_folder(checkpoint, IMAGE_PROCESSOR_NAME, "the image processor")
    processor_class = architecture_of(load_config(checkpoint)).image_processor_class
    return _from_hub_or_folder(processor_class, checkpoint)


def task_of(config: PreTrainedConfig) -> str | None:
    """The task a checkpoint was trained for, None where it does not say (as those of transformers)."""
    return "semantic" if isinstance(config, PerPixelBaselineConfig) else getattr(config, "segmentation_task", None)


def category_ids_of(config: PreTrainedConfig) -> dict[int, int]:
    """Class id -> id of the class in the annotations that the checkpoint was trained on, or the class id itself."""
    ids = getattr(config, "category_ids", None) or ()
    if len(ids) != config.num_labels:
        ids = range(config.num_labels)
    return dict(zip(sorted(config.id2label), ids, strict=True))


def choose_task(config: PreTrainedConfig, task: str | None) -> str:
    """The task asked for, else the one that a checkpoint of this config was trained for.

    Raises:
        ValueError: neither is known, or such a model cannot do it.
    """
    task = task or task_of(config)
    if task is None:
        raise ValueError("The checkpoint does not say what it was trained for: pass the task (--task).")
    check_task(type(config), task)
    return task


def check_task(config_class: type[PreTrainedConfig], task: str) -> None:
    """Raises a ValueError if models of this config cannot do the task: per-pixel baselines know no objects."""
    if issubclass(config_class, PerPixelBaselineConfig) and task != "semantic":
        raise ValueError(
            "A per-pixel baseline gives each pixel a class and tells no object from another: "
            f"the task (--task) must be semantic, got {task}."
        )


def check_folder(checkpoint: str | os.PathLike, file_name: str, holds: str) -> None:
    """Raises a ValueError if `checkpoint` is a folder without `file_name`, or a path that does not exist."""
    folder = Path(checkpoint)
    if (folder / file_name).is_file():
        return
    if folder.is_dir():
        newest = get_last_checkpoint(str(folder))
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:8]) or "nothing"
        hint = f" Did you mean {newest}?" if newest else ""
        raise ValueError(f"The checkpoint {folder} has no {file_name} ({holds}); it holds {found}.{hint}")
    if not is_hub_name(checkpoint):
        raise ValueError(f"There is no checkpoint folder {folder}.")


def _from_hub_or_folder(loader: type, checkpoint: str | os.PathLike, **settings: Any) -> Any:
    try:
        return loader.from_pretrained(checkpoint, **settings)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason, hint = first_line(error), hub_hint(checkpoint)
        raise ValueError(f"The checkpoint {checkpoint} cannot be loaded: {reason}.{hint}") from error
