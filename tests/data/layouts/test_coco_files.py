"""COCO's official files, in the places where people keep them."""

import json
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

CATEGORIES = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 90, "name": "grass", "isthing": 0}]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


@pytest.fixture
def coco_root(tmp_path, save_picture):
    """COCO's own layout: images in <split>2017/, annotations/instances_*.json and panoptic_*.json with their PNGs."""
    for split in ("train2017", "val2017"):
        images, instances, panoptic = [], [], []
        for number in (11, 12):
            save_picture(tmp_path / split / f"{number}.jpg", np.zeros((6, 8, 3), np.uint8))
            ids = np.zeros((6, 8, 3), np.uint8)
            ids[:3, :, 0], ids[3:5, :, 1] = 7, 2  # ids 7 and 512
            save_picture(tmp_path / "annotations" / f"panoptic_{split}" / f"{number}.png", ids)
            images.append({"id": number, "file_name": f"{number}.jpg", "height": 6, "width": 8})
            infos = [{"id": 7, "category_id": 3, "iscrowd": 0}, {"id": 512, "category_id": 90, "iscrowd": 0}]
            panoptic.append({"image_id": number, "file_name": f"{number}.png", "segments_info": infos})
        box = [[0, 0, 8, 0, 8, 3, 0, 3]]
        instances.append({"id": 1, "image_id": 11, "category_id": 3, "segmentation": box, "iscrowd": 0, "bbox": []})
        everything = {"images": images, "categories": CATEGORIES}
        write(tmp_path / "annotations" / f"panoptic_{split}.json", everything | {"annotations": panoptic})
        write(tmp_path / "annotations" / f"instances_{split}.json", everything | {"annotations": instances})
        write(
            tmp_path / "annotations" / f"captions_{split}.json", {"images": images, "annotations": [{"caption": "a"}]}
        )
    return tmp_path


@pytest.mark.parametrize("annotations", [[], [{"image_id": 1, "caption": "a cat"}]])
def test_it_is_said_that_a_split_without_annotations_is_left_out(coco_root, caplog, annotations):
    content = {"images": [{"id": 1, "file_name": "1.jpg"}], "categories": CATEGORIES, "annotations": annotations}
    assert list(open_dataset(str(coco_root), "instance").splits) == ["train", "validation"] and not caplog.text
    write(coco_root / "annotations" / "instances_test.json", content)
    assert list(open_dataset(str(coco_root), "instance").splits) == ["train", "validation"]
    assert "'annotations/instances_test.json' has images but no annotation" in caplog.text
    assert "no split 'test'" in caplog.text


def test_cocos_own_layout_is_read_for_every_task(coco_root):
    panoptic = open_dataset(str(coco_root), "panoptic")
    assert list(panoptic.splits) == ["train", "validation"]
    assert panoptic.labels.names == ("cat", "grass") and panoptic.labels.label_ids_to_fuse == [1]
    sample = panoptic.splits["validation"][1]
    assert sample.image_id == 12 and sample.name == "12"
    assert sample.segments.class_ids.tolist() == [0, 1] and sample.segments.areas().tolist() == [24, 16]
    assert sample.segments.void.sum() == 8
    instance = open_dataset(str(coco_root), "instance")
    assert instance.labels.names == ("cat",)
    assert instance.splits["train"][0].segments.areas().tolist() == [24]
    assert len(instance.splits["train"][1].segments) == 0  # an image without an annotation
    assert open_dataset(str(coco_root), "semantic").splits["train"][0].segments.class_ids.tolist() == [0, 1]
    things = open_dataset(str(coco_root), "instance", annotation_format="coco_panoptic")
    assert things.labels.names == ("cat",) and things.splits["train"][1].segments.areas().tolist() == [24]


def test_one_json_file_is_a_dataset(coco_root):
    data = open_dataset(str(coco_root / "annotations" / "instances_val2017.json"), "instance")
    assert list(data.splits) == ["validation"] and len(data.splits["validation"]) == 2


def test_a_json_file_beside_the_images_of_each_split_is_found(coco_root):
    root = coco_root / "export"
    for split, name in (("train", "train2017"), ("valid", "val2017")):
        (root / split).mkdir(parents=True)
        (coco_root / "annotations" / f"instances_{name}.json").rename(root / split / "_annotations.coco.json")
        for image in (coco_root / name).iterdir():
            image.rename(root / split / image.name)
    data = open_dataset(str(root), "instance")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 2, "validation": 2}
    assert data.splits["train"][0].segments.areas().tolist() == [24]


def test_names_of_the_caller_are_of_category_ids(coco_root):
    data = open_dataset(str(coco_root), "panoptic", id2label={"3": "chat", "90": "herbe"})
    assert data.labels.names == ("chat", "herbe") and data.labels.label_ids_to_fuse == [1]
    with pytest.raises(DataError, match="class id 90 is not in the label set, whose 1 classes have the ids 3"):
        open_dataset(str(coco_root), "panoptic", id2label={"3": "chat"}).splits["train"][0]


