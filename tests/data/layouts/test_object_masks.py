"""Masks of single objects: in folders of their image, in those of classes, by number, and as a list in a table."""

import datasets
import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

SIZE = (8, 10)
COUNTS = (3, 1, 2)  # objects of the images
CLASSES = ("cat", "dog")


def draw(image, number):
    """`(H, W)` bool of an object; those of one image overlap in a pixel."""
    mask = np.zeros(SIZE, bool)
    mask[image : image + 3, 2 * number : 2 * number + 3] = True
    return mask


def class_of(number):
    return CLASSES[number % 2]


def save(folder, image, number, name, value=255):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((draw(image, number) * value).astype(np.uint8)).save(file)


@pytest.fixture
def make(tmp_path):
    """Writes images 0, 1, 2 and masks of their objects, under names made of {i}, {n}, {c}: image, object, class."""

    def write(image_name, mask_name, value=255, root="data"):
        for image, count in enumerate(COUNTS):
            file = tmp_path / root / image_name.format(i=image)
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE[::-1], (image, 0, 0)).save(file)
            for number in range(count):
                name = mask_name.format(i=image, n=number, c=class_of(number))
                save(tmp_path / root, image, number, name, value)
        return str(tmp_path / root)

    return write


def check(samples, with_classes):
    """Each image has the objects that were drawn, as they were: what overlaps in the drawing overlaps here."""
    assert len(samples) == len(COUNTS)
    for index in range(len(COUNTS)):
        image = int(np.asarray(samples[index].image).flat[0])
        segments = samples[index].segments
        found = {
            (mask.tobytes(), label)
            for mask, label in zip(segments.masks().numpy(), segments.class_ids.tolist(), strict=True)
        }
        labels = [CLASSES.index(class_of(number)) if with_classes else 0 for number in range(COUNTS[image])]
        assert found == {(draw(image, number).tobytes(), label) for number, label in enumerate(labels)}
        assert len(segments) == COUNTS[image]


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{i}/images/{i}.png", "{i}/masks/{n}-7f3a.png"),  # Kaggle's Data Science Bowl 2018
        ("{i}/{i}.png", "{i}/masks/{n}.png"),
        ("stage1_train/{i}/images/{i}.png", "stage1_train/{i}/masks/{n}.png"),
        ("images/{i}.png", "masks/{i}/{n}.png"),
        ("images/{i}.jpg", "masks/{i}_{n}.png"),
        ("images/img-{i}.png", "masks/img-{i}_mask_{n}.png"),
        ("images/a {i}.png", "labels/a {i}/x{n}.png"),
        ("train/images/{i}.png", "train/masks/{i}_{n}.png"),
        ("images/train/{i}.png", "masks/train/{i}/{n}.png"),
        ("train/{i}.jpg", "train_masks/{i}_{n}.gif"),
    ],
)
def test_each_object_has_a_mask(make, image, mask):
    folder = make(image.replace(".jpg", ".png"), mask)
    data = open_dataset(folder, "instance")
    assert data.labels.names == ("object",) and list(data.splits) == ["train"]
    check(data.splits["train"], with_classes=False)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("{i}/images/{i}.png", "{i}/masks/{c}/{n}.png"),
        ("images/{i}.png", "masks/{i}/{c}/{n}.png"),
        ("images/{i}.png", "masks/{c}/{i}_{n}.png"),
        ("images/train/{i}.png", "masks/train/{c}/{i}_{n}.png"),
    ],
)
def test_folders_of_classes_tell_the_classes_of_objects(make, image, mask):
    data = open_dataset(make(image, mask), "instance")
    assert data.labels.names == CLASSES
    check(data.splits["train"], with_classes=True)


def test_a_mask_for_each_class_is_one_object(make):
    folder = make("images/{i}.png", "masks/{c}/{i}.png")  # the third object of image 0 overwrites the first
    data = open_dataset(folder, "semantic")
    assert data.labels.names == ("background", *CLASSES)
    segments = data.splits["train"][2].segments
    cat, dog = draw(2, 0), draw(2, 1)
    expected = np.stack([~(cat | dog), cat & ~dog, dog])  # what comes later lies on top
    assert segments.class_ids.tolist() == [0, 1, 2] and (segments.masks().numpy() == expected).all()


def test_splits_of_image_folders_are_found_and_those_without_masks_are_not(make, tmp_path):
    for split in ("stage1_train", "val"):
        make(f"{split}/{{i}}/images/{{i}}.png", f"{split}/{{i}}/masks/{{n}}.png")
    (tmp_path / "data" / "stage1_test" / "9" / "images").mkdir(parents=True)
    Image.new("RGB", SIZE[::-1]).save(tmp_path / "data" / "stage1_test" / "9" / "images" / "9.png")
    data = open_dataset(str(tmp_path / "data"), "instance")
    assert list(data.splits) == ["train", "val"]
    check(data.splits["val"], with_classes=False)


