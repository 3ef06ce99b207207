"""What a training step costs, beside transformers' MaskFormer: time, memory, and where the time goes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import PixelNormalization, SegmentationDataset, TrainingCollator

from .measuring import machine, peak_memory, summary, time_in_turn, torch_threads
from .plot import Chart, save_charts
from .preparation import OURS, measure_preparation
from .training_programs import (
    ALONE,
    DENSE,
    POINTS,
    PROGRAMS,
    TRANSFORMERS,
    Setting,
    Trainee,
    build_ours,
    build_theirs,
    make_batch,
    prepare_alone,
    program,
)

PHASES = ("data", "forward", "matching", "loss", "backward", "optimizer")
SOLVER_SIZES = ((100, 60), (300, 200))


@dataclass
class TrainingBenchmarkArguments:
    _argument_group_name = "training benchmark"

    segments: list[int] = field(
        default_factory=lambda: [5, 20, 60, 200], metadata={"help": "Numbers of segments an image."}
    )
    image_size: int = field(default=512, metadata={"help": "Height and width of the images."})
    batch_size: int = field(default=2, metadata={"help": "Images a step."})
    num_queries: int = field(default=100, metadata={"help": "Queries of the model."})
    rounds: int = field(default=3, metadata={"help": "How often each program runs; the median is reported."})
    without_transformers: bool = field(default=False, metadata={"help": "Measure this package only: much faster."})
    dataset: str = field(
        default="shapes", metadata={"help": "Semantic dataset of the whole-step profile, as in scripts/train.py."}
    )
    profile_steps: int = field(default=10, metadata={"help": "Training steps of the whole-step profile."})
    threads: int = field(default=0, metadata={"help": "Threads of PyTorch; 0: as many as it takes by itself."})
    output_dir: str = field(
        default="outputs/benchmark_training", metadata={"help": "Folder for training.json and training.png."}
    )
    quick: bool = field(default=False, metadata={"help": "A tiny model and few steps, to see that all works."})

    def __post_init__(self) -> None:
        if self.quick:
            self.segments, self.image_size, self.batch_size, self.num_queries = [2, 5], 64, 2, 10
            self.rounds, self.profile_steps = 1, 2
        if not self.segments or min(self.segments) < 1:
            raise ValueError(f"--segments must be numbers from 1, got {self.segments}.")

    def setting(self) -> Setting:
        return Setting(self.image_size, self.batch_size, self.num_queries, tiny=self.quick)


def run(arguments: TrainingBenchmarkArguments) -> dict[str, Any]:
    """All numbers of the benchmark; they are also printed, and written to `training.json` and `training.png`."""
    with torch_threads(arguments.threads):
        return measure(arguments)


def measure(arguments: TrainingBenchmarkArguments) -> dict[str, Any]:
    """What `run` does, with the number of threads that PyTorch has."""
    output_dir = Path(arguments.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    names = [name for name in PROGRAMS if name != TRANSFORMERS or not arguments.without_transformers]
    progress = tqdm(total=len(arguments.segments) * (len(names) + 1) + 2, desc="training benchmark", disable=None)
    rows = measure_memory(arguments, names, progress)
    trainee = build_ours(arguments.setting())
    measure_time(arguments, rows, trainee, progress)
    report = {
        "machine": machine(),
        "arguments": asdict(arguments),
        "steps": rows,
        "comparison": compare(rows),
        "solver": measure_solver(),
        "preparation": measure_preparation(*((5, 64) if arguments.quick else (200, 1000))),
    }
    progress.update()
    report["profile"] = measure_profile(arguments, trainee)
    progress.update()
    progress.close()
    (output_dir / "training.json").write_text(json.dumps(report, indent=2) + "\n")
    draw(report, output_dir / "training.png")
    print(table(report))
    return report


def measure_memory(arguments: TrainingBenchmarkArguments, names: list[str], progress: tqdm) -> list[dict[str, Any]]:
    """A row for each number of segments and program, with the peak memory of its process."""
    rows = []
    for num_segments in arguments.segments:
        for name in names:
            report = peak_memory(prepare_alone, arguments.setting(), name, num_segments, torch.get_num_threads())
            rows.append({"segments": num_segments, "program": name, "peak_bytes": report["peak"]})
            progress.update()
    return rows


def measure_time(
    arguments: TrainingBenchmarkArguments, rows: list[dict[str, Any]], ours: Trainee, progress: tqdm
) -> None:
    """Adds to each row the seconds of a step and of its phases; not to those that ran out of memory."""
    setting = arguments.setting()
    theirs = build_theirs(ours, setting) if any(row["program"] == TRANSFORMERS for row in rows) else None
    for position, num_segments in enumerate(arguments.segments):
        batch = make_batch(setting, num_segments)
        fitting = [row for row in rows if row["segments"] == num_segments and row["peak_bytes"] is not None]
        programs = {
            row["program"]: program(row["program"], theirs if row["program"] == TRANSFORMERS else ours, batch)
            for row in fitting
        }
        if position == 0:
            time_in_turn(programs, 1)  # warm up
        results = time_in_turn(programs, arguments.rounds)
        for row in fitting:
            phases = results[row["program"]]
            row["phases"] = {phase: summary(seconds) for phase, seconds in phases.items()}
            row["seconds"] = summary([sum(parts) for parts in zip(*phases.values(), strict=True)])
            without_optimizer = [seconds for phase, seconds in phases.items() if phase != "optimizer"]
            row["seconds_without_optimizer"] = summary([sum(parts) for parts in zip(*without_optimizer, strict=True)])
        progress.update()


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each number of segments, ours against transformers' and against the model without any loss.

    `matching_and_loss` is their share of the model's own forward and backward; `added` what the whole step takes more
    than these, which is less, because queries that no loss looks at have no backward pass.
    """
    comparison = []
    for num_segments in dict.fromkeys(row["segments"] for row in rows):
        measured = {row["program"]: row for row in rows if row["segments"] == num_segments and "seconds" in row}
        alone, theirs = measured[ALONE], measured.get(TRANSFORMERS)
        own = alone["seconds_without_optimizer"]["median"]
        for name in (DENSE, POINTS):
            row = measured[name]
            entry = {
                "segments": num_segments,
                "program": name,
                "matching_and_loss": sum(row["phases"][phase]["median"] for phase in ("matching", "loss")) / own,
                "added": row["seconds_without_optimizer"]["median"] / own - 1,
                "memory_of_model_alone": row["peak_bytes"] / alone["peak_bytes"],
            }
            if theirs is not None:
                entry["times_faster"] = theirs["seconds"]["median"] / row["seconds"]["median"]
                entry["share_of_memory"] = row["peak_bytes"] / theirs["peak_bytes"]
            comparison.append(entry)
    return comparison


