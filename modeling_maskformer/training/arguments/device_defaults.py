"""What a run does by default on the device that it finds: precision, batch, backbone, processes for images."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
from transformers.utils import is_torch_tf32_available

MAX_WORKERS = 12  # of one training process; each prepares some 50 to 100 images a second at 512 x 512


@dataclass(frozen=True)
class Machine:
    """What the defaults follow from.

    Attributes:
        has_gpu: a CUDA device will be used.
        has_bf16, has_tf32: it computes with these.
        cores: CPU cores that this process may use.
        processes: training processes on this machine.
    """

    has_gpu: bool
    has_bf16: bool = False
    has_tf32: bool = False
    cores: int = 1
    processes: int = 1


def this_machine(use_cpu: bool) -> Machine:
    """The machine that this process runs on."""
    has_gpu = torch.cuda.is_available() and not use_cpu
    affinity = getattr(os, "sched_getaffinity", None)
    return Machine(
        has_gpu=has_gpu,
        has_bf16=has_gpu and torch.cuda.is_bf16_supported(including_emulation=False),
        has_tf32=has_gpu and is_torch_tf32_available(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        processes=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
    )


def default_num_workers(machine: Machine) -> int:
    """Worker processes beside one training process: on a GPU one a core but one, shared by the processes there.

    On a CPU none: they would take the cores that compute.
    """
    if not machine.has_gpu:
        return 0
    return max(1, min(MAX_WORKERS, machine.cores // machine.processes - 1))


def default_batch_size(machine: Machine) -> int:
    """Training images per device and step: 4, or 8 on a GPU with bfloat16.

    Eight images of 512x512 take some 6 GB there with Swin-T, and no such GPU has less.
    """
    return 8 if machine.has_bf16 else 4


def default_backbone(machine: Machine) -> tuple[str, str]:
    """The timm model to build on, and the reason in words."""
    if machine.has_gpu:
        return "resnet50", "the paper's, and fast on a GPU"
    return "tf_efficientnet_lite0", "small enough to train on a CPU"
