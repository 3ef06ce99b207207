"""scripts/train.py and evaluate.py on folders as they are downloaded, from the first flag to the results."""

import json

import numpy as np
import pytest
from PIL import Image
from script_runs import BRIEF, SMALL, run

from modeling_maskformer.commands import evaluate, train

VOC_CAR = 7


def draw_cars(rng):
    """A picture 40 x 48 of up to two cars on a road, and the map of the cars' numbers."""
    instances = np.zeros((40, 48), np.uint8)
    for number in range(1, 1 + int(rng.integers(1, 3))):
        top, left = int(rng.integers(20, 28)), 24 * (number - 1) + int(rng.integers(2, 8))
        instances[top : top + 8, left : left + 12] = number
    return np.uint8([(90, 90, 90), (200, 40, 40), (200, 40, 40)])[instances], instances


def write_voc(folder):
    """VOC2012's folders: 6 images to train on, 3 to measure on."""
    rng = np.random.default_rng(0)
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    for split, count in (("train", 6), ("val", 3)):
        names = [f"2007_{len(split)}{number:05d}" for number in range(count)]
        (folder / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            image, instances = draw_cars(rng)
            for kind, array, ending in (
                ("JPEGImages", image, "jpg"),
                ("SegmentationClass", np.where(instances > 0, VOC_CAR, 0).astype(np.uint8), "png"),
                ("SegmentationObject", instances, "png"),
            ):
                (folder / kind).mkdir(exist_ok=True)
                Image.fromarray(array).save(folder / kind / f"{name}.{ending}")


def write_objects(folder):
    """A folder for each of 9 images, with a mask for each object."""
    rng = np.random.default_rng(0)
    for number in range(9):
        image, instances = draw_cars(rng)
        for kind in ("images", "masks"):
            (folder / "stage1_train" / f"id{number}" / kind).mkdir(parents=True)
        Image.fromarray(image).save(folder / "stage1_train" / f"id{number}" / "images" / f"id{number}.png")
        for object_id in np.unique(instances)[1:]:
            mask = ((instances == object_id) * 255).astype(np.uint8)
            Image.fromarray(mask).save(folder / "stage1_train" / f"id{number}" / "masks" / f"{object_id}.png")


@pytest.mark.parametrize(
    ("write", "task", "flags", "classes", "metric"),
    [
        (write_voc, "instance", (), ["car"], "ap"),
        (write_objects, "panoptic", ("--validation_fraction", 0.3), ["background", "object"], "pq"),
    ],
    ids=["VOC", "a mask for each object"],
)
def test_a_downloaded_folder_is_trained_on_and_measured(tmp_path, write, task, flags, classes, metric):
    data, output = tmp_path / "data", tmp_path / "out"
    write(data)
    arguments = ("--dataset", data, "--task", task)
    run(train.main, *arguments, *flags, "--output_dir", output, *SMALL, *BRIEF)
    results = json.loads((output / "eval_results.json").read_text())
    found = [name for name in results["per_class"] if name in classes]
    assert metric in results and found == classes
    measured = tmp_path / "measured.json"
    run(evaluate.main, "--model", output, *arguments, "--output_file", measured, "--use_cpu")
    assert json.loads(measured.read_text())[metric] == pytest.approx(results[metric], abs=1e-6)
