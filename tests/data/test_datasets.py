"""Opening datasets of every source: splits, columns, labels, and what is said where something is wrong."""

import json
import re
import shutil
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List
from PIL import Image

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.data.datasets import TRAIN_SPLITS, SegmentationData, open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.formats import detect_format
from modeling_maskformer.data.shapes import LABELS, ShapesDataset


@pytest.fixture
def hub_folder(tmp_path, save_picture):
    """A folder laid out for `load_dataset`: pictures and metadata.jsonl with the given further columns."""

    def make(rows, annotation="annotation", split="train", mode="L"):
        folder = tmp_path / "hub" / split
        with (folder.mkdir(parents=True, exist_ok=True) or folder / "metadata.jsonl").open("w") as metadata:
            for number, row in enumerate(rows):
                save_picture(folder / f"{number}.jpg", np.full((6, 8, 3), 40 * number, np.uint8))
                mask = np.full((6, 8) if mode == "L" else (6, 8, 3), number % 2, np.uint8)
                if mode == "RGB":
                    mask[..., 2] = 0
                save_picture(folder / f"{number}_map.png", mask)
                names = {"file_name": f"{number}.jpg", f"{annotation}_file_name": f"{number}_map.png"}
                metadata.write(json.dumps(names | row) + "\n")
        return tmp_path / "hub"

    return make


# Two plain folders


@pytest.mark.parametrize("prefixes", [("",), ("train", "val")])
def test_two_plain_folders_are_a_dataset_with_or_without_splits(paired_folder, prefixes):
    folder = paired_folder(prefixes)
    data = open_dataset(str(folder), "semantic")
    assert list(data.splits) == (["train"] if prefixes == ("",) else ["train", "val"])
    assert data.labels.names == ("class_0", "class_1", "class_2")
    for split, prefix in zip(data.splits, prefixes, strict=True):
        samples = data.splits[split]
        assert [samples[index].name for index in range(len(samples))] == ["0", "1", "2", "3", "4"]
        mask = np.asarray(Image.open(folder / prefix / "masks" / "3.png"))
        segments = samples[3].segments
        for class_id, found in zip(segments.class_ids.tolist(), segments.masks().numpy(), strict=True):
            assert (found == (mask == class_id)).all()
        assert (segments.void.numpy() == (mask == 255)).all()
        assert np.array_equal(samples[3].image, Image.open(folder / prefix / "images" / "3.jpg"))


def test_splits_may_lie_inside_the_two_folders(tmp_path, save_picture):
    for split in ("training", "validation"):
        save_picture(tmp_path / "images" / split / "a.png", np.zeros((4, 4, 3), np.uint8))
        save_picture(tmp_path / "annotations" / split / "a.png", np.ones((4, 4), np.uint8))
    data = open_dataset(str(tmp_path), "semantic", id2label=["sky", "road"])
    train, validation = data.train_and_validation()
    assert train is data.splits["training"] and validation is data.splits["validation"]


def test_an_image_without_a_mask_is_named(paired_folder):
    folder = paired_folder()
    (folder / "masks" / "3.png").rename(folder / "masks" / "three.png")
    with pytest.raises(DataError, match=r"1 of 5 images in .* have no mask of the same stem .* among them '3.jpg'"):
        open_dataset(str(folder), "semantic")


def test_folders_without_files_are_said_to_be_empty(tmp_path):
    with pytest.raises(DataError, match=r"The dataset folder '.*' is empty"):
        open_dataset(str(tmp_path), "semantic")
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"images' has no image"):
        open_dataset(str(tmp_path), "semantic")


def test_a_dataset_that_is_neither_here_nor_on_the_hub_is_named(monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"Dataset 'nobody/no-such-dataset' cannot be opened: .* no such folder here"):
        open_dataset("nobody/no-such-dataset", "semantic")


@pytest.mark.parametrize("name", ["/no/such/folder", "./data/street", "../street", "street/", "a/b/c", "~/street"])
@pytest.mark.parametrize("streaming", [False, True])
def test_a_path_is_not_looked_up_on_the_hub(name, streaming):
    with pytest.raises(DataError, match=re.escape(f"There is no folder or file '{name}'.")):
        open_dataset(name, "semantic", streaming=streaming)


