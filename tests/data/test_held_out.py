"""What a run has set aside is known again: in a dataset that grew, in another order, and on going on with the run."""

import json
import shutil

import datasets
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image
from torch.utils.data import Subset

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.held_out import HELD_OUT_NAME, HeldOut, draw, held_out_of, part, parts_of_run
from modeling_maskformer.data.samples import read_encoded


@pytest.fixture
def write(tmp_path):
    """Writes pictures of the given numbers, each unlike all others, into a folder of images and masks."""

    def make(name, numbers, first=0):
        folder = tmp_path / name
        for kind in ("images", "masks"):
            (folder / kind).mkdir(parents=True, exist_ok=True)
        for place, number in enumerate(numbers, start=first):
            picture = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
            Image.fromarray(picture).save(folder / "images" / f"{place:02}.png")
            Image.fromarray(np.uint8([[0, 1, 2, 1]])).resize((8, 6)).save(folder / "masks" / f"{place:02}.png")
        return folder

    return make


def opened(folder):
    return open_dataset(str(folder), "semantic", id2label=["sky", "road", "car"])


def pictures(samples):
    return [np.asarray(samples[index].image).tobytes() for index in range(len(samples))]


@pytest.fixture
def begun(write, tmp_path):
    """A dataset of 10 images of which a run has set two aside, and the folder of the run."""
    data = opened(write("data", range(10)))
    validation = data.train_and_validation(validation_fraction=0.2, seed=7)[1]
    HeldOut.of(data.splits, validation).save(tmp_path / "run")
    return pictures(validation), tmp_path / "run"


def test_each_image_is_kept_with_its_name(begun):
    kept = json.loads((begun[1] / HELD_OUT_NAME).read_text())
    names = [image["name"] for image in kept["images"]]
    assert kept["train_split"] == "train" and len(names) == 2 and set(names) <= {f"{n:02}" for n in range(10)}
    assert held_out_of(str(begun[1] / "checkpoint-3")) == held_out_of(str(begun[1]))


@pytest.mark.parametrize("numbers", [range(10), range(14), [*range(20, 24), *range(10)], range(9, -1, -1)])
def test_images_are_found_again_in_a_dataset_that_grew_or_has_another_order(begun, write, numbers):
    samples = opened(write("now", numbers)).splits["train"]
    found = held_out_of(str(begun[1])).find(samples)
    assert sorted(pictures(part(samples, found.indices)[1])) == sorted(begun[0])


@pytest.mark.parametrize("numbers", [range(20, 60), [20], range(1)])
def test_other_images_of_the_same_names_are_not_taken_for_them(begun, write, numbers):
    found = held_out_of(str(begun[1])).find(opened(write("now", numbers)).splits["train"])
    assert found.indices == [] and found.missing is not None


def test_images_of_a_table_are_known_by_their_pictures(begun, write, tmp_path):
    folder = write("data", range(10))
    files = [sorted(map(str, (folder / kind).iterdir())) for kind in ("images", "masks")]
    rows = Dataset.from_dict(dict(zip(("image", "annotation"), files, strict=True)))
    rows = rows.cast_column("image", datasets.Image()).cast_column("annotation", datasets.Image())
    DatasetDict({"train": rows}).save_to_disk(tmp_path / "table")  # holds the pictures themselves
    shutil.rmtree(folder)
    samples = opened(tmp_path / "table").splits["train"]
    found = held_out_of(str(begun[1])).find(samples)
    assert pictures(part(samples, found.indices)[1]) == begun[0]


def test_of_images_that_are_there_twice_as_many_are_set_aside_as_were(write, tmp_path):
    data = opened(write("data", [1, 2, 1, 3, 1]))
    HeldOut.of(data.splits, Subset(data.splits["train"], [0, 2])).save(tmp_path / "run")
    assert held_out_of(str(tmp_path / "run")).find(data.splits["train"]).indices == [0, 2]
    now = opened(write("now", [3, 2, 1, 1, 1])).splits["train"]
    assert held_out_of(str(tmp_path / "run")).find(now).indices == [2, 3]


