"""What id 0 means: a class called background, nothing to be learnt, or any class; and masks of two values."""

import datasets
import numpy as np
import pytest
from PIL import Image

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


WITH_0 = ["background", "building", "road"]  # of the ids 1 to 3, after a name of id 0
FIVE_IDS = np.uint8([[0, 1, 2, 3, 255]])
NOT_LIKE_BACKGROUND = ["other", "Clutter", "no-data ", "null", "unclassified", "Ignored", "outlier", "no_label"]


@pytest.mark.parametrize("name", NOT_LIKE_BACKGROUND)
def test_a_name_of_id_0_is_not_taken_for_that_of_id_1(make, name):
    folder, names = make(FIVE_IDS), [name, *WITH_0]
    data = open_dataset(folder, "semantic", id2label=names, reduce_labels=True)
    assert data.labels.names == tuple(WITH_0) and data.labels.dataset_ids == (1, 2, 3)
    assert data.splits["train"][0].segments.class_ids.tolist() == [0, 1, 2]
    data = open_dataset(folder, "semantic", id2label=names, background=True)
    assert data.labels.names == tuple(names) and data.labels.dataset_ids == (0, 1, 2, 3)


@pytest.mark.parametrize("colours", [False, True])
def test_nor_is_it_in_instance_segmentation_and_colours(make, tmp_path, colours):
    channels = np.stack([FIVE_IDS % 255, np.minimum(FIVE_IDS, 1) * (FIVE_IDS < 255), 0 * FIVE_IDS], axis=-1)
    folder = make(channels)
    if colours:  # of which not all occur
        (tmp_path / "class_dict.csv").write_text("name,r,g,b\nother,0,0,0\na,1,1,0\nb,2,1,0\nc,3,1,0\nd,9,9,9\n")
        labels = open_dataset(folder, "semantic", reduce_labels=True).labels
        assert (labels.names, labels.dataset_ids) == (("a", "b", "c", "d"), (1, 2, 3, 4))
    else:
        labels = open_dataset(folder, "instance", id2label=["other", *WITH_0]).labels
        assert (labels.names, labels.dataset_ids) == (tuple(WITH_0), (1, 2, 3))


@pytest.mark.parametrize(
    ("names", "ids", "expected", "why"),
    [
        (["wall", "sky", "tree"], [0, 1, 2, 3], {1: "wall", 2: "sky", 3: "tree"}, None),  # id 3 has a name only so
        (["wall", "sky", "tree"], [1, 3], {1: "wall", 2: "sky", 3: "tree"}, None),
        ({"0": "other", "5": "sky", "7": "tree"}, [0, 5, 7], {5: "sky", 7: "tree"}, None),
        (["wall", "sky", "tree"], [0, 1, 2], {1: "sky", 2: "tree"}, "taken for that of id 0, as there are as many"),
        (["wall", "sky", "tree"], [0, 2], {1: "wall", 2: "sky", 3: "tree"}, "taken for that of id 1, which nothing"),
    ],
)
def test_the_ids_that_occur_tell_whose_names_they_are_or_a_warning_does(make, caplog, names, ids, expected, why):
    labels = open_dataset(make(np.uint8([ids])), "semantic", id2label=names, reduce_labels=True).labels
    assert dict(zip(labels.dataset_ids, labels.names, strict=True)) == expected
    assert why in caplog.text if why else not caplog.text


def test_names_given_by_their_ids_without_0_need_no_guess(make, caplog):
    labels = open_dataset(make(), "semantic", id2label={"1": "wall", "2": "sky"}, reduce_labels=True).labels
    assert (labels.names, labels.dataset_ids, caplog.text) == (("wall", "sky"), (1, 2), "")


def test_a_stream_which_is_not_searched_for_ids_warns(caplog):
    rows = {"image": [Image.new("RGB", (5, 1))] * 2, "label": [Image.fromarray(FIVE_IDS)] * 2}
    features = datasets.Features(image=datasets.Image(), label=datasets.Image())
    stream = datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset()
    labels = open_dataset(stream, "semantic", id2label=["other", *WITH_0], reduce_labels=True).labels
    assert labels.dataset_ids == (1, 2, 3, 4) and "id 1, which nothing else tells, so that 1 is 'other'" in caplog.text


@pytest.mark.parametrize("names", [["other", "cat", "dog"], ["cat", "dog"]])
def test_reduced_labels_in_instance_segmentation_with_a_map_of_classes(make, tmp_path, save_picture, names):
    save_picture(tmp_path / "instance_ids" / "a.png", np.uint8([[0, 0, 1, 2], [3, 4, 0, 0]]))
    data = open_dataset(make(), "instance", id2label=names, reduce_labels=True)
    assert data.labels.names == ("cat", "dog")
    assert sorted(data.splits["train"][0].segments.class_ids.tolist()) == [0, 0, 1, 1]


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
