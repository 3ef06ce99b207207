"""Whatever stands in a file of annotations, it is read or refused in a sentence: nothing else is raised."""

import copy
import json
import random

import numpy as np
import pytest

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

HEIGHT, WIDTH = 12, 16
VALUES = [None, True, 0, -1, 1.5, float("nan"), float("inf"), 1e300, 10**30, 10**400, "", "x", "1", "\0", "../x"]
VALUES += [
    "C:\\x",
    [],
    {},
    [[]],
    [{}],
    [None],
    {"a": 1},
    [[1, 2]],
    "é" * 300,
    [1, "2"],
    {"size": [1, 1], "counts": [1]},
]
IMAGES = [{"id": number, "file_name": f"{number}.png", "width": WIDTH, "height": HEIGHT} for number in (1, 2)]
RUN_LENGTHS = {"size": [HEIGHT, WIDTH], "counts": [10, 20, 162]}
SHAPES = [
    {"label": "a", "points": [[1, 1], [9, 1], [9, 9]], "group_id": None, "shape_type": "polygon"},
    {"label": "b", "points": [[5, 5], [5, 8]], "group_id": 3, "shape_type": "circle"},
    {"label": "b", "points": [[2, 2], [8, 8]], "group_id": 3, "shape_type": "rectangle"},
]
FILES = {
    "instances.json": {
        "images": IMAGES,
        "annotations": [
            {
                "image_id": 1,
                "category_id": 1,
                "segmentation": [[1, 1, 9, 1, 9, 9]],
                "bbox": [1, 1, 8, 8],
                "iscrowd": 0,
            },
            {"image_id": 2, "category_id": 2, "segmentation": RUN_LENGTHS, "iscrowd": 1},
        ],
        "categories": [{"id": 1, "name": "a", "supercategory": "x"}, {"id": 2, "name": "b"}],
    },
    "panoptic.json": {
        "images": IMAGES,
        "annotations": [
            {
                "image_id": number,
                "file_name": f"{number}.png",
                "segments_info": [{"id": 1, "category_id": 1, "iscrowd": 0}, {"id": 2, "category_id": 2}],
            }
            for number in (1, 2)
        ],
        "categories": [{"id": 1, "name": "a", "isthing": 1}, {"id": 2, "name": "b", "isthing": 0}],
    },
    "1.json": {"shapes": SHAPES, "imagePath": "1.png", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH},
    "data.yaml": {"path": ".", "train": ".", "val": ["."], "names": ["a", "b"], "nc": 2},
}


def places(content, path=()):
    """Where there are values in a JSON file: keys and positions on the way to them."""
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [(*path, key) for key, _ in inside] + [
        place for key, value in inside for place in places(value, (*path, key))
    ]


@pytest.mark.parametrize("name", FILES)
def test_a_value_of_any_kind_in_any_place_is_read_or_refused(tmp_path, save_picture, name):
    draw, outcomes = random.Random(0), set()
    for number in (1, 2):
        save_picture(tmp_path / f"{number}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        (tmp_path / f"{number}.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
        ids = np.repeat(np.uint8([1, 2]), HEIGHT * WIDTH // 2).reshape(HEIGHT, WIDTH)
        save_picture(tmp_path / "maps" / f"{number}.png", ids)
    for number in range(40):
        content = copy.deepcopy(FILES[name])
        *way, last = draw.choice(places(content))
        inner = content
        for key in way:
            inner = inner[key]
        if number % 5 == 0:
            del inner[last]
        else:
            inner[last] = copy.deepcopy(draw.choice(VALUES))
        (tmp_path / name).write_text(json.dumps(content))  # YAML can be written like this, too
        try:
            data = open_dataset(str(tmp_path), draw.choice(["semantic", "instance", "panoptic"]))
            for samples in data.splits.values():
                for index in range(len(samples)):
                    assert samples[index].segments.size == (HEIGHT, WIDTH)
            outcomes.add("read")
        except DataError as error:
            assert len(str(error)) < 2000
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("word", ["nan", "inf", "-1", "1e400", "2.5", "é", "1_0", "9" * 30, "0x1"])
def test_a_word_of_any_kind_in_a_label_file_names_its_sample(tmp_path, save_picture, word):
    for number in (1, 2):
        save_picture(tmp_path / f"{number}.png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    (tmp_path / "data.yaml").write_text("train: .\nnames: [a, b]")
    good = ["0", "0.1", "0.1", "0.9", "0.1", "0.9", "0.9"]
    for place in (0, 3):
        (tmp_path / "2.txt").write_text(" ".join([*good[:place], word, *good[place + 1 :]]))
        samples = open_dataset(str(tmp_path), "instance").splits["train"]
        with pytest.raises(DataError, match=r"Sample 1 of split 'train' \(2\): "):
            samples[1]