def test_archives_are_to_be_unpacked(tmp_path, save_picture):
    save_picture(tmp_path / "inside" / "1.png", np.zeros((8, 6, 3), np.uint8))
    shutil.make_archive(tmp_path / "data" / "street", "zip", tmp_path / "inside")
    with pytest.raises(DataError, match="is an archive: unpack it"):
        open_dataset(str(tmp_path / "data" / "street.zip"), "semantic")
    with pytest.raises(DataError, match="archives are to be unpacked"):
        open_dataset(str(tmp_path / "data"), "semantic")


def test_a_folder_whose_name_load_dataset_takes_for_a_pattern_is_to_be_renamed(tmp_path, save_picture):
    save_picture(tmp_path / "data [2]" / "1.png", np.zeros((8, 6, 3), np.uint8))
    (tmp_path / "data [2]" / "metadata.jsonl").write_text('{"file_name": "1.png", "mask_file_name": "1.png"}')
    with pytest.raises(DataError, match=r"may not have any of \[ \] \* \?: rename it"):
        open_dataset(str(tmp_path / "data [2]"), "semantic")


@pytest.fixture
def black_and_white(tmp_path, save_picture):
    """A folder of 10 pictures and masks of 0 and 255; the first masks may be without white."""

    def make(mode="L", without_white=0):
        rng = np.random.default_rng(0)
        for number in range(10):
            save_picture(tmp_path / "bw" / "images" / f"{number}.png", rng.integers(0, 255, (8, 6, 3), np.uint8))
            mask = rng.choice(np.uint8([0, 255]), (8, 6)) * np.uint8(number >= without_white)
            picture = Image.fromarray(mask).convert(mode)
            save_picture(tmp_path / "bw" / "masks" / f"{number}.png", picture)
        return tmp_path / "bw"

    return make


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_masks_of_0_and_255_have_two_classes(black_and_white, mode, caplog):
    data = open_dataset(str(black_and_white(mode)), "semantic")
    assert data.labels.names == ("background", "foreground") and "become the classes" in caplog.text
    sample = data.splits["train"][3]
    assert sample.segments.class_ids.tolist() == [0, 1] and not sample.segments.void.any()
    for names in ({"0": "road", "255": "crack"}, ["road", "crack"]):
        assert open_dataset(str(black_and_white(mode)), "semantic", id2label=names).labels.names == ("road", "crack")


def test_all_masks_are_looked_through_once_until_they_change(black_and_white, save_picture, monkeypatch):
    folder, decoded = black_and_white(), []
    decode = detect_format.is_black_and_white
    monkeypatch.setattr(detect_format, "is_black_and_white", lambda values, column: decode(decoded_of(values), column))

    def decoded_of(values):
        for value in values:
            decoded.append(value)
            yield value

    counts = []
    for _ in range(2):
        decoded.clear()
        assert open_dataset(str(folder), "semantic").labels.names == ("background", "foreground")
        counts.append(len(decoded))
    assert counts == [18, 8]  # of all ten only once, and of the first eight
    save_picture(folder / "masks" / "9.png", np.full((8, 6), 1, np.uint8))
    assert open_dataset(str(folder), "semantic").splits["train"][3].segments.void.any()


@pytest.mark.parametrize("place", ["no folder", "no file", "not JSON"])
def test_a_cache_that_cannot_be_used_is_done_without(paired_folder, tmp_path, monkeypatch, place):
    """As a home that nobody may write to, or files of other users that nobody else may read."""
    folder, cache = str(paired_folder()), tmp_path / "cache"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)
    if place == "no folder":
        cache.write_text("a file, in which no folder can be made")
    else:
        open_dataset(folder, "semantic")
        (file,) = (cache / "modeling_maskformer").iterdir()
        file.write_text("{")
        if place == "no file":
            monkeypatch.setattr(Path, "read_text", _forbidden)
    assert open_dataset(folder, "semantic").labels.names == ("class_0", "class_1", "class_2")


def _forbidden(*arguments, **named):
    raise PermissionError("Permission denied")


def test_a_name_for_255_beside_one_for_1_is_that_of_void(black_and_white):
    """Black was called as 1 is, and white as 255."""
    names = {"0": "road", "1": "crack", "255": "unlabelled"}
    assert open_dataset(str(black_and_white()), "semantic", id2label=names).labels.names == ("road", "crack")


def test_255_stays_void_where_there_are_other_classes(black_and_white, save_picture):
    folder = black_and_white()
    save_picture(folder / "masks" / "9.png", np.full((8, 6), 1, np.uint8))
    data = open_dataset(str(folder), "semantic")
    assert data.labels.names == ("background", "foreground") and data.splits["train"][3].segments.void.any()


