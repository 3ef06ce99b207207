"""What inference costs, beside transformers' MaskFormer: post-processing, forward, pipeline, and how they grow."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from modeling_maskformer.targets import TASKS

from .backbones import BACKBONES, MINIATURE
from .device.measuring import Meter, timed
from .inference_programs import (
    OURS,
    TRANSFORMERS,
    build_models,
    build_pipelines,
    largest_difference,
    make_noisy_outputs,
    make_outputs,
    post_process_alone,
    post_processing_program,
)
from .measuring import machine, peak_memory, summary, time_in_turn, torch_threads
from .plot import Chart, save_charts
from .taught_model import draw_segments, teach

BATCH, ONE_BY_ONE = "one batch", "one by one"


@dataclass
class InferenceBenchmarkArguments:
    _argument_group_name = "inference benchmark"

    image_size: int = field(default=640, metadata={"help": "Height and width of the images."})
    num_queries: int = field(default=100, metadata={"help": "Queries of the model."})
    num_classes: int = field(default=150, metadata={"help": "Classes of the model."})
    num_live: int = field(default=30, metadata={"help": "Queries that see a segment; the others are no object."})
    rounds: int = field(default=7, metadata={"help": "How often each program runs; the median is reported."})
    without_growth: bool = field(default=False, metadata={"help": "Leave out growth with queries, classes, size."})
    threads: int = field(default=0, metadata={"help": "Threads of PyTorch; 0: as many as it takes by itself."})
    output_dir: str = field(
        default="outputs/benchmark_inference", metadata={"help": "Folder for inference.json and inference.png."}
    )
    quick: bool = field(default=False, metadata={"help": "Tiny sizes and one round, to see that all works."})

    def __post_init__(self) -> None:
        if self.quick:
            self.image_size, self.num_queries, self.num_classes, self.num_live, self.rounds = 64, 10, 5, 3, 1
        if not 2 <= self.num_live <= self.num_queries:
            raise ValueError(f"num_live must be from 2 to num_queries ({self.num_queries}), got {self.num_live}.")


def run(arguments: InferenceBenchmarkArguments) -> dict[str, Any]:
    """All numbers of the benchmark; they are also printed, and written to `inference.json` and `inference.png`."""
    with torch_threads(arguments.threads):
        return measure(arguments)


def measure(arguments: InferenceBenchmarkArguments) -> dict[str, Any]:
    """What `run` does, with the number of threads that PyTorch has."""
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    report = {
        "machine": machine(),
        "arguments": asdict(arguments),
        "post_processing": [measure_post_processing(arguments, task) for task in tqdm(TASKS, desc="post-processing")],
        "noisy_masks": measure_noisy_masks(arguments),
        "forward": [measure_forward(arguments, name) for name in tqdm(backbones_of(arguments), desc="forward")],
        "pipeline": measure_pipeline(arguments),
        "mixed_sizes": measure_mixed_sizes(arguments),
        "growth": [] if arguments.without_growth else measure_growth(arguments),
    }
    (output_dir / "inference.json").write_text(json.dumps(report, indent=2) + "\n")
    if report["growth"]:
        draw(report, output_dir / "inference.png")
    print(table(report))
    return report


def compare(programs: dict[str, Any], rounds: int) -> dict[str, Any]:
    """Seconds of two programs, and how many times faster the first is: of paired runs."""
    time_in_turn(programs, 1)  # warm up
    seconds = {name: phases["seconds"] for name, phases in time_in_turn(programs, rounds).items()}
    ratios = [other / first for first, other in zip(*seconds.values(), strict=True)]
    return {"seconds": {name: summary(values) for name, values in seconds.items()}, "times_faster": summary(ratios)}


def measure_post_processing(arguments: InferenceBenchmarkArguments, task: str) -> dict[str, Any]:
    """Time of both, and the memory each needs beyond its inputs."""
    size = (arguments.image_size, arguments.image_size)
    scene = (arguments.num_queries, arguments.num_classes, arguments.num_live)
    programs = {name: _post_processing_program(name, task, size, *scene) for name in (OURS, TRANSFORMERS)}
    result = {"task": task, **compare(programs, arguments.rounds)}
    result["extra_bytes"] = {name: _extra_memory(name, task, size, *scene) for name in (OURS, TRANSFORMERS)}
    return result


def measure_noisy_masks(arguments: InferenceBenchmarkArguments) -> dict[str, Any]:
    """Semantic post-processing at its slowest here: masks overlap, and noise leaves few tiles to bounds."""
    size = (arguments.image_size, arguments.image_size)
    scene = (arguments.num_queries, arguments.num_classes, arguments.num_live)
    programs = {
        name: _post_processing_program(name, "semantic", size, *scene, make=make_noisy_outputs)
        for name in (OURS, TRANSFORMERS)
    }
    return {"program": "semantic, noisy masks", **compare(programs, arguments.rounds)}


def _post_processing_program(
    name: str, task: str, size: tuple[int, int], *scene: int, make: Callable[..., Any] = make_outputs
) -> Any:
    return post_processing_program(Meter(), name, task, make(size, *scene), size)


def _extra_memory(name: str, task: str, size: tuple[int, int], *scene: int) -> int | None:
    return peak_memory(post_process_alone, name, task, size, *scene, torch.get_num_threads())["extra"]


def backbones_of(arguments: InferenceBenchmarkArguments) -> dict[str, dict]:
    """The backbones by name; the first one is that of all that is measured with one only."""
    return {"tiny": MINIATURE} if arguments.quick else BACKBONES


def measure_forward(arguments: InferenceBenchmarkArguments, name: str) -> dict[str, Any]:
    """The forward of both with this backbone."""
    pixels = torch.randn(1, 3, arguments.image_size, arguments.image_size, generator=torch.Generator().manual_seed(0))
    models = build_models(backbones_of(arguments)[name], arguments.num_queries, arguments.num_classes)
    programs = {library: timed(Meter(), model, pixels) for library, model in models.items()}
    difference = largest_difference(models, pixels)
    return {"program": name, "largest_difference": difference, **compare(programs, arguments.rounds)}


def measure_pipeline(arguments: InferenceBenchmarkArguments) -> dict[str, Any]:
    """The whole image-segmentation pipeline, panoptic, on a picture in which it finds `num_live` segments or so."""
    name, backbone = next(iter(backbones_of(arguments).items()))
    width, height = arguments.image_size, arguments.image_size * 3 // 4
    picture, regions = draw_segments(width, height, arguments.num_live)
    sizes = (arguments.num_queries, arguments.num_classes)
    models = build_models(backbone, *sizes, lambda model: teach(model, picture, regions))
    pipelines = build_pipelines(models)
    found = {library: len(pipeline(picture)) for library, pipeline in pipelines.items()}
    programs = {library: timed(Meter(), pipeline, picture) for library, pipeline in pipelines.items()}
    return {"program": f"pipeline, {name}", "segments": found, **compare(programs, arguments.rounds)}


def measure_mixed_sizes(arguments: InferenceBenchmarkArguments) -> dict[str, Any]:
    """One padded batch of images of several sizes, against the same images one by one."""
    name, backbone = next(iter(backbones_of(arguments).items()))
    model = build_models(backbone, arguments.num_queries, arguments.num_classes)[OURS]
    side = arguments.image_size
    sizes = [(side, side), (side * 3 // 4, side), (side, side // 2), (side, side)]
    images = [torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0)) for size in sizes]
    pixels = torch.zeros(len(sizes), 3, side, side)
    mask = torch.zeros(len(sizes), side, side, dtype=torch.int64)
    for number, (image, (height, width)) in enumerate(zip(images, sizes, strict=True)):
        pixels[number, :, :height, :width], mask[number, :height, :width] = image[0], 1

    def one_by_one() -> None:
        for image in images:
            model(image)

    programs = {
        BATCH: timed(Meter(), lambda: model(pixel_values=pixels, pixel_mask=mask)),
        ONE_BY_ONE: timed(Meter(), one_by_one),
    }
    return {"program": f"mixed sizes, {name}", "sizes": sizes, **compare(programs, arguments.rounds)}


def measure_growth(arguments: InferenceBenchmarkArguments) -> list[dict[str, Any]]:
    """Time and memory of this package's post-processing over queries, classes and megapixels."""
    side, queries, classes, live = (
        arguments.image_size,
        arguments.num_queries,
        arguments.num_classes,
        arguments.num_live,
    )
    if arguments.quick:
        scenes = [("queries", 10, (64, 10, 5, 3)), ("megapixels", 0.01, (128, 10, 5, 3))]
    else:
        scenes = [("queries", number, (side, number, classes, live)) for number in (50, 100, 300)]
        scenes += [("classes", number, (side, queries, number, live)) for number in (20, 150, 847)]
        scenes += [
            ("megapixels", number, (length, queries, classes, live))
            for number, length in ((0.25, 512), (1, 1024), (4, 2048), (16, 4000))
        ]
        scenes.append(("largest", 847, (4000, queries, 847, live)))
    rows = []
    for axis, value, (length, *scene) in tqdm(scenes, desc="growth"):
        size = (length, length)
        for task in TASKS:
            program = _post_processing_program(OURS, task, size, *scene)
            program()
            seconds = [program()["seconds"] for _ in range(min(arguments.rounds, 3))]
            extra = _extra_memory(OURS, task, size, *scene)
            rows.append(
                {"axis": axis, "value": value, "task": task, "seconds": summary(seconds), "extra_bytes": extra}
            )
    return rows


