"""Folders of images and masks in the layouts that people have; each is made small in the test."""

import json
import os
import re
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.layouts.folders.mask_names import match_names
from modeling_maskformer.training.arguments.data_arguments import DataArguments


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


def test_a_name_that_is_not_utf_8_is_named(make, tmp_path):
    folder = make([("images/1.png", "masks/1.png"), ("images/2.png", "masks/2.png")])
    for kind in ("images", "masks"):
        path = os.fsencode(tmp_path / kind)
        try:
            os.rename(path + b"/2.png", path + b"/\xd6\xd0.png")
        except OSError:
            pytest.skip("This file system has no such names.")
    with pytest.raises(DataError, match=r"The file name '.*udcd6.udcd0.png' is not in UTF-8"):
        open_dataset(folder, "semantic")


@pytest.mark.parametrize(("images", "masks"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
@pytest.mark.parametrize("is_listed", [False, True])
def test_accents_may_be_written_in_both_ways_that_unicode_has(make, tmp_path, images, masks, is_listed):
    pairs = [(f"JPEGImages/{normalize(images, n)}.jpg", f"SegmentationClass/{normalize(masks, n)}.png") for n in "éü"]
    folder = make(pairs)
    if is_listed:
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Segmentation" / "train.txt").write_text(
            normalize(masks, "é\nü\n"), encoding="utf-8"
        )
    check_pairs(open_dataset(folder, "semantic"), {"train": 2})


def test_an_example_beside_the_folders_of_images_and_masks_is_not_all_there_is(make):
    pairs = [(f"images/{split}/{number}.png", f"masks/{split}/{number}.png") for split in "ab" for number in range(2)]
    folder = make(pairs)
    make([("example/images/0.png", "example/masks/0.png")])
    check_pairs(open_dataset(folder, "semantic"), {"train": 4})


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


@pytest.mark.parametrize(("image", "mask"), [("jpg", "png"), ("JPG", "PNG"), ("jpeg", "gif"), ("tif", "png")])
@pytest.mark.parametrize("folder", ["", "val/"])
def test_images_and_masks_of_one_name_may_lie_together(make, tmp_path, image, mask, folder):
    root = make([(f"{folder}{number}.{image}", f"{folder}{number}.{mask}") for number in range(3)])
    check_pairs(open_dataset(root, "semantic"), {folder.rstrip("/") or "train": 3})
    make([(f"{folder}7.{image}", f"{folder}unused.{mask}")])
    with pytest.raises(DataError, match=rf"1 of 4 images in .* no mask of the same stem .* among them '7.{image}'"):
        open_dataset(root, "semantic")


def test_carvana_is_read_as_downloaded(make):
    root = make([(f"train/{number}_0{number}.jpg", f"train_masks/{number}_0{number}_mask.gif") for number in (1, 2)])
    check_pairs(open_dataset(root, "semantic"), {"train": 2})


def test_images_without_a_mask_are_left_out_on_request(make, tmp_path, caplog):
    root = make([(f"images/{number}.png", f"masks/{number}_mask.png") for number in range(4)])
    for number in (1, 2):
        (tmp_path / "masks" / f"{number}_mask.png").unlink()
    with pytest.raises(DataError, match=r"2 of 4 .* among them '1.png', '2.png'.* with --skip_images_without_mask"):
        open_dataset(root, "semantic")
    data = open_dataset(root, "semantic", skip_images_without_mask=True)
    check_pairs(data, {"train": 2})
    assert "2 of 4 images in" in caplog.text and "'1.png', '2.png': they are left out" in caplog.text
    for file in (tmp_path / "masks").iterdir():
        file.rename(file.with_name(f"other{file.name}.txt"))
    with pytest.raises(DataError, match="4 of 4 images"):  # not an empty dataset
        open_dataset(root, "semantic", skip_images_without_mask=True)


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
        ("images", "masks"),
        ("imgs", "labels"),
        ("images", "annotations"),
        ("JPEGImages", "SegmentationClass"),
        ("JPEGImages", "SegmentationClassPNG"),
        ("original_images", "label_images_semantic"),
        ("Original", "Ground Truth"),
        ("leaf_images", "leaf_masks"),
        ("images", "annotations/trimaps"),
        ("data/images", "data/masks"),  # unpacked into a folder
        ("VOCdevkit/VOC2007/JPEGImages", "VOCdevkit/VOC2007/SegmentationClass"),
    ],
)
def test_folders_are_found_by_their_usual_names(make, tmp_path, images, masks):
    pairs = [(f"{images}/{number}.png", f"{masks}/{number}.png") for number in range(3)]
    root = make(pairs)
    for name in ("__MACOSX/images", "Annotations" if masks.startswith("Segm") else "docs"):
        (tmp_path / name).mkdir(parents=True)
    check_pairs(open_dataset(root, "semantic"), {"train": 3})