# Folders for load_dataset


def test_a_folder_for_load_dataset_is_opened_and_its_columns_found(hub_folder):
    folder = hub_folder([{"image_id": 70 + number} for number in range(3)])
    hub_folder([{"image_id": 5}], split="validation")
    data = open_dataset(str(folder), "semantic", id2label={"0": "sky", "1": "road"})
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 3, "validation": 1}
    sample = data.splits["train"][1]
    assert sample.name == "1" and sample.image_id == 71 and sample.image.mode == "RGB"
    assert sample.segments.class_ids.tolist() == [1] and sample.segments.size == (6, 8)


def test_nothing_of_a_dataset_is_executed(hub_folder, tmp_path):
    folder = hub_folder([{}])
    (folder / f"{folder.name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(DataError, match=r"scripts are no longer supported, but found hub.py"):
        open_dataset(str(folder), "semantic")
    assert not (tmp_path / "ran").exists()


def test_a_dataset_saved_to_disk_is_opened(tmp_path, paired_folder):
    table = {"image": [str(paired_folder() / "images" / "1.jpg")], "label": [str(paired_folder() / "masks" / "1.png")]}
    rows = Dataset.from_dict(table).cast_column("image", datasets.Image()).cast_column("label", datasets.Image())
    rows.save_to_disk(tmp_path / "saved")
    assert len(open_dataset(str(tmp_path / "saved"), "semantic").splits["train"][0].segments) == 3


def test_missing_columns_are_answered_with_those_there_are(hub_folder):
    folder = str(hub_folder([{}], annotation="weather"))
    data = open_dataset(folder, "semantic")  # the only other picture is the annotation
    assert data.splits["train"][0].segments.class_ids.tolist() == [0]
    with pytest.raises(DataError, match=r"no column 'mask'. It has: 'image' \(Image\), 'weather' \(Image\)"):
        open_dataset(folder, "semantic", annotation_column="mask")
    with pytest.raises(DataError, match=r"need a column with a list of objects. The dataset has: 'image' \(Image\)"):
        open_dataset(folder, "instance", annotation_format="coco_instance")


def test_a_table_of_images_alone_has_no_annotations(tmp_path, save_picture):
    save_picture(tmp_path / "train" / "a.png", np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "train" / "metadata.jsonl").write_text('{"file_name": "a.png", "weather": 3}')
    with pytest.raises(DataError, match=r"no column of annotations .* It has: 'image' \(Image\), 'weather' \(int64\)"):
        open_dataset(str(tmp_path), "semantic")


def test_channels_are_told_from_class_maps_and_colours(hub_folder):
    data = open_dataset(str(hub_folder([{}, {}], mode="RGB")), "instance")
    assert [len(data.splits["train"][index].segments) for index in (0, 1)] == [0, 1]
    assert data.labels.names == ("class_1",) and data.labels.label_ids_to_fuse == []
    panoptic = open_dataset(str(hub_folder([{}, {}], mode="RGB")), "panoptic")
    assert panoptic.labels.is_thing == (False, True)  # only class 1 has instances


def test_coloured_masks_are_refused(paired_folder):
    folder = paired_folder()
    for file in (folder / "masks").iterdir():
        Image.open(file).convert("RGB").save(file)
    with pytest.raises(DataError, match=r"column 'annotation' have mode RGB. Expected are single-channel maps"):
        open_dataset(str(folder), "semantic")


VOC_WITHOUT_BLUE = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (64, 0, 0), (192, 0, 0)]


@pytest.mark.parametrize("colours", [VOC_WITHOUT_BLUE, [(0, 0, 0), (255, 0, 0)], [(0, 0, 0), (0, 255, 0)]])
def test_colours_without_blue_are_not_taken_for_channels(paired_folder, save_picture, colours):
    folder = paired_folder()
    for number in range(5):
        index = np.random.default_rng(number).integers(0, len(colours), (8, 6))
        save_picture(folder / "masks" / f"{number}.png", np.uint8(colours)[index])
    with pytest.raises(DataError, match=r"look like colours without blue.* pass --annotation_format channels"):
        open_dataset(str(folder), "semantic")
    assert open_dataset(str(folder), "semantic", annotation_format="channels", ignore_index=None).labels