def measure_solver() -> list[dict[str, Any]]:
    """Milliseconds of the assignment solver on random costs."""
    random = np.random.default_rng(0)
    results = []
    for size in SOLVER_SIZES:
        times = []
        for _ in range(20):
            cost = random.random(size, dtype=np.float32)
            start = time.perf_counter()
            linear_sum_assignment(cost)
            times.append((time.perf_counter() - start) * 1000)
        results.append({"queries": size[0], "segments": size[1], "milliseconds": summary(times)})
    return results


def measure_profile(arguments: TrainingBenchmarkArguments, trainee: Trainee) -> dict[str, Any]:
    """Where the time of real steps goes, with samples of a dataset that one worker prepares."""
    data = open_dataset(arguments.dataset, "semantic")
    samples, _ = data.train_and_validation()
    crop = (arguments.image_size, arguments.image_size)
    loader = DataLoader(
        SegmentationDataset(samples, Augmentation(AugmentationConfig(crop_size=crop))),
        batch_size=arguments.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=1,
        collate_fn=TrainingCollator(pad_size=crop),
    )
    normalize = PixelNormalization(MaskFormerImageProcessor())
    profile: dict[str, Any] = {"dataset": arguments.dataset}
    start = time.perf_counter()
    num_batches = sum(1 for _, _ in zip(range(max(arguments.profile_steps, 2)), loader, strict=False))
    profile["loader_images_per_second"] = num_batches * arguments.batch_size / (time.perf_counter() - start)
    for name in (DENSE, POINTS):
        trainee.criterion.mask_loss = name
        phases, batches = [], iter(loader)
        for _ in range(arguments.profile_steps):
            start = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                break
            waited = time.perf_counter() - start
            inputs = {
                "pixel_values": normalize(batch["pixel_values"], batch["pixel_mask"]),
                "pixel_mask": batch["pixel_mask"],
            }
            targets = {"segment_ids": batch["segment_ids"], "class_labels": batch["class_labels"]}
            phases.append({"data": waited, **trainee.step(**inputs, **targets)})
        phases = phases[1:] or phases  # the first batch waits for the worker to start
        means = {phase: sum(step[phase] for step in phases) / len(phases) for phase in PHASES}
        total = sum(means.values())
        profile[name] = {
            "seconds": total,
            "shares": {phase: seconds / total for phase, seconds in means.items()},
            "images_per_second": arguments.batch_size / (total - means["data"]),
        }
    return profile


