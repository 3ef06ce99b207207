"""Masks whose classes a table beside them tells: by colour, or by value."""

import numpy as np
import pytest

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

COLOURS = {"sky": (128, 128, 128), "road": (128, 64, 128), "Void": (0, 0, 0), "bike": (0, 128, 192)}
CLASS_DICT = "name,r,g,b\n" + "".join(f"{name}, {r}, {g}, {b}\n" for name, (r, g, b) in COLOURS.items())
LABEL_COLORS = "".join(f"{r} {g} {b}\t{name}\n" for name, (r, g, b) in COLOURS.items())


@pytest.fixture
def make(tmp_path, save_picture):
    """CamVid's folders on Kaggle: two splits of two images; `masks` are of ids, or of these colours."""

    def write(palette=None, **files):
        for split in ("train", "val"):
            for number in range(2):
                ids = np.random.default_rng(number).integers(0, len(COLOURS), (6, 8)).astype(np.uint8)
                save_picture(tmp_path / split / f"{number}.png", np.zeros((6, 8, 3), np.uint8))
                mask = ids if palette is None else np.uint8(palette)[ids]
                save_picture(tmp_path / f"{split}_labels" / f"{number}_L.png", mask)
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        return str(tmp_path)

    return write


def check(data, named_ids):
    """The masks of each class are those of the ids that were drawn; those named nothing are void."""
    assert data.labels.names == tuple(named_ids.values())
    for number in range(2):
        ids = np.random.default_rng(number).integers(0, len(COLOURS), (6, 8))
        segments = data.splits["val"][number].segments
        assert segments.class_ids.tolist() == list(range(len(named_ids)))
        assert (segments.masks().numpy() == np.stack([ids == raw for raw in named_ids])).all()
        assert (segments.void.numpy() == ~np.isin(ids, list(named_ids))).all()


@pytest.mark.parametrize("file", [{"class_dict__csv": CLASS_DICT}, {"label_colors__txt": LABEL_COLORS}])
@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_colours_are_translated_by_the_table(make, file, task):
    data = open_dataset(make(list(COLOURS.values()), **file), task)
    check(data, {0: "sky", 1: "road", 3: "bike"})


def test_a_class_called_void_may_be_named_by_the_caller(make):
    names = ["sky", "road", "nothing", "bike"]
    data = open_dataset(make(list(COLOURS.values()), class_dict__csv=CLASS_DICT), "semantic", id2label=names)
    check(data, dict(enumerate(names)))


def test_tables_of_splits_that_differ_are_refused(make, tmp_path):
    root = make()
    for split, names in (("train", "background, crack, rust, hole"), ("val", "background, rust, crack, hole")):
        rows = "".join(f"{value}, {name}\n" for value, name in enumerate(names.split(", ")))
        (tmp_path / split / "_classes.csv").write_text(f"Pixel Value, Class\n{rows}")
    with pytest.raises(DataError, match=r"'.*train._classes.csv' and '.*val._classes.csv' name different classes"):
        open_dataset(root, "semantic")
    (tmp_path / "val" / "_classes.csv").write_text((tmp_path / "train" / "_classes.csv").read_text())
    check(open_dataset(root, "semantic"), {0: "background", 1: "crack", 2: "rust", 3: "hole"})


def test_values_are_named_by_roboflows_table(make):
    table = "Pixel Value, Class\n0, background\n1, crack\n2, rust\n3, hole\n"
    check(open_dataset(make(_classes__csv=table), "semantic"), {0: "background", 1: "crack", 2: "rust", 3: "hole"})


def test_a_colour_that_the_table_lacks_is_named(make, tmp_path):
    palette = [*list(COLOURS.values())[:3], (1, 130, 190)]
    with pytest.raises(DataError, match=r"1 colours that the table of classes lacks, the first is 1 130 190 .* JPEG"):
        open_dataset(make(palette, class_dict__csv=CLASS_DICT), "semantic").splits["train"][0]


def test_colours_without_a_table_are_answered_with_what_is_needed(make):
    with pytest.raises(DataError, match=r"Colours need a table of classes .*: class_dict.csv \(name,r,g,b\)"):
        open_dataset(make(list(COLOURS.values())), "semantic")
    with pytest.raises(DataError, match=r"colour_map no table of colours was found. Colours need"):
        open_dataset(make(list(COLOURS.values())), "semantic", annotation_format="colour_map")


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"class_dict__csv": "name,r,g,b\nsky,1,2\n"}, "class 'sky' has the colour 1, 2: red, green and blue"),
        ({"class_dict__csv": "name,r,g,b\nsky,1,2,256\n"}, "class 'sky' has the colour 1, 2, 256"),
        ({"class_dict__csv": "name,r,g,b\na,1,2,3\nb,1,2,3\n"}, "classes 'a' and 'b' have one colour"),
        ({"label_colors__txt": "\n"}, "names no class"),
        ({"_classes__csv": "Pixel Value, Class\ncrack\n"}, "a value of pixels and a name are expected"),
    ],
)
def test_a_bad_table_is_named(make, file, words):
    with pytest.raises(DataError, match=words):
        open_dataset(make(list(COLOURS.values()), **file), "semantic")


def test_tables_beside_the_splits_are_not_those_of_the_splits(make, tmp_path):
    """As older ones, and what a notebook has left."""
    root, table = make(), "Pixel Value, Class\n0, sky\n1, road\n2, car\n3, bike\n"
    for folder in ("train", "val", "old", ".trash"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "_classes.csv").write_text(table if folder in ("train", "val") else table.lower()[:-6])
    assert open_dataset(root, "semantic").labels.names == ("sky", "road", "car", "bike")