@pytest.mark.parametrize("pairs", [[(0, 0), (1, 1), (2, 9)], [(0, 0), (17, 0), (60, 0), (255, 0)]])
def test_channels_with_gaps_are_no_colours(paired_folder, save_picture, pairs):
    folder = paired_folder()
    for number in range(5):
        index = np.random.default_rng(number).integers(0, len(pairs), (8, 6))
        save_picture(folder / "masks" / f"{number}.png", np.uint8([(*pair, 0) for pair in pairs])[index])
    names = tuple(f"class_{raw}" for raw, _ in pairs if raw != 255)
    assert open_dataset(str(folder), "panoptic").labels.names == names


def test_class_maps_do_not_serve_instance_segmentation(paired_folder):
    with pytest.raises(DataError, match="class_map serve semantic and panoptic segmentation, not instance"):
        open_dataset(str(paired_folder()), "instance")


def test_class_maps_for_panoptic_are_all_stuff(paired_folder):
    assert open_dataset(str(paired_folder()), "panoptic").labels.label_ids_to_fuse == [0, 1, 2]


def test_columns_of_segments_or_objects_tell_the_format(hub_folder):
    objects = [{"category_id": 4, "segmentation": [[0, 0, 3, 0, 3, 3, 0, 3]], "iscrowd": 0}]
    data = open_dataset(str(hub_folder([{"objects": objects}])), "instance", id2label={"4": "cat"})
    sample = data.splits["train"][0]
    assert sample.segments.class_ids.tolist() == [0] and sample.segments.areas().tolist() == [9]


def test_a_panoptic_column_pair_is_read(hub_folder):
    info = {"segments_info": [{"id": 1, "category_id": 9}]}
    categories = [{"id": 9, "name": "cat", "isthing": 1}]
    data = open_dataset(str(hub_folder([info, info], mode="RGB")), "panoptic", id2label=categories)
    # the picture of image 1 is (1, 1, 0): id 257
    assert len(data.splits["train"][0].segments) == 0 and data.splits["train"][0].segments.void.all()
    with pytest.raises(DataError, match=r"Sample 1 of split 'train' \(1\): .* segment id 257"):
        data.splits["train"][1]


# Labels


def test_labels_come_from_a_file_in_the_folder_or_from_the_caller(paired_folder):
    folder = paired_folder()
    (folder / "id2label.json").write_text('{"0": "sky", "1": "road", "2": "car"}')
    assert open_dataset(str(folder), "semantic").labels.names == ("sky", "road", "car")
    assert open_dataset(str(folder), "semantic", id2label=["a", "b", "c"]).labels.names == ("a", "b", "c")


def test_labels_come_from_a_column(hub_folder):
    folder = hub_folder([{"semantic_class_to_id": {"background": 0, "person": 1}}] * 2, mode="RGB")
    assert open_dataset(str(folder), "instance").labels.names == ("person",)
    assert open_dataset(str(folder), "semantic").labels.names == ("background", "person")
    reduced = open_dataset(str(folder), "semantic", reduce_labels=True)
    assert reduced.labels.names == ("person",)
    assert reduced.splits["train"][0].segments.void.all()


def test_labels_come_from_class_label_features(tmp_path, paired_folder):
    folder = paired_folder()
    features = Features(
        image=datasets.Image(),
        label=datasets.Image(),
        scene=ClassLabel(names=["indoor", "outdoor"]),
        classes=List(ClassLabel(names=["sky", "road", "car"])),
    )
    table = {
        "image": [str(folder / "images" / "0.jpg")],
        "label": [str(folder / "masks" / "0.png")],
        "scene": [1],
        "classes": [[0, 2]],
    }
    Dataset.from_dict(table, features=features).save_to_disk(tmp_path / "saved")
    assert open_dataset(str(tmp_path / "saved"), "semantic").labels.names == ("sky", "road", "car")


def test_found_ids_are_named_after_themselves_and_remembered(paired_folder, monkeypatch):
    folder = paired_folder()
    assert open_dataset(str(folder), "semantic", reduce_labels=True).labels.names == ("class_1", "class_2")
    labels = open_dataset(str(folder), "semantic", ignore_index=2).labels
    assert labels.names == ("class_0", "class_1", "class_255")
    monkeypatch.setattr("modeling_maskformer.data.formats.class_map.unique_ids", None)  # a second look would fail
    assert open_dataset(str(folder), "semantic").labels.names == ("class_0", "class_1", "class_2")


