"""How much memory reading a stream takes, sample after sample, with and without the shuffling of rows.

    python scripts/benchmark.py streaming

Writes generated pictures into Parquet files, and reads them as scripts/train.py --streaming does: rows, augmented
views, batches, without a model.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Features, Image
from PIL import Image as Picture

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.shapes import ShapesDataset
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import SegmentationDataset, TrainingCollator
from modeling_maskformer.data.views.stream_batches import StreamBatches, StreamPosition

from .measuring import STATUS, machine, status_bytes, torch_threads
from .plot import Chart, save_charts

NUM_DRAWN = 50  # pictures that are drawn; the others repeat them


@dataclass
class StreamingBenchmarkArguments:
    _argument_group_name = "streaming"

    samples: int = field(default=10000, metadata={"help": "Pictures to read."})
    files: int = field(default=20, metadata={"help": "Parquet files that they lie in."})
    size: int = field(default=256, metadata={"help": "Height and width of the pictures."})
    shuffle_buffer: int = field(default=1000, metadata={"help": "Rows among which the next is drawn."})
    points: int = field(default=10, metadata={"help": "How often memory is looked at."})
    output_dir: str = field(default="outputs/benchmark", metadata={"help": "Folder for streaming.json and the plot."})


def run(arguments: StreamingBenchmarkArguments) -> None:
    """Measures, prints and writes."""
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"machine": machine(), "samples": arguments.samples, "lines": {}}
    with torch_threads(1), tempfile.TemporaryDirectory() as folder:
        report["bytes_on_disk"] = write_files(Path(folder), arguments)
        for name, shuffle in (("in order", False), (f"shuffled among {arguments.shuffle_buffer}", True)):
            start = time.perf_counter()
            report["lines"][name] = list(memory_while_reading(folder, arguments, shuffle))
            seconds = time.perf_counter() - start
            print(
                f"{name}: {arguments.samples} samples of {report['bytes_on_disk'] / 1e6:.0f} MB in all, "
                f"{arguments.samples / seconds:.0f} a second; memory after the first and the last part: "
                f"{report['lines'][name][0][1]:.0f}, {report['lines'][name][-1][1]:.0f} MB, at most "
                f"{max(megabytes for _, megabytes in report['lines'][name]):.0f}",
                flush=True,
            )
    (output / "streaming.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    lines = {name: [(read / 1000, megabytes) for read, megabytes in line] for name, line in report["lines"].items()}
    chart = Chart("Memory of the process while it reads a stream", "thousand samples read", "MB", lines)
    save_charts([chart], output / "streaming.png", columns=1)


def write_files(folder: Path, arguments: StreamingBenchmarkArguments) -> int:
    """Writes the dataset; the bytes of its files."""
    shapes = ShapesDataset(NUM_DRAWN, "semantic", arguments.size)
    rows = []
    for index in range(NUM_DRAWN):
        sample = shapes[index]
        classes = sample.segments.class_ids[sample.segments.ids[0].long() - 1].to(torch.uint8).numpy()
        rows.append({"image": encode(sample.image, "JPEG"), "annotation": encode(Picture.fromarray(classes), "PNG")})
    features = Features({"image": Image(), "annotation": Image()})
    for file in range(arguments.files):
        numbers = range(file * arguments.samples // arguments.files, (file + 1) * arguments.samples // arguments.files)
        table = Dataset.from_list([rows[number % NUM_DRAWN] for number in numbers], features=features)
        table.to_parquet(folder / f"train-{file:05d}.parquet")
    (folder / "id2label.json").write_text(json.dumps(shapes.labels.id2label))
    return sum(file.stat().st_size for file in folder.glob("*.parquet"))


def encode(picture: Picture.Image, kind: str) -> dict[str, Any]:
    file = io.BytesIO()
    picture.save(file, kind, quality=95)
    return {"bytes": file.getvalue(), "path": None}


def memory_while_reading(
    folder: str, arguments: StreamingBenchmarkArguments, shuffle: bool
) -> Iterator[tuple[int, float]]:
    """Samples read so far, and the memory of this process in MB."""
    samples = open_dataset(folder, "semantic", streaming=True).splits["train"]
    crop = (arguments.size // 2, arguments.size // 2)
    views = SegmentationDataset(samples, Augmentation(AugmentationConfig(crop_size=crop)))
    batches = StreamBatches(samples, 4, StreamPosition(), 0, shuffle, arguments.shuffle_buffer)
    loader = torch.utils.data.DataLoader(views, batch_sampler=batches, collate_fn=TrainingCollator())
    read, step = 0, max(4, arguments.samples // arguments.points)
    for batch in loader:
        batches.trained(1)
        before, read = read, read + len(batch["names"])
        if before // step < read // step:
            yield read, (status_bytes(STATUS, "VmRSS") or 0) / 1e6
        if read >= arguments.samples:
            return
