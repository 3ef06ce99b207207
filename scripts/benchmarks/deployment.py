"""What exported graphs gain on a CPU, beside transformers' eager float32 forward with the same weights.

Each backbone is exported for images of --image_size with random weights, and quantized on random pixels: that says
what a precision takes in time. What it costs in quality says `maskformer evaluate` of an exported checkpoint. The
whole pipeline is measured with a trained --checkpoint on --pictures: only such a model finds its segments in int8 too.
"""

from __future__ import annotations

import copy
import gc
import json
import tempfile
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from tqdm.auto import tqdm
from transformers.models.maskformer.image_processing_maskformer import MaskFormerImageProcessor as TheirProcessor

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.exporting import ExportSettings, export_model
from modeling_maskformer.inference.inputs import find_pictures
from modeling_maskformer.inference.loading import load_model

from .backbones import BACKBONES, MINIATURE
from .device.measuring import Meter, timed
from .inference_programs import OURS, TRANSFORMERS, build_models
from .measuring import machine, summary, time_in_turn

PROGRAMS = {
    "ONNX Runtime, f32": {"format": "onnx"},
    "ONNX Runtime, int8": {"format": "onnx", "int8": True},
    "OpenVINO, f32": {"format": "openvino"},
    "OpenVINO, bf16": {"format": "openvino", "dtype": "bf16"},
    "OpenVINO, int8 and bf16": {"format": "openvino", "dtype": "bf16", "int8": True},
}
CALIBRATION_IMAGES = 4
CPU_FLAGS = ("avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")


@dataclass
class DeploymentBenchmarkArguments:
    _argument_group_name = "deployment benchmark"

    image_size: int = field(default=640, metadata={"help": "Height and width of the images."})
    num_queries: int = field(default=100, metadata={"help": "Queries of the model."})
    num_classes: int = field(default=150, metadata={"help": "Classes of the model."})
    backbones: list[str] = field(default_factory=lambda: list(BACKBONES), metadata={"help": "Which of them."})
    programs: list[str] = field(default_factory=lambda: list(PROGRAMS), metadata={"help": "Which of them."})
    rounds: int = field(default=7, metadata={"help": "How often each program runs; the median is reported."})
    checkpoint: str | None = field(
        default=None, metadata={"help": "A trained MaskFormer of this package: its pipeline is measured too."}
    )
    pictures: str | None = field(default=None, metadata={"help": "Folder of pictures for --checkpoint."})
    output_dir: str = field(
        default="outputs/benchmark_deployment", metadata={"help": "Folder for deployment.json and deployment.md."}
    )
    quick: bool = field(default=False, metadata={"help": "Tiny sizes and one round, to see that all works."})

    def __post_init__(self) -> None:
        if (self.checkpoint is None) != (self.pictures is None):
            raise ValueError("--checkpoint and --pictures belong together: give both or none.")
        if self.quick:
            self.image_size, self.num_queries, self.num_classes, self.rounds = 64, 10, 5, 1
            self.backbones = ["tiny"]


def run(arguments: DeploymentBenchmarkArguments) -> dict[str, Any]:
    """All numbers of the benchmark; they are also printed, and written to `deployment.json` and `deployment.md`."""
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    report = {"machine": machine() | {"flags": cpu_flags()}, "arguments": asdict(arguments), "rows": []}
    for name in tqdm(arguments.backbones, desc="backbones"):
        report["rows"] += measure_backbone(arguments, name)
        (output_dir / "deployment.json").write_text(json.dumps(report, indent=2) + "\n")
    if arguments.checkpoint is not None:
        report["rows"] += measure_pipeline(arguments)
        (output_dir / "deployment.json").write_text(json.dumps(report, indent=2) + "\n")
    (output_dir / "deployment.md").write_text(table(report) + "\n")
    print(table(report))
    return report


def measure_backbone(arguments: DeploymentBenchmarkArguments, name: str) -> list[dict[str, Any]]:
    """Rows of the forward of each program with this backbone."""
    side = arguments.image_size
    backbone = MINIATURE if name == "tiny" else BACKBONES[name]
    models = build_models(backbone, arguments.num_queries, arguments.num_classes)
    random = [torch.randn(1, 3, side, side) for _ in range(CALIBRATION_IMAGES)]
    graphs = {program: exported(models[OURS], PROGRAMS[program], random) for program in arguments.programs}
    pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    forwards = {TRANSFORMERS: models[TRANSFORMERS], OURS: models[OURS], **graphs}
    rows = compare(f"forward, {name}", {key: (model, pixels) for key, model in forwards.items()}, arguments.rounds)
    del forwards, graphs, models
    gc.collect()
    return rows


