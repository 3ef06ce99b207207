"""LabelMe's JSON files: their shapes are the segments of each task."""

import base64
import json

import numpy as np
import pytest
from png_files import png

from modeling_maskformer.data.check_samples import check_classes
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.training.arguments.data_arguments import DataArguments

HEIGHT, WIDTH = 40, 60
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH] + 0.5  # centres of pixels


def encoded(array):
    return base64.b64encode(png(array)).decode()


def inside(corners):
    """Pixels whose centre lies in a convex polygon: on one side of all its edges."""
    sides = []
    for (x, y), (to_x, to_y) in zip(corners, corners[1:] + corners[:1], strict=True):
        sides.append((to_x - x) * (ROWS - y) - (to_y - y) * (COLUMNS - x))
    return (np.stack(sides) >= 0).all(0) | (np.stack(sides) <= 0).all(0)


def differ(mask, other):
    """How many pixels differ; those of the edges do, as rasterisations round them."""
    return int((mask != other).sum())


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


TRIANGLE = [[5, 5], [35, 8], [10, 35]]
LEAF = np.zeros((6, 9), bool)
LEAF[1:5, 2:8] = True
SHAPES = [
    shape("cat", TRIANGLE),
    shape("dog", [[50, 30], [30, 10]], "rectangle"),
    shape("cat", [[45, 28], [45, 36]], "circle"),
    shape("leaf", [[2, 30], [10, 35]], "mask", mask=encoded(LEAF)),
]
MASKS = [
    inside(TRIANGLE),
    (COLUMNS > 30) & (COLUMNS < 50) & (ROWS > 10) & (ROWS < 30),
    (COLUMNS - 45) ** 2 + (ROWS - 28) ** 2 < 64,
    np.pad(LEAF, ((30, HEIGHT - 36), (2, WIDTH - 11))),
]


@pytest.fixture
def make(tmp_path, save_picture):
    """A folder of images, each with a JSON file beside it; a list of shapes for each."""

    def write(*shapes_of_images, folder="data", image="{}.jpg", **fields):
        for number, shapes in enumerate(shapes_of_images):
            path = image.format(number)
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            if fields.get("imageData") is None:
                save_picture(tmp_path / folder / path, np.full((HEIGHT, WIDTH, 3), number, np.uint8))
            content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path, "imageData": None}
            content |= {"imageHeight": HEIGHT, "imageWidth": WIDTH} | fields
            (tmp_path / folder / f"{number}.json").write_text(json.dumps(content))
        return tmp_path / "data"

    return write


def test_each_shape_is_an_object(make):
    data = open_dataset(str(make(SHAPES, [])), "instance")
    assert data.labels.names == ("cat", "dog", "leaf") and data.labels.is_thing == (True, True, True)
    samples = data.splits["train"]
    assert samples[0].name == "0" and samples[0].segments.class_ids.tolist() == [0, 1, 0, 2]
    for mask, expected in zip(samples[0].segments.masks().numpy(), MASKS, strict=True):
        assert differ(mask, expected) <= 0.12 * expected.sum()
    assert differ(samples[0].segments.masks()[3].numpy(), MASKS[3]) == 0  # a mask is taken to the pixel
    assert differ(samples[0].segments.masks()[1].numpy(), MASKS[1]) == 0
    assert len(samples[1].segments) == 0


def test_for_semantic_segmentation_later_shapes_lie_on_top_and_the_rest_is_background(make):
    data = DataArguments(str(make(SHAPES, []))).open("semantic")
    assert data.labels.names == ("background", "cat", "dog", "leaf")
    expected = np.zeros((HEIGHT, WIDTH), int)
    for mask, label in zip(MASKS, (1, 2, 1, 3), strict=True):
        expected[mask] = label
    segments = data.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2, 3] and not segments.void.any()
    found = segments.masks().numpy().argmax(0)
    assert differ(found, expected) <= 0.03 * expected.size
    assert (found[10:30, 40:50] == np.where(MASKS[2], 1, 2)[10:30, 40:50]).mean() > 0.9  # where two overlap
    assert data.splits["train"][1].segments.class_ids.tolist() == [0]


