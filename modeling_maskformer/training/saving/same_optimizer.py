"""Whether a checkpoint's optimizer is the one that is to go on from it: its settings come back with its state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import OPTIMIZER_NAME

# what a user sets; others, such as `fused`, follow from the device and the version of torch
_SETTINGS = ("weight_decay", "betas", "eps", "momentum", "nesterov", "alpha")


def check_same_optimizer(optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Refuses to go on with other settings of the optimizer, which would not be taken, or not fit its state.

    Args:
        optimizer: as the arguments of the run have it, before its first step.
        checkpoint: a folder; one whose optimizer is in several files, as of FSDP, is not looked at.

    Raises:
        ValueError: a setting that differs, and what it is in each.
    """
    if not (checkpoint / OPTIMIZER_NAME).is_file():
        return
    saved = torch.load(checkpoint / OPTIMIZER_NAME, map_location="cpu", weights_only=True, mmap=True)
    groups = [{"initial_lr": group["lr"], **group} for group in optimizer.param_groups]
    wanted, found = _settings(groups), _settings(saved["param_groups"])
    differing = []
    if set().union(*wanted.values()) - {"learning_rate"} != set().union(*found.values()) - {"learning_rate"}:
        differing.append("it is of another kind (optim)")
    elif wanted.keys() != found.keys():  # without norms and embeddings of their own, which are not decayed
        differing.append("decay_norms_and_embeddings is another there")
    else:
        differing += [
            f"{name} of the weights '{group}' is {found[group][name]} there and {value} here"
            for group in sorted(wanted, reverse=True)  # the head's learning rate is the one that is passed
            for name, value in wanted[group].items()
            if value != found[group].get(name, value)
        ]
    if differing:
        raise ValueError(
            f"{checkpoint} is of another optimizer: {differing[0]}. A run goes on with the optimizer and the "
            "learning rate that it began with; --model starts a run of its own from a checkpoint."
        )


def _settings(groups: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """What a user sets of each group of weights, by its name; no learning rate where it follows the metric."""
    settings = {}
    for group in groups:
        values = {name: group[name] for name in _SETTINGS if name in group}
        rate = {"learning_rate": group["initial_lr"]} if "initial_lr" in group else {}
        settings[group.get("name", "")] = rate | values
    return settings