def measure_pipeline(arguments: DeploymentBenchmarkArguments) -> list[dict[str, Any]]:
    """Rows of the pipeline with a trained checkpoint: transformers' own, ours eager, and of each program's graph.

    Pictures are resized to squares of --image_size, and quantization is calibrated on the first of them.
    """
    side = arguments.image_size
    pictures = [picture.load() for picture in find_pictures([arguments.pictures])]
    processor = MaskFormerImageProcessor.from_pretrained(arguments.checkpoint, size={"height": side, "width": side})
    ours = load_model(arguments.checkpoint).eval()
    theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(arguments.checkpoint).eval()
    examples = [processor(picture)["pixel_values"] for picture in pictures[:CALIBRATION_IMAGES]]
    graphs = {program: exported(ours, PROGRAMS[program], examples) for program in arguments.programs}
    task = ours.config.segmentation_task or "panoptic"
    programs, found = {}, {}
    for name, model in {TRANSFORMERS: theirs, OURS: ours, **graphs}.items():
        own = TheirProcessor(size=processor.size) if name == TRANSFORMERS else processor
        pipeline = transformers.pipeline("image-segmentation", model=model, image_processor=own)
        call = partial(segment, pipeline, subtask=task)
        found[name] = sum(map(len, call(pictures)))
        programs[name] = (call, pictures)
    rows = compare(f"{task} pipeline, {len(pictures)} pictures", programs, arguments.rounds)
    # drawing and encoding cost by the segment
    return [row | {"program": f"{row['program']} ({found[row['program']]} segments)"} for row in rows]


def segment(pipeline: Any, pictures: list[Image.Image], subtask: str) -> list[list[dict[str, Any]]]:
    return [pipeline(picture, subtask=subtask) for picture in pictures]


def exported(model: torch.nn.Module, settings: dict[str, Any], examples: list[torch.Tensor]) -> torch.nn.Module:
    """The exported model, for images of the size of these `(1, 3, H, W)`, on which it is calibrated, ready to run."""
    calibration = [{"pixel_values": pixels} for pixels in examples]
    settings = ExportSettings(**settings, size=tuple(examples[0].shape[-2:]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported"
        processor = MaskFormerImageProcessor()
        export_model(copy.deepcopy(model), processor, path, settings, calibration if settings.int8 else ())
        return load_model(path)


def compare(work: str, programs: dict[str, tuple], rounds: int) -> list[dict[str, Any]]:
    """A row a program: its seconds, and how many times faster it is than transformers, of paired runs in turn."""
    calls = {name: timed(Meter(), function, argument) for name, (function, argument) in programs.items()}
    time_in_turn(calls, 1)  # warm up
    seconds = {name: phases["seconds"] for name, phases in time_in_turn(calls, rounds).items()}
    rows = []
    for name, values in seconds.items():
        ratios = [theirs / own for theirs, own in zip(seconds[TRANSFORMERS], values, strict=True)]
        rows.append({"work": work, "program": name, "seconds": summary(values), "times_faster": summary(ratios)})
    return rows


def cpu_flags() -> list[str]:
    """Those instructions of bf16 and int8 that the CPU has, as Linux names them."""
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    return [flag for flag in CPU_FLAGS if flag in words]


def table(report: dict[str, Any]) -> str:
    """The rows as Markdown, under a line that says what they were measured on."""
    made = report["machine"]
    flags = ", ".join(made["flags"]) or "no instructions for bf16 or int8"
    lines = [
        f"{made['processor']} ({flags}), {made['threads']} threads, torch {made['torch']}.",
        "",
        "| work | program | seconds (least to largest) | times as fast (least to largest) |",
        "|---|---|---:|---:|",
    ]
    for row in report["rows"]:
        time, ratio = row["seconds"], row["times_faster"]
        lines.append(
            f"| {row['work']} | {row['program']} "
            f"| {time['median']:.3f} ({time['least']:.3f} to {time['largest']:.3f}) "
            f"| {ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['largest']:.2f}) |"
        )
    return "\n".join(lines)