def test_for_panoptic_segmentation_shapes_are_things_and_the_rest_is_stuff(make):
    data = open_dataset(str(make(SHAPES)), "panoptic")
    assert data.labels.is_thing == (False, True, True, True)
    segments = data.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2, 1, 3]
    assert segments.areas().sum() == HEIGHT * WIDTH and len(segments.ids) == 1


def test_shapes_of_one_group_are_parts_of_one_object(make):
    parts = [
        shape("cat", [[0, 0], [10, 0], [10, 10], [0, 10]], group_id=3),
        shape("dog", [[40, 20], [50, 20], [50, 30], [40, 30]], group_id=3),  # another label
        shape("cat", [[20, 0], [30, 0], [30, 10], [20, 10]], group_id=3),
        shape("cat", [[2, 30], [10, 35]], "mask", mask=encoded(LEAF), group_id=3),
        shape("cat", [[20, 20], [30, 20], [30, 30], [20, 30]], group_id=4),
    ]
    segments = open_dataset(str(make(parts)), "instance").splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 0]
    assert segments.areas().tolist() == [200 + LEAF.sum(), 100, 100]


def test_lines_and_points_are_left_out_and_counted_once(make, caplog):
    lines = [shape("cat", [[1, 1], [9, 9]], "line"), shape("x", [[1, 1]], "point"), shape("cat", [[1, 1], [2, 2]])]
    data = open_dataset(str(make(lines[:2], SHAPES[:1], lines)), "instance")
    assert data.labels.names == ("cat",)
    assert [len(data.splits["train"][number].segments) for number in range(3)] == [0, 1, 0]
    (record,) = caplog.records
    assert "5 of 6 shapes enclose no area (2 line, 2 point, 1 polygon), among them one in '0.json'" in record.message
    with pytest.raises(DataError, match=r"None of the 2 shapes in .* encloses an area \(1 line, 1 point\)"):
        open_dataset(str(make(lines[:2], folder="data/other").parent / "data" / "other"), "instance")


def test_an_image_that_is_only_embedded_is_read_from_its_file(make):
    pixels = np.arange(HEIGHT * WIDTH * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    root = make(SHAPES, imageData=encoded(pixels))
    (root / "0.json").rename(root / "street.json")
    sample = open_dataset(str(root), "instance").splits["train"][0]
    assert np.array_equal(sample.image, pixels) and sample.name == "street" and len(sample.segments) == 4


def test_long_files_are_recognised_by_their_ends(make):
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    root = make(
        [shape("cat", TRIANGLE, description="x" * 100_000), *SHAPES], imageData=encoded(pixels) + " " * 100_000
    )
    assert len(open_dataset(str(root), "instance").splits["train"][0].segments) == 5


@pytest.mark.parametrize("image", ["{}.jpg", "../images/{}.jpg", "..\\images\\{}.png", "C:\\Users\\me\\{}.png"])
def test_images_are_found_beside_the_files_or_in_folders_of_the_dataset(make, save_picture, image):
    root = make(SHAPES, SHAPES[:1], folder="data/val", image=image)
    for file in root.parent.rglob("*.jpg"):
        file.unlink()
    place = root / ("val" if image == "{}.jpg" else "images")
    for number in range(2):
        save_picture(place / f"{number}{image[-4:]}", np.full((HEIGHT, WIDTH, 3), number, np.uint8))
    (samples,) = open_dataset(str(root), "instance").splits.values()
    assert [len(samples[number].segments) for number in range(2)] == [4, 1]
    assert abs(np.asarray(samples[1].image).mean() - 1) < 0.5


def test_a_picture_without_its_name_in_the_file_is_found_by_its_ending(make, save_picture):
    root = make(SHAPES, image="{}.png", imagePath=None)
    (root / "0.png").unlink()
    save_picture(root / "0.jpeg", np.full((HEIGHT, WIDTH, 3), 0, np.uint8))
    (root / "0.jpeg").rename(root / "0.jfif")
    assert len(open_dataset(str(root), "instance").splits["train"][0].segments) == 4


@pytest.mark.parametrize("embedded", [True, False])
def test_a_mask_called_like_an_image_is_not_taken_for_it(make, save_picture, embedded):
    photo = np.full((HEIGHT, WIDTH, 3), 9, np.uint8)
    root = make([SHAPES[0]], folder="data/json")
    save_picture(root / "masks" / "0.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    file = root / "json" / "0.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"imageData": encoded(photo) if embedded else None}))
    (root / "json" / "0.jpg").unlink()
    if not embedded:
        with pytest.raises(DataError, match=r"The image '0.jpg' of '.*0.json' is neither beside it nor embedded"):
            open_dataset(str(root), "instance")
        save_picture(root / "photos" / "0.jpg", photo)
    assert np.asarray(open_dataset(str(root), "instance").splits["train"][0].image).max() == 9


