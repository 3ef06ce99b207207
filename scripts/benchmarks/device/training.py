"""What a training step costs on a GPU, beside transformers' MaskFormer and beside the model without any loss."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import transformers

from ..training_programs import (
    ALONE,
    COMPILED_ALONE,
    COMPILED_POINTS,
    DENSE,
    NUM_LABELS,
    POINTS,
    TRANSFORMERS,
    Batch,
    Setting,
    Trainee,
    build_ours,
    build_theirs,
    make_batch,
    program,
)
from .rivals import RIVALS, build_rival
from .rows import DeviceArguments, Program, Rows

INSTEAD = "instead"
ROWS = ("alone", POINTS, DENSE, TRANSFORMERS, INSTEAD)


@dataclass
class DeviceTrainingArguments(DeviceArguments):
    _argument_group_name = "training benchmark on a device"

    only: list[str] = field(
        default_factory=list, metadata={"help": f"Rows to measure, of {', '.join(ROWS)}. None: all."}
    )
    backbone: Literal["Swin-T", "ResNet-50", "tf_efficientnet_lite0"] = field(
        default="Swin-T", metadata={"help": "Backbone of both MaskFormers, with random weights."}
    )
    image_size: int = field(default=512, metadata={"help": "Height and width of the images."})
    batch_size: int = field(default=16, metadata={"help": "Images a step."})
    segments: list[int] = field(
        default_factory=lambda: [5, 20, 60, 200], metadata={"help": "Numbers of segments an image."}
    )
    instead_size: int = field(
        default=640, metadata={"help": "Height and width of the images on which other models are measured."}
    )
    instead_segments: int = field(default=20, metadata={"help": "Segments of these."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_only(ROWS)
        if self.quick:
            self.segments, self.image_size, self.batch_size, self.num_queries = [2, 5], 64, 2, 10
            self.instead_size, self.instead_segments, self.rounds = 64, 3, 1
        if not self.segments or min(self.segments) < 1:
            raise ValueError(f"--segments must be numbers from 1, got {self.segments}.")

    def setting(self) -> Setting:
        sizes = (self.image_size, self.batch_size, self.num_queries)
        return Setting(*sizes, tiny=self.quick, backbone=self.backbone, device=self.device, precision=self.dtype)


def run(arguments: DeviceTrainingArguments) -> dict[str, Any]:
    """All rows; each is printed once it is measured, and the report is written as JSON."""
    transformers.utils.logging.disable_progress_bar()
    rows, setting = Rows("training", arguments), arguments.setting()
    ours = build_ours(setting)
    trainees = {TRANSFORMERS: build_theirs(ours, setting)}
    names = [name for row, name in (("alone", ALONE), (POINTS, POINTS), (DENSE, DENSE)) if arguments.wants(row)]
    if arguments.compile:
        names += [name for row, name in (("alone", COMPILED_ALONE), (POINTS, COMPILED_POINTS)) if arguments.wants(row)]
    names += [TRANSFORMERS] if arguments.wants(TRANSFORMERS) else []
    for num_segments in arguments.segments if names else ():
        _measure(rows, setting, num_segments, {name: trainees.get(name, ours) for name in names})
    if arguments.wants(INSTEAD):
        setting = replace(setting, image_size=arguments.instead_size)
        sizes = (setting.image_size, setting.num_queries, NUM_LABELS, setting.tiny)
        trainees |= {name: Trainee(build_rival(name, *sizes), setting) for name in RIVALS}
        _measure(rows, setting, arguments.instead_segments, {POINTS: ours, **trainees})
    return rows.report


def _measure(rows: Rows, setting: Setting, num_segments: int, trainees: dict[str, Trainee]) -> None:
    batch, size = make_batch(setting, num_segments), setting.image_size
    rows.measure(
        f"step, {setting.batch_size} x {size}x{size}, {num_segments} segments",
        {name: partial(_prepare, name, trainee, batch) for name, trainee in trainees.items()},
        images=setting.batch_size,
        baseline=ALONE,
        rival=TRANSFORMERS,
        resident={name: partial(_resident_bytes, name, trainee, batch) for name, trainee in trainees.items()},
    )


def _prepare(name: str, trainee: Trainee, batch: Batch) -> Program:
    """The program, whose gradients are gone before it is measured: they count as memory of the step."""
    step = program(name, trainee, batch)

    def run_without_old_gradients() -> dict[str, float]:
        try:
            return step()
        finally:
            trainee.optimizer.zero_grad()

    return run_without_old_gradients


def _resident_bytes(name: str, trainee: Trainee, batch: Batch) -> int:
    """Bytes of weights, optimizer and batch, which lie on the device all the time."""
    if name in (ALONE, COMPILED_ALONE):
        target_bytes = 0
    elif name in (POINTS, COMPILED_POINTS, DENSE):
        target_bytes = batch.segment_ids.nbytes
    else:
        target_bytes = batch.mask_label_bytes()
    return trainee.resident_bytes() + batch.pixel_values.nbytes + target_bytes