def test_images_may_lie_in_splits_and_their_masks_together(make):
    pairs = [(f"images/{'val' if number > 1 else 'train'}/{number}.png", f"masks/{number}.png") for number in range(3)]
    check_pairs(open_dataset(make(pairs), "semantic"), {"train": 2, "val": 1})


def test_a_test_split_without_masks_is_left_out(make, save_picture, tmp_path):
    root = make([("images/train/0.png", "masks/train/0.png"), ("images/val/1.png", "masks/val/1.png")])
    save_picture(tmp_path / "images" / "test" / "2.png", np.zeros((4, 6, 3), np.uint8))
    check_pairs(open_dataset(root, "semantic"), {"train": 1, "val": 1})


def test_folders_are_chosen_that_hold_pictures(make, tmp_path):
    root = make([(f"images/{number}.png", f"segmentations/{number}.png") for number in range(3)])
    for name in ("annotations", "labels"):  # boxes of other tools
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.xml").write_text("<annotation/>")
    check_pairs(open_dataset(root, "semantic"), {"train": 3})


def test_hidden_files_are_passed_over(make, tmp_path, save_picture):
    root = make([(f"images/{number}.png", f"masks/{number}.png") for number in range(2)])
    for folder in ("images", "masks"):
        (tmp_path / folder / ".DS_Store").write_bytes(b"1")
        (tmp_path / folder / "Thumbs.db").write_bytes(b"1")
        (tmp_path / folder / "._0.png").write_bytes(b"1")
        save_picture(tmp_path / folder / ".ipynb_checkpoints" / "0-checkpoint.png", np.zeros((4, 6), np.uint8))
    (tmp_path / "__MACOSX" / "images").mkdir(parents=True)
    check_pairs(open_dataset(root, "semantic"), {"train": 2})


def test_names_may_have_spaces_unicode_dots_and_endings_in_upper_case(make):
    names = ["Foto 1 (Kopie)", "größe_ä", "a.b.c", "日本"]
    root = make([(f"Images/{name}.PNG", f"MASKS/{name}.Png") for name in names])
    data = open_dataset(root, "semantic")
    check_pairs(data, {"train": 4})
    assert sorted(data.splits["train"][index].name for index in range(4)) == sorted(names)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("img_dir/{}", "ann_dir/{}"),  # mmseg
        ("{}", "{}_labels"),  # CamVid on Kaggle
        ("{}", "{}annot"),  # SegNet's CamVid
        ("{}", "{}_masks"),  # Carvana
        ("{}_images", "{}_masks"),
        ("images_{}", "annotations_{}"),
        ("Set1_{}_Input", "Set1_{}_GroundTruth"),  # ISIC
        ("data/{}", "data/{} labels"),
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
# road, two persons, a car, a group of cars, licence plates or other void
RAW_IDS = np.uint8([[7, 24, 24, 26, 26, 3]])
TRAIN_IDS = np.uint8([[0, 11, 11, 13, 13, 255]])
INSTANCE_IDS = np.uint16([[7, 24000, 24001, 26000, 26, 3]])


