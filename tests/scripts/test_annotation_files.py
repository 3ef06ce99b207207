"""From files of annotation tools through training to results that are scored against them."""

import contextlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from script_runs import BRIEF, SMALL, run

from image_processing.results import encode_mask
from modeling_maskformer.commands import predict, train
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.inference.loading import load_config

# pycocotools itself has not followed numpy 2 yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = {"car": 17, "sign": 4}
SIZE = (40, 48)


def draw(rng):
    """A picture of one to three rectangles, and (category, left, top, right, bottom) of each."""
    pixels = np.full((*SIZE, 3), 60, np.uint8)
    objects = []
    for left in range(0, 16 * int(rng.integers(1, 4)), 16):
        name = str(rng.choice(list(CATEGORIES)))
        top, height, width = int(rng.integers(2, 20)), int(rng.integers(8, 16)), int(rng.integers(8, 15))
        pixels[top : top + height, left : left + width] = (200, 40, 40) if name == "car" else (40, 40, 200)
        objects.append((name, left, top, left + width, top + height))
    return pixels, objects


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    """Eight images in folders, numbered from 501 in an order that is not that of their names, and their COCO file."""
    root, rng = tmp_path_factory.mktemp("coco"), np.random.default_rng(0)
    images, annotations = [], []
    for number in range(8):
        pixels, objects = draw(rng)
        name = f"{'ab'[number % 2]}/{7 * number % 8}.png"
        (root / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "images" / name)
        images.append({"id": 501 + number, "file_name": name, "height": SIZE[0], "width": SIZE[1]})
        for category, left, top, right, bottom in objects:
            outline = [left, top, right, top, right, bottom, left, bottom]
            size = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 501 + number,
                    "category_id": CATEGORIES[category],
                    "segmentation": [outline],
                    "bbox": [left, top, *size],
                    "area": size[0] * size[1],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": raw, "name": name, "supercategory": "thing"} for name, raw in CATEGORIES.items()]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "instances.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="module")
