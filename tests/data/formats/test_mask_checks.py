"""Masks that pycocotools would crash on are refused, and every mask that it writes is taken."""

import json

import numpy as np
import pytest
from datasets import Dataset
from png_files import png
from pycocotools import mask as coco_mask

from image_processing.run_lengths import check_counts, decompressed
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.formats.objects.coco_instance import CocoInstanceFormat
from modeling_maskformer.data.labels.label_set import NamedIds, make_label_set
from modeling_maskformer.data.samples import RowSamples

LABELS = make_label_set(NamedIds({1: "thing"}))
NAN, INF = float("nan"), float("inf")


def samples_with(segmentation):
    """One image 8 x 6 (width x height), called odd.png, with one object."""
    picture = png(np.zeros((6, 8, 3), np.uint8))
    objects = json.dumps([{"category_id": 1, "segmentation": segmentation}])
    rows = Dataset.from_list([{"image": {"bytes": picture, "path": "odd.png"}, "objects": objects}])
    return RowSamples(rows, "image", CocoInstanceFormat("objects"), LABELS, "instance")


def random_masks(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        height, width = rng.integers(1, 400, 2)
        yield rng.random((height, width)) < rng.choice([0, 0.001, 0.1, 0.5, 1])


def test_compressed_run_lengths_are_those_that_pycocotools_wrote():
    for mask in random_masks(60):
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        lengths = decompressed(encoded["counts"])
        flat = mask.ravel(order="F")
        changes = np.flatnonzero(np.diff(flat)) + 1
        expected = np.diff(np.concatenate(([0], changes, [flat.size])))
        assert lengths.tolist() == ([0] if flat[0] else []) + expected.tolist()
        check_counts(encoded["counts"], mask.shape)
        check_counts(lengths.tolist(), mask.shape)


BROKEN = {
    "NaN": [[0, 0, NAN, 0, 4, 4]],
    "infinite": [[0, 0, INF, 0, 4, 4]],
    "very large": [[0, 0, 1e18, 0, 4, 4]],
    "large": [[0, 0, 1e7, 0, 4, 4]],
    "a very long outline": [[0, 0, 1e6, 1e6] * 20],
    "an odd count": [[0, 0, 4, 0, 4, 4, 1]],
    "text in a polygon": [["a", "b", "c", "d", "e", "f"]],
    "too few pixels": {"size": [6, 8], "counts": [3, 4]},
    "too many pixels": {"size": [6, 8], "counts": [40, 400]},
    "a negative length": {"size": [6, 8], "counts": [50, -2]},
    "lengths that overflow": {"size": [6, 8], "counts": [2**63 - 1, 2**63 - 1, 50]},
    "numbers with points": {"size": [6, 8], "counts": [24.0, 24.5]},
    "text that is no code": {"size": [6, 8], "counts": "hello world!"},
    "text cut off": {"size": [6, 8], "counts": "``"},
    "text of endless digits": {"size": [6, 8], "counts": "o" * 40 + "0"},
    "empty text": {"size": [6, 8], "counts": ""},
    "no counts": {"size": [6, 8]},
    "another size": {"size": [60, 8], "counts": [480]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_mask_is_refused_and_its_sample_named(name):
    with pytest.raises(DataError, match=r"Sample 0 of split 'train' \(odd\): "):
        samples_with(BROKEN[name])[0]


def test_polygons_may_reach_over_the_border():
    segments = samples_with([[-5, -5, 20, -5, 20, 3, -5, 3]])[0].segments
    assert segments.areas().tolist() == [24]


def test_mutated_run_lengths_never_end_the_process():
    rng = np.random.default_rng(1)
    counts = coco_mask.encode(np.asfortranarray(np.eye(6, 8, dtype=np.uint8)))["counts"].decode()
    taken = 0
    for _ in range(500):
        text = list(counts)
        for _ in range(rng.integers(1, 4)):
            text[rng.integers(len(text))] = chr(rng.integers(40, 120))
        try:
            samples_with({"size": [6, 8], "counts": "".join(text)})[0]
            taken += 1
        except DataError as error:
            assert "(odd)" in str(error)
    assert taken < 500
