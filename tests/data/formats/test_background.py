"""What id 0 means: a class called background, nothing to be learnt, or any class; and masks of two values."""

import numpy as np
import pytest

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

IDS = np.uint8([[0, 0, 1, 2], [1, 2, 0, 255]])


@pytest.fixture
def make(tmp_path, save_picture):
    def write(mask=IDS):
        save_picture(tmp_path / "images" / "a.png", np.zeros((*np.shape(mask)[:2], 3), np.uint8))
        save_picture(tmp_path / "masks" / "a.png", mask)
        return str(tmp_path)

    return write


@pytest.mark.parametrize(
    "names", [["cat", "dog"], {"1": "cat", "2": "dog"}, ["background", "cat", "dog"], ["_background_", "cat", "dog"]]
)
@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_background_is_a_class_whether_named_or_not(make, names, task):
    data = open_dataset(make(), task, id2label=names, background=True)
    assert data.labels.names[1:] == ("cat", "dog") and data.labels.names[0].strip("_") == "background"
    segments = data.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1, 2]
    assert (segments.masks().numpy() == np.stack([raw == IDS for raw in range(3)])).all()
    assert (segments.void.numpy() == (IDS == 255)).all()


def test_background_without_names_is_called_so(make):
    assert open_dataset(make(), "semantic", background=True).labels.names == ("background", "class_1", "class_2")


def test_reduced_labels_leave_id_0_unlabelled(make):
    data = open_dataset(make(), "semantic", id2label=["cat", "dog"], reduce_labels=True)
    assert data.labels.names == ("cat", "dog")
    assert (data.splits["train"][0].segments.void.numpy() == np.isin(IDS, (0, 255))).all()


def test_id_0_without_a_name_is_answered_with_both(make):
    with pytest.raises(
        DataError, match=r"class id 0 is not .* --background if .* --reduce_labels if .* nothing is lea"
    ):
        open_dataset(make(), "semantic", id2label={"1": "cat", "2": "dog"}).splits["train"][0]


def test_background_and_reduced_labels_exclude_each_other(make):
    with pytest.raises(DataError, match="Either background or reduce_labels is expected"):
        open_dataset(make(), "semantic", background=True, reduce_labels=True)


def test_background_overrules_that_a_known_dataset_has_void_there(make, tmp_path):
    (tmp_path / "objectInfo150.txt").write_text("1\t0.1\t1\t1\twall\n2\t0.1\t1\t1\tfloor, flooring\n")
    assert open_dataset(make(), "semantic").labels.names == ("wall", "floor")
    data = open_dataset(make(), "semantic", background=True)
    assert data.labels.names == ("background", "wall", "floor")
    assert data.splits["train"][0].segments.void.sum() == 1


TWO = np.eye(4, dtype=np.uint8)


@pytest.mark.parametrize(
    "mask", [TWO, TWO * 255, TWO > 0, np.stack([TWO * 255] * 3, -1)], ids=["0 and 1", "0 and 255", "bits", "RGB"]
)
@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (None, ("background", "foreground")),
        (["road", "crack"], ("road", "crack")),
        (["crack"], ("background", "crack")),
        ({"1": "crack"}, ("background", "crack")),
    ],
)
def test_masks_of_two_values_are_read_in_one_way(make, mask, names, expected):
    data = open_dataset(make(mask), "semantic", id2label=names, background=names is not None and len(names) == 1)
    assert data.labels.names == expected
    segments = data.splits["train"][0].segments
    assert segments.class_ids.tolist() == [0, 1] and not segments.void.any()
    assert (segments.masks().numpy() == np.stack([TWO == 0, TWO == 1])).all()


@pytest.mark.parametrize("names", [["crack"], {"1": "crack"}, {"255": "crack"}])
def test_black_is_background_without_being_told(make, names):
    assert open_dataset(make(TWO * 255), "semantic", id2label=names).labels.names == ("background", "crack")