def table(report: dict[str, Any]) -> str:
    """The numbers as text."""
    lines = [f"{'segments':>8}  {'program':<13} {'step':>8} {'(spread)':>15} {'peak memory':>12}"]
    for row in report["steps"]:
        start = f"{row['segments']:>8}  {row['program']:<13}"
        if "seconds" not in row:
            lines.append(f"{start} {'does not fit in memory':>24}")
            continue
        seconds = row["seconds"]
        spread = f"({seconds['least']:.2f}-{seconds['largest']:.2f})"
        lines.append(f"{start} {seconds['median']:>6.2f} s {spread:>15} {row['peak_bytes'] / 1e9:>9.2f} GB")
    lines.append("")
    lines.append(
        f"{'segments':>8}  {'program':<8} {'x faster':>9} {'of memory':>10} "
        f"{'matching+loss/model':>20} {'added':>7} {'memory/model':>13}"
    )
    for entry in report["comparison"]:
        faster = f"{entry['times_faster']:.2f}" if "times_faster" in entry else "-"
        memory = f"{entry['share_of_memory']:.2f}" if "share_of_memory" in entry else "-"
        lines.append(
            f"{entry['segments']:>8}  {entry['program']:<8} {faster:>9} {memory:>10} "
            f"{entry['matching_and_loss']:>19.1%} {entry['added']:>8.1%} {entry['memory_of_model_alone']:>12.2f}"
        )
    lines.append("")
    profile = report["profile"]
    lines.append(f"shares of a step on {os.path.basename(profile['dataset'].rstrip('/'))}, one worker")
    lines.append(f"{'':<8}" + "".join(f"{phase:>11}" for phase in PHASES) + f"{'step':>10}")
    for name in (DENSE, POINTS):
        shares = "".join(f"{profile[name]['shares'][phase]:>11.1%}" for phase in PHASES)
        lines.append(f"{name:<8}{shares}{profile[name]['seconds']:>8.2f} s")
    lines.append(
        f"one worker prepares {profile['loader_images_per_second']:.1f} images a second, the model takes "
        f"{profile[DENSE]['images_per_second']:.2f} (dense), {profile[POINTS]['images_per_second']:.2f} (points)"
    )
    preparation = report["preparation"]
    ours, theirs = (preparation["seconds"][name]["median"] for name in (OURS, TRANSFORMERS))
    of_ours, of_theirs = (preparation["target_bytes"][name] / 1e6 for name in (OURS, TRANSFORMERS))
    lines.append(
        f"an image of {preparation['side']}x{preparation['side']} with {preparation['segments']} segments is prepared "
        f"in {ours * 1000:.0f} ms with targets of {of_ours:.1f} MB, by transformers' processor in "
        f"{theirs * 1000:.0f} ms with {of_theirs:.1f} MB"
    )
    for entry in report["solver"]:
        lines.append(
            f"assignment of {entry['queries']} queries to {entry['segments']} segments: "
            f"{entry['milliseconds']['median']:.2f} ms"
        )
    return "\n".join(lines)


def draw(report: dict[str, Any], path: Path) -> None:
    """Writes the picture of time and memory over the number of segments."""
    times: dict[str, list[tuple[float, float]]] = {}
    memory: dict[str, list[tuple[float, float]]] = {}
    labels = {ALONE: "model without loss", DENSE: "dense loss", POINTS: "point loss", TRANSFORMERS: "transformers"}
    for row in report["steps"]:
        if "seconds" in row:
            times.setdefault(labels[row["program"]], []).append((row["segments"], row["seconds"]["median"]))
            memory.setdefault(labels[row["program"]], []).append((row["segments"], row["peak_bytes"] / 1e9))
    axis = "segments an image"
    save_charts(
        [Chart("Training step", axis, "seconds", times), Chart("Peak memory of the process", axis, "GB", memory)], path
    )
