"""What inference costs on a GPU, beside transformers' MaskFormer: forward, post-processing, pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from modeling_maskformer.targets import TASKS

from ..backbones import BACKBONES, MINIATURE
from ..inference_programs import (
    OURS,
    TRANSFORMERS,
    build_models,
    build_pipelines,
    largest_difference,
    make_outputs,
    post_processing_program,
)
from ..taught_model import draw_segments, teach
from .measuring import autocast, timed
from .rivals import RIVALS, build_rival
from .rows import DeviceArguments, Program, Rows

FORWARD, INSTEAD, PIPELINE = "forward", "instead", "pipeline"
ROWS = (FORWARD, INSTEAD, *TASKS, PIPELINE)
COMPILED = "this package, compiled"


@dataclass
class DeviceInferenceArguments(DeviceArguments):
    _argument_group_name = "inference benchmark on a device"

    only: list[str] = field(
        default_factory=list, metadata={"help": f"Rows to measure, of {', '.join(ROWS)}. None: all."}
    )
    image_size: int = field(default=640, metadata={"help": "Height and width of the images of the forward."})
    batch_sizes: list[int] = field(default_factory=lambda: [1, 16], metadata={"help": "Images of a forward."})
    result_sizes: list[str] = field(
        default_factory=lambda: ["640x640", "800x1280"], metadata={"help": "Height and width of results."}
    )
    result_batch_sizes: list[int] = field(default_factory=lambda: [1, 8], metadata={"help": "Images of results."})
    picture_size: int = field(
        default=640, metadata={"help": "Width of the pipeline's picture, whose height is three quarters of it."}
    )
    num_classes: int = field(default=150, metadata={"help": "Classes of the models."})
    num_live: int = field(default=30, metadata={"help": "Queries that see a segment; the others are no object."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_only(ROWS)
        if self.quick:
            self.image_size, self.batch_sizes, self.picture_size, self.rounds = 64, [1, 2], 64, 1
            self.result_sizes, self.result_batch_sizes = ["64x64", "48x96"], [1, 2]
            self.num_queries, self.num_classes, self.num_live = 10, 5, 3
        if not 2 <= self.num_live <= self.num_queries:
            raise ValueError(f"num_live must be from 2 to num_queries ({self.num_queries}), got {self.num_live}.")
        self.sizes()

    def sizes(self) -> list[tuple[int, int]]:
        """Height and width of the results."""
        sizes = []
        for text in self.result_sizes:
            height, _, width = text.partition("x")
            if not (height.isdecimal() and width.isdecimal()):
                raise ValueError(f"--result_sizes must be heights and widths as 640x640, got {text}.")
            sizes.append((int(height), int(width)))
        return sizes

    def backbones(self) -> dict[str, dict]:
        """The backbones by name; the first one is that of all that is measured with one only."""
        names = ("Swin-T", "ResNet-50")
        return {"tiny": MINIATURE} if self.quick else {name: BACKBONES[name] for name in names}


def run(arguments: DeviceInferenceArguments) -> dict[str, Any]:
    """All rows; each is printed once it is measured, and the report is written as JSON."""
    transformers.utils.logging.disable_progress_bar()
    rows = Rows("inference", arguments)
    for position, name in enumerate(arguments.backbones()):
        measure_forward(rows, arguments, name, arguments.wants(FORWARD), position == 0 and arguments.wants(INSTEAD))
    for task in TASKS:
        if arguments.wants(task):
            measure_post_processing(rows, arguments, task)
    if arguments.wants(PIPELINE):
        measure_pipeline(rows, arguments)
    return rows.report


def measure_forward(
    rows: Rows, arguments: DeviceInferenceArguments, backbone: str, with_ours: bool, with_others: bool
) -> None:
    """The forward of both MaskFormers with this backbone, and of other models beside them."""
    if not (with_ours or with_others):
        return
    size, sizes = arguments.image_size, (arguments.num_queries, arguments.num_classes)
    device, context = rows.meter.device, partial(autocast, rows.meter.device, arguments.dtype)
    models: dict[str, nn.Module] = {
        name: model.to(device) for name, model in build_models(arguments.backbones()[backbone], *sizes).items()
    }
    if with_others:
        models |= {name: build_rival(name, size, *sizes, arguments.quick).to(device).eval() for name in RIVALS}
    for number in arguments.batch_sizes:
        pixels = torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        programs = {
            name: partial(timed, rows.meter, partial(_forward, model, context, pixels))
            for name, model in models.items()
        }
        if arguments.compile and with_ours:
            programs[COMPILED] = partial(_compiled_program, rows, models[OURS], context, pixels)
        rows.measure(
            f"forward, {backbone}, {number} x {size}x{size}",
            programs,
            images=number,
            rival=TRANSFORMERS,
            notes={OURS: partial(_tell_difference, models, context, pixels)},
        )
        torch.compiler.reset()  # else the next batch would be compiled for any number of images


def _forward(model: nn.Module, context: Callable[[], Any], pixels: Tensor) -> None:
    with context():
        model(pixels)


def _tell_difference(models: dict[str, nn.Module], context: Callable[[], Any], pixels: Tensor) -> str:
    with context():
        return f"largest difference of a logit {largest_difference(models, pixels):.1e}"


def _compiled_program(rows: Rows, model: nn.Module, context: Callable[[], Any], pixels: Tensor) -> Program:
    """The compiled forward: for a single image one CUDA graph, since what takes its time there are the launches."""
    mode = "reduce-overhead" if len(pixels) == 1 else "default"
    compiled = torch.compile(model, mode=mode, dynamic=False)

    def forward() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        _forward(compiled, context, pixels)

    return timed(rows.meter, forward)


def measure_post_processing(rows: Rows, arguments: DeviceInferenceArguments, task: str) -> None:
    """The post-processing of both, of float32 logits as those of a trained model."""
    scene = (arguments.num_queries, arguments.num_classes, arguments.num_live)
    for size in arguments.sizes():
        for number in arguments.result_batch_sizes:
            outputs = _outputs_of_batch(number, size, scene, rows.meter.device)
            rows.measure(
                f"{task}, {number} x {size[0]}x{size[1]}",
                {
                    name: partial(post_processing_program, rows.meter, name, task, outputs, size)
                    for name in (OURS, TRANSFORMERS)
                },
                images=number,
                rival=TRANSFORMERS,
            )


def _outputs_of_batch(
    number: int, size: tuple[int, int], scene: tuple[int, int, int], device: torch.device
) -> SimpleNamespace:
    """Outputs of so many images, each with segments of its own."""
    images = [make_outputs(size, *scene, seed=seed) for seed in range(number)]
    names = ("class_queries_logits", "masks_queries_logits")
    return SimpleNamespace(
        **{name: torch.cat([getattr(image, name) for image in images]).to(device) for name in names}
    )


def measure_pipeline(rows: Rows, arguments: DeviceInferenceArguments) -> None:
    """The whole image-segmentation pipeline, panoptic, on a picture in which it finds `num_live` segments or so."""
    name, backbone = next(iter(arguments.backbones().items()))
    width, height = arguments.picture_size, arguments.picture_size * 3 // 4
    picture, regions = draw_segments(width, height, arguments.num_live)
    sizes = (arguments.num_queries, arguments.num_classes)
    models = build_models(backbone, *sizes, lambda model: teach(model, picture, regions))
    context = partial(autocast, rows.meter.device, arguments.dtype)
    programs, notes = {}, {}
    for library, pipeline in build_pipelines(models, arguments.device).items():
        run_pipeline = partial(_run_pipeline, pipeline, context, picture)
        programs[library] = partial(timed, rows.meter, run_pipeline)
        notes[library] = partial(_tell_number_of_segments, run_pipeline)
    rows.measure(
        f"panoptic pipeline, {name}, a {width}x{height} picture", programs, images=1, rival=TRANSFORMERS, notes=notes
    )


def _run_pipeline(pipeline: Any, context: Callable[[], Any], picture: Any) -> list[dict[str, Any]]:
    with context():
        return pipeline(picture)


def _tell_number_of_segments(run_pipeline: Callable[[], list[dict[str, Any]]]) -> str:
    return f"{len(run_pipeline())} segments found"
