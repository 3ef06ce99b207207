"""YOLO's segmentation data sets, as Ultralytics and Roboflow lay them out."""

import numpy as np
import PIL.Image
import pytest
import yaml

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.training.arguments.data_arguments import DataArguments

# Two rectangles of a picture of 8 x 4 pixels: x 2 to 6 and y 1 to 3; x 4 to 8 and y 0 to 4. They overlap.
OUTLINES = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75\n1 0.5 0 1 0 1 1 0.5 1\n"
LAYOUTS = {
    "ultralytics": ("images/{0}/{1}.jpg", "labels/{0}/{1}.txt", {"train": "images/train", "val": "images/val"}),
    "roboflow": (
        "{0}/images/{1}.jpg",
        "{0}/labels/{1}.txt",
        {"train": "../train/images", "val": "../val/images", "test": "../test/images"},  # which is not there
    ),
    "with a path": (
        "set/images/{0}/{1}.jpg",
        "set/labels/{0}/{1}.txt",
        {"path": "set", "train": ["images/train"], "val": "images/val", "test": None},
    ),
}


@pytest.fixture
def make(tmp_path, save_picture):
    """Two splits of two images, of which the second has no label file."""

    def write(layout="ultralytics", text=OUTLINES, names=("cat", "dog"), file="data.yaml"):
        image, label, content = LAYOUTS[layout]
        for split in ("train", "val"):
            for number in (1, 2):
                save_picture(tmp_path / image.format(split, number), np.full((4, 8, 3), number, np.uint8))
            (tmp_path / label.format(split, 1)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / label.format(split, 1)).write_text(text)
        names = list(names) if isinstance(names, tuple) else names
        (tmp_path / file).write_text(yaml.safe_dump(content | {"nc": len(names), "names": names}))
        return tmp_path

    return write


@pytest.mark.parametrize("layout", LAYOUTS)
def test_outlines_become_masks(make, layout):
    data = open_dataset(str(make(layout)), "instance")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 2, "validation": 2}
    assert data.labels.names == ("cat", "dog") and data.labels.is_thing == (True, True)
    for samples in data.splits.values():
        masks = np.zeros((2, 4, 8), bool)
        masks[0, 1:3, 2:6], masks[1, :, 4:] = True, True
        assert samples[0].segments.class_ids.tolist() == [0, 1]
        assert (samples[0].segments.masks().numpy() == masks).all()
        assert samples[0].name == "1" and len(samples[1].segments) == 0


def test_a_split_that_is_named_twice_is_refused(make):
    file = make() / "data.yaml"
    file.write_text(file.read_text() + "train: images/val\n")
    with pytest.raises(DataError, match="'train' stands twice, in lines"):
        open_dataset(str(file.parent), "instance")


@pytest.mark.parametrize("ending", [".ppm", ".jfif", ".PNG"])
def test_pictures_are_found_by_all_their_endings(make, ending):
    root = make()
    for file in list(root.rglob("*.jpg")):
        with PIL.Image.open(file) as picture:
            picture.save(file.with_suffix(ending))
        file.unlink()
    samples = open_dataset(str(root), "instance").splits["train"]
    assert [len(samples[number].segments) for number in range(len(samples))] == [2, 0]


def test_hidden_folders_are_passed_over(make, save_picture):
    root = make()
    save_picture(root / "images" / "train" / ".ipynb_checkpoints" / "1.jpg", np.zeros((4, 8, 3), np.uint8))
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2


def test_keys_of_splits_may_have_longer_forms(make):
    root = make()
    text = (root / "data.yaml").read_text()
    (root / "data.yaml").write_text(text.replace("val:", "validation:"))
    assert list(open_dataset(str(root), "instance").splits) == ["train", "validation"]


def test_label_files_of_no_image_are_counted_where_images_lack_theirs(make, caplog):
    root = make()
    open_dataset(str(root), "instance")
    assert not caplog.records  # an image without a label file has no object
    (root / "labels" / "train" / "2.TXT").write_text(OUTLINES)
    open_dataset(str(root), "instance")
    (record,) = caplog.records
    assert "1 of 2 images have no label file" in record.message and "but 1 label files belong to no" in record.message