def test_splits_agree_that_masks_are_of_objects_though_one_has_one_each(make, tmp_path):
    make("train/images/{i}.png", "train/masks/{i}_{n}.png")
    for image in range(3):
        save(tmp_path / "data", image, 0, f"val/masks/{image}_0.png")
        (tmp_path / "data" / "val" / "images").mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "data" / "val" / "images" / f"{image}.png")
    data = open_dataset(str(tmp_path / "data"), "instance")
    assert [len(data.splits["val"][index].segments) for index in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("value", [1, 255, 7])
def test_objects_serve_panoptic_and_semantic_with_what_none_covers_as_background(make, value):
    folder = make("images/{i}.png", "masks/{i}_{n}.png", value)
    panoptic = open_dataset(folder, "panoptic")
    assert panoptic.labels.names == ("background", "object") and panoptic.labels.label_ids_to_fuse == [0]
    assert sorted(panoptic.splits["train"][0].segments.class_ids.tolist()) == [0, 1, 1, 1]
    union = np.any([draw(0, number) for number in range(3)], axis=0)
    semantic = open_dataset(folder, "semantic").splits["train"][0].segments
    assert (semantic.masks().numpy() == np.stack([~union, union])).all()


@pytest.mark.parametrize("names", [["nucleus"], {"1": "nucleus"}, {"0": "background", "1": "nucleus"}])
def test_the_class_of_objects_may_be_named(make, names):
    folder = make("images/{i}.png", "masks/{i}_{n}.png")
    assert open_dataset(folder, "instance", id2label=names).labels.names == ("nucleus",)
    assert open_dataset(folder, "semantic", id2label=names).labels.names == ("background", "nucleus")


@pytest.mark.parametrize("names", [["background", "cell", "dirt"], {"1": "cell", "2": "dirt"}])
@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_names_of_several_classes_are_refused_where_nothing_tells_them_apart(make, names, task):
    folder = make("images/{i}.png", "masks/{i}_{n}.png")
    with pytest.raises(DataError, match=r"'cell', 'dirt'.*, but nothing in these annotations tells which object"):
        open_dataset(folder, task, id2label=names)


def test_an_empty_folder_of_masks_is_an_image_without_objects(make, tmp_path):
    for folder, empty in (
        (make("{i}/images/{i}.png", "{i}/masks/{n}.png", root="a"), tmp_path / "a" / "1" / "masks"),
        (make("images/{i}.png", "masks/{i}/{n}.png", root="b"), tmp_path / "b" / "masks" / "1"),
    ):
        for file in empty.iterdir():
            file.unlink()
        assert len(open_dataset(folder, "instance").splits["train"][1].segments) == 0


def test_images_without_masks_of_objects_are_left_out_on_request(make, tmp_path, caplog):
    folder = make("{i}/images/{i}.png", "{i}/masks/{n}.png")
    (tmp_path / "data" / "1" / "masks" / "0.png").unlink()
    (tmp_path / "data" / "1" / "masks").rmdir()
    with pytest.raises(DataError, match=r"1 of 3 images .* have no mask of an object, among them '1.png'. An empty"):
        open_dataset(folder, "instance")
    assert len(open_dataset(folder, "instance", skip_images_without_mask=True).splits["train"]) == 2
    assert "1 of 3 images in" in caplog.text


def test_masks_of_several_values_are_no_masks_of_an_object(make, tmp_path):
    folder = make("images/{i}.png", "masks/{i}_{n}.png")
    Image.fromarray(np.arange(80, dtype=np.uint8).reshape(SIZE)).save(tmp_path / "data" / "masks" / "0_1.png")
    samples = open_dataset(folder, "instance").splits["train"]
    with pytest.raises(DataError, match=r"Sample 0 .*mask 2 of 3 has the values 0, 1, 2, 3, 4, ...: 0 and one other"):
        samples[0]
    Image.new("L", (5, 6)).save(tmp_path / "data" / "masks" / "0_1.png")
    with pytest.raises(DataError, match=r"mask 2 of 3 is 5 x 6 pixels \(width x height\) but the image is 10 x 8"):
        samples[0]


def test_a_single_mask_for_each_image_is_an_object_on_request(make, tmp_path):
    for image in range(3):
        save(tmp_path / "data", image, 0, f"masks/{image}.png")
        (tmp_path / "data" / "images").mkdir(exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(tmp_path / "data" / "images" / f"{image}.png")
    folder = str(tmp_path / "data")
    with pytest.raises(
        DataError, match=r"black and white do not tell objects apart.* --annotation_format object_masks"
    ):
        open_dataset(folder, "instance")
    segments = open_dataset(folder, "instance", annotation_format="object_masks").splits["train"][1].segments
    assert (segments.masks().numpy() == draw(1, 0)[None]).all()


PHOTOS = ("P_1015", "P_1015_1", "P_1016", "P_1016_1", "P_1017")


@pytest.fixture
def photos(tmp_path):
    """Photos as cameras number them that take two in a second, and a mask of each, of which some are gone again."""

    def write(mask_name="masks/{i}.png", gone=(), gone_masks=()):
        for number, name in enumerate(PHOTOS):
            files = [tmp_path / "images" / f"{name}.png", tmp_path / mask_name.format(i=name)]
            files[0].parent.mkdir(exist_ok=True)
            Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(files[0])
            save(tmp_path, number, 0, mask_name.format(i=name))
            for file, names in zip(files, (gone, gone_masks), strict=True):
                if name in names:
                    file.unlink()
        return str(tmp_path)

    return write


@pytest.mark.parametrize("gone", [["P_1015_1"], ["P_1016_1"], ["P_1015_1", "P_1016_1"]])
def test_the_mask_of_a_photo_that_is_gone_is_not_one_of_another(photos, gone, caplog):
    data = open_dataset(photos(gone=gone), "semantic")
    assert data.labels.names == ("background", "foreground")
    kept = [name for name in PHOTOS if name not in gone]
    assert [sample.name for sample in data.splits["train"]] == kept
    for sample in data.splits["train"]:
        assert (sample.segments.masks()[1].numpy() == draw(PHOTOS.index(sample.name), 0)).all()
    assert f" are left out: {len(gone)}, among them" in caplog.text and all(
        f"{name}.png'" in caplog.text for name in gone
    )


def test_nor_is_it_taken_for_one_where_another_mask_is_missing(photos):
    folder = photos(gone=["P_1015_1"], gone_masks=["P_1017"])
    with pytest.raises(DataError, match=r"1 of 4 images in .* have no mask of the same stem .* 'P_1017.png'"):
        open_dataset(folder, "semantic")
    samples = open_dataset(folder, "semantic", skip_images_without_mask=True).splits["train"]
    assert [(sample.segments.masks()[1].numpy() == draw(0, 0)).all() for sample in samples] == [True, False, False]


def test_nor_in_folders_of_classes(photos, tmp_path, caplog):
    folder = photos("masks/cat/{i}.png", gone=["P_1015_1"])
    save(tmp_path, 0, 1, "masks/dog/P_1015.png")
    segments = open_dataset(folder, "instance").splits["train"][0].segments
    assert (segments.masks().numpy() == np.stack([draw(0, 0), draw(0, 1)])).all()
    assert "P_1015_1.png'" in caplog.text


def test_masks_with_numbers_are_of_objects_though_one_has_none(make, tmp_path, caplog):
    folder = make("images/{i}.png", "masks/{i}_{n}.png")
    (tmp_path / "data" / "masks" / "1_0.png").rename(tmp_path / "data" / "masks" / "1.png")
    check(open_dataset(folder, "instance").splits["train"], with_classes=False)
    assert "are left out" not in caplog.text


def test_the_first_mask_of_each_image_may_have_no_number(make, tmp_path, caplog):
    folder = make("images/{i}.png", "masks/{i}_{n}.png")
    for first in (tmp_path / "data" / "masks").glob("*_0.png"):
        first.rename(first.with_name(first.name.replace("_0", "")))
    check(open_dataset(folder, "instance").splits["train"], with_classes=False)
    assert "are left out" not in caplog.text


# In a table


@pytest.fixture
def table(make, tmp_path):
    """A Parquet file with columns of images, of lists of masks, and perhaps of lists of classes."""
    make("images/{i}.png", "masks/{i}_{n}.png")
    root = tmp_path / "data"
    columns = {
        "image": [Image.open(root / "images" / f"{image}.png").copy() for image in range(3)],
        "masks": [
            [Image.open(root / "masks" / f"{image}_{number}.png").copy() for number in range(count)]
            for image, count in enumerate(COUNTS)
        ],
        "categories": [[number % 2 for number in range(count)] for count in COUNTS],
    }

    def write(classes):
        features = {"image": datasets.Image(), "masks": List(datasets.Image())}
        features |= {} if classes is None else {"categories": List(classes)}
        chosen = {name: columns[name] for name in features}
        Dataset.from_dict(chosen, features=Features(features)).to_parquet(tmp_path / "saved" / "train.parquet")
        return str(tmp_path / "saved")

    return write


def test_a_column_of_a_table_may_hold_a_list_of_masks(table):
    check(open_dataset(table(None), "instance").splits["train"], with_classes=False)


@pytest.mark.parametrize("classes", [ClassLabel(names=list(CLASSES)), Value("int64")])
def test_another_column_may_hold_their_classes(table, classes):
    names = None if isinstance(classes, ClassLabel) else list(CLASSES)
    folder = table(classes)
    data = open_dataset(folder, "instance", id2label=names)
    assert data.labels.names == CLASSES
    check(data.splits["train"], with_classes=True)
    semantic = open_dataset(folder, "semantic", id2label=names)
    assert semantic.labels.names == (*CLASSES, "background")


def test_masks_without_a_class_are_refused(tmp_path):
    features = Features(image=datasets.Image(), masks=List(datasets.Image()), classes=List(Value("int64")))
    rows = {"image": [Image.new("RGB", (3, 2))], "masks": [[Image.new("L", (3, 2), 255)] * 2], "classes": [[0]]}
    Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "a" / "train.parquet")
    with pytest.raises(DataError, match="column 'masks' has 2 masks, and column 'classes' 1 classes"):
        open_dataset(str(tmp_path / "a"), "instance", id2label=["a", "b"]).splits["train"][0]