def table(report: dict[str, Any]) -> str:
    """The numbers as text."""
    machine_line = ", ".join(f"{name} {value}" for name, value in report["machine"].items())
    lines = [machine_line, "", f"{'':<32}{OURS:>14}{TRANSFORMERS:>14}{'x faster':>10}{'(spread)':>16}  memory"]
    for row in [*report["post_processing"], report["noisy_masks"], *report["forward"], report["pipeline"]]:
        seconds = {name: values["median"] for name, values in row["seconds"].items()}
        ratio = row["times_faster"]
        spread = f"({ratio['least']:.1f}-{ratio['largest']:.1f})"
        line = f"{row.get('program', row.get('task', '')):<32}{seconds[OURS]:>12.3f} s{seconds[TRANSFORMERS]:>12.3f} s"
        line += f"{ratio['median']:>10.2f}{spread:>16}"
        if "extra_bytes" in row:
            line += "  " + " / ".join(f"{(row['extra_bytes'][name] or 0) / 1e6:.0f} MB" for name in row["extra_bytes"])
        if "largest_difference" in row:
            line += f"  largest difference of a logit {row['largest_difference']:.1e}"
        if "segments" in row:
            line += f"  segments found: {', '.join(f'{number}' for number in row['segments'].values())}"
        lines.append(line)
    row = report["mixed_sizes"]
    seconds = [f"{name} {values['median']:.3f} s" for name, values in row["seconds"].items()]
    lines.append(f"{row['program']}: {', '.join(seconds)}, ratio {row['times_faster']['median']:.2f}")
    for row in report["growth"]:
        memory = "-" if row["extra_bytes"] is None else f"{row['extra_bytes'] / 1e6:.0f} MB"
        lines.append(
            f"{row['axis']:<12}{row['value']:>8}  {row['task']:<10}{row['seconds']['median']:>9.3f} s{memory:>10}"
        )
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture of time and memory over queries, classes and megapixels."""
    charts = []
    for axis in dict.fromkeys(row["axis"] for row in report["growth"] if row["axis"] != "largest"):
        rows = [row for row in report["growth"] if row["axis"] == axis]
        seconds: dict[str, list] = {}
        memory: dict[str, list] = {}
        for row in rows:
            seconds.setdefault(row["task"], []).append((row["value"], row["seconds"]["median"]))
            memory.setdefault(row["task"], []).append((row["value"], (row["extra_bytes"] or 0) / 1e6))
        charts += [Chart(f"Time over {axis}", axis, "seconds", seconds), Chart("Extra memory", axis, "MB", memory)]
    save_charts(charts, path)