def test_what_was_found_in_a_part_of_a_table_is_not_taken_for_the_whole(tmp_path, save_picture, monkeypatch):
    columns = {"image": [], "annotation": []}
    for number in range(4):  # the first two have no class 2, and no object of class 1
        channels = np.zeros((4, 4, 3), np.uint8)
        channels[2:, :, 0] = 1
        if number > 1:
            channels[3, :, :2] = (2, 1)
            channels[2, :, 1] = 1
        columns["image"].append(str(save_picture(tmp_path / f"{number}.png", np.zeros((4, 4, 3), np.uint8))))
        columns["annotation"].append(str(save_picture(tmp_path / f"{number}_mask.png", channels)))
    rows = Dataset.from_dict(columns, features=Features(image=datasets.Image(), annotation=datasets.Image()))
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    whole = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))["train"]
    part = datasets.load_dataset(str(tmp_path / "data"), split="train[:2]", cache_dir=str(tmp_path / "cache"))
    assert [entry["filename"] for entry in part.cache_files] == [entry["filename"] for entry in whole.cache_files]

    def labels(rows):
        found = open_dataset(rows, "panoptic", annotation_format="channels").labels
        return found.dataset_ids, found.is_thing

    of_part, of_whole = ((0, 1), (False, False)), ((0, 1, 2), (False, True, True))
    for given, expected in ((part, of_part), (whole.select(range(2)), of_part), (whole, of_whole)):
        assert labels(given) == expected
    assert labels(whole.select([3, 0])) == of_whole and labels(whole.filter(lambda _, i: i < 2, True)) == of_part
    monkeypatch.setattr("modeling_maskformer.data.formats.channels.unique_ids", None)  # a second look would fail
    again = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))["train"]
    assert labels(again) == of_whole and labels(again.select(range(2))) == of_part


def test_corrected_masks_of_instances_are_looked_at_again(tmp_path, save_picture):
    save_picture(tmp_path / "images" / "a.png", np.zeros((2, 3, 3), np.uint8))
    save_picture(tmp_path / "masks" / "a.png", np.uint8([[0, 0, 1], [0, 0, 1]]))
    for instances, is_thing in (([[0, 0, 0], [0, 0, 0]], (False, False)), ([[0, 0, 1], [0, 0, 2]], (False, True))):
        save_picture(tmp_path / "instance_ids" / "a.png", np.uint8(instances))
        assert open_dataset(str(tmp_path), "panoptic").labels.is_thing == is_thing


@pytest.mark.parametrize(("dtype", "void"), [(np.uint8, 255), (np.uint16, 65535)])
def test_of_ids_with_gaps_only_those_found_are_classes(tmp_path, save_picture, dtype, void):
    mask = np.array([[0, 20, 40], [220, 20, void]], dtype)
    save_picture(tmp_path / "images" / "a.png", np.zeros((2, 3, 3), np.uint8))
    save_picture(tmp_path / "masks" / "a.png", mask)
    data = open_dataset(str(tmp_path), "semantic", ignore_index=void)
    assert data.labels.names == ("class_0", "class_20", "class_40", "class_220")
    segments = data.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2, 3] and segments.areas().tolist() == [1, 2, 1, 1]
    assert segments.void.sum() == 1 and segments.void[1, 2]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        ([[0, 1, 65535]], "id 65535, the highest of 16 bits, .* pass --ignore_index 65535"),
        ([list(range(250))], "have 250 ids, 0 to 249, and no names of classes.* saved as JPEG.* name them with --id2"),
    ],
)
def test_ids_that_are_hardly_classes_are_refused(tmp_path, save_picture, mask, words):
    save_picture(tmp_path / "images" / "a.png", np.zeros((1, len(mask[0]), 3), np.uint8))
    save_picture(tmp_path / "masks" / "a.png", np.uint16(mask))
    with pytest.raises(DataError, match=words):
        open_dataset(str(tmp_path), "semantic")
    names = {str(raw): f"name {raw}" for raw in mask[0]}
    named = open_dataset(str(tmp_path), "semantic", id2label=names, ignore_index=None)
    assert len(named.splits["train"][0].segments) == len(mask[0])


