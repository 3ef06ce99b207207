"""Maps in which each pixel is the number of its object: alone, and beside a map of classes as in VOC."""

import datasets
import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.layouts.folders.voc import CLASSES

SIZE = (8, 10)


def draw(seed, dtype=np.uint8, ids=(3, 1, 200)):
    """An id map with a block of each of these ids; they do not touch."""
    rng = np.random.default_rng(seed)
    drawn = np.zeros(SIZE, dtype)
    for column, raw in enumerate(ids):
        top = int(rng.integers(0, 5))
        drawn[top : top + 3, 3 * column : 3 * column + 2] = raw
    return drawn


def check_objects(segments, id_map, class_of):
    """The segments are the objects of the map, each of the class that `class_of` gives for its id."""
    found = {
        (mask.tobytes(), label)
        for mask, label in zip(segments.masks().numpy(), segments.class_ids.tolist(), strict=True)
    }
    expected = {((id_map == raw).tobytes(), class_of(raw)) for raw in np.unique(id_map) if raw}
    assert found == expected and len(segments) == len(expected)


@pytest.fixture
def penn_fudan(tmp_path, save_picture):
    """The original's folders."""
    for number in range(3):
        name = f"FudanPed{number:05d}"
        save_picture(tmp_path / "PNGImages" / f"{name}.png", np.zeros((*SIZE, 3), np.uint8))
        save_picture(tmp_path / "PedMasks" / f"{name}_mask.png", draw(number, ids=(1, 2, 3)))
        (tmp_path / "Annotation").mkdir(exist_ok=True)
        (tmp_path / "Annotation" / f"{name}.txt").write_text("# boxes")
    (tmp_path / "added-object-list.txt").write_text("")
    return str(tmp_path)


def test_penn_fudan_is_read_as_downloaded(penn_fudan):
    data = open_dataset(penn_fudan, "instance")
    assert data.labels.names == ("pedestrian",) and data.labels.is_thing == (True,)
    for number in range(3):
        check_objects(data.splits["train"][number].segments, draw(number, ids=(1, 2, 3)), lambda raw: 0)


def test_penn_fudan_has_a_background_where_each_pixel_needs_a_class(penn_fudan):
    panoptic = open_dataset(penn_fudan, "panoptic")
    assert panoptic.labels.names == ("background", "pedestrian") and panoptic.labels.is_thing == (False, True)
    segments = panoptic.splits["train"][0].segments
    assert sorted(segments.class_ids.tolist()) == [0, 1, 1, 1] and not segments.void.any()
    semantic = open_dataset(penn_fudan, "semantic").splits["train"][0].segments
    ids = draw(0, ids=(1, 2, 3))
    assert semantic.class_ids.tolist() == [0, 1]
    assert (semantic.masks().numpy() == np.stack([ids == 0, ids > 0])).all()


@pytest.fixture
def make(tmp_path, save_picture):
    """`images/` and `masks/` of two pictures with these masks."""

    def write(masks):
        for number, mask in enumerate(masks):
            save_picture(tmp_path / "images" / f"{number}.png", np.zeros((*SIZE, 3), np.uint8))
            save_picture(tmp_path / "masks" / f"{number}.png", mask)
        return str(tmp_path)

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("names", [None, ["cell"], {"1": "cell"}, {"0": "background", "1": "cell"}])
def test_ids_are_objects_on_request(make, dtype, names):
    ids = (3, 40 if dtype == np.uint8 else 4000, 200)
    folder = make([draw(number, dtype, ids) for number in range(2)])
    with pytest.raises(DataError, match=r"class_map serve semantic and panoptic .* --annotation_format instance_ids"):
        open_dataset(folder, "instance")
    data = open_dataset(folder, "instance", annotation_format="instance_ids", id2label=names)
    assert data.labels.names == ("cell" if names else "object",)
    for number in range(2):
        check_objects(data.splits["train"][number].segments, draw(number, dtype, ids), lambda raw: 0)
    semantic = open_dataset(folder, "semantic", annotation_format="instance_ids", id2label=names)
    assert semantic.labels.names == ("background", "cell" if names else "object")