def test_two_files_of_one_image_are_refused(make, tmp_path):
    make([SHAPES[0]], folder="data/a")
    root = make([SHAPES[1]], folder="data/b")
    assert len(open_dataset(str(root), "instance").splits["train"]) == 2
    (tmp_path / "data" / "b" / "0.jpg").unlink()
    with pytest.raises(DataError, match=r"a.0.json' and '.*b.0.json' are both of the image '.*a.0.jpg'"):
        open_dataset(str(root), "instance")


def test_hidden_folders_are_passed_over(make):
    make([SHAPES[1]], folder="data/.ipynb_checkpoints")
    assert open_dataset(str(make([SHAPES[0]])), "instance").labels.names == ("cat",)


def test_images_elsewhere_are_read_only_where_the_caller_names_their_folder(make, save_picture, tmp_path):
    root = make(SHAPES, image="../elsewhere/{}.jpg")
    with pytest.raises(DataError, match=r"image '../elsewhere/0.jpg' of '.*0.json' is neither .* --image_folder"):
        open_dataset(str(root), "instance")
    data = DataArguments(str(root), image_folder=str(tmp_path / "elsewhere")).open("instance")
    assert len(data.splits["train"][0].segments) == 4


def test_folders_called_so_are_splits(make):
    make(SHAPES, folder="data/train/valley")
    make(SHAPES[:1], SHAPES[1:], folder="data/validation")
    root = make(SHAPES, folder="data/Test")
    data = open_dataset(str(root), "instance")
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 1, "validation": 2, "test": 1}
    assert data.labels.names == ("cat", "dog", "leaf")


def test_a_folder_that_the_caller_names_is_of_images_whatever_it_is_called(make, save_picture, tmp_path):
    root = make(SHAPES, image="{}.png")
    (root / "0.png").unlink()
    save_picture(tmp_path / "annotation_images" / "0.jpg", np.full((HEIGHT, WIDTH, 3), 0, np.uint8))
    data = DataArguments(str(root), image_folder=str(tmp_path / "annotation_images")).open("instance")
    assert len(data.splits["train"][0].segments) == 4


def test_labels_are_numbered_as_labelmes_labels_file_does(make):
    ignored = [shape("__ignore__", [[0, 0], [60, 0], [60, 20], [0, 20]]), shape("leaf", TRIANGLE)]
    root = make(ignored)
    (root / "labels.txt").write_text("__ignore__\n_background_\nleaf\ncat\n")
    semantic = open_dataset(str(root), "semantic")
    assert semantic.labels.names == ("_background_", "leaf", "cat") and semantic.labels.dataset_ids == (0, 1, 2)
    segments = semantic.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1]
    leaf, ground = segments.masks()[1].numpy(), segments.masks()[0].numpy()
    assert differ(leaf, MASKS[0]) <= 0.12 * MASKS[0].sum()
    assert (segments.void.numpy() == ((ROWS < 20) & ~leaf)).all() and (ground == ((ROWS > 20) & ~leaf)).all()
    instance = open_dataset(str(root), "instance")
    assert instance.labels.names == ("leaf", "cat")
    objects = instance.splits["train"][0].segments
    assert objects.class_ids.tolist() == [0] and (objects.void.numpy() == ((ROWS < 20) & ~leaf)).all()
    named = open_dataset(str(root), "instance", id2label={"5": "cat", "9": "leaf"})
    assert named.labels.names == ("cat", "leaf") and named.labels.dataset_ids == (5, 9)
    assert named.splits["train"][0].segments.class_ids.tolist() == [1]
    with pytest.raises(DataError, match=r"0.json' has a shape of label 'leaf', which is not among .* names: cat"):
        open_dataset(str(root), "instance", id2label=["cat"])