def test_yaml_of_other_programs_does_not_matter(make):
    root = make()
    (root / "deploy.yaml").write_text("a: !tag of its own {{ value }}")
    (root / "settings.yml").write_text("names: [a]")
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2


def test_without_the_file_it_is_asked_for(make):
    root = make()
    (root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"labels/train', .* for YOLO's outlines a data.yaml .* is needed"):
        open_dataset(str(root), "instance")


def test_the_file_itself_is_a_dataset_and_names_may_be_by_number(make):
    file = make(names={0: "cat", 1: "dog"}, file="pets.yaml") / "pets.yaml"
    assert open_dataset(str(file), "instance").labels.names == ("cat", "dog")


def test_splits_may_be_lists_of_files(make):
    root = make()
    (root / "train.txt").write_text("./images/train/1.jpg\n./images/val/1.jpg\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "train.txt", "names": ["cat", "dog"]}))
    samples = open_dataset(str(root), "instance").splits["train"]
    assert [len(samples[index].segments) for index in (0, 1)] == [2, 2]


def test_paths_of_another_machine_are_found_by_their_ends(make):
    root = make("roboflow")
    content = {"train": "/content/street-1/train/images", "val": "..\\val\\images", "names": {"0": "cat", "1": "dog"}}
    (root / "data.yaml").write_text(yaml.safe_dump(content | {"path": "../datasets/street"}))
    data = open_dataset(str(root), "instance")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 2, "validation": 2}
    (root / "all.txt").write_text("/content/street-1/train/images/1.jpg\r\n./val/images/2.jpg\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": ["all.txt", "val/images"], "nc": 2}))
    data = open_dataset(str(root), "instance")
    assert data.labels.names == ("class_0", "class_1")
    assert [len(sample.segments) for sample in (data.splits["train"][index] for index in range(4))] == [2, 0, 2, 0]


def test_images_that_a_list_names_in_vain_are_counted(make):
    root = make()
    (root / "train.txt").write_text("./images/train/1.jpg\n./images/train/7.jpg\n./images/train/8.jpg\n")
    (root / "data.yaml").write_text(yaml.safe_dump({"train": "train.txt", "names": ["cat", "dog"]}))
    with pytest.raises(DataError, match=r"lists './images/train/7.jpg', which is not in .*; so 2 of its 3 images"):
        open_dataset(str(root), "instance")


def test_label_studios_folders_have_no_yaml(make):
    root = make()
    (root / "data.yaml").unlink()
    (root / "classes.txt").write_text("cat\ndog\n")
    data = open_dataset(str(root), "semantic")
    assert list(data.splits) == ["train", "validation"] and data.labels.names == ("cat", "dog", "background")
    for folder in ("images", "labels"):
        for file in list((root / folder).rglob("*.*")):
            file.rename(root / folder / file.name)
        for split in ("train", "val"):
            (root / folder / split).rmdir()
    data = open_dataset(str(root), "instance")
    assert [len(data.splits["train"][index].segments) for index in (0, 1)] == [2, 0]


def test_a_description_elsewhere_is_read_where_the_caller_names_the_folder(make, tmp_path):
    root = make()
    (tmp_path / "configs").mkdir()
    file = (root / "data.yaml").rename(tmp_path / "configs" / "pets.yaml")
    with pytest.raises(DataError, match="--image_folder names where they are"):
        open_dataset(str(file), "instance")
    data = DataArguments(str(file), image_folder=str(root)).open("instance")
    assert len(data.splits["train"][0].segments) == 2


def test_boxes_among_outlines_are_left_out_and_counted_once(make, caplog):
    data = open_dataset(str(make(text=OUTLINES + "0 0.5 0.5 0.2 0.2\n")), "instance")
    (record,) = caplog.records
    assert "2 of 6 objects are boxes, without an outline: they are left out" in record.message
    assert data.splits["train"][0].segments.class_ids.tolist() == [0, 1]


def test_boxes_alone_are_no_outlines(make):
    with pytest.raises(DataError, match=r"labels of .*data.yaml' are boxes .* Export the data set for segmentation"):
        open_dataset(str(make(text="0 0.5 0.5 0.2 0.2\n1 0.5 0.5 0.1 0.1\n")), "instance")


