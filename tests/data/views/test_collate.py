"""From samples to the batches that the model and the evaluation read."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import (
    EvaluationCollator,
    PixelNormalization,
    SegmentationDataset,
    TrainingCollator,
)
from modeling_maskformer.data.views.view_sampler import ViewSampler
from modeling_maskformer.targets import Segments, segments_from_masks


@pytest.fixture
def processor():
    size = {"shortest_edge": 64, "longest_edge": 128}
    return MaskFormerImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3)


@pytest.fixture
def samples():
    """Two images of different size; in the second, segment 2 of class 5 is a crowd and half a row is void."""
    rng = np.random.default_rng(0)
    first = Segments(torch.randint(0, 3, (40, 60), dtype=torch.uint8), [4, 1])
    ids = torch.ones(50, 32, dtype=torch.uint8)
    ids[20:], ids[0, :16] = 2, 255
    second = Segments(ids, [3, 5], [False, True])
    images = [Image.fromarray(rng.integers(0, 255, (*segments.size, 3), np.uint8)) for segments in (first, second)]
    return [Sample(images[0], first, "one", 10), Sample(images[1], second, "two", 20)]


def test_training_batches_hold_views_padded_with_void(samples, processor):
    augmentation = AugmentationConfig(
        crop_size=(64, 64), short_edges=(40,), brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=0
    )
    dataset = SegmentationDataset(samples, Augmentation(augmentation))
    batch = TrainingCollator(pad_size=(64, 64))([dataset[0], dataset[1]])
    assert set(batch) == {"pixel_values", "pixel_mask", "segment_ids", "class_labels", "names"}
    assert batch["names"] == ["one", "two"]
    assert batch["pixel_values"].shape == (2, 3, 64, 64) and batch["segment_ids"].shape == (2, 1, 64, 64)
    expected = torch.from_numpy(np.array(samples[0].image)).movedim(-1, 0)
    assert torch.equal(batch["pixel_values"][0, :, :40, :60], expected)
    assert torch.equal(batch["segment_ids"][0, :, :40, :60], samples[0].segments.ids)
    for ids, mask in zip(batch["segment_ids"], batch["pixel_mask"], strict=True):
        assert (ids[0][mask == 0] == 255).all()
    assert batch["pixel_mask"].sum((1, 2)).tolist() == [40 * 60, 62 * 40]
    assert [labels.tolist() for labels in batch["class_labels"]] == [[4, 1], [3]]


@pytest.mark.parametrize("settings", [{}, {"do_rescale": False}, {"do_normalize": False}])
def test_pixels_that_travelled_as_bytes_become_what_the_processor_makes_of_them(samples, settings):
    processor = MaskFormerImageProcessor(size_divisor=0, image_mean=[0.4, 0.5, 0.6], **settings)
    dataset = SegmentationDataset(samples)
    batch = TrainingCollator()([dataset[0], dataset[1]])
    expected = processor([dataset[0]["image"], dataset[1]["image"]], do_resize=False, return_tensors="pt")
    found = PixelNormalization(processor)(batch["pixel_values"], batch["pixel_mask"])
    torch.testing.assert_close(found, expected["pixel_values"], atol=1e-5, rtol=1e-5)
    assert torch.equal(batch["pixel_mask"].long(), expected["pixel_mask"])


def test_a_view_depends_on_its_seed_alone(samples):
    augment = Augmentation(AugmentationConfig(crop_size=(32, 32)))
    views = list(ViewSampler(2, seed=3, epoch=lambda: 1)) + list(ViewSampler(2, seed=3, epoch=lambda: 2))
    assert len({view.seed for view in views}) == 4 and {view.index for view in views} == {0, 1}
    at_once = [SegmentationDataset(samples, augment)[view]["image"] for view in views]
    loader = DataLoader(
        SegmentationDataset(samples, augment), sampler=list(reversed(views)), num_workers=1, batch_size=None
    )
    for image, item in zip(reversed(at_once), loader, strict=True):
        assert torch.equal(image, item["image"])


def test_an_epoch_has_each_sample_once_in_an_order_of_its_own():
    def views(seed, epoch, shuffle=True):
        return list(ViewSampler(20, seed, lambda: epoch, shuffle))

    orders = {tuple(view.index for view in views(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4 and all(sorted(order) == list(range(20)) for order in orders)
    assert views(1, 1) == views(1, 1)
    in_turn = views(1, 1, shuffle=False)
    assert [view.index for view in in_turn] == list(range(20))
    assert sorted(views(1, 1)) == in_turn  # the order decides nothing about a view


def test_a_crowd_is_void_in_training_and_flagged_in_evaluation(samples, processor):
    view = SegmentationDataset(samples, Augmentation(AugmentationConfig((50, 32), (1, 1), horizontal_flip=0)))[1]
    assert view["segments"].class_ids.tolist() == [3]
    assert view["segments"].void[25:].all() and not view["segments"].void[2:15].any()
    assert samples[1].segments.class_ids.tolist() == [3, 5]  # the sample itself is as it was
    batch = EvaluationCollator(processor)([SegmentationDataset(samples)[1]])
    (reference,) = batch["references"]
    assert reference.is_crowd.tolist() == [False, True] and reference.class_ids.tolist() == [3, 5]
    assert batch["class_labels"][0].tolist() == [3]
    height = int(batch["pixel_mask"][0, :, 0].sum())
    assert (batch["segment_ids"][0, 0, height // 2 : height] == 255).all()


def overlapping_discs(count, length):
    """`count` discs that overlap each other, in a picture of `length` squared pixels."""
    axis = np.arange(length, dtype=np.float32)
    discs = (
        (axis[:, None] - y) ** 2 + (axis - x) ** 2 < radius**2
        for y, x, radius in np.random.default_rng(0).uniform((0, 0, 20), (length, length, 60), (count, 3))
    )
    segments = segments_from_masks(list(discs), [0] * count)
    return Sample(Image.fromarray(np.zeros((length, length, 3), np.uint8)), segments, "discs", 0)


def test_200_overlapping_segments_of_a_megapixel_take_at_most_10_megabytes(processor):
    sample = overlapping_discs(200, 1000)
    assert len(sample.segments.ids) > 1, "some overlap"
    augmentation = Augmentation(AugmentationConfig(crop_size=(1000, 1000), scale_range=(1, 1), brightness=0.0))
    (item,) = SegmentationDataset([sample], augmentation)
    batch = TrainingCollator()([item])
    for targets in (sample.segments.ids, item["segments"].ids, batch["segment_ids"]):
        assert targets.nbytes <= 10e6
    assert any(torch.equal(item["segments"].ids, ids) for ids in (sample.segments.ids, sample.segments.ids.flip(-1)))


def test_evaluation_batches_are_resized_but_references_are_not(samples, processor):
    dataset = SegmentationDataset(samples)
    batch = EvaluationCollator(processor)([dataset[0], dataset[1]])
    assert batch["target_sizes"] == [(40, 60), (50, 32)]
    assert batch["names"] == ["one", "two"] and batch["image_ids"] == [10, 20]
    for reference, sample in zip(batch["references"], samples, strict=True):
        assert torch.equal(reference.ids, sample.segments.ids)
    alone = processor(images=[samples[0].image], return_tensors="pt")["pixel_values"][0]
    assert torch.allclose(batch["pixel_values"][0, :, : alone.shape[1], : alone.shape[2]], alone)
    assert batch["segment_ids"].shape[-2:] == batch["pixel_values"].shape[-2:]


def test_a_loader_batches_images_with_and_without_segments(samples, processor):
    empty = Sample(samples[0].image, Segments(torch.zeros(40, 60, dtype=torch.uint8), []), "empty")
    dataset = SegmentationDataset([samples[0], empty], Augmentation(AugmentationConfig(crop_size=(32, 32))))
    (batch,) = DataLoader(dataset, batch_size=2, collate_fn=TrainingCollator())
    assert len(batch["class_labels"][1]) == 0
    assert (batch["segment_ids"][1][0][batch["pixel_mask"][1] == 1] == 0).all()