def test_colours_number_objects_as_well(make):
    ids = draw(0, ids=(1, 2, 3))
    palette = np.uint8([(0, 0, 0), (128, 0, 0), (0, 0, 128), (1, 2, 3)])
    data = open_dataset(make([palette[ids]]), "instance", annotation_format="instance_ids")
    check_objects(data.splits["train"][0].segments, ids, lambda raw: 0)


@pytest.mark.parametrize(
    ("dtype", "ignore_index", "is_void"), [("u1", 255, True), ("u2", 255, False), ("u2", 999, True)]
)
def test_255_is_void_in_8_bits_and_an_object_in_more(make, dtype, ignore_index, is_void):
    ids = draw(0, dtype, (1, 2, ignore_index))
    folder = make([ids])
    data = open_dataset(folder, "instance", annotation_format="instance_ids", ignore_index=ignore_index)
    segments = data.splits["train"][0].segments
    assert len(segments) == (2 if is_void else 3)
    assert (segments.void.numpy() == (is_void & (ids == ignore_index))).all()


@pytest.mark.parametrize("factor", [256, 1000])
@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_ids_made_of_classes_are_refused_where_stuff_has_such_too(make, tmp_path, save_picture, factor, task):
    classes = draw(0, ids=(26, 7, 26))
    objects = draw(0, np.uint16, (factor * 26, factor * 7 if factor == 256 else 7, factor * 26 + 1))
    folder = make([classes, classes])
    for number in range(2):
        save_picture(tmp_path / "instances" / f"{number}.png", objects)
    with pytest.raises(DataError, match=f"'instance_ids' are {factor} x class . number, .* road or sky would be"):
        open_dataset(folder, task)
    assert len(open_dataset(folder, "semantic").splits["train"][0].segments) == 3
    for number in range(2):  # with 0 for stuff, each id is an object
        save_picture(tmp_path / "instances" / f"{number}.png", np.where(classes == 26, objects + 1, 0))
    data = open_dataset(folder, task)
    car = data.labels.names.index("class_26")
    assert data.splits["train"][0].segments.class_ids.tolist().count(car) == 2


def test_more_objects_than_a_byte_holds_stay_apart(make):
    ids = np.arange(SIZE[0] * SIZE[1] * 6, dtype=np.uint16).reshape(8, 60) + 1
    folder = make([ids])
    Image.new("RGB", (60, 8)).save(f"{folder}/images/0.png")
    data = open_dataset(folder, "instance", annotation_format="instance_ids")
    assert data.splits["train"][0].segments.areas().tolist() == [1] * 480


# Beside a map of classes

VOC_NAMES = ("2007_000032", "2007_000039", "2012_004331")
OBJECT_CLASSES = {1: 15, 2: 7, 3: 15}  # person, car, person


def palette_picture(array):
    """A picture with VOC's palette, of which the pixels are the indices."""
    picture = Image.fromarray(array)
    picture.putpalette([value for raw in range(256) for value in (raw * 37 % 256, raw * 91 % 256, raw * 53 % 256)])
    return picture


def draw_voc(name):
    """Class map and instance map; objects have a border of 255."""
    instances = draw(int(name[-2:]), ids=(1, 2, 3))
    classes = np.vectorize(lambda raw: OBJECT_CLASSES.get(raw, 0))(instances).astype(np.uint8)
    for ids in (instances, classes):
        ids[-1] = 255
    return classes, instances


