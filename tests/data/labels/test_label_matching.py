"""The classes of a dataset in the numbers of a checkpoint."""

import pytest
import torch

from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_matching import RelabelledSamples, match_labels
from modeling_maskformer.data.labels.label_set import LabelSet
from modeling_maskformer.data.samples import Sample
from modeling_maskformer.targets import Segments


def labels(*names):
    return LabelSet(names, tuple(range(len(names))))


def test_classes_are_matched_by_name_and_need_not_be_all():
    assert match_labels({0: "car", 1: "sky", 2: "road"}, labels("sky", "car")) == [1, 0]


def test_made_up_names_are_matched_by_number():
    assert match_labels({0: "sky", 1: "car"}, labels("class_0", "class_1")) == [0, 1]
    assert match_labels({0: "LABEL_0", 1: "LABEL_1"}, labels("sky", "car")) == [0, 1]


def unnamed(*ids):
    return LabelSet(tuple(f"class_{raw}" for raw in ids), ids)


def test_classes_without_names_are_matched_by_their_ids_of_which_some_may_not_occur(caplog):
    names = {0: "sky", 1: "road", 2: "car"}
    assert match_labels(names, unnamed(0, 2)) == [0, 2]
    assert "0 is 'sky', 2 is 'car'." in caplog.text
    assert match_labels(names, unnamed(1, 3), first_id=1) == [0, 2]
    assert match_labels(names, unnamed(17, 44), category_ids=[3, 17, 44]) == [1, 2]
    learnt = {number: f"class_{raw}" for number, raw in enumerate((0, 1, 7, 8))}
    assert match_labels(learnt, unnamed(0, 8), category_ids=[0, 1, 7, 8]) == [0, 3]
    nameless = {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}
    dataset = LabelSet(("cat", "dog"), (17, 44))
    assert match_labels(nameless, dataset, category_ids=[3, 17, 44]) == [1, 2]


def test_ids_that_are_one_less_than_in_the_training_are_told_as_reduce_labels_may_be_left_out(caplog):
    names = {0: "wall", 1: "sky", 2: "car"}
    assert match_labels(names, labels("wall", "sky"), category_ids=[1, 2, 3]) == [0, 1]
    assert "'wall' is id 0 here, and was 1 in the training's annotations" in caplog.text
    assert "pass --reduce_labels." in caplog.text
    caplog.clear()
    match_labels(names, labels("wall", "sky"), category_ids=[1, 7, 8])  # of other annotations
    match_labels(names, LabelSet(("wall", "sky"), (1, 2)), category_ids=[1, 2, 3])
    match_labels(names, LabelSet(("wall", "sky"), (0, 1), has_categories=True), category_ids=[1, 2, 3])
    assert not caplog.text


@pytest.mark.parametrize(
    ("id2label", "dataset", "category_ids", "lacked"),
    [
        ({0: "sky", 1: "road", 2: "car"}, unnamed(1, 2, 3), None, "class_3"),
        ({0: "class_0", 1: "class_7", 2: "class_8"}, unnamed(0, 7, 9), [0, 7, 8], "class_9"),
        ({0: "class_0", 1: "class_7"}, unnamed(0, 1), [0, 7], "class_1"),
        ({0: "LABEL_0", 1: "LABEL_1"}, LabelSet(("cat", "dog"), (17, 44)), [3, 17], "dog"),
        ({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}, LabelSet(("cat", "dog"), (0, 1)), None, "cat"),
    ],
)
def test_ids_that_the_checkpoint_has_not_learnt_are_refused(id2label, dataset, category_ids, lacked):
    with pytest.raises(DataError, match=f"does not know . of the dataset's . classes, among them '{lacked}'"):
        match_labels(id2label, dataset, category_ids)


def test_classes_of_one_name_are_matched_in_their_order():
    names = ("car", "rock", "sky", "rock", "rock")
    assert match_labels(dict(enumerate(names)), labels(*names)) == [0, 1, 2, 3, 4]
    assert match_labels(dict(enumerate(names)), labels("rock", "sky", "rock", "rock")) == [1, 2, 3, 4]


def test_the_only_class_of_a_name_stands_for_all_of_that_name():
    assert match_labels({0: "sky", 1: "rock"}, labels("rock", "sky", "rock")) == [1, 0, 1]


@pytest.mark.parametrize("names", [("rock",), ("sky", "rock"), ("rock",) * 3])
def test_of_classes_of_one_name_it_has_to_be_known_which_is_which(names):
    with pytest.raises(DataError, match=f"has 2 classes called 'rock' and the dataset {names.count('rock')}, so"):
        match_labels({0: "rock", 1: "rock", 2: "sky"}, labels(*names))


@pytest.mark.parametrize("names", [("sky", "boat"), ("class_0", "class_1", "class_2")])
def test_a_class_that_the_checkpoint_lacks_is_named(names):
    with pytest.raises(DataError, match=f"'{names[-1]}'; its 2 classes are 'sky', 'car'"):
        match_labels({0: "sky", 1: "car"}, labels(*names))


def test_samples_are_relabelled_and_nothing_else_changes():
    segments = Segments(torch.tensor([[1, 2]], dtype=torch.uint8), torch.tensor([1, 0]), torch.tensor([False, True]))
    (sample,) = [RelabelledSamples([Sample(None, segments, "a", 5)], [7, 3])[0]]
    assert sample.segments.class_ids.tolist() == [3, 7] and segments.class_ids.tolist() == [1, 0]
    assert sample.segments.is_crowd.tolist() == [False, True] and (sample.name, sample.image_id) == ("a", 5)
    assert torch.equal(sample.segments.ids, segments.ids)
