"""Folders of images and masks in the layouts that people have; each is made small in the test."""

import json

import numpy as np
import pytest
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.layouts.mask_names import match_names


@pytest.fixture
def make(tmp_path, save_picture):
    """Writes pairs of an image and its mask, whose pixels are 0 but for one of class 1 at the pair's number."""

    def write(pairs):
        for number, (image, mask) in enumerate(pairs):
            ids = np.zeros((4, 6), np.uint8)
            ids.flat[number] = 1
            save_picture(tmp_path / image, np.full((4, 6, 3), number, np.uint8))
            save_picture(tmp_path / mask, ids)
        return str(tmp_path)

    return write


def check_pairs(data, counts):
    """Every image has its own mask, and each split as many as were written, in any order of splits."""
    assert {split: len(samples) for split, samples in data.splits.items()} == counts
    for samples in data.splits.values():
        for index in range(len(samples)):
            sample = samples[index]
            number = int(np.asarray(sample.image).flat[0])
            assert sample.segments.masks()[1].flatten().nonzero().flatten().tolist() == [number]


@pytest.mark.parametrize(
    "mask", ["{}_mask", "{}_L", "mask_{}", "{}-gt", "seg{}", "a_{}_b"], ids=lambda name: name.format("stem")
)
@pytest.mark.parametrize("numbers", [("1", "2", "10", "11"), ("0001", "0002")])
def test_masks_may_have_a_suffix_or_prefix(make, mask, numbers):
    folder = make([(f"images/{number}.png", f"masks/{mask.format(number)}.png") for number in numbers])
    check_pairs(open_dataset(folder, "semantic"), {"train": len(numbers)})


def test_images_and_masks_may_each_have_a_prefix(make):
    folder = make([(f"images/image_{number}.png", f"masks/mask_{number}.png") for number in (1, 2, 10, 12)])
    check_pairs(open_dataset(folder, "semantic"), {"train": 4})


def test_the_mask_name_is_taken_before_names_that_fit_better(make, save_picture, tmp_path):
    pairs = [(f"images/{number}.png", f"masks/{number}_fine.png") for number in range(3)]
    folder = make(pairs)
    for number in range(3):
        save_picture(tmp_path / "masks" / f"{number}.png", np.ones((4, 6), np.uint8))
    assert open_dataset(folder, "semantic").labels.names == ("class_1",)
    for name in ("{stem}_fine.png", "{stem}_fine"):
        check_pairs(open_dataset(folder, "semantic", mask_name=name), {"train": 3})
    with pytest.raises(DataError, match=r"3 of 3 images in .* have no mask called '\{stem\}_rough' .* '0.png'"):
        open_dataset(folder, "semantic", mask_name="{stem}_rough.png")
    with pytest.raises(DataError, match=r"mask_name is the name of an image's mask, .* got '_fine.png'"):
        open_dataset(folder, "semantic", mask_name="_fine.png")


def test_masks_of_several_kinds_are_not_guessed_between(make):
    folder = make([("images/1.png", "masks/1_fine.png"), ("images/1.png", "masks/1_rough.png")])
    with pytest.raises(DataError, match=r"several kinds, \{stem\}_fine, \{stem\}_rough: choose one with --mask_name"):
        open_dataset(folder, "semantic")
    assert len(open_dataset(folder, "semantic", mask_name="{stem}_rough.png").splits["train"]) == 1


def test_an_image_without_its_mask_is_named_with_what_the_others_are_called(make, tmp_path):
    folder = make([(f"images/{number}.png", f"masks/{number}_mask.png") for number in range(4)])
    (tmp_path / "masks" / "2_mask.png").unlink()
    with pytest.raises(DataError, match=r"1 of 4 images in .* no mask called '\{stem\}_mask' .* among them '2.png'"):
        open_dataset(folder, "semantic")


def test_names_are_matched_within_their_folder():
    template, matched = match_names(["a/1", "b/1"], ["a/1_mask", "b/1_mask", "1_mask"])
    assert template == "{stem}_mask" and matched == {"a/1": "a/1_mask", "b/1": "b/1_mask"}


@pytest.mark.parametrize("folder", ["", "train/", "train/patient_1/"])
def test_images_and_masks_may_lie_together(make, folder):
    root = make([(f"{folder}{number}.png", f"{folder}{number}_mask.png") for number in range(3)])
    check_pairs(open_dataset(root, "semantic"), {"train": 3})


