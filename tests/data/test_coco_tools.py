"""COCO's JSON as annotation tools write it, for each task, and what is wrong in such files."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.training.arguments.data_arguments import DataArguments

HEIGHT, WIDTH = 24, 32
BOXES = {"cat": (2, 4, 14, 16), "dog": (8, 10, 30, 20)}  # left, top, right, bottom; they overlap


def mask_of(name):
    left, top, right, bottom = BOXES[name]
    picture = Image.new("1", (WIDTH, HEIGHT))
    ImageDraw.Draw(picture).rectangle((left, top, right - 1, bottom - 1), fill=1)
    return np.asarray(picture)


def polygon(name):
    left, top, right, bottom = BOXES[name]
    return [[left, top, right, top, right, bottom, left, bottom]]


def run_lengths(name):
    """Uncompressed: lengths of runs of 0 and 1 in turn, column by column, beginning with 0."""
    flat = mask_of(name).T.ravel().astype(int)
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate(([0], changes, [flat.size]))).tolist()
    return {"size": [HEIGHT, WIDTH], "counts": ([0] if flat[0] else []) + runs}


def image(number, name=None, **more):
    return {"id": number, "file_name": name or f"{number}.jpg", "height": HEIGHT, "width": WIDTH} | more


def annotation(number, image_id, category, segmentation, **more):
    fields = {"id": number, "image_id": image_id, "category_id": category, "segmentation": segmentation}
    return fields | {"bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0} | more


CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]


@pytest.fixture
def make(tmp_path, save_picture):
    """Writes a JSON file, and its images in the given folder; their brightness is their number."""

    def write(file="annotations/instances_train.json", images=(1, 2), folder="images", **content):
        path = tmp_path / "data" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        entries = [entry if isinstance(entry, dict) else image(entry) for entry in images]
        for number, entry in enumerate(entries if folder is not None else (), start=1):
            name = entry["file_name"].replace("\\", "/")
            save_picture(tmp_path / "data" / folder / name, np.full((HEIGHT, WIDTH, 3), 20 * number, np.uint8))
        whole = {"info": {}, "licenses": [], "images": entries, "annotations": [], "categories": CATEGORIES}
        path.write_text(json.dumps(whole | content))
        return tmp_path / "data"

    return write


def both(image_id, **more):
    return [
        annotation(1, image_id, 3, polygon("cat"), **more),
        annotation(2, image_id, 7, polygon("dog"), **more),
    ]


# Every task


def compressed(name):
    encoded = coco_mask.encode(np.asfortranarray(mask_of(name).astype(np.uint8)))
    return {"size": [HEIGHT, WIDTH], "counts": encoded["counts"].decode()}


@pytest.mark.parametrize("form", [polygon, run_lengths, compressed])
def test_each_task_is_served_by_the_same_objects(make, form):
    objects = [annotation(1, 1, 3, form("cat")), annotation(2, 1, 7, form("dog"))]
    root = str(make(annotations=objects))
    cat, dog = mask_of("cat"), mask_of("dog")
    instance = DataArguments(root).open("instance")
    assert instance.labels.names == ("cat", "dog") and instance.labels.dataset_ids == (3, 7)
    segments = instance.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1] and (segments.masks().numpy() == [cat, dog]).all()
    semantic = DataArguments(root).open("semantic")
    assert semantic.labels.names == ("background", "cat", "dog") and semantic.labels.dataset_ids == (0, 3, 7)
    segments = semantic.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2]
    assert (segments.masks().numpy() == [~(cat | dog), cat & ~dog, dog]).all()  # the later one lies on top
    panoptic = DataArguments(root).open("panoptic")
    assert panoptic.labels.is_thing == (False, True, True)
    segments = panoptic.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2]
    assert (segments.masks().numpy() == [~(cat | dog), cat & ~dog, dog]).all()
    assert panoptic.splits["train"][1].segments.class_ids.tolist() == [0]  # an image without objects


def test_the_order_of_the_file_decides_what_lies_on_top_but_crowds_lie_below(make):
    cat, dog = mask_of("cat"), mask_of("dog")
    objects = [*both(1)[::-1], annotation(3, 1, 3, run_lengths("dog"), iscrowd=1)]
    segments = open_dataset(str(make(annotations=objects)), "semantic").splits["train"][0].segments
    assert (segments.masks().numpy() == [~(cat | dog), cat, dog & ~cat]).all()
    crowd_first = [annotation(3, 1, 3, run_lengths("dog"), iscrowd="1"), annotation(1, 1, 7, polygon("cat"))]
    segments = open_dataset(str(make(annotations=crowd_first)), "panoptic").splits["train"][0].segments
    assert segments.is_crowd.tolist() == [False, True, False] and segments.class_ids.tolist() == [0, 1, 2]
    assert (segments.masks().numpy() == [~(cat | dog), dog & ~cat, cat]).all()
    instance = open_dataset(str(make(annotations=crowd_first)), "instance").splits["train"][0].segments
    assert instance.is_crowd.tolist() == [True, False] and (instance.masks().numpy() == [dog, cat]).all()


def test_objects_of_stuff_are_one_segment_of_a_panoptic_image(make):
    categories = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 7, "name": "grass", "isthing": 0}]
    objects = [annotation(1, 1, 7, [[0, 0, 4, 0, 4, 4, 0, 4]]), *both(1)[:1]]
    objects += [annotation(4, 1, 7, [[20, 0, 24, 0, 24, 4, 20, 4]])]
    data = open_dataset(str(make(annotations=objects, categories=categories)), "panoptic")
    assert data.labels.is_thing == (False, True, False)
    segments = data.splits["train"][0].segments
    assert sorted(segments.class_ids.tolist()) == [0, 1, 2]
    assert segments.areas()[segments.class_ids.tolist().index(2)] == 32


def test_a_hidden_object_is_no_segment(make):
    objects = [annotation(1, 1, 3, polygon("cat")), annotation(2, 1, 7, polygon("cat"))]
    for task in ("semantic", "panoptic"):
        segments = open_dataset(str(make(annotations=objects)), task).splits["train"][0].segments
        assert segments.class_ids.tolist() == [0, 2]


# Tools


def test_roboflows_export_has_a_placeholder_that_is_no_class(make):
    categories = [
        {"id": 0, "name": "pets-x9Dz", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets-x9Dz"},
        {"id": 2, "name": "dog", "supercategory": "pets-x9Dz"},
        {"id": 3, "name": "bird", "supercategory": "pets-x9Dz"},
    ]
    for split, count in (("train", 2), ("valid", 1), ("test", 1)):
        images = [image(number, f"{number}_jpg.rf.0a1b.jpg") for number in range(count)]  # ids of each split from 0
        objects = [annotation(number, 0, number, polygon("cat")) for number in (1, 2)]
        root = make(f"{split}/_annotations.coco.json", images, split, annotations=objects, categories=categories)
    data = open_dataset(str(root), "instance")
    assert {split: len(rows) for split, rows in data.splits.items()} == {"test": 1, "train": 2, "validation": 1}
    assert data.labels.names == ("cat", "dog", "bird") and data.labels.dataset_ids == (1, 2, 3)
    assert open_dataset(str(root), "semantic").labels.names == ("background", "cat", "dog", "bird")


def test_roboflows_placeholder_may_be_called_like_its_only_class(make):
    categories = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    objects = [annotation(1, 1, 1, polygon("cat"))]
    root = make("train/_annotations.coco.json", folder="train", annotations=objects, categories=categories)
    data = open_dataset(str(root), "semantic")
    assert data.labels.names == ("background", "cat") and data.labels.dataset_ids == (0, 1)


def test_a_category_that_is_used_is_a_class_though_others_are_below_it(make):
    categories = [
        {"id": 3, "name": "cat", "supercategory": "cat"},
        {"id": 7, "name": "kitten", "supercategory": "cat"},
    ]
    data = open_dataset(str(make(annotations=both(1), categories=categories)), "instance")
    assert data.labels.names == ("cat", "kitten")
    lone = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}, {"id": 9, "name": "person", "supercategory": "person"}]
    assert len(open_dataset(str(make(annotations=both(1), categories=lone)), "instance").labels) == 3


def test_cvats_export_is_read(make):
    objects = [
        annotation(1, 1, 3, polygon("cat"), attributes={"occluded": False}),
        annotation(2, 1, 7, run_lengths("dog"), attributes={}, iscrowd=1),
    ]
    root = make("annotations/instances_default.json", annotations=objects)
    data = open_dataset(str(root), "instance")
    assert list(data.splits) == ["train"] and len(data.splits["train"][0].segments) == 2


def test_masks_that_are_all_marked_as_crowds_are_objects(make, caplog):
    crowds = [annotation(1, 1, 3, run_lengths("cat"), iscrowd=1), annotation(2, 1, 7, run_lengths("dog"), iscrowd="1")]
    root = make("annotations/instances_default.json", annotations=crowds)
    segments = open_dataset(str(root), "instance").splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1] and not segments.is_crowd.any()
    (record,) = caplog.records
    assert "All 2 objects are marked as crowds" in record.message


@pytest.mark.parametrize("count", [20, 5])
def test_many_crowds_among_objects_are_counted(make, caplog, count):
    objects = [annotation(number, 1, 3, polygon("cat")) for number in range(count)]
    root = make(annotations=[*objects, annotation(99, 1, 7, run_lengths("dog"), iscrowd=1)])
    assert open_dataset(str(root), "instance").splits["train"][0].segments.is_crowd.sum() == 1
    said = [] if count == 20 else ["1 of 6 objects are marked as crowds"]
    assert [record.message.split(" (")[0] for record in caplog.records] == said


@pytest.mark.parametrize("names", ["photos/{}.jpg", "photos\\{}.jpg"])
def test_labelme2cocos_file_is_read(make, names):
    images = [image(number, names.format(number)) for number in (1, 2)]
    objects = [annotation(1, 2, 0, polygon("cat"), bbox=[2, 4, 12, 12])]
    categories = [{"id": 0, "name": "cat", "supercategory": "cat"}]
    root = make("dataset.json", images, "", annotations=objects, categories=categories)
    samples = open_dataset(str(root), "instance").splits["train"]
    assert [len(samples[index].segments) for index in (0, 1)] == [0, 1] and samples[1].name == "2"


def test_ids_written_as_floats_or_texts_are_read(make):
    objects = [annotation(1, 1.0, "3", polygon("cat")), annotation(2, 1.0, 7.0, polygon("dog"))]
    segments = open_dataset(str(make(annotations=objects)), "instance").splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1]


# Where images are


def test_images_of_one_name_are_those_of_their_split(make):
    make("annotations/instances_train.json", annotations=both(1), folder="train")
    root = make("annotations/instances_val.json", annotations=both(2), folder="val")
    for number in (1, 2):
        Image.new("RGB", (WIDTH, HEIGHT), (200, 200, 200)).save(root / "val" / f"{number}.jpg")
    data = open_dataset(str(root), "instance")
    assert np.asarray(data.splits["validation"][0].image).mean() > 190
    assert np.asarray(data.splits["train"][0].image).mean() < 50


def test_an_image_that_lacks_is_not_taken_from_another_split_of_like_names(make):
    make("annotations/instances_train.json", images=(1, 2, 3), annotations=both(1), folder="train")
    root = make("annotations/instances_val.json", images=(1, 2, 3), annotations=both(2), folder="val")
    (root / "train" / "3.jpg").unlink()
    with pytest.raises(
        DataError, match=r"lists 3 images, of which 1 are missing .*: '.*val.3.jpg' has the name of one"
    ):
        open_dataset(str(root), "instance")
    for number in (1, 2):  # one file may well list images of both folders
        (root / "val" / f"{number}.jpg").rename(root / "train" / f"{number}.jpg")
    assert len(open_dataset(str(root / "annotations" / "instances_train.json"), "instance").splits["train"]) == 3


@pytest.mark.parametrize("name", ["{}.jpg", "/home/me/photos/{}.jpg", "..\\photos\\{}.jpg", "photos/{}.jpg"])
def test_images_in_another_tree_are_read_where_the_caller_names_their_folder(make, save_picture, tmp_path, name):
    images = [image(number, name.format(number)) for number in (1, 2)]
    root = make(images=images, folder=None, annotations=both(2))
    for number in (1, 2):
        picture = np.full((HEIGHT, WIDTH, 3), 100 * number, np.uint8)
        save_picture(tmp_path / "elsewhere" / "all" / f"{number}.png", picture)
        (tmp_path / "elsewhere" / "all" / f"{number}.png").rename(tmp_path / "elsewhere" / "all" / f"{number}.jpg")
    with pytest.raises(DataError, match="--image_folder"):
        open_dataset(str(root), "instance")
    data = DataArguments(str(root), image_folder=str(tmp_path / "elsewhere")).open("instance")
    samples = data.splits["train"]
    assert [len(samples[index].segments) for index in (0, 1)] == [0, 2]
    assert np.asarray(samples[1].image).mean() == 200
    with pytest.raises(DataError, match=r"There is no folder of images '.*nowhere'"):
        open_dataset(str(root), "instance", image_folder=str(tmp_path / "nowhere"))


def test_the_maps_of_panoptic_files_are_near_though_images_are_elsewhere(make, save_picture, tmp_path):
    infos = [{"id": 1, "category_id": 3}, {"id": 2, "category_id": 7}]
    annotations = [{"image_id": number, "file_name": f"{number}.png", "segments_info": infos} for number in (1, 2)]
    root = make("annotations/panoptic_train.json", folder=None, annotations=annotations)
    for number in (1, 2):
        ids = np.uint8(1 + mask_of("dog"))
        save_picture(root / "annotations" / "panoptic_train" / f"{number}.png", np.stack([ids, 0 * ids, 0 * ids], -1))
        save_picture(tmp_path / "elsewhere" / f"{number}.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    data = open_dataset(str(root), "panoptic", image_folder=str(tmp_path / "elsewhere"))
    masks = data.splits["train"][1].segments.masks().numpy()
    assert (masks == [~mask_of("dog"), mask_of("dog")]).all()


def test_images_that_lack_are_counted(make):
    root = make(images=range(1, 6), annotations=both(2))
    for number in (3, 5):
        (root / "images" / f"{number}.jpg").unlink()
    with pytest.raises(DataError, match=r"has '3.jpg', which is one of 2 of its 5 images that are nowhere"):
        open_dataset(str(root), "instance")


def test_two_entries_of_one_image_are_refused(make, save_picture, tmp_path):
    root = make(images=[image(1), image(2, "1.jpg")], annotations=both(1))
    with pytest.raises(DataError, match=r"the images of the ids 1 and 2 are both the file '.*1.jpg'"):
        open_dataset(str(root), "instance")
    root = make(images=[image(1, "a/1.jpg"), image(2, "b/1.jpg")], annotations=both(1))
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2
    save_picture(tmp_path / "flat" / "1.jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(DataError, match=r"the images of the ids 1 and 2 are both the file '.*flat.1.jpg'"):
        open_dataset(str(root), "instance", image_folder=str(tmp_path / "flat"))


def test_image_folder_is_refused_where_it_means_nothing(paired_folder, tmp_path):
    words = "image_folder is for a folder with files of COCO, YOLO or LabelMe"
    for dataset, more in ((str(paired_folder()), {}), (str(paired_folder()), {"mask_name": "{stem}"}), ("a/b", {})):
        with pytest.raises(DataError, match=words):
            open_dataset(dataset, "semantic", image_folder=str(tmp_path), **more)
    with pytest.raises(DataError, match="image_folder are for datasets that are opened by their name or folder"):
        open_dataset({}, "semantic", image_folder=str(tmp_path))


# Several files


def test_files_of_one_split_are_joined(make, caplog):
    make("a/annotations/instances_default.json", annotations=both(2), folder="a/images")
    others = [{"id": 1, "name": "dog"}, {"id": 7, "name": "cow"}]
    objects = [annotation(1, 1, 1, polygon("cat")), annotation(2, 2, 7, polygon("dog"))]
    root = make("b/annotations/instances_default.json", annotations=objects, folder="b/images", categories=others)
    data = open_dataset(str(root), "instance")
    assert list(data.splits) == ["train"] and len(data.splits["train"]) == 4
    assert data.labels.names == ("cat", "dog", "cow") and data.labels.dataset_ids == (3, 7, 8)
    samples = [data.splits["train"][index] for index in range(4)]
    assert [sample.image_id for sample in samples] == [1, 2, 3, 4]  # both files have 1 and 2
    found = [[data.labels.names[label] for label in sample.segments.class_ids] for sample in samples]
    assert found == [[], ["cat", "dog"], ["dog"], ["cow"]]
    (record,) = caplog.records
    assert "joined by their names to 3" in record.message


def test_joined_files_keep_ids_that_differ(make):
    make("part_1.json", images=[image(11), image(12)], folder="", annotations=both(11))
    root = make("part_2.json", images=[image(21), image(22)], folder="", annotations=both(22))
    samples = open_dataset(str(root), "instance").splits["train"]
    assert [samples[index].image_id for index in range(4)] == [11, 12, 21, 22]


def test_splits_may_name_different_categories(make):
    make("annotations/instances_train.json", annotations=both(1), folder="train")
    fewer = [{"id": 0, "name": "dog"}]
    root = make(
        "annotations/instances_val.json",
        annotations=[annotation(1, 1, 0, polygon("cat"))],
        folder="val",
        categories=fewer,
    )
    data = open_dataset(str(root), "instance")
    assert data.labels.names == ("cat", "dog")
    assert data.splits["validation"][0].segments.class_ids.tolist() == [1]


def test_a_copy_in_a_hidden_folder_is_passed_over(make):
    make(".ipynb_checkpoints/train.json", annotations=both(2), folder=None)
    root = make("train.json", annotations=both(1))
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2


def test_a_copy_in_a_folder_below_is_not_joined(make):
    make("annotations/old/instances_train.json", annotations=both(2))
    root = make("annotations/instances_train.json", annotations=both(1))
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2


def test_a_file_is_recognised_in_whichever_order_it_is_written(make):
    root = make(annotations=both(1))
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    images = [image(number, note="x" * 1000) for number in range(3, 203)]
    for entry in images:
        (root / "images" / entry["file_name"]).hardlink_to(root / "images" / "1.jpg")
    annotations = [content["annotations"][0] | {"note": "y" * 100_000}, *content["annotations"]]
    ordered = {"annotations": annotations, "images": content["images"] + images, "categories": CATEGORIES}
    file.write_text(json.dumps(ordered))
    assert len(open_dataset(str(root), "instance").splits["train"]) == 202


# What has no mask


@pytest.mark.parametrize("missing", [None, "no key"])
def test_boxes_mixed_in_are_left_out_and_counted_once(make, caplog, missing):
    boxes = [annotation(number, 1, 3, None) for number in (8, 9)]
    if missing == "no key":
        for box in boxes:
            del box["segmentation"]
    samples = open_dataset(str(make(annotations=[*boxes, *both(1)])), "instance").splits["train"]
    assert samples[0].segments.class_ids.tolist() == [0, 1]
    (record,) = caplog.records
    assert "2 of 4 annotations have no outline" in record.message
    assert "(of these 2 have a box), among them one of '1.jpg': they are left out" in record.message


@pytest.mark.parametrize("segmentation", [None, [], "no key"])
def test_boxes_alone_are_answered_with_what_to_do(make, segmentation):
    objects = [annotation(1, 1, 3, segmentation)]
    if segmentation == "no key":
        del objects[0]["segmentation"]
    for task in ("instance", "semantic"):
        with pytest.raises(DataError, match=r"none of the 1 annotations has an outline. They are boxes, .* Draw outl"):
            open_dataset(str(make(annotations=objects)), task)


def test_coordinates_that_are_parts_of_the_image_are_refused(make):
    parts = [annotation(1, 1, 3, [[0.1, 0.1, 0.9, 0.1, 0.9, 1.0]]), annotation(2, 1, 3, None)]
    with pytest.raises(
        DataError, match="no outline is larger than a pixel: coordinates are parts of width and height"
    ):
        open_dataset(str(make(annotations=parts)), "instance")
    assert len(open_dataset(str(make(annotations=[*parts, *both(1)])), "instance").labels) == 2


# Damaged files

NAN, HUGE = float("nan"), 10**400
SQUARE = [1, 1, 5, 1, 5, 5, 1, 5]


@pytest.mark.parametrize(
    "segmentation",
    [
        [[NAN, *SQUARE[1:]]],
        [[float("inf"), *SQUARE[1:]]],
        [[1e30, *SQUARE[1:]]],
        [[HUGE, *SQUARE[1:]]],
        [list(map(str, SQUARE))],
        [[SQUARE]],
        [[1, [1], 5, 1, 5, 5, 1, 5]],
        [[None, *SQUARE[1:]]],
        [{"x": 1}],
        ["1 1 5 1 5 5"],
        "1 1 5 1 5 5",
        7,
        True,
        {"size": [HEIGHT, WIDTH]},
        {"counts": [HEIGHT * WIDTH]},
        {"size": None, "counts": [HEIGHT * WIDTH]},
        {"size": [str(HEIGHT), str(WIDTH)], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [NAN, 1]},
        {"size": [HEIGHT, WIDTH], "counts": [HUGE]},
        {"size": [HEIGHT, WIDTH], "counts": [[HEIGHT * WIDTH]]},
        {"size": [HEIGHT, WIDTH], "counts": {"a": 1}},
        {"size": [HEIGHT, WIDTH], "counts": "\u2603"},
        {"size": [10**9, 10**9], "counts": [10**18]},
    ],
)
def test_a_damaged_mask_names_its_sample(make, segmentation):
    objects = [*both(1), annotation(5, 2, 3, segmentation)]
    samples = open_dataset(str(make(annotations=objects)), "semantic").splits["train"]
    assert len(samples[0].segments) == 3
    with pytest.raises(DataError, match=r"Sample 1 of split 'train' \(2\): "):
        samples[1]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"images": 3}, "a list of objects, .* under 'images'"),
        ({"images": [1]}, "a list of objects, .* under 'images'"),
        ({"annotations": {"a": both(1)}}, "a list of objects, .* under 'annotations'"),
        ({"categories": ["cat", "dog"]}, "a list of objects, .* under 'categories'"),
        ({"categories": [{"id": NAN, "name": "cat"}]}, "A category .* has the id nan"),
        ({"categories": [{"id": 1}]}, "a category has no id or no name"),
        ({"categories": [{"name": "cat"}]}, "a category has no id or no name"),
        (
            {"annotations": [annotation(1, 1, "cat", polygon("cat"))]},
            "annotation of '1.jpg' has the category_id 'cat'",
        ),
        ({"annotations": [annotation(1, 1, NAN, polygon("cat"))]}, "annotation of '1.jpg' has the category_id nan"),
        ({"annotations": [annotation(1, [1], 3, polygon("cat"))]}, r"first has the image_id \[1\]"),
        ({"images": [image([1], "1.jpg")]}, r"image '1.jpg' has the id \[1\]"),
        ({"images": [image(1, width=float("inf"))]}, "image '1.jpg' has the width inf"),
        ({"images": [image(1, width="wide")]}, "image '1.jpg' has the width 'wide'"),
        ({"images": [image(1, height=10**30)]}, "image '1.jpg' has the height 1000"),
        ({"categories": []}, "no COCO JSON has images, annotations and categories"),
    ],
)
def test_a_damaged_file_is_named(make, content, words):
    root = make(annotations=both(1))
    file = root / "annotations" / "instances_train.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | content))
    with pytest.raises(DataError, match=words):
        open_dataset(str(root), "instance")


def test_a_category_that_the_file_lacks_is_named_without_advice_for_pixels(make):
    root = make(annotations=[*both(1), annotation(3, 2, 9, polygon("cat"))])
    samples = open_dataset(str(root), "instance").splits["train"]
    with pytest.raises(DataError, match=r"Sample 1 .*class id 9 is not in .*name it in the label file") as error:
        samples[1]
    assert "ignore_index" not in str(error.value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": [], "annotations": ', b"\xff\xfe"])
def test_a_file_that_is_no_json_is_named(make, text):
    root = make(annotations=both(1))
    file = root / "annotations" / "instances_train.json"
    file.write_bytes((text if isinstance(text, bytes) else text.encode()) + b'"images" "annotations"')
    with pytest.raises(DataError, match=r"instances_train.json' is not JSON"):
        open_dataset(str(root), "instance")
