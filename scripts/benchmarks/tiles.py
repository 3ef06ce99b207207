"""A large picture in tiles: are objects that tiles cut found once, how long does joining take, and how much memory.

    python scripts/benchmark.py tiles

The picture is a generated mosaic, and the predictor segments what it sees without an error: what is measured is what
tiles do to objects, and time and memory of everything but a model.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from modeling_maskformer.inference.tiles.grid import Grid
from modeling_maskformer.inference.tiles.tiled_predictor import TiledPredictor
from modeling_maskformer.targets import TASKS

from .measuring import machine, peak_memory
from .mosaic import PerfectPredictor, draw_mosaic, picture_of


@dataclass
class TilesBenchmarkArguments:
    _argument_group_name = "benchmark"

    output_dir: str = field(default="outputs/benchmark", metadata={"help": "Folder for the picture and tiles.json."})
    side: int = field(default=8000, metadata={"help": "Height and width of the picture."})
    tile: int = field(default=1024, metadata={"help": "Height and width of a tile."})
    overlap: int = field(default=128, metadata={"help": "Pixels that neighbours share at least."})


def run(arguments: TilesBenchmarkArguments) -> None:
    """Prints a row for each task as it is measured, and writes all as JSON."""
    folder = Path(arguments.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "mosaic.png"
    classes, objects = draw_mosaic(arguments.side)
    picture_of(classes, objects).save(file, compress_level=1)
    true = int(objects.max())
    cut = len(cut_objects(objects, arguments.tile, arguments.overlap))
    print(f"{arguments.side}x{arguments.side} pixels, {true} objects, {cut} of them cut by the cells of tiles")
    rows = {}
    for task in TASKS:
        memory = peak_memory(prepare, task, str(file), arguments.tile, arguments.overlap)
        rows[task] = measure(task, file, arguments) | {"extra_bytes": memory["extra"]}
        print(task, rows[task])
    report = {"arguments": asdict(arguments), "machine": machine(), "true": true, "cut": cut, "tasks": rows}
    (folder / "tiles.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def prepare(task: str, file: str, tile: int, overlap: int) -> Callable[[], Any]:
    """The step whose memory is measured: everything from the decoded picture to the result."""
    Image.MAX_IMAGE_PIXELS = None
    picture = Image.open(file).convert("RGB")
    predictor = TiledPredictor(PerfectPredictor(task), tile, overlap)
    return lambda: predictor([picture])


def measure(task: str, file: Path, arguments: TilesBenchmarkArguments) -> dict[str, Any]:
    """Seconds, and what was found of the picture: exactly, of how many there are."""
    step = prepare(task, str(file), arguments.tile, arguments.overlap)
    start = time.perf_counter()
    (result,) = step()
    seconds = round(time.perf_counter() - start, 1)
    classes, objects = draw_mosaic(arguments.side)
    if task == "semantic":
        return {"seconds": seconds, "wrong_pixels": int((result.numpy() != classes).sum())}
    if task == "panoptic":
        ids = result["segmentation"].numpy()
        things = [info["id"] for info in result["segments_info"] if not info["was_fused"]]
        pairs = np.unique(ids.astype(np.int64)[objects > 0] << 16 | objects[objects > 0])
        exact = len(pairs) == len(set(pairs >> 16)) == len(set(pairs & 0xFFFF)) == int(objects.max())
        stuff = len(result["segments_info"]) - len(things)
        return {"seconds": seconds, "found": len(things), "stuff": stuff, "all_exact": exact}
    areas = np.bincount(objects.ravel())
    exact = 0
    for rle in result["segmentation"]:
        left, top, width, height = (int(length) for length in coco_mask.toBbox(rle))
        here = objects[top : top + height, left : left + width]
        inside = here[coco_mask.decode(rle)[top : top + height, left : left + width].astype(bool)]
        exact += int((inside == inside[0]).all() and len(inside) == areas[inside[0]])
    return {"seconds": seconds, "found": len(result["segmentation"]), "exact": exact}


def cut_objects(objects: np.ndarray, tile: int, overlap: int) -> set[int]:
    """The objects on both sides of a border between cells."""
    grid = Grid.of(objects.shape, tile, overlap)
    cut: set[int] = set()
    for maps, spans in ((objects, grid.rows), (objects.T, grid.columns)):
        for border in (span.cell.start for span in spans[1:]):
            before, after = maps[border - 1], maps[border]
            cut |= set(np.unique(before[(before == after) & (before > 0)]).tolist())
    return cut