def test_masks_of_void_alone_name_the_cause(tmp_path, save_picture):
    save_picture(tmp_path / "images" / "a.png", np.zeros((4, 4, 3), np.uint8))
    save_picture(tmp_path / "masks" / "a.png", np.full((4, 4), 255, np.uint8))
    with pytest.raises(DataError, match="no class id but 255, which mean void or background: check ignore_index"):
        open_dataset(str(tmp_path), "semantic")


# Splits


def test_without_a_validation_split_the_same_part_is_always_set_aside(paired_folder):
    data = open_dataset(str(paired_folder()), "semantic")

    def names(seed):
        parts = data.train_and_validation(validation_fraction=0.4, seed=seed)
        return [[samples[index].name for index in range(len(samples))] for samples in parts]

    train, validation = names(seed=0)
    assert len(train) == 3 and len(validation) == 2 and sorted(train + validation) == ["0", "1", "2", "3", "4"]
    assert names(seed=0) == [train, validation]
    assert any(names(seed) != [train, validation] for seed in (1, 2, 3))
    with pytest.raises(DataError, match="validation_fraction between 0 and 1 is expected, got 0"):
        data.train_and_validation(validation_fraction=0.0)


def test_splits_are_found_by_their_usual_names_or_given(paired_folder):
    data = open_dataset(str(paired_folder(("train", "valid", "test"))), "semantic")
    train, validation = data.train_and_validation()
    assert train is data.splits["train"] and validation is data.splits["valid"]
    assert data.train_and_validation(validation_split="test")[1] is data.splits["test"]
    assert data.evaluation() is data.splits["valid"] and data.evaluation("train") is data.splits["train"]
    with pytest.raises(DataError, match="no split 'dev': the dataset has test, train, valid"):
        data.evaluation("dev")


@pytest.mark.parametrize(
    ("splits", "train", "validation"),
    [
        (("trainval", "train", "val"), "train", "val"),
        (("train_extra", "Training", "val_seen", "validation"), "Training", "validation"),
        (("train2017", "test", "val2017"), "train2017", "val2017"),
        (("testing", "training", "test_dev"), "training", "testing"),
        (("evaluate", "train", "eval"), "train", "eval"),
    ],
)
def test_a_split_of_the_very_name_is_preferred_to_one_that_begins_like_it(splits, train, validation):
    data = SegmentationData({name: ShapesDataset(2) for name in splits}, LABELS, "panoptic")
    parts = data.train_and_validation()
    assert parts[0] is data.splits[train] and parts[1] is data.splits[validation]
    assert data.evaluation() is data.splits[validation]


@pytest.mark.parametrize(
    ("splits", "given", "found"),
    [
        (("val", "train"), "validation", "val"),
        (("val", "training"), "train", "training"),
        (("val2017", "train2017"), "Train", "train2017"),
        (("val", "validation"), "validation", "validation"),
        (("test", "development"), "dev", "development"),
        (("val", "valid"), "validation", None),
        (("val_seen", "val_unseen"), "val", None),
        (("val", "train"), "eval", None),
        (("trainval", "val"), "rest", None),
    ],
)
def test_a_split_is_also_found_by_another_form_of_its_name_where_only_one_has_it(splits, given, found):
    data = SegmentationData({name: ShapesDataset(2) for name in splits}, LABELS, "panoptic")
    if found is not None:
        assert data.training(given) is data.evaluation(given) is data.splits[found]
        return
    with pytest.raises(DataError, match=f"no split '{given}': the dataset has {', '.join(splits)}"):
        data.evaluation(given)


def test_pictures_are_those_of_the_split_that_is_meant(tmp_path, save_picture):
    for split in ("training", "val"):
        save_picture(tmp_path / "images" / split / "a.png", np.zeros((4, 4, 3), np.uint8))
        save_picture(tmp_path / "annotations" / split / "a.png", np.ones((4, 4), np.uint8))
    assert [dataset_pictures(str(tmp_path), usual=TRAIN_SPLITS)[0].name] == ["training_000000"]
    assert [dataset_pictures(str(tmp_path), "validation")[0].name] == ["val_000000"]