@pytest.mark.parametrize("is_table", [False, True])
def test_an_image_that_is_there_several_times_is_either_trained_on_or_set_aside(write, tmp_path, is_table):
    numbers = [number for number in range(8) for _ in range(3)]
    folder = write("data", numbers)
    if is_table:
        images = [{"bytes": file.read_bytes(), "path": None} for file in sorted((folder / "images").iterdir())]
        masks = [str(file) for file in sorted((folder / "masks").iterdir())]
        table = Dataset.from_dict({"image": images, "mask": masks})
        table = table.cast_column("image", datasets.Image()).cast_column("mask", datasets.Image())
        data = open_dataset(table.shuffle(seed=0), "semantic", id2label=["sky", "road", "car"])
    else:
        data = opened(folder)
    for seed in range(4):
        train, validation = data.train_and_validation(validation_fraction=0.2, seed=seed)
        assert len(train) == 18 and len(validation) == 6  # the fraction is of 4.8
        assert not set(pictures(train)) & set(pictures(validation))
        assert validation.indices == data.train_and_validation(validation_fraction=0.2, seed=seed)[1].indices
    with pytest.raises(DataError, match="The 3 samples have too few different images"):
        opened(write("alike", [1, 1, 1])).train_and_validation()


@pytest.mark.parametrize(("fraction", "seed"), [(0.2, 7), (0.2, 8), (0.5, 7)])
@pytest.mark.parametrize("numbers", [range(10), range(16)])
def test_a_run_that_goes_on_measures_on_what_it_began_with(begun, write, caplog, fraction, seed, numbers):
    drawn = opened(write("now", numbers)).train_and_validation(validation_fraction=fraction, seed=seed)
    train, validation = parts_of_run(drawn, str(begun[1] / "checkpoint-3"))
    assert sorted(pictures(validation)) == sorted(begun[0])
    assert len(train) == len(numbers) - 2 and not set(pictures(train)) & set(begun[0])
    assert ("2 of what are now" in caplog.text) == ((fraction, seed, len(numbers)) != (0.2, 7, 10))


def test_a_run_does_not_go_on_without_the_images_it_was_measured_on(begun, write):
    drawn = opened(write("now", range(20, 30))).train_and_validation()
    with pytest.raises(DataError, match=r"not all in the dataset any more, among them '\d\d': go on with the dataset"):
        parts_of_run(drawn, str(begun[1] / "checkpoint-3"))


def test_files_of_one_length_are_not_compared_each_with_each():
    """As of pictures that are not compressed, of which there may be a hundred thousand."""

    class Digest(str):
        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other):
            Digest.compared += 1
            return str.__eq__(self, other)

    class Samples:
        def __len__(self):
            return 400

        def lengths(self):
            return [7] * 400

        def identity(self, index):
            return str(index), Digest(index)

    assert len(draw(Samples(), 0.1, seed=0)) == 40
    assert Digest.compared <= 400


def test_an_image_that_was_mended_stays_set_aside(begun, write, caplog):
    """As the run asks for where it comes upon one that cannot be read."""
    folder = write("now", range(10))
    names = [image.name for image in held_out_of(str(begun[1])).images]
    Image.new("RGB", (8, 6), "white").save(folder / "images" / f"{names[0]}.png")
    train, validation = parts_of_run(opened(folder).train_and_validation(), str(begun[1] / "checkpoint-3"))
    assert sorted(validation[place].name for place in range(2)) == sorted(names)
    assert len(train) == 8
    assert f"these have changed, and stay set aside: '{names[0]}'" in caplog.text


def test_a_file_that_tells_nothing_is_named(tmp_path):
    for content in ("", '{"train_split": "train", "images": [{"ind', '{"images": [{"index": 1}]}', "[1]"):
        (tmp_path / HELD_OUT_NAME).write_text(content)
        with pytest.raises(DataError, match=r"held_out\.json does not tell which images a run has set aside: "):
            held_out_of(str(tmp_path))


def test_a_run_does_not_go_on_to_train_on_what_it_has_set_aside(begun, write, tmp_path):
    for split, numbers in (("train", range(10)), ("val", range(10, 12))):
        write(f"now/{split}", numbers)
    data = opened(tmp_path / "now")
    with pytest.raises(DataError, match="would now train on them and be measured on another split: name the training"):
        parts_of_run(data.train_and_validation(), str(begun[1] / "checkpoint-3"))
    parts = data.train_and_validation(validation_split="train")
    assert pictures(parts_of_run(parts, str(begun[1] / "checkpoint-3"))[1]) == begun[0]


def test_where_it_is_not_known_what_was_set_aside_it_is_said(write, tmp_path, caplog):
    drawn = opened(write("data", range(10))).train_and_validation()
    assert parts_of_run(drawn, str(tmp_path / "run" / "checkpoint-3")) is drawn
    assert "some may have been trained on" in caplog.text


@pytest.mark.parametrize("picture", [None, {"bytes": None, "path": None}])
def test_an_empty_picture_is_named_where_images_are_set_aside(picture):
    with pytest.raises(DataError, match=r"column 'image' is empty, a picture is expected"):
        read_encoded(picture, "image")