@pytest.fixture(params=["labelIds", "labelTrainIds"])
def cityscapes(tmp_path, save_picture, request):
    """The folders as downloaded, with training ids where they were made of the others, which stay."""
    for split in ("train", "val"):
        for name in CITY:
            city = name.split("_")[0]
            image = tmp_path / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            save_picture(image, np.zeros((*RAW_IDS.shape, 3), "u1"))
            folder = tmp_path / "gtFine" / split / city
            save_picture(folder / f"{name}_gtFine_labelIds.png", RAW_IDS)
            save_picture(folder / f"{name}_gtFine_instanceIds.png", INSTANCE_IDS)
            if request.param == "labelTrainIds":
                save_picture(folder / f"{name}_gtFine_labelTrainIds.png", TRAIN_IDS)
            Image.new("RGBA", RAW_IDS.shape[::-1]).save(folder / f"{name}_gtFine_color.png")
            (folder / f"{name}_gtFine_polygons.json").write_text('{"imgHeight": 1, "objects": []}')
    return str(tmp_path)


def test_cityscapes_is_read_as_downloaded(cityscapes):
    data = open_dataset(cityscapes, "semantic")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 3, "val": 3}
    assert len(data.labels) == 19 and data.labels.names[0] == "road" and data.labels.names[18] == "bicycle"
    segments = data.splits["train"][2].segments
    masks = dict(zip(segments.class_ids.tolist(), segments.masks().numpy(), strict=True))
    assert all((mask == (label == TRAIN_IDS)).all() for label, mask in masks.items()) and masks.keys() == {0, 11, 13}
    assert (segments.void.numpy() == (TRAIN_IDS == 255)).all()


def test_training_ids_in_one_split_of_cityscapes_alone_are_refused(cityscapes, tmp_path):
    made = list((tmp_path / "gtFine" / "val").rglob("*_labelTrainIds.png"))
    for file in made:
        file.unlink()
    if made:
        with pytest.raises(DataError, match=r"'train' are called labelTrainIds, .* 'val' labelIds: the same"):
            open_dataset(cityscapes, "semantic")


def test_objects_of_cityscapes_are_told_by_its_instance_ids(cityscapes):
    data = open_dataset(cityscapes, "instance")
    assert data.labels.names == ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
    segments = data.splits["val"][0].segments
    places = [mask.nonzero()[:, 1].tolist() for mask in segments.masks()]
    found = list(zip(segments.class_ids.tolist(), places, segments.is_crowd.tolist(), strict=True))
    assert sorted(found) == [(0, [1], False), (0, [2], False), (2, [3], False), (2, [4], True)]  # the group is a crowd
    panoptic = open_dataset(cityscapes, "panoptic")
    assert panoptic.labels.label_ids_to_fuse == list(range(11))
    segments = panoptic.splits["val"][0].segments
    assert segments.is_crowd.sum() == 1 and sorted(segments.class_ids.tolist()) == [0, 11, 11, 13, 13]


ADE_TABLE = """Idx\tRatio\tTrain\tVal\tName
1\t0.1576\t11664\t1172\twall
2\t0.1072\t6046\t612\tbuilding, edifice
3\t0.0878\t8265\t796\tscreen, silver screen
4\t0.0878\t8265\t796\tscreen, CRT screen
"""
ADE_TABLE_WITH_STUFF = re.sub(r"(\d)\t([a-z])", r"\1\t1   \2", ADE_TABLE).replace("Name", "Stuff Name")


@pytest.mark.parametrize("above", ["", "ADEChallengeData2016/"])
@pytest.mark.parametrize("flags", [{}, {"reduce_labels": True}])
@pytest.mark.parametrize("table", [ADE_TABLE, ADE_TABLE_WITH_STUFF])
def test_ade20k_is_read_as_downloaded(tmp_path, save_picture, caplog, above, flags, table):
    root = tmp_path / "data" / above
    for split, count in (("training", 2), ("validation", 1)):
        for number in range(count):
            name = f"ADE_{split[:5]}_{number:08d}"
            save_picture(root / "images" / split / f"{name}.jpg", np.zeros((2, 3, 3), np.uint8))
            save_picture(root / "annotations" / split / f"{name}.png", np.uint8([[0, 1, 2], [2, 4, 4]]))
    (root / "objectInfo150.txt").write_text(table)
    (root / "sceneCategories.txt").write_text("ADE_train_00000000 bedroom\n")
    data = open_dataset(str(tmp_path / "data"), "semantic", **flags)
    assert {split: len(samples) for split, samples in data.splits.items()} == {"training": 2, "validation": 1}
    assert data.labels.names == ("wall", "building", "screen, silver screen", "screen, CRT screen")
    panoptic = open_dataset(str(tmp_path / "data"), "panoptic", **flags)
    assert panoptic.labels.label_ids_to_fuse == [0, 1, 2, 3] and len(panoptic.splits["training"][1].segments) == 3
    segments = data.splits["training"][1].segments
    assert segments.class_ids.tolist() == [0, 1, 3] and segments.areas().tolist() == [1, 2, 2]
    assert segments.void.tolist() == [[True, False, False], [False] * 3]
    assert "ADE20K's table of 4 classes: pixels of id 0 are other objects, from which nothing is learnt" in caplog.text


