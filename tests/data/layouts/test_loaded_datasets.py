"""Datasets that `datasets` has loaded are opened as their files would be; what would be read wrongly is refused."""

import datasets
import numpy as np
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, DatasetDict, Features, IterableDataset, List
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.layouts.loaded import name_of


def rows(count, seed=0):
    """Pictures 8 x 6 of noise whose annotation is 0 at the left and 1 at the right, 255 in a corner."""
    rng = np.random.default_rng(seed)
    annotation = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1]], 6, axis=0).astype(np.uint8)
    annotation[0, 0] = 255
    for number in range(count):
        image = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        yield {"image": Image.fromarray(image), "annotation": Image.fromarray(np.roll(annotation, number, 1))}


def table(count, seed=0):
    return Dataset.from_list(list(rows(count, seed)))


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_a_dataset_is_its_training_split_and_gives_what_its_rows_hold(task):
    given = table(3)
    data = open_dataset(given, task)
    assert list(data.splits) == ["train"] and data.labels.names == ("background", "foreground")
    for sample, row in zip((data.splits["train"][index] for index in range(3)), given, strict=True):
        assert np.array_equal(sample.image, row["image"])
        annotation = np.asarray(row["annotation"])
        for class_id, mask in zip(sample.segments.class_ids.tolist(), sample.segments.masks().numpy(), strict=True):
            assert (mask == (annotation == class_id)).all()
        assert (sample.segments.void.numpy() == (annotation == 255)).all()


@pytest.mark.parametrize("kind", [dict, DatasetDict])
def test_splits_keep_their_names(kind):
    data = open_dataset(kind({"train": table(3), "validation": table(2, seed=1)}), "semantic")
    train, validation = data.train_and_validation()
    assert (len(train), len(validation)) == (3, 2) and validation.split == "validation"


def test_classes_in_another_order_in_another_split_are_refused():
    def objects(*names):
        square = {"category": 0, "segmentation": [[0.0, 0.0, 4.0, 0.0, 4.0, 4.0]]}
        outlines = {"category": ClassLabel(names=list(names)), "segmentation": List(List(datasets.Value("float32")))}
        features = Features({"image": datasets.Image(), "objects": List(outlines)})
        return Dataset.from_dict({"image": [Image.new("RGB", (8, 6))], "objects": [[square]]}, features=features)

    assert len(open_dataset({"train": objects("a", "b"), "val": objects("a", "b")}, "instance").labels) == 2
    with pytest.raises(DataError, match="Id 0 is 'a' in split 'train' and 'b' in split 'val'"):
        open_dataset({"train": objects("a", "b"), "val": objects("b", "a")}, "instance")


def test_a_path_may_be_a_path_object(paired_folder):
    folder = paired_folder(("train",))
    assert open_dataset(folder, "semantic").labels == open_dataset(str(folder), "semantic").labels


def test_class_names_of_the_features_are_taken():
    features = Features(
        {
            "image": datasets.Image(),
            "objects": {
                "segmentation": List(List(List(datasets.Value("float32")))),
                "category": List(ClassLabel(names=["cat", "dog"])),
            },
        }
    )
    square = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0, 1.0, 5.0]]
    row = {"image": Image.new("RGB", (8, 6)), "objects": {"segmentation": [square], "category": [1]}}
    data = open_dataset(Dataset.from_list([row] * 2, features=features), "instance")
    assert data.labels.names == ("cat", "dog")
    assert data.splits["train"][0].segments.class_ids.tolist() == [1]


def test_a_format_of_the_rows_changes_nothing():
    given = table(2)
    expected = open_dataset(given, "semantic").splits["train"][1]
    found = open_dataset(given.with_format("torch"), "semantic").splits["train"][1]
    assert np.array_equal(found.image, expected.image) and torch.equal(found.segments.ids, expected.segments.ids)


def stream(features=None):
    return IterableDataset.from_generator(lambda: rows(3), features=features)


def test_a_stream_gives_the_samples_of_a_table():
    expected = open_dataset(table(3), "semantic").splits["train"]
    data = open_dataset(stream(table(1).features), "semantic", id2label=["a", "b"])
    found = [data.splits["train"][row] for row in data.splits["train"].rows()]
    assert len(found) == 3
    for index, sample in enumerate(found):
        assert np.array_equal(sample.image, expected[index].image)
        assert torch.equal(sample.segments.ids, expected[index].segments.ids)


@pytest.mark.parametrize("form", ["torch", "numpy", "arrow", "pandas"])
def test_a_format_of_a_stream_changes_nothing(form):
    features = Features({"image": datasets.Image(), "label": Array2D((4, 6), "uint8")})
    given = Dataset.from_dict(
        {"image": [np.zeros((4, 6, 3), np.uint8)], "label": [np.eye(4, 6, dtype="u1")]}, features
    )
    samples = open_dataset(given.to_iterable_dataset().with_format(form), "semantic", id2label=["a", "b"])
    (row,) = samples.splits["train"].rows()
    assert samples.splits["train"][row].segments.areas().tolist() == [20, 4]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (stream, "Split 'train' is a stream that does not know its columns: make it with features"),
        (
            lambda: {"train": table(2), "test": stream()},
            r"Split 'test' is a stream \(IterableDataset\), others are not",
        ),
        (lambda: [1, 2], "Split 'train' is of type list: expected is a datasets.Dataset"),
        (lambda: {"train": "data/street"}, "Split 'train' is of type str"),
        (lambda: table(2).with_transform(lambda batch: batch), r"has a transform \(set_transform or with_transform\)"),
        (lambda: table(2).select([]), "Dataset 'a dataset in memory' has no rows"),
        (lambda: {}, "has no rows"),
        (lambda: table(2).rename_column("image", "x"), "has no column of images"),
        (lambda: None, "of type NoneType"),
    ],
)
def test_what_cannot_be_read_is_refused(given, message):
    with pytest.raises(DataError, match=message):
        open_dataset(given(), "semantic")


@pytest.mark.parametrize("option", [{"config_name": "a"}, {"mask_name": "{stem}_mask.png"}])
def test_options_of_names_and_folders_are_refused(option):
    with pytest.raises(DataError, match="opened by their name or folder"):
        open_dataset(table(2), "semantic", **option)


def test_a_loaded_dataset_is_called_as_datasets_knows_it():
    given = table(1)
    assert name_of(given) == "a dataset in memory" and name_of("data/street") == "data/street"
    given.info.builder_name, given.info.dataset_name = "parquet", "street"
    assert name_of(given) == name_of({"train": given}) == "street"
    given.info.dataset_name = "parquet"
    assert name_of(given) == "a dataset in memory"