def test_key_points_are_no_outlines(make):
    root = make()
    with (root / "data.yaml").open("a") as file:
        file.write("kpt_shape: [17, 3]\n")
    with pytest.raises(DataError, match="describes key points"):
        open_dataset(str(root), "instance")


def test_a_label_file_that_is_no_text_is_named(make):
    root = make()
    (root / "labels" / "train" / "1.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"train/1.txt' is no text in UTF-8"):
        open_dataset(str(root), "instance")


def test_images_outside_of_the_folder_of_the_file_are_not_read(make, tmp_path):
    root = make()
    (root / "project").mkdir()
    file = root / "project" / "data.yaml"
    (root / "project" / "train.txt").write_text(str(root / "images" / "train" / "1.jpg"))
    for train, words in (
        (str(root / "images" / "train"), "is nowhere in '.*project': the file is expected beside its images"),
        ("../images/train", "is nowhere in"),
        ("train.txt", r"lists '.*1.jpg', which is not in"),
    ):
        file.write_text(yaml.safe_dump({"train": train, "names": ["cat", "dog"]}))
        with pytest.raises(DataError, match=words):
            open_dataset(str(file), "instance")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0.5 0.5 0.2", "line 1 of the label file has 4 numbers"),
        ("inf 0.1 0.1 0.2 0.2 0.3 0.3", "line 1 of the label file has 7 numbers"),
        ("0 1e999 0 0.5 0.5 0.1 0.1", "coordinates from 0 to inf"),
        ("\n0 0.1 0.1 0.2 0.2 0.3", "line 2 of the label file has 6 numbers"),
        ("0 10 10 20 10 20 20", r"coordinates from 10 to 20: parts of the image's width and height"),
        ("0 nan 0 0.5 0.5 0.1 0.1", "coordinates from nan"),
        ("cat 0.1 0.1 0.2 0.2 0.3 0.3", "line 1 of the label file holds 'cat 0.1"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.3", "class id 2 is not in the label set"),
    ],
)
def test_a_bad_line_is_named(make, text, words):
    samples = open_dataset(str(make(text=text)), "instance").splits["train"]
    with pytest.raises(DataError, match=rf"Sample 0 of split 'train' \(1\): .*{words}"):
        samples[0]


@pytest.mark.parametrize("names", [("cat", "dog"), ("cat", "dog", "background")])
def test_what_no_outline_covers_is_background(make, names):
    later, under = np.zeros((4, 8), bool), np.zeros((4, 8), bool)
    later[:, 4:], under[1:3, 2:4] = True, True
    semantic = open_dataset(str(make(names=names)), "semantic")
    assert semantic.labels.names == ("cat", "dog", "background")
    segments = semantic.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2]
    assert (segments.masks().numpy() == [under, later, ~(under | later)]).all()
    panoptic = open_dataset(str(make(names=names)), "panoptic")
    assert panoptic.labels.is_thing == (True, True, False)
    empty = panoptic.splits["train"][1].segments
    assert empty.class_ids.tolist() == [2] and empty.masks().all()


def test_images_or_labels_that_are_nowhere_are_named(make):
    root = make()
    (root / "labels" / "train").rename(root / "labels" / "elsewhere")
    with pytest.raises(DataError, match=r"None of the 2 images .* that of '1.jpg' would be '.*labels/train/1.txt'"):
        open_dataset(str(root), "instance")
    (root / "images" / "train").rename(root / "images" / "elsewhere")
    with pytest.raises(DataError, match="gives 'images/train' as the images of train, which is nowhere in "):
        open_dataset(str(root), "instance")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("names: [cat]", "is no description of a YOLO data set"),
        ("a: [", "is not YAML"),
        ("train: images/train\nnames: 3", "names are a list of names, or names by number, got 3"),
        ("train:\nnames: [cat]", "names no folder of images in train, val or test"),
    ],
)
def test_a_file_that_describes_no_dataset_is_refused(make, content, words):
    file = make() / "data.yaml"
    file.write_text(content)
    with pytest.raises(DataError, match=words):
        open_dataset(str(file), "instance")
