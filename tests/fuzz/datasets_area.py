"""Datasets: COCO's JSON, YOLO's files, maps of classes and ids, label files; opened and read to the last sample."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from hypothesis import strategies as st
from PIL import Image

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_files import read_named_ids
from modeling_maskformer.data.labels.label_set import make_label_set

from .values import changed, odd_texts, odd_values

SIZE = (8, 6)  # width, height
CATEGORIES = [{"id": 1, "name": "road", "isthing": 0}, {"id": 7, "name": "car", "isthing": 1}]
IMAGES = [{"id": number, "file_name": f"{number}.png", "width": 8, "height": 6} for number in (1, 2)]
INSTANCES = {
    "images": IMAGES,
    "categories": CATEGORIES,
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 7,
            "iscrowd": 0,
            "segmentation": [[0, 0, 4, 0, 4, 4]],
            "bbox": [0, 0, 4, 4],
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 1,
            "iscrowd": 1,
            "segmentation": {"size": [6, 8], "counts": [20, 8, 20]},
        },
        {"id": 3, "image_id": 2, "category_id": 7, "iscrowd": 0, "segmentation": {"size": [6, 8], "counts": "d0`0d0"}},
    ],
}
PANOPTIC = {
    "images": IMAGES,
    "categories": CATEGORIES,
    "annotations": [
        {
            "image_id": number,
            "file_name": f"{number}.png",
            "segments_info": [{"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 7, "iscrowd": 0}],
        }
        for number in (1, 2)
    ],
}
YOLO_YAML = {"names": {0: "road", 1: "car"}, "train": "images/train", "val": "images/val", "path": "."}
LABEL_LINES = ["0 0.1 0.1 0.5 0.1 0.5 0.5", "1 0.2 0.2 0.9 0.2 0.9 0.9 0.2 0.9"]

coco_instance = changed(INSTANCES).map(lambda content: ("coco_instance", content))
coco_panoptic = changed(PANOPTIC).map(lambda content: ("coco_panoptic", content))
numbers = st.one_of(st.integers(-3, 3), st.floats(0, 1), st.floats(), st.text(max_size=4)).map(str)
lines = st.one_of(st.sampled_from(LABEL_LINES), st.lists(numbers, max_size=9).map(" ".join), odd_texts)
yolo = st.tuples(
    st.just("yolo"),
    st.one_of(st.just(YOLO_YAML), changed(YOLO_YAML, most=2)),
    st.lists(lines, max_size=4).map("\n".join),
)
MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr")
small_sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))
maps = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(MODES),
        "size": st.one_of(st.just(SIZE), small_sizes),
        "values": st.lists(st.sampled_from([0, 1, 2, 3, 7, 200, 254, 255, 256, 65535]), min_size=1, max_size=4),
        "task": st.sampled_from(["semantic", "instance", "panoptic"]),
        "format": st.sampled_from(
            [None, None, "class_map", "channels", "binary_mask", "colour_map", "coco_panoptic", "yolo"]
        ),
        "reduce_labels": st.booleans(),
        "ignore_index": st.sampled_from([None, 0, 1, 255, -1]),
        "broken": st.sampled_from([0, 0, 0, 0, 1, 20]),  # bytes that are left
    }
).map(lambda case: ("maps", case))
LABEL_FILES = [{"0": "sky", "1": "road"}, {"sky": 0, "road": 5}, ["sky", "road"], CATEGORIES]
labels = st.one_of(
    st.sampled_from(LABEL_FILES).flatmap(changed), odd_values, odd_texts, st.sampled_from(LABEL_FILES).map(json.dumps)
).map(lambda content: ("labels", content))
CSV = ["name,r,g,b\nsky,1,2,3\nroad,4,5,6\n", "Pixel Value, Class\n0, sky\n1, road\n", "1 2 3 sky\n4 5 6 road\n"]
csv_files = st.tuples(
    st.just("label_table"),
    st.sampled_from(["class_dict.csv", "label_colors.txt", "_classes.csv"]),
    st.one_of(st.sampled_from(CSV), st.lists(st.text(alphabet="sky0123456789,; \n\"'é", max_size=20)).map("\n".join)),
)

cases = st.one_of(coco_instance, coco_panoptic, yolo, maps, labels, csv_files)


def run(case: tuple) -> None:
    """Opens the dataset as train, evaluate and predict do, and reads it."""
    kind, *content = case
    if kind == "labels":
        named = read_named_ids(content[0])
        make_label_set(named, {255}, reduce_labels=True)
        return
    with tempfile.TemporaryDirectory() as name, _own_cache(Path(name) / "cache"):
        folder = Path(name) / "data"
        folder.mkdir()
        task = {"coco_instance": "instance", "yolo": "instance", "coco_panoptic": "panoptic"}.get(kind, "semantic")
        options: dict[str, Any] = {}
        if kind in ("coco_instance", "coco_panoptic"):
            _write_coco(folder, kind, content[0])
        elif kind == "yolo":
            _write_yolo(folder, *content)
        elif kind == "maps":
            task, options = content[0]["task"], _write_maps(folder, content[0])
        elif kind == "label_table":
            _write_maps(folder, {"mode": "RGB", "size": SIZE, "values": [1, 4], "broken": 0})
            (folder / content[0]).write_text(content[1], encoding="utf-8")
        read(folder, task, options)


def read(folder: Path, task: str, options: dict[str, Any]) -> None:
    """Every sample; an error of one ends none of the others."""
    errors: list[DataError] = []
    data = open_dataset(str(folder), task, **options)
    for samples in data.splits.values():
        for index in range(len(samples)):
            try:
                sample = samples[index]
            except DataError as error:
                errors.append(error)
                assert f"Sample {index} of split" in str(error), error
            else:
                assert sample.segments.size == (sample.image.height, sample.image.width)
                assert all(0 <= label < len(data.labels) for label in sample.segments.class_ids.tolist())
    pictures = dataset_pictures(str(folder), next(iter(data.splits)))
    assert len(pictures) > 0
    if errors:
        raise errors[0]


def _write_coco(folder: Path, kind: str, content: Any) -> None:
    (folder / "train").mkdir()
    for number in (1, 2):
        Image.new("RGB", SIZE, (number,) * 3).save(folder / "train" / f"{number}.png")
        if kind == "coco_panoptic":
            (folder / "panoptic_train").mkdir(exist_ok=True)
            ids = np.zeros((6, 8, 3), np.uint8)
            ids[:3, :, 0], ids[3:, :, 0] = 1, 2
            Image.fromarray(ids).save(folder / "panoptic_train" / f"{number}.png")
    name = "panoptic_train.json" if kind == "coco_panoptic" else "instances_train.json"
    (folder / name).write_text(json.dumps(content))


def _write_yolo(folder: Path, description: Any, text: str) -> None:
    import yaml

    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        Image.new("RGB", SIZE).save(folder / "images" / split / "0.png")
        (folder / "labels" / split / "0.txt").write_text(text, encoding="utf-8", errors="replace")
    (folder / "data.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")


def _write_maps(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    Image.new("RGB", SIZE).save(folder / "images" / "0.png")
    width, height = case["size"]
    values = np.resize(np.array(case["values"]), (height, width))
    mode = case["mode"]
    if mode in ("I", "I;16", "F"):
        picture = Image.fromarray(values.astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]))
    else:
        grey = Image.fromarray(values.astype(np.uint8))
        picture = Image.frombytes("P", grey.size, grey.tobytes()) if mode == "P" else grey.convert(mode)
    file = folder / "masks" / ("0.tif" if mode in ("F", "I", "CMYK", "YCbCr") else "0.png")
    picture.save(file)
    if case["broken"]:
        file.write_bytes(file.read_bytes()[: case["broken"]])
    names = {"annotation_format": "format", "reduce_labels": "reduce_labels", "ignore_index": "ignore_index"}
    return {name: case[key] for name, key in names.items() if key in case}


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = folder
    try:
        yield
    finally:
        datasets.config.HF_DATASETS_CACHE = before
