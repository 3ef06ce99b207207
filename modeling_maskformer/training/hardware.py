"""On what, with what and how long a run was made, in words."""

from __future__ import annotations

import os
import platform
from importlib import metadata

import torch

LIBRARIES = ("torch", "torchvision", "transformers", "timm", "datasets", "modeling-maskformer")


def hardware(device: torch.device, num_processes: int = 1) -> str:
    """The devices of a run in words, such as "2 x NVIDIA A100" or "CPU (x86_64, 8 cores)"."""
    if device.type == "cuda":
        kind = torch.cuda.get_device_name(device)
    elif device.type == "cpu":
        kind = f"CPU ({platform.machine()}, {os.cpu_count()} cores)"
    else:
        kind = device.type.upper()
    return f"{num_processes} x {kind}" if num_processes > 1 else kind


def versions() -> dict[str, str]:
    """Python's version and those of the libraries that a result depends on."""
    found = {"Python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = "(not installed: run from its folder)"
    return found


def duration(seconds: float) -> str:
    """The time in the unit that suits it, such as "47.0 minutes"."""
    if seconds < 60:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.1f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