def test_images_and_masks_together_may_be_told_apart_by_the_mask_name(make):
    root = make([(f"val/{number}.png", f"val/truth-{number}.png") for number in range(3)])
    check_pairs(open_dataset(root, "semantic", mask_name="truth-{stem}.png"), {"val": 3})


def test_metadata_is_taken_before_names_of_files(make, tmp_path):
    root = make([("train/1.png", "train/1_mask.png")])
    metadata = {"file_name": "1.png", "mask_file_name": "1_mask.png", "image_id": 70}
    (tmp_path / "train" / "metadata.jsonl").write_text(json.dumps(metadata))
    assert open_dataset(root, "semantic").splits["train"][0].image_id == 70
    assert open_dataset(root, "semantic", mask_name="{stem}_mask.png").splits["train"][0].image_id == 0


@pytest.mark.parametrize("dataset", ["nobody/no-such-dataset", "folder"])
def test_a_mask_name_is_refused_where_no_masks_are_found_by_it(make, tmp_path, dataset):
    make([("train/1.png", "train/one.png")])
    dataset = str(tmp_path) if dataset == "folder" else dataset
    with pytest.raises(
        DataError, match=r"mask_name is for a folder with images .* no image has a mask '\{stem\}_m.png'"
    ):
        open_dataset(dataset, "semantic", mask_name="{stem}_m.png")


def test_roboflows_masks_and_table_are_read(make, tmp_path):
    names = [f"{split}/{number}" for split in ("train", "valid") for number in (1, 2)]
    root = make([(f"{name}.jpg", f"{name}_mask.png") for name in names])
    for split in ("train", "valid"):
        (tmp_path / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, crack\n")
    data = open_dataset(root, "semantic")
    assert data.labels.names == ("background", "crack")
    check_pairs(data, {"train": 2, "valid": 2})


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("img_dir/{}", "ann_dir/{}"),  # mmseg
        ("{}", "{}_labels"),  # CamVid on Kaggle
        ("{}", "{}annot"),  # SegNet's CamVid
        ("{}", "{}_masks"),  # Carvana
        ("{}_images", "{}_masks"),
        ("images_{}", "annotations_{}"),
    ],
)
def test_folders_by_split_are_found(make, images, masks):
    pairs = []
    for split in ("train", "val"):
        for number in range(2):
            image, mask = f"{images.format(split)}/{number}.png", f"{masks.format(split)}/{number}_L.png"
            pairs.append((image, mask))
    check_pairs(open_dataset(make(pairs), "semantic"), {"train": 2, "val": 2})


CITY = ("aachen_000000_000019", "aachen_000001_000019", "ulm_000000_000019")


@pytest.mark.parametrize(("kind", "ids"), [("labelIds", (7, 33, 0)), ("labelTrainIds", (0, 18, 255))])
def test_cityscapes_is_read_as_downloaded(tmp_path, save_picture, kind, ids):
    for split in ("train", "val"):
        for name in CITY:
            city = name.split("_")[0]
            save_picture(
                tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", np.zeros((1, 3, 3), "u1")
            )
            folder = tmp_path / "gtFine" / split / city
            save_picture(folder / f"{name}_gtFine_{kind}.png", np.uint8([ids]))
            save_picture(folder / f"{name}_gtFine_instanceIds.png", np.uint16([[0, 24001, 3]]))
            if kind == "labelTrainIds":  # made of the others, which stay
                save_picture(folder / f"{name}_gtFine_labelIds.png", np.uint8([[7, 33, 0]]))
            Image.new("RGBA", (3, 1)).save(folder / f"{name}_gtFine_color.png")
            (folder / f"{name}_gtFine_polygons.json").write_text("{}")
    data = open_dataset(str(tmp_path), "semantic")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 3, "val": 3}
    assert len(data.labels) == 19 and data.labels.names[0] == "road" and data.labels.names[18] == "bicycle"
    segments = data.splits["train"][2].segments
    assert segments.class_ids.tolist() == [0, 18] and segments.void.tolist() == [[False, False, True]]


def test_an_unknown_layout_is_answered_with_those_that_are_read(make):
    folder = make([("photos_of_may/1.png", "drawn/by_anna/1.png")])
    words = r"Its folders are: drawn/, drawn/by_anna/, photos_of_may/. What is read: images/ and masks/.*--mask_name"
    with pytest.raises(DataError, match=words):
        open_dataset(folder, "semantic")
