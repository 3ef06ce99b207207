"""The compact form of targets holds what the masks held."""

import pytest
import torch

from modeling_maskformer import targets
from modeling_maskformer.targets import VOID, Segments, segments_from_class_map, segments_from_masks, smallest_id_dtype


def test_overlapping_masks_come_back_as_they_were():
    masks = torch.rand(9, 13, 11) > 0.6
    segments = segments_from_masks(masks, range(9))
    assert torch.equal(segments.masks(), masks)
    assert torch.equal(segments.areas(), masks.sum((1, 2)))
    assert segments.ids.dtype == torch.uint8


def test_disjoint_masks_need_one_layer():
    owner = torch.randint(0, 5, (16, 16))
    segments = segments_from_masks([owner == k for k in range(5)], [0] * 5)
    assert segments.ids.shape == (1, 16, 16)


def test_class_map_gives_a_segment_per_class_and_void_at_the_ignore_index():
    class_map = torch.tensor([[3, 3, 255], [1, 0, 7]])
    segments = segments_from_class_map(class_map)
    assert segments.class_ids.tolist() == [0, 1, 3, 7]
    for mask, class_id in zip(segments.masks(), segments.class_ids, strict=True):
        assert torch.equal(mask, class_map == class_id)
    assert torch.equal(segments.void, class_map == 255)
    assert segments.areas().tolist() == [1, 1, 2, 1]


@pytest.mark.parametrize("ignore_index", [5, None])
def test_a_class_map_is_read_in_strips_of_rows(monkeypatch, ignore_index):
    class_map = torch.randint(0, 9, (6, 7), generator=torch.Generator().manual_seed(0)).T.to(torch.int16)
    whole = segments_from_class_map(class_map, ignore_index)
    monkeypatch.setattr(targets, "PIXELS_AT_ONCE", 14)  # two rows of the seven
    segments = segments_from_class_map(class_map, ignore_index)
    assert torch.equal(segments.ids, whole.ids) and torch.equal(segments.class_ids, whole.class_ids)
    for mask, class_id in zip(segments.masks(), segments.class_ids, strict=True):
        assert torch.equal(mask, class_map == class_id)
    assert torch.equal(segments.void, class_map == (-1 if ignore_index is None else ignore_index))


def test_an_ignore_index_that_the_dtype_of_a_class_map_cannot_hold_is_nowhere():
    assert segments_from_class_map(torch.tensor([[255, 0]], dtype=torch.uint8), -1).class_ids.tolist() == [0, 255]


def test_class_map_of_void_only_has_no_segment():
    segments = segments_from_class_map(torch.full((2, 2), 255))
    assert len(segments) == 0 and segments.void.all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_selection_renumbers_and_keeps_void(dtype):
    ids = torch.tensor([[1, 2, 3], [0, VOID, 2]]).to(dtype)
    segments = Segments(ids, torch.tensor([5, 6, 7])).select(torch.tensor([True, False, True]))
    assert segments.class_ids.tolist() == [5, 7]
    assert segments.ids[0].tolist() == [[1, 0, 2], [0, 255, 0]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_void_is_in_no_area(dtype):
    ids = torch.tensor([[1, 1, 2, 0]], dtype=dtype)
    ids[0, 0] = targets.void_value(dtype)
    segments = Segments(ids, torch.tensor([4, 5, 6]))
    assert segments.areas().tolist() == [1, 1, 0]
    assert segments.without_empty().class_ids.tolist() == [4, 5]


def test_crowd_is_no_target_but_void_unless_an_object_covers_it():
    crowd = torch.ones(2, 3, dtype=torch.bool)
    person = torch.tensor([[True, False, False], [False, False, False]])
    segments = segments_from_masks([crowd, person], [0, 0], is_crowd=[True, False]).without_crowd()
    assert len(segments) == 1
    assert torch.equal(segments.masks()[0], person)
    assert torch.equal(segments.void, ~person)


def test_segments_without_pixels_can_be_dropped():
    segments = Segments(torch.tensor([[2, 2]], dtype=torch.uint8), torch.tensor([4, 9])).without_empty()
    assert segments.class_ids.tolist() == [9]
    assert segments.ids.tolist() == [[[1, 1]]]


@pytest.mark.parametrize(("count", "dtype"), [(254, torch.uint8), (255, torch.int16), (40_000, torch.int32)])
def test_id_dtype_is_the_smallest_that_holds_the_ids_and_void(count, dtype):
    assert smallest_id_dtype(count) == dtype


def test_id_map_must_be_integer():
    with pytest.raises(ValueError, match=r"uint8, int16 or int32, got shape \(1, 2, 2\) and torch.float32"):
        Segments(torch.zeros(2, 2), torch.zeros(0))


def test_masks_and_class_ids_must_be_of_one_number():
    with pytest.raises(ValueError, match="2 masks but 1 class ids"):
        segments_from_masks(torch.zeros(2, 4, 4), [0])
