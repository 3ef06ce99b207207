"""maskformer data: pictures of a dataset as training sees it, its classes and its numbers."""

import json
import shutil
import sys

import numpy as np
import pytest
from PIL import Image
from script_runs import run

from image_processing.drawing import charts
from image_processing.drawing.colors import class_color
from modeling_maskformer.commands import command_line, data
from modeling_maskformer.data.contact_sheet import SHORT_SIDE, draw_contact_sheet
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import SegmentationDataset


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_sheet_classes_and_summary_are_written(street, street_objects, tmp_path, capsys, task):
    dataset = street if task == "semantic" else street_objects
    run(data.main, "--dataset", dataset, "--task", task, "--output_dir", tmp_path / "look", "--num_pictures", 3)
    files = sorted(path.name for path in (tmp_path / "look").iterdir())
    assert files == ["classes.png", "contact_sheet.png", "summary.txt"]
    summary = (tmp_path / "look" / "summary.txt").read_text()
    assert summary.startswith("Found: 6 training images, all of 40x48 pixels") and "road" in summary
    printed = capsys.readouterr().out
    assert summary.strip() in printed and str(tmp_path / "look" / "contact_sheet.png") in printed
    sheet = Image.open(tmp_path / "look" / "contact_sheet.png")
    assert sheet.width > 3 * 400 and sheet.height > 2 * SHORT_SIDE


def test_it_is_a_command_of_maskformer(street, tmp_path, monkeypatch, capsys):
    words = ["maskformer", "data", "--dataset", street, "--task", "semantic", "--output_dir", tmp_path]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    command_line.main()
    assert "contact_sheet.png" in capsys.readouterr().out


def test_the_views_are_those_that_training_would_draw(street):
    samples = open_dataset(str(street), "semantic").splits["train"]
    still = Augmentation(
        AugmentationConfig(
            crop_size=(40, 40),
            scale_range=(1.0, 1.0),
            horizontal_flip=0.0,
            **dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0),
        )
    )
    names = {0: "sky", 1: "road", 2: "car"}
    one, again, other = (draw_contact_sheet(SegmentationDataset(samples, still), 2, names, seed) for seed in (0, 0, 1))
    assert one.tobytes() == again.tobytes() != other.tobytes()
    sheet = np.asarray(one).astype(int)
    for label in names:  # in the legend; and mixed into the pictures
        assert (sheet == class_color(label)).all(-1).any()


def test_void_is_dark_and_striped(street, tmp_path):
    folder = shutil.copytree(street, tmp_path / "street")
    for path in folder.glob("train/masks/*.png"):
        mask = np.asarray(Image.open(path)).copy()
        mask[:, 24:] = 255
        Image.fromarray(mask).save(path)
    samples = open_dataset(str(folder), "semantic").splits["train"]
    augmentation = Augmentation(AugmentationConfig(crop_size=(40, 40)))
    sheet = np.asarray(draw_contact_sheet(SegmentationDataset(samples, augmentation), 1, {}).convert("L")).astype(int)
    left, right = sheet[40:380, 20:210], sheet[40:380, 240:430]  # of the first picture, enlarged nine times
    assert np.median(right) < 0.6 * np.median(left)
    assert ((right == 200).mean() > 0.1) and not (left == 200).mean() > 0.05


def test_without_charts_the_rest_is_written(street, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(charts.importlib.util, "find_spec", lambda name: None)
    run(data.main, "--dataset", street, "--task", "semantic", "--output_dir", tmp_path, "--num_pictures", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contact_sheet.png", "summary.txt"]
    assert charts.MISSING in capsys.readouterr().out


def test_bad_data_and_flags_are_sentences(street, tmp_path, refused):
    folder = shutil.copytree(street, tmp_path / "street")
    Image.new("L", (40, 40)).save(folder / "train" / "masks" / "2.png")
    out = ["--output_dir", tmp_path / "out"]
    assert "40 x 40" in refused(data.main, "--dataset", folder, "--task", "semantic", *out)
    assert "--task is needed" in refused(data.main, "--dataset", street, *out)
    assert "--num_pictures must be" in refused(
        data.main, "--dataset", street, "--task", "semantic", "--num_pictures", -1, *out
    )


def test_bad_samples_to_evaluate_on_are_named_as_in_training(street, tmp_path, refused):
    folder = shutil.copytree(street, tmp_path / "street")
    (split,) = {path.name for path in folder.iterdir() if path.is_dir()} - {"train"}
    Image.new("L", (40, 40)).save(sorted((folder / split / "masks").glob("*.png"))[0])
    show = (data.main, "--task", "semantic", "--output_dir", tmp_path / "out")
    assert "40 x 40" in refused(*show, "--dataset", folder)
    assert "no split 'vla'" in refused(*show, "--dataset", street, "--validation_split", "vla")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["contact_sheet.png", "classes.png", "summary.txt"])
def test_files_of_somebody_else_stay_and_its_own_are_replaced(street, tmp_path, refused, name):
    show = (data.main, "--dataset", street, "--task", "semantic", "--num_pictures", 1, "--output_dir", tmp_path)
    run(*show)
    run(*show)
    own = tmp_path / name
    if own.suffix == ".png":
        Image.new("RGB", (4, 4)).save(own)
    else:
        own.write_text("my summary")
    content = own.read_bytes()
    assert f"{own} is already there, without the mark of this command" in refused(*show)
    assert own.read_bytes() == content


def test_nothing_of_validation_images_is_needed(street, tmp_path):
    folder = shutil.copytree(street / "train", tmp_path / "street")
    (folder / "id2label.json").write_text(json.dumps({"0": "sky", "1": "road", "2": "car"}))
    run(data.main, "--dataset", folder, "--task", "semantic", "--output_dir", tmp_path / "out", "--num_pictures", 0)
    assert not (tmp_path / "out" / "contact_sheet.png").exists()
    assert "car" in (tmp_path / "out" / "summary.txt").read_text()