def test_images_that_are_nowhere_are_named(coco_root):
    for image in (coco_root / "train2017").iterdir():
        image.unlink()
    (coco_root / "val2017").rename(coco_root / "elsewhere")
    for image in (coco_root / "elsewhere").iterdir():
        image.rename(image.with_suffix(".jpeg"))
    with pytest.raises(
        DataError, match=r"No folder near '.*instances_train2017.json' has '11.jpg', the first of its 2"
    ):
        open_dataset(str(coco_root), "instance")


def test_two_files_of_one_split_are_not_guessed_between(coco_root):
    source = coco_root / "annotations" / "instances_train2017.json"
    (coco_root / "annotations" / "instances_train_small.json").write_text(source.read_text())
    with pytest.raises(DataError, match=r"both 'instances_train2017.json' and 'instances_train_small.json'"):
        open_dataset(str(coco_root), "instance")


@pytest.mark.parametrize("annotations", ["annotations/instances_train.json", "instances.json"])
@pytest.mark.parametrize("masks", ["Masks", "GT", "annotations"])
def test_masks_called_like_their_images_are_not_taken_for_these(tmp_path, save_picture, annotations, masks):
    save_picture(tmp_path / "images" / "1.png", np.full((6, 8, 3), 9, np.uint8))
    save_picture(tmp_path / masks / "1.png", np.zeros((6, 8), np.uint8))
    save_picture(tmp_path / "depth" / "1.png", np.ones((6, 8), np.uint8))
    outline = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[0, 0, 8, 0, 8, 3]], "iscrowd": 0}
    images = [{"id": 1, "file_name": "1.png", "height": 6, "width": 8}]
    write(tmp_path / annotations, {"images": images, "categories": CATEGORIES, "annotations": [outline]})
    (samples,) = open_dataset(str(tmp_path), "instance").splits.values()
    assert np.asarray(samples[0].image).max() == 9