@pytest.fixture
def make_voc(tmp_path):
    """VOC2012's folders and lists: two images to train on, one to measure on, and others without masks."""

    def write(above="VOCdevkit/VOC2012", names=VOC_NAMES):
        root = tmp_path / "voc" / above
        for folder in (
            "JPEGImages",
            "SegmentationClass",
            "SegmentationObject",
            "ImageSets/Segmentation",
            "Annotations",
        ):
            (root / folder).mkdir(parents=True)
        for name in (*names, "2008_000001"):
            Image.new("RGB", SIZE[::-1]).save(root / "JPEGImages" / f"{name}.jpg")
            (root / "Annotations" / f"{name}.xml").write_text("<annotation/>")
        for name in names:
            classes, instances = draw_voc(name)
            palette_picture(classes).save(root / "SegmentationClass" / f"{name}.png")
            palette_picture(instances).save(root / "SegmentationObject" / f"{name}.png")
        for split, listed in (
            ("train", names[:2]),
            ("val", names[2:]),
            ("trainval", names),
            ("test", ["2008_000002"]),
        ):
            (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text("\n".join(listed) + " \n")
        return str(tmp_path / "voc")

    return write


@pytest.mark.parametrize("above", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_is_read_as_downloaded_by_its_lists(make_voc, above):
    data = open_dataset(make_voc(above), "semantic")
    assert {split: len(samples) for split, samples in data.splits.items()} == {"train": 2, "val": 1}
    assert data.labels.names == tuple(CLASSES.split(", ")) and len(data.labels) == 21
    sample = data.splits["val"][0]
    classes, _ = draw_voc(VOC_NAMES[2])
    assert sample.name == VOC_NAMES[2] and sample.segments.class_ids.tolist() == [0, 7, 15]
    assert (sample.segments.masks().numpy() == np.stack([classes == raw for raw in (0, 7, 15)])).all()
    assert (sample.segments.void.numpy() == (classes == 255)).all()


def test_objects_of_voc_have_the_classes_of_the_other_map(make_voc):
    data = open_dataset(make_voc(), "instance")
    assert data.labels.names == tuple(CLASSES.split(", ")[1:])
    for split, number, name in (("train", 0, VOC_NAMES[0]), ("train", 1, VOC_NAMES[1]), ("val", 0, VOC_NAMES[2])):
        _, instances = draw_voc(name)
        segments = data.splits[split][number].segments
        check_objects(segments, np.where(instances == 255, 0, instances), lambda raw: OBJECT_CLASSES[raw] - 1)
        assert (segments.void.numpy() == (instances == 255)).all()


def test_voc_serves_panoptic_with_background_as_stuff(make_voc):
    data = open_dataset(make_voc(), "panoptic")
    assert data.labels.label_ids_to_fuse == [0]
    assert sorted(data.splits["train"][0].segments.class_ids.tolist()) == [0, 7, 15, 15]


def test_own_images_in_vocs_folders_are_not_given_vocs_names(make_voc):
    data = open_dataset(make_voc(names=("crack_01", "crack_02", "crack_03")), "semantic")
    assert data.labels.names == ("class_0", "class_7", "class_15")


def test_a_listed_image_that_is_not_there_is_named(make_voc, tmp_path):
    folder = make_voc("")
    (tmp_path / "voc" / "JPEGImages" / f"{VOC_NAMES[1]}.jpg").unlink()
    with pytest.raises(DataError, match=rf"1 of the 2 images that a list .* among them '{VOC_NAMES[1]}'"):
        open_dataset(folder, "semantic")


def test_cvats_colours_are_read_by_its_labelmap(make_voc, tmp_path):
    folder = make_voc("", names=("a_01", "b_02", "c_03"))
    root = tmp_path / "voc"
    colours = np.zeros((256, 3), np.uint8)
    colours[[7, 15, 255]] = (250, 50, 83), (50, 183, 250), (0, 0, 1)
    numbers = np.zeros((256, 3), np.uint8)
    numbers[[1, 2, 3, 255]] = (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 0)
    for name in ("a_01", "b_02", "c_03"):
        classes, instances = draw_voc(name)
        Image.fromarray(colours[classes]).save(root / "SegmentationClass" / f"{name}.png")
        Image.fromarray(numbers[instances]).save(root / "SegmentationObject" / f"{name}.png")
    lines = ["# label:color_rgb:parts:actions", "background:0,0,0::", "car:250,50,83::", "person:50,183,250::"]
    (root / "labelmap.txt").write_text("\n".join([*lines, "ignore:0,0,1::"]))
    lists = root / "ImageSets" / "Segmentation"
    for split in ("train", "val", "test", "trainval"):
        (lists / f"{split}.txt").unlink()
    (lists / "default.txt").write_text("a_01\nb_02\nc_03\n")
    assert open_dataset(folder, "semantic").labels.names == ("background", "car", "person")
    data = open_dataset(folder, "instance")
    assert data.labels.names == ("car", "person")
    _, instances = draw_voc("b_02")
    segments = data.splits["train"][1].segments
    check_objects(segments, np.where(instances == 255, 0, instances), lambda raw: {1: 1, 2: 0, 3: 1}[raw])


def test_an_object_is_of_the_class_of_most_of_its_pixels(tmp_path, save_picture):
    classes = np.uint8([[0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 3, 255]])
    instances = np.uint8([[0, 9, 9, 9, 4, 4], [0, 0, 9, 0, 0, 255]])
    for name, array in (("images", np.zeros((2, 6, 3), "u1")), ("masks", classes), ("instance_ids", instances)):
        save_picture(tmp_path / name / "0.png", array)
    data = open_dataset(str(tmp_path), "panoptic", id2label=["sky", "car", "bus", "road"])
    assert data.labels.is_thing == (False, True, True, False)
    segments = data.splits["train"][0].segments
    masks = {label: mask.tolist() for label, mask in zip(segments.class_ids.tolist(), segments.masks(), strict=True)}
    assert masks[1] == (instances == 9).tolist() and masks[2] == (instances == 4).tolist()
    assert masks[0] == (classes * 1.0 + instances == 0).tolist() and masks[3] == (classes == 3).tolist()
    for names in (["sky", "car", "bus", "road"], ["background", "car", "bus", "road"]):
        instance = open_dataset(str(tmp_path), "instance", id2label=names)
        assert instance.labels.names == ("car", "bus")  # the others have no objects
        assert instance.splits["train"][0].segments.class_ids.tolist() == [0, 1]


def test_maps_of_different_size_are_refused(tmp_path, save_picture):
    for name, size in (("images", (2, 6)), ("masks", (2, 6)), ("instance_ids", (6, 2))):
        save_picture(tmp_path / name / "0.png", np.ones(size, "u1"))
    with pytest.raises(DataError, match=r"\(0\): the map in column 'instance_ids' is 2 x 6 .* 'annotation' 6 x 2"):
        open_dataset(str(tmp_path), "instance", id2label=["a", "b"]).splits["train"][0]


def test_a_column_of_a_table_may_hold_the_instances(tmp_path, make_voc):
    make_voc("")
    root = tmp_path / "voc"
    table = {
        "image": [str(root / "JPEGImages" / f"{name}.jpg") for name in VOC_NAMES],
        "semantic_map": [str(root / "SegmentationClass" / f"{name}.png") for name in VOC_NAMES],
        "instance_map": [str(root / "SegmentationObject" / f"{name}.png") for name in VOC_NAMES],
    }
    rows = Dataset.from_dict(table)
    for column in table:
        rows = rows.cast_column(column, datasets.Image())
    rows.save_to_disk(tmp_path / "saved")
    assert len(open_dataset(str(tmp_path / "saved"), "instance").splits["train"][2].segments) == 3
    assert len(open_dataset(str(tmp_path / "saved"), "semantic").splits["train"][2].segments) == 3
    rows.remove_columns("semantic_map").save_to_disk(tmp_path / "alone")
    assert open_dataset(str(tmp_path / "alone"), "instance").labels.names == ("object",)