def test_ignored_shapes_are_answered_without_advice_for_pixels(make):
    data = open_dataset(str(make([shape("__ignore__", TRIANGLE)], [shape("cat", TRIANGLE)])), "semantic")
    with pytest.raises(DataError, match="of one class, 'background'") as error:
        check_classes({0: 1}, data.labels, "semantic")  # of the first image alone
    assert data.labels.void_ids and "ignore_index" not in str(error.value)


def test_shapes_on_an_image_of_another_size_are_refused(make, save_picture):
    root = make(SHAPES)
    save_picture(root / "0.jpg", np.zeros((HEIGHT // 2, WIDTH // 2, 3), np.uint8))
    samples = open_dataset(str(root), "semantic").splits["train"]
    with pytest.raises(DataError, match=r"Sample 0 .*\(0\): .* image of 60 x 40 .* but the image is 30 x 20"):
        samples[0]


NAN, HUGE = float("nan"), 1e300


@pytest.mark.parametrize(
    ("damaged", "words"),
    [
        (shape("cat", [[1, 1], [NAN, 2], [3, 3]]), "shape 0 .cat. has the points .*nan"),
        (shape("cat", [[1, 1], [HUGE, 2], [3, 3]]), r"shape 0 .cat. has the points .*1e\+300"),
        (shape("cat", [["1", "1"], ["2", "2"], ["3", "1"]]), "shape 0 .cat. has the points"),
        (shape("cat", [1, 1, 2, 2, 3, 1]), "pairs of pixels"),
        (shape("cat", [[[1, 1], [2, 2], [3, 1]]]), "pairs of pixels"),
        (shape("cat", {"x": 1}), "pairs of pixels"),
        (shape("cat", [[1, 1]], "circle"), "is a circle of 1 points"),
        (shape(None, TRIANGLE), "has no label"),
        (shape("cat", TRIANGLE, 7), "has no label or no shape_type"),
        ([1, 2], "a list of objects"),
        (shape("cat", [[2, 30], [10, 35]], "mask"), "is a mask: the corners"),
        (shape("cat", [[2, 30], [10, 35]], "mask", mask="AAAA"), "no picture in base64"),
        (shape("cat", [[2, 30], [10, 34]], "mask", mask=encoded(LEAF)), "for the box"),
        (shape("cat", [[58, 30], [66, 35]], "mask", mask=encoded(LEAF)), "beyond its image"),
    ],
)
def test_a_damaged_shape_is_named(make, damaged, words):
    root = make([damaged])
    with pytest.raises(DataError, match=words) as error:
        open_dataset(str(root), "semantic")
    assert "0.json" in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"imagePath": "0.jpg", "shapes": 3}', "under 'shapes'"),
        ('{"imagePath": "0.jpg", "shapes": [], "imageWidth": "x"}', "imageWidth 'x'"),
        ('{"imagePath": "0.jpg", "shapes": [], "imageWidth": Infinity}', "imageWidth inf"),
        ('{"imagePath": "0.jpg", "shapes": ', "is not JSON"),
        ('["imagePath", {"imagePath": 0, "shapes": 1}]', "is no LabelMe file"),
        ('{"imagePath": "0.jpg", "shapes": []}', "hold no shape"),
    ],
)
def test_a_damaged_file_is_named(make, text, words):
    root = make(SHAPES)
    (root / "0.json").write_text(text)
    with pytest.raises(DataError, match=words):
        open_dataset(str(root), "instance")