def test_a_mask_of_another_size_is_named_and_turned_photos_are_explained(make, tmp_path, save_picture):
    root = make([("images/0.png", "masks/0.png"), ("images/1.jpg", "masks/1.png")])
    save_picture(tmp_path / "masks" / "0.png", np.ones((4, 5), np.uint8))
    turned = Image.open(tmp_path / "images" / "1.jpg")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "images" / "1.jpg", exif=exif)
    samples = open_dataset(root, "semantic").splits["train"]
    with pytest.raises(DataError, match=r"Sample 0 .*annotation is 5 x 4 pixels .* image is 6 x 4"):
        samples[0]
    with pytest.raises(DataError, match=r"Sample 1 .*annotation is 6 x 4 pixels .* image is 4 x 6.* EXIF tag turns"):
        samples[1]


@pytest.mark.parametrize("more", [None, "notes.csv", "drawn/outlines.json"])
def test_an_unknown_layout_is_answered_with_those_that_are_read(make, tmp_path, more):
    folder = make([("photos_of_may/1.png", "drawn/by_anna/1.png")])
    if more:  # no table with pictures
        (tmp_path / more).write_text("[]")
    words = r"Its folders are: drawn/, drawn/by_anna/, photos_of_may/. What is read: images/ and masks/.*--mask_name"
    with pytest.raises(DataError, match=words):
        open_dataset(folder, "semantic")


def test_of_several_datasets_in_a_folder_one_is_to_be_chosen(make, tmp_path):
    root = make([(f"{kind}/train/1.png", f"{kind}/train_labels/1.png") for kind in ("png", "tiff")])
    with pytest.raises(DataError, match=r"is not laid out in a way that is read. '.*/png' is: pass this folder."):
        open_dataset(root, "semantic")
    check_pairs(open_dataset(str(tmp_path / "tiff"), "semantic"), {"train": 1})


def test_files_that_are_no_masks_are_named(make, tmp_path):
    root = make([("images/1.png", "masks/1.png")])
    (tmp_path / "masks" / "1.png").rename(tmp_path / "masks" / "1.npy")
    with pytest.raises(DataError, match=r"1 of 1 images .* among them '1.png'. Its files are .npy. Masks called"):
        open_dataset(root, "semantic")


def test_flags_of_the_command_line_reach_the_reader(make, tmp_path):
    root = make([(f"images/{number}.png", f"masks/{number}.png") for number in range(3)])
    (tmp_path / "masks" / "1.png").unlink()
    flags = {"skip_images_without_mask": True, "background": True, "id2label": '["leaf"]'}
    data = DataArguments(root, **flags).open("semantic")
    assert data.labels.names == ("background", "leaf") and len(data.splits["train"]) == 2
    for number in (0, 2):
        mask = Image.open(tmp_path / "masks" / f"{number}.png")
        mask.point(lambda value: 255 * value).resize((48, 32), Image.NEAREST).save(
            tmp_path / "masks" / f"{number}.jpg"
        )
        Image.open(tmp_path / "images" / f"{number}.png").resize((48, 32)).save(tmp_path / "images" / f"{number}.png")
        (tmp_path / "masks" / f"{number}.png").unlink()
    data = DataArguments(root, nearest_colour=True, **flags).open("semantic")
    assert data.splits["train"][1].segments.areas().tolist() == [48 * 32 - 64, 64]
