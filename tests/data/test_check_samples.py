"""Checks before training: every bad sample is named, in one error."""

import json

import numpy as np
import pytest
from datasets import Dataset, Features, Image, Value

from modeling_maskformer.data.check_samples import check_classes, check_dataset
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_set import NamedIds, make_label_set


def test_a_good_dataset_passes(paired_folder):
    check_dataset(open_dataset(str(paired_folder()), "semantic").splits["train"])


def test_all_bad_samples_are_named_in_one_error(paired_folder, save_picture):
    folder = paired_folder()
    save_picture(folder / "masks" / "1.png", np.full((8, 6), 9, np.uint8))
    save_picture(folder / "masks" / "4.png", np.zeros((2, 2), np.uint8))
    samples = open_dataset(str(folder), "semantic", id2label=["a", "b", "c"]).splits["train"]
    with pytest.raises(DataError) as error:
        check_dataset(samples, description="training images")
    first, *lines = str(error.value).splitlines()
    assert first == "2 training images cannot be used:"
    assert [line[:9] for line in lines] == ["Sample 1 ", "Sample 4 "]
    assert "class id 9" in lines[0] and "2 x 2 pixels" in lines[1]


def test_one_bad_sample_is_its_own_error(paired_folder, save_picture):
    folder = paired_folder()
    save_picture(folder / "masks" / "2.png", np.full((8, 6), 9, np.uint8))
    samples = open_dataset(str(folder), "semantic", id2label=["a", "b", "c"]).splits["train"]
    with pytest.raises(DataError, match=r"^Sample 2 of split 'train'"):
        check_dataset(samples)


def test_crowds_alone_are_nothing_to_learn():
    square = {"size": [4, 4], "counts": [5, 2, 9]}
    objects = [{"category_id": 1, "segmentation": square, "iscrowd": 1}] * 2
    rows = {"image": [np.zeros((4, 4, 3), np.uint8)], "objects": [json.dumps(objects)]}
    table = Dataset.from_dict(rows, features=Features({"image": Image(), "objects": Value("string")}))
    samples = open_dataset(table, "instance", id2label={"1": "cat"}).splits["train"]
    with pytest.raises(DataError, match="All 2 segments of the 1 images looked at are crowd regions"):
        check_dataset(samples, description="images")


class Counted:
    """Samples that note which of them are read."""

    def __init__(self, samples, length):
        self.samples, self.length, self.read = samples, length, []

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        self.read.append(index)
        return self.samples[0]


def test_a_bounded_number_is_read_spread_over_the_dataset(paired_folder):
    samples = Counted(open_dataset(str(paired_folder()), "semantic").splits["train"], 1000)
    check_dataset(samples, max_samples=4)
    assert samples.read == [0, 250, 500, 750]
    samples.length, samples.read = 7, []
    check_dataset(samples, max_samples=None)
    assert samples.read == list(range(7))


def test_a_dataset_without_samples_or_segments_is_refused(paired_folder, save_picture):
    samples = open_dataset(str(paired_folder()), "semantic", id2label=["a", "b", "c"]).splits["train"]
    with pytest.raises(DataError, match="There are no training images"):
        check_dataset(Counted(samples, 0), description="training images")
    save_picture(paired_folder() / "masks" / "0.png", np.full((8, 6), 255, np.uint8))
    with pytest.raises(DataError, match="None of the 3 samples looked at has a segment"):
        check_dataset(Counted(samples, 3))


def test_what_is_found_is_counted_by_class(paired_folder):
    samples = open_dataset(str(paired_folder()), "semantic").splits["train"]
    assert check_dataset(samples).segments == {0: 5, 1: 5, 2: 5}


@pytest.mark.parametrize(
    ("void_ids", "reduce_labels", "mended_by"),
    [
        ([255], False, "--annotation_format binary_mask"),
        ([0, 255], True, "--reduce_labels"),
        ([], False, "background"),
    ],
)
def test_one_class_and_void_around_it_is_no_task(void_ids, reduce_labels, mended_by):
    labels = make_label_set(NamedIds({0: "sky", 1: "crack", 2: "car"}), void_ids, (), reduce_labels)
    name = labels.names[1]
    with pytest.raises(DataError, match=f"are of one class, '{name}', .*{mended_by}"):
        check_classes({1: 30}, labels, "semantic")
    check_classes({0: 2, 1: 30}, labels, "semantic")
    check_classes({1: 30}, labels, "instance")  # objects differ from what is around them
    check_classes({}, labels, "semantic")  # no image was looked at


def test_a_label_set_of_one_class_is_refused_where_no_image_was_looked_at():
    labels = make_label_set(NamedIds({0: "sky"}), [255])
    with pytest.raises(DataError, match="one class, 'sky'"):
        check_classes({}, labels, "panoptic")


@pytest.mark.parametrize("has_name", [True, False])
def test_a_truncated_mask_among_the_first_is_named(paired_folder, has_name):
    root = paired_folder()
    mask = root / "masks" / "3.png"
    mask.write_bytes(mask.read_bytes()[:-30])
    dataset = str(root)
    if not has_name:
        masks = [{"bytes": (root / "masks" / f"{number}.png").read_bytes(), "path": None} for number in range(5)]
        images = [{"bytes": (root / "images" / f"{number}.jpg").read_bytes(), "path": None} for number in range(5)]
        features = Features({"image": Image(), "annotation": Image()})
        dataset = str(root.parent / "table")
        Dataset.from_dict({"image": images, "annotation": masks}, features=features).save_to_disk(dataset)
    name = r" \(annotation 3\)" if has_name else ""
    with pytest.raises(
        DataError, match=rf"^Sample 3{name}: the picture in column 'annotation' cannot be read: .*trunc"
    ):
        open_dataset(dataset, "semantic")


def test_a_truncated_image_is_named(paired_folder):
    root = paired_folder()
    image = root / "images" / "2.jpg"
    image.write_bytes(image.read_bytes()[: len(image.read_bytes()) * 2 // 3])
    data = open_dataset(str(root), "semantic")
    with pytest.raises(DataError, match=r"^Sample 2 of split 'train' \(2\): the picture in column 'image' cannot be"):
        check_dataset(data.splits["train"])


def test_objects_that_are_nowhere_are_not_said_to_be_void(tmp_path, save_picture):
    save_picture(tmp_path / "1.png", np.zeros((6, 8, 3), np.uint8))
    save_picture(tmp_path / "2.png", np.zeros((6, 8, 3), np.uint8))
    images = [{"id": number, "file_name": f"{number}.png"} for number in (1, 2)]
    objects = [{"image_id": 2, "category_id": 1, "segmentation": [[9, 9, 20, 9, 20, 20]]}]
    content = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (samples,) = open_dataset(str(tmp_path), "instance").splits.values()
    with pytest.raises(DataError, match=r"has a segment: their files list no object, or all .* Where pixels hold"):
        check_dataset(samples)