@pytest.mark.parametrize("is_stream", [False, True])
def test_a_first_split_without_annotations_is_passed_over_for_one_with(paired_folder, is_stream):
    folder = paired_folder()
    features = Features(image=datasets.Image(), annotation=datasets.Image(), id2label=datasets.Value("string"))
    names = '{"0": "sky", "1": "road", "2": "car"}'
    splits = {}
    for split, mask, named in (("test", None, None), ("train", str(folder / "masks" / "0.png"), names)):
        cells = {"image": [str(folder / "images" / "0.jpg")], "annotation": [mask], "id2label": [named]}
        rows = Dataset.from_dict(cells, features=features)
        splits[split] = rows.to_iterable_dataset() if is_stream else rows
    data = open_dataset(splits, "semantic")
    assert data.labels.names == ("sky", "road", "car")
    samples = data.splits["train"]
    row = next(iter(samples.rows())) if is_stream else 0
    assert samples[row].segments.class_ids.tolist() == [0, 1, 2]


# Bad samples


def break_picture(file):
    file.write_bytes(file.read_bytes()[:60])


def test_a_bad_sample_is_named_when_it_is_read(paired_folder, save_picture):
    folder = paired_folder()
    break_picture(folder / "images" / "0.jpg")
    save_picture(folder / "masks" / "1.png", np.zeros((6, 8), np.uint8))
    save_picture(folder / "masks" / "2.png", np.full((8, 6), 7, np.uint8))
    save_picture(folder / "masks" / "3.png", np.zeros((8, 6, 3), np.uint8))
    data = open_dataset(str(folder), "semantic", id2label=["a", "b", "c"], annotation_format="class_map")
    samples = data.splits["train"]
    (folder / "images" / "4.jpg").unlink()
    for index, words in enumerate(
        [
            "the picture in column 'image' cannot be read",
            r"the annotation is 8 x 6 pixels \(width x height\) but the image is 6 x 8",
            "class id 7 is not in the label set, whose 3 classes have the ids 0 to 2",
            "mode RGB: a map of one integer per pixel is expected",
            "the picture in column 'image' cannot be read: .*No such file",
        ]
    ):
        with pytest.raises(DataError, match=rf"^Sample {index} of split 'train' \({index}\): .*{words}"):
            samples[index]


def test_an_image_of_16_bits_is_refused(paired_folder, save_picture):
    folder = paired_folder()
    (folder / "images" / "0.jpg").unlink()
    save_picture(folder / "images" / "0.png", np.zeros((8, 6), np.uint16))
    samples = open_dataset(str(folder), "semantic").splits["train"]
    with pytest.raises(DataError, match=r"Sample 0 .* more than 8 bits a channel"):
        samples[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "detection"}, "task is one of semantic, instance, panoptic, got 'detection'"),
        ({"task": "semantic", "annotation_format": "voc"}, "annotation_format is one of .* got 'voc'"),
        ({"task": "panoptic", "config_name": "large"}, "size in pixels, got 'large'"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, words):
    with pytest.raises(DataError, match=words):
        open_dataset("shapes", **arguments)


def test_shapes_are_a_dataset_like_any_other():
    data = open_dataset("shapes", "panoptic", config_name="64")
    train, validation = data.train_and_validation()
    assert len(train) == 2000 and len(validation) == 200
    assert train[0].image.size == (64, 64)
    assert not np.array_equal(train[0].image, validation[0].image)


# Real data


def test_camvid_is_read(shared_data):
    data = open_dataset(str(shared_data / "camvid"), "semantic")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 367, "validation": 101}
    assert len(data.labels) == 11
    sample = data.splits["validation"][50]
    row = datasets.load_dataset(str(shared_data / "camvid"), split="validation")[50]
    assert np.array_equal(sample.image, row["image"])
    mask = np.asarray(row["label"])
    rebuilt = torch.full(mask.shape, 255)
    for class_id, found in zip(sample.segments.class_ids, sample.segments.masks(), strict=True):
        rebuilt[found] = class_id
    assert (rebuilt.numpy() == mask).all() and (sample.segments.void.numpy() == (mask == 255)).all()


def test_penn_fudan_is_read_as_one_mask_per_person(shared_data):
    data = open_dataset(str(shared_data / "penn_fudan"), "instance", id2label=["background", "pedestrian"])
    assert data.labels.names == ("pedestrian",)
    rows = datasets.load_dataset(str(shared_data / "penn_fudan"), split="train")
    for index in (0, 7, 100):
        segments, picture = data.splits["train"][index].segments, np.asarray(rows[index]["annotation"])
        assert len(segments) == picture[..., 1].max() and not segments.void.any()
        for number, mask in enumerate(segments.masks().numpy(), start=1):
            assert (mask == (picture[..., 1] == number)).all()
