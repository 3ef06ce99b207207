"""The generated dataset."""

import numpy as np
import pytest
import torch

from modeling_maskformer.data.shapes import STUFF, THINGS, ShapesDataset


def test_an_image_is_the_same_for_the_same_seed_and_index():
    first, again, other = ShapesDataset(5, seed=1), ShapesDataset(9, seed=1), ShapesDataset(5, seed=2)
    for index in range(5):
        sample, repeated, different = first[index], again[index], other[index]
        assert np.array_equal(sample.image, repeated.image)
        assert torch.equal(sample.segments.ids, repeated.segments.ids)
        assert not np.array_equal(sample.image, different.image)
        assert sample.name == f"shapes_{index:06d}"
    assert len(list(first)) == 5


def test_the_tasks_show_the_same_scene():
    panoptic, semantic, instance = (ShapesDataset(20, task, size=64) for task in ("panoptic", "semantic", "instance"))
    assert panoptic.labels.label_ids_to_fuse == [5, 6, 7] and instance.labels.names == THINGS
    counts = []
    for whole, merged, things in zip(panoptic, semantic, instance, strict=True):
        masks, classes = whole.segments.masks(), whole.segments.class_ids
        assert masks.sum(0).eq(1).all()  # every pixel is in exactly one segment
        assert len(set(classes[classes >= 5].tolist())) == (classes >= 5).sum()  # stuff is one segment a class
        for mask, class_id in zip(merged.segments.masks(), merged.segments.class_ids, strict=True):
            assert torch.equal(mask, masks[classes == class_id].any(0))
        assert merged.segments.class_ids.tolist() == sorted(set(classes.tolist()))
        assert torch.equal(things.segments.masks(), masks[classes < 5])
        assert things.segments.class_ids.tolist() == classes[classes < 5].tolist()
        counts.append(int((classes < 5).sum()))
    assert min(counts) == 0 and max(counts) >= 4


def test_every_class_occurs_and_no_shape_is_hidden():
    dataset = ShapesDataset(60, size=96)
    classes = torch.zeros(len(THINGS + STUFF), dtype=torch.int64)
    for sample in dataset:
        segments = sample.segments
        classes += torch.bincount(segments.class_ids, minlength=len(classes))
        assert (segments.areas()[segments.class_ids < 5] > 20).all()
        assert sample.image.size == (96, 96) and np.asarray(sample.image).std() > 10
    assert (classes >= 10).all()


def test_a_size_or_index_out_of_range_is_refused():
    with pytest.raises(ValueError, match="at least 32 pixels, got 8"):
        ShapesDataset(1, size=8)
    with pytest.raises(IndexError, match="Image 3 was asked for, there are 3"):
        ShapesDataset(3)[3]