@pytest.mark.parametrize(("named", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_in_names_of_images_may_be_written_in_both_ways(coco_root, named, on_disk):
    (coco_root / "train2017" / "11.jpg").rename(coco_root / "train2017" / f"{normalize(on_disk, 'é')}.jpg")
    file = coco_root / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text().replace("11.jpg", f"{normalize(named, 'é')}.jpg"))
    samples = open_dataset(str(coco_root), "instance").splits["train"]
    assert samples[0].segments.areas().tolist() == [24]


def test_it_is_said_where_images_of_one_name_lie_in_two_folders(coco_root, save_picture, caplog):
    (coco_root / "train2017").rename(coco_root / "photos_b")
    save_picture(coco_root / "photos_a" / "11.jpg", np.zeros((6, 8, 3), np.uint8))
    save_picture(coco_root / "photos_a" / "12.jpg", np.zeros((6, 8, 3), np.uint8))
    open_dataset(str(coco_root), "instance")
    assert not caplog.text  # copies
    save_picture(coco_root / "photos_a" / "11.jpg", np.full((6, 8, 3), 99, np.uint8))
    open_dataset(str(coco_root), "instance")
    assert "'11.jpg' is in '" in caplog.text and "photos_a' and, another picture, in '" in caplog.text


# Annotations that are not of their images


@pytest.fixture
def change(coco_root):
    """Changes the content of instances_train2017.json; returns the file."""

    def apply(function):
        file = coco_root / "annotations" / "instances_train2017.json"
        content = json.loads(file.read_text())
        function(content)
        file.write_text(json.dumps(content))
        return str(file)

    return apply


def test_outlines_on_an_image_resized_on_disk_are_refused(coco_root, save_picture):
    save_picture(coco_root / "train2017" / "11.jpg", np.zeros((3, 4, 3), np.uint8))
    samples = open_dataset(str(coco_root), "instance").splits["train"]
    with pytest.raises(
        DataError, match=r"Sample 0 .*\(11\): .* image of 8 x 6 .* but the image is 4 x 3.*scale the ann"
    ):
        samples[0]
    assert samples[1].segments.size == (6, 8)


@pytest.mark.parametrize("orientation", [1, 6])
def test_outlines_on_a_photo_turned_by_its_exif_tag_are_refused(coco_root, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation  # 6: to be turned by a quarter, so that 8 x 6 pixels are seen as 6 x 8
    Image.new("RGB", (8, 6)).save(coco_root / "train2017" / "11.jpg", exif=exif)
    samples = open_dataset(str(coco_root), "instance").splits["train"]
    if orientation == 1:
        assert samples[0].segments.areas().tolist() == [24]
    else:
        with pytest.raises(DataError, match=r"of 8 x 6 .* but the image is 6 x 8.* EXIF tag .*exiftool"):
            samples[0]


def test_sizes_that_a_file_does_not_tell_are_not_compared(change):
    def forget(content):
        for image in content["images"]:
            image["width"] = 0
            del image["height"]

    assert open_dataset(change(forget), "instance").splits["train"][0].segments.areas().tolist() == [24]


def test_annotations_of_no_image_are_counted(change, caplog):
    def add(content):
        content["annotations"] += [content["annotations"][0] | {"image_id": number} for number in (77, 78)]

    data = open_dataset(change(add), "instance")
    assert "2 of 3 annotations have an image_id that no image has, among them 77" in caplog.text
    assert [len(data.splits["train"][index].segments) for index in (0, 1)] == [1, 0]


@pytest.mark.parametrize("kind", ["instances", "panoptic"])
def test_ids_written_as_text_on_one_side_are_refused(coco_root, kind):
    file = coco_root / "annotations" / f"{kind}_train2017.json"
    content = json.loads(file.read_text())
    for item in content["annotations"]:
        item["image_id"] = str(item["image_id"])
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"none of the . annotations .* image_id '11', the first image the id 11"):
        open_dataset(str(file), "instance")


def test_two_images_of_one_id_are_named(change):
    with pytest.raises(DataError, match=r"images '11.jpg' and '12.jpg' have one id, 11"):
        open_dataset(change(lambda content: content["images"][1].update(id=11)), "instance")


def test_outlines_that_enclose_nothing_are_counted(change, caplog):
    def add(content):
        short = [[], [[1, 1, 4, 1]], [[], [0, 0]]]
        content["annotations"] += [content["annotations"][0] | {"segmentation": outline} for outline in short]

    data = open_dataset(change(add), "instance")
    assert "3 of 4 annotations have no outline, or one of fewer than 3 points (of these 0 have a box)" in caplog.text
    assert "one of '11.jpg'" in caplog.text
    assert data.splits["train"][0].segments.areas().tolist() == [24]


def test_boxes_alone_are_no_masks(change):
    def empty(content):
        for item in content["annotations"]:
            item.update(segmentation=[], bbox=[0, 0, 8, 3])

    with pytest.raises(
        DataError, match=r"none of the 1 annotations has an outline. They are boxes, and a box does not tell"
    ):
        open_dataset(change(empty), "instance")


def test_reduce_labels_is_not_for_categories(coco_root):
    with pytest.raises(DataError, match="reduce_labels is for class ids in pixels"):
        open_dataset(str(coco_root), "panoptic", reduce_labels=True)


def test_the_panoptic_sample_has_the_areas_that_its_json_says(shared_data):
    folder = shared_data / "panoptic_sample"
    data = open_dataset(str(folder), "panoptic")
    assert len(data.labels) == 133 and len(data.labels.label_ids_to_fuse) == 53
    content = json.loads((folder / "panoptic_examples.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    for annotation in content["annotations"]:
        samples = data.evaluation()
        sample = next(s for s in (samples[0], samples[1]) if s.image_id == annotation["image_id"])
        infos = sorted(annotation["segments_info"], key=lambda info: info["id"])
        assert sample.segments.areas().tolist() == [info["area"] for info in infos]
        assert sample.segments.is_crowd.tolist() == [bool(info["iscrowd"]) for info in infos]
        found = [data.labels.names[label] for label in sample.segments.class_ids]
        assert found == [names[info["category_id"]] for info in infos]
        assert sample.segments.void.sum() == np.prod(sample.segments.size) - sum(info["area"] for info in infos)
        assert np.array_equal(sample.image, Image.open(folder / "input_images" / f"{sample.name}.jpg"))


@pytest.mark.parametrize(
    "name", ["../../secret.png", "a/../../secret.png", "..\\secret.png", "C:\\secret.png", None, 7]
)
@pytest.mark.parametrize(
    ("kind", "task", "entries", "what"),
    [
        ("instances", "instance", "images", "image 12 in"),
        ("panoptic", "panoptic", "images", "image 12 in"),
        ("panoptic", "panoptic", "annotations", "annotation of image 12 in"),
    ],
)
def test_a_file_outside_the_folder_is_refused_and_its_image_named(coco_root, name, kind, task, entries, what):
    path = coco_root / "annotations" / f"{kind}_train2017.json"
    content = json.loads(path.read_text())
    content[entries][1]["file_name"] = name
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"The file name of {what} .* below .* is expected"):
        open_dataset(str(path), task)


def test_an_absolute_path_in_a_coco_file_is_refused(coco_root, save_picture):
    secret = save_picture(coco_root.parent / "secret.png", np.zeros((6, 8, 3), np.uint8))
    path = coco_root / "annotations" / "instances_train2017.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = str(secret)
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"image 11 in .*secret.png', which leads out of the dataset's folder"):
        open_dataset(str(coco_root), "instance")
