"""What is meant by a flag that does not exist, and messages of libraries in the words of flags."""

from __future__ import annotations

import difflib
import re
from argparse import SUPPRESS, Action
from collections.abc import Collection, Iterable, Sequence

# what other programs call it -> what it may be called here, best first
OTHER_NAMES = {
    "accumulate": ("gradient_accumulation_steps",),
    "amp": ("bf16", "fp16", "dtype"),
    "arch": ("backbone", "architecture"),
    "batch": ("batch_size", "per_device_train_batch_size"),
    "batch_size": ("per_device_train_batch_size", "total_batch_size"),
    "bs": ("batch_size", "per_device_train_batch_size"),
    "checkpoint": ("model", "resume_from_checkpoint"),
    "ckpt": ("model", "resume_from_checkpoint"),
    "classes": ("id2label",),
    "clip_grad": ("max_grad_norm",),
    "conf": ("threshold", "panoptic_threshold"),
    "data": ("dataset",),
    "data_dir": ("dataset",),
    "data_root": ("dataset",),
    "device": ("use_cpu",),
    "encoder": ("backbone",),
    "grad_clip": ("max_grad_norm",),
    "half": ("bf16", "fp16", "dtype"),
    "image_size": ("crop_size", "shortest_edge"),
    "images": ("inputs", "dataset"),
    "img_size": ("crop_size", "shortest_edge"),
    "imgsz": ("crop_size", "shortest_edge"),
    "input": ("inputs", "dataset"),
    "iterations": ("max_steps",),
    "iters": ("max_steps",),
    "labels": ("id2label",),
    "lr": ("learning_rate",),
    "max_epochs": ("num_train_epochs",),
    "max_iters": ("max_steps",),
    "model_name": ("model", "backbone"),
    "model_name_or_path": ("model",),
    "momentum": ("optim",),
    "n_epochs": ("num_train_epochs",),
    "names": ("id2label",),
    "num_classes": ("id2label",),
    "num_iters": ("max_steps",),
    "optimizer": ("optim",),
    "out": ("output_dir", "output_file"),
    "pretrained": ("model", "backbone_weights"),
    "resolution": ("crop_size", "shortest_edge"),
    "resume": ("resume_from_checkpoint",),
    "save_dir": ("output_dir",),
    "scheduler": ("lr_scheduler_type",),
    "size": ("crop_size", "shortest_edge"),
    "source": ("inputs", "dataset"),
    "split": ("validation_split", "train_split"),
    "tensorboard": ("report_to",),
    "wandb": ("report_to",),
    "wd": ("weight_decay",),
    "weights": ("model", "backbone_weights"),
}


def names_of(actions: Iterable[Action]) -> list[str]:
    """The flags of a parser's actions, without dashes."""
    return [option[2:] for action in actions for option in action.option_strings if "-" not in option[2:]]


def unknown_flag(flag: str, actions: Iterable[Action]) -> str:
    """A sentence about a flag that a parser of these actions does not have; flags that its help hides stay hidden."""
    close = suggested_flags(flag.removeprefix("--"), names_of(a for a in actions if a.help is not SUPPRESS))
    hint = f"Did you mean {' or '.join(f'--{name}' for name in close)}?" if close else "See --help."
    return f"There is no argument {flag}. {hint}"


def suggested_flags(typed: str, known: Sequence[str]) -> list[str]:
    """Up to three of the names `known` that may be meant by `typed`, which is none of them; best first."""
    name = typed.lower().replace("-", "_")
    usual = [flag for flag in OTHER_NAMES.get(name, ()) if flag in known]
    if usual:
        return usual
    words = set(name.split("_"))
    containing = [flag for flag in known if words <= set(flag.split("_"))]
    return (containing or difflib.get_close_matches(name, known, n=3))[:3]


def in_words_of_flags(message: str, flags: Collection[str]) -> str:
    """The message with names of arguments as the flags they are, and values of enumerations as they are typed.

    `lr_milestones need lr_scheduler_type=constant` becomes `--lr_milestones need --lr_scheduler_type constant`. Words
    of English that are flags too, parts of paths and what is quoted stay.
    """
    names = "|".join(sorted((re.escape(flag) for flag in flags if re.search(r"[_\d]", flag)), key=len, reverse=True))
    if names:
        message = re.sub(
            rf"(?<![\w\-./\\'\"])`?({names})`?(?:(=)(?=\w)|(?![\w/\\'\"]|\.\w))",
            lambda match: f"--{match[1]}{' ' if match[2] else ''}",
            message,
        )
    message = re.sub(r'(--\w+)="(\w+)"', r"\1 \2", message)
    return re.sub(r"\b[A-Z]\w*(?:Strategy|Type|Names)\.([A-Z_]+)\b", lambda match: match[1].lower(), message)
