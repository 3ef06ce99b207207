"""Label sets: which id in the annotations means which class."""

import json

import pytest

from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_files import read_named_ids
from modeling_maskformer.data.labels.label_set import NO_LABEL, VOID_LABEL, NamedIds, make_label_set


@pytest.mark.parametrize("content", [{"0": "sky", "1": "road"}, {"sky": 0, "road": 1}, ["sky", "road"]])
def test_a_label_file_names_ids_in_any_usual_form(tmp_path, content):
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content))
    for source in (file, str(file), content, json.dumps(content)):
        assert read_named_ids(source).names == {0: "sky", 1: "road"}


def test_coco_categories_also_tell_things_from_stuff():
    named = read_named_ids([{"id": 1, "name": "person", "isthing": 1}, {"id": 92, "name": "banner", "isthing": 0}])
    labels = make_label_set(named)
    assert labels.names == ("person", "banner")
    assert labels.labels_of([92, 1]).tolist() == [1, 0]
    assert labels.label_ids_to_fuse == [1]
    assert labels.id2label == {0: "person", 1: "banner"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSON is expected"),
        ("3", "one of"),
        ('{"a": "b"}', "integer id and a name"),
        ('[{"id": 1}]', "'name'"),
        ('{"sky": 0, "road": 0}', "twice"),
    ],
)
def test_a_label_file_of_another_form_is_refused(tmp_path, content, words):
    file = tmp_path / "labels.json"
    file.write_text(content)
    with pytest.raises(DataError, match=words) as error:
        read_named_ids(file)
    assert str(file) in str(error.value)
    with pytest.raises(DataError, match=r"no label file .*missing\.json"):
        read_named_ids(tmp_path / "missing.json")


def test_ids_with_gaps_become_contiguous_labels_and_unknown_ids_are_refused():
    labels = make_label_set(NamedIds({7: "road", 11: "building", 26: "car"}), void_ids=[255])
    assert labels.labels_of([26, 7, 255, 11]).tolist() == [2, 0, VOID_LABEL, 1]
    with pytest.raises(DataError, match=r"class id 8 .* 3 classes have the ids 7, 11, 26"):
        labels.labels_of([7, 8])


@pytest.mark.parametrize("names", [{0: "Background", 1: "wall", 2: "sky"}, {1: "wall", 2: "sky"}])
def test_reduced_labels_leave_id_0_out(names):
    labels = make_label_set(NamedIds(names), void_ids=[0, 255], reduce_labels=True)
    assert labels.names == ("wall", "sky")
    assert labels.labels_of([0, 1, 2, 255]).tolist() == [VOID_LABEL, 0, 1, VOID_LABEL]


def test_things_alone_are_numbered_anew_and_stuff_is_no_segment():
    named = NamedIds({1: "sky", 2: "person", 3: "road", 4: "car"}, {1: False, 2: True, 3: False, 4: True})
    labels = make_label_set(named, void_ids=[255]).things()
    assert labels.names == ("person", "car")
    assert labels.labels_of([1, 2, 3, 4, 255]).tolist() == [NO_LABEL, 0, NO_LABEL, 1, VOID_LABEL]


def test_an_id_cannot_be_void_and_a_class():
    with pytest.raises(DataError, match=r"Id 1 is void or background .* also the id of class 'road'"):
        make_label_set(NamedIds({0: "sky", 1: "road"}), void_ids=[1])