def checkpoint(coco, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "instance"
    run(train.main, "--dataset", coco, "--task", "instance", "--output_dir", folder, *SMALL, *BRIEF)
    return folder


@pytest.fixture
def perfect(coco, monkeypatch):
    """Predictions are the annotations, found by the pixels of the picture."""
    known = {}
    data = open_dataset(str(coco), "instance")
    for index in range(8):
        sample = data.splits["train"][index]
        known[sample.image.tobytes()] = sample.segments

    class Perfect:
        def __init__(self, *_):
            pass

        def __call__(self, images):
            return [self.prediction(known[image.tobytes()]) for image in images]

        def prediction(self, segments):
            masks = [encode_mask(mask) for mask in segments.masks()]
            infos = [{"id": n, "label_id": int(label), "score": 0.9} for n, label in enumerate(segments.class_ids)]
            return {"segmentation": masks, "segments_info": infos}

    monkeypatch.setattr(predict, "Predictor", Perfect)


def average_precision(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        scores = COCOeval(truth, results, "segm")
        scores.evaluate()
        scores.accumulate()
        scores.summarize()
    return scores.stats[0]


def read_coco(file):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(file))


def test_a_checkpoint_keeps_the_categories_it_was_trained_on(checkpoint):
    config = load_config(checkpoint)
    assert config.id2label == {0: "sign", 1: "car"} and config.category_ids == [4, 17]


@pytest.mark.parametrize("source", ["folder and file", "dataset"])
def test_perfect_predictions_score_1_against_the_users_own_file(coco, checkpoint, perfect, tmp_path, source):
    inputs = ["--inputs", coco / "images", "--coco", coco / "instances.json"]
    inputs = inputs if source == "folder and file" else ["--dataset", coco]
    output = tmp_path / "out"
    run(predict.main, "--model", checkpoint, *inputs, "--output_dir", output, "--no_overlays", "--use_cpu")
    truth, results = read_coco(coco / "instances.json"), read_coco(output / "instances.json")
    assert average_precision(truth, results) == pytest.approx(1.0)
    with contextlib.redirect_stdout(io.StringIO()):
        listed = truth.loadRes(json.loads((output / "instances.json").read_text())["annotations"])
    assert average_precision(truth, listed) == pytest.approx(1.0)
    content = json.loads((output / "instances.json").read_text())
    names = {image["id"]: image["file_name"] for image in truth.dataset["images"]}
    assert {image["id"]: image["file_name"] for image in content["images"]} == names
    assert {category["name"]: category["id"] for category in content["categories"]} == CATEGORIES


def test_without_a_file_categories_and_file_names_are_those_of_the_user(coco, checkpoint, perfect, tmp_path):
    run(predict.main, "--model", checkpoint, "--inputs", coco / "images", "--output_dir", tmp_path, "--use_cpu")
    content = json.loads((tmp_path / "instances.json").read_text())
    truth = read_coco(coco / "instances.json")
    own_ids = {image["file_name"]: image["id"] for image in truth.dataset["images"]}
    assert {image["file_name"] for image in content["images"]} == own_ids.keys()
    own_ids = {image["id"]: own_ids[image["file_name"]] for image in content["images"]}
    for entry in content["annotations"]:
        entry["image_id"] = own_ids[entry["image_id"]]
    with contextlib.redirect_stdout(io.StringIO()):
        results = truth.loadRes(content["annotations"])
    assert average_precision(truth, results) == pytest.approx(1.0)


def test_pictures_and_classes_that_the_file_lacks_are_counted(coco, checkpoint, perfect, tmp_path, caplog):
    content = json.loads((coco / "instances.json").read_text())
    content["images"] = content["images"][2:]
    content["categories"] = [{"id": 4, "name": "sign"}, {"id": 5, "name": "tree"}]
    (tmp_path / "fewer.json").write_text(json.dumps(content))
    flags = ["--inputs", coco / "images", "--output_dir", tmp_path / "out", "--no_overlays", "--use_cpu"]
    run(predict.main, "--model", checkpoint, *flags, "--coco", tmp_path / "fewer.json")
    assert "does not list 2 of the 8 pictures, among them 'a/0.png'" in caplog.text
    assert "does not name 1 of the checkpoint's 2 classes, among them 'car'" in caplog.text
    found = json.loads((tmp_path / "out" / "instances.json").read_text())
    ids = [image["id"] for image in found["images"]]
    assert len(set(ids)) == 8 and {image["id"] for image in content["images"]} < set(ids)
    assert {category["name"] for category in found["categories"]} == {"sign", "car"}
    assert next(entry["id"] for entry in found["categories"] if entry["name"] == "car") not in (4, 5)


def test_a_picture_of_another_size_than_in_the_file_fails_by_name(coco, checkpoint, perfect, tmp_path, capsys):
    content = json.loads((coco / "instances.json").read_text())
    content["images"][0]["width"] += 1
    (tmp_path / "other.json").write_text(json.dumps(content))
    flags = ["--inputs", coco / "images", "--output_dir", tmp_path / "out", "--no_overlays", "--use_cpu"]
    with pytest.raises(SystemExit, match="1"):
        run(predict.main, "--model", checkpoint, *flags, "--coco", tmp_path / "other.json")
    said = capsys.readouterr()
    assert "7 of 8 pictures segmented" in said.out and "against which its result is to be scored" in said.err


def test_a_file_of_other_images_or_classes_is_refused(coco, checkpoint, tmp_path, refused):
    content = json.loads((coco / "instances.json").read_text())
    flags = ["--model", checkpoint, "--inputs", coco / "images", "--output_dir", tmp_path / "out", "--use_cpu"]
    for change, words in (
        (
            {"images": [{"id": 1, "file_name": "other.png"}]},
            "lists none of the 8 pictures: the first is called 'a/0.png'",
        ),
        ({"categories": [{"id": 1, "name": "tree"}]}, "names none of the checkpoint's 2 classes, such as 'sign'"),
        ({"categories": []}, "is no COCO file"),
        ({"images": [{"id": [1], "file_name": "a/0.png"}]}, "an image has no file_name or no id"),
    ):
        (tmp_path / "other.json").write_text(json.dumps(content | change))
        assert words in refused(predict.main, *flags, "--coco", tmp_path / "other.json")
    assert "There is no COCO file" in refused(predict.main, *flags, "--coco", tmp_path / "nowhere.json")
    for more in ([], ["--overwrite"], ["--resume"]):
        into_it = [*flags[:4], "--use_cpu", "--output_dir", coco, "--coco", coco / "instances.json"]
        assert "would replace" in refused(predict.main, *into_it, *more)
    semantic = refused(predict.main, *flags, "--task", "semantic", "--coco", coco / "instances.json")
    assert "--coco is for instance and panoptic results" in semantic


def test_labelmes_files_train_a_semantic_model(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "data").mkdir()
    for number in range(7):
        pixels, objects = draw(rng)
        Image.fromarray(pixels).save(tmp_path / "data" / f"{number}.png")
        shapes = [
            {"label": name, "points": [[left, top], [right, bottom]], "shape_type": "rectangle", "group_id": None}
            for name, left, top, right, bottom in objects
        ]
        content = {"shapes": shapes, "imagePath": f"{number}.png", "imageData": None, "imageHeight": SIZE[0]}
        (tmp_path / "data" / f"{number}.json").write_text(json.dumps(content | {"imageWidth": SIZE[1]}))
    run(
        train.main,
        "--dataset",
        tmp_path / "data",
        "--task",
        "semantic",
        "--output_dir",
        tmp_path / "run",
        *SMALL,
        *BRIEF,
    )
    config = load_config(tmp_path / "run")
    assert config.id2label == {0: "background", 1: "car", 2: "sign"} and config.category_ids is None
    results = json.loads((tmp_path / "run" / "eval_results.json").read_text())
    assert 0 <= results["mean_iou"] <= 1
