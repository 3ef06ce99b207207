"""Things of another image pasted onto a view: against pixels and masks put together by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from id_maps import with_void
from torchvision.transforms.v2 import functional as tvF

from modeling_maskformer.data.datasets import SegmentationData, open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.labels.label_set import LabelSet
from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.shapes import ShapesDataset
from modeling_maskformer.data.streams import StreamSamples
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig
from modeling_maskformer.data.views.collate import SegmentationDataset
from modeling_maskformer.data.views.copy_paste import CopyPaste, choose_copy_paste
from modeling_maskformer.data.views.view_sampler import View, view_seed
from modeling_maskformer.targets import Segments, segments_from_masks

STILL = AugmentationConfig((48, 48), (1, 1), brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=0)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def discs(rng, count, size):
    """`(S, H, W)` bool masks, most of which overlap."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack(
        [
            (rows - rng.integers(size[0])) ** 2 + (columns - rng.integers(size[1])) ** 2 < rng.integers(6, 15) ** 2
            for _ in range(count)
        ]
    )


@pytest.mark.parametrize("seed", range(12))
def test_every_pixel_is_of_the_image_or_of_the_things_and_masks_lose_what_these_hide(seed):
    """Where the other image lies is read from the result: each of its pixels has a colour of its own."""
    rng = np.random.default_rng(seed)
    size, other_size = rng.integers(30, 60, (2, 2)).tolist()
    masks, other_masks = discs(rng, 3, size), discs(rng, 4, other_size)
    void = np.zeros(size, bool)
    void[:9] = True
    segments = with_void(segments_from_masks(masks, [0, 1, 2]), void)
    other_segments = with_void(segments_from_masks(other_masks, [3, 0, 1, 3]), ~other_masks.any(0))
    rows, columns = np.mgrid[: other_size[0], : other_size[1]]
    other = torch.from_numpy(np.stack((rows, columns, 0 * rows + 7)).astype(np.uint8))
    image = torch.full((3, *size), 200, dtype=torch.uint8)
    before = image.clone(), segments.ids.clone(), other_segments.ids.clone()

    is_thing = (True, False, True, True)  # the third of the other masks is stuff
    found, result = CopyPaste(1.0, is_thing)(image, segments, other, other_segments, seeded(seed))

    assert found.dtype == torch.uint8 and found.shape == image.shape and result.size == tuple(size)
    assert [torch.equal(*pair) for pair in zip(before, (image, segments.ids, other_segments.ids), strict=True)]
    covered = (found[2] == 7).numpy()
    assert (found.numpy()[:, ~covered] == 200).all()
    ys, xs = covered.nonzero()
    if len(ys) == 0:  # a smaller view may lie beside the things of the other one
        assert torch.equal(result.ids, segments.ids) and result.class_ids.tolist() == [0, 1, 2]
        return
    shift_y, shift_x = {tuple(x) for x in (np.stack((ys, xs)) - found.numpy()[:2, ys, xs].astype(int)).T}.pop()
    assert (found.numpy()[:2, ys, xs] == np.stack((ys - shift_y, xs - shift_x))).all()  # one place for all

    def moved(mask):
        whole = np.zeros((200, 200), bool)
        whole[70 + shift_y :, 70 + shift_x :][: mask.shape[0], : mask.shape[1]] = mask
        return whole[70 : 70 + size[0], 70 : 70 + size[1]]

    thing_masks = [moved(mask) for mask, label in zip(other_masks, (3, 0, 1, 3), strict=True) if is_thing[label]]
    thing_labels = [3, 0, 3]
    left = [(label, mask & ~covered) for label, mask in enumerate(masks) if (mask & ~covered).any()]
    segments_found = list(zip(result.class_ids.tolist(), result.masks().numpy(), strict=True))
    for (label, mask), (expected_label, expected_mask) in zip(segments_found[: len(left)], left, strict=True):
        assert label == expected_label and (mask == expected_mask).all()
    new = segments_found[len(left) :]
    assert 1 <= len(new) <= 3
    things = list(zip(thing_labels, thing_masks, strict=True))
    for label, mask in new:
        assert any(label == thing and (mask == whole).all() for thing, whole in things)
    assert (np.logical_or.reduce([mask for _, mask in new]) == covered).all()
    assert (result.void.numpy() == (segments.void.numpy() & ~covered)).all()


def test_each_number_of_things_is_pasted_and_each_thing():
    masks = np.zeros((3, 20, 30), bool)
    masks[0, :, :9], masks[1, :, 10:19], masks[2, :, 20:] = True, True, True
    other = segments_from_masks(masks, [0, 1, 2])
    empty, image = Segments(torch.zeros(20, 30, dtype=torch.uint8), []), torch.zeros(3, 20, 30, dtype=torch.uint8)
    drawn = [CopyPaste(1.0, [True] * 3)(image, empty, image, other, seeded(seed))[1] for seed in range(300)]
    sets = [tuple(sorted(segments.class_ids.tolist())) for segments in drawn]
    assert set(sets) == {(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)}
    assert np.mean([len(labels) for labels in sets]) == pytest.approx(2, abs=0.2)
    same = CopyPaste(1.0, [False] * 3)(image, empty, image, other, seeded(0))
    assert same[0] is image and same[1] is empty  # stuff is not pasted


def test_of_two_sizes_the_smaller_lies_anywhere_within_the_larger():
    small, large = (segments_from_masks(np.ones((1, *size), bool), [0]) for size in ((2, 3), (5, 5)))
    marked = torch.arange(1, 26, dtype=torch.uint8).view(1, 5, 5).expand(3, 5, 5)  # tells each pixel's place
    plain = torch.zeros(3, 2, 3, dtype=torch.uint8)
    paste, corners = CopyPaste(1.0, (True,)), (set(), set())
    for seed in range(300):
        image, _ = paste(marked, large, plain, small, seeded(seed))
        corners[0].add(int((image[0] == 0).flatten().int().argmax()))
        image, _ = paste(plain, small, marked, large, seeded(seed))
        corners[1].add(int(image[0, 0, 0]) - 1)
    assert corners[0] == corners[1] == {5 * row + column for row in range(4) for column in range(3)}


@pytest.mark.parametrize(("most", "expected"), [(2, 3), (3, 3), (5, 5), (None, 7)])
def test_no_more_is_pasted_than_there_are_queries_for(most, expected):
    square = np.zeros((7, 40, 40), bool)
    for number in range(7):
        square[number, 5 * number : 5 * number + 3, 5 * number : 5 * number + 3] = True
    segments = segments_from_masks(square[:3, ::-1].copy(), [0, 0, 0])
    other_segments = segments_from_masks(square[3:], [0, 0, 0, 0])
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    counts = {
        len(CopyPaste(1.0, (True,), most)(image, segments, image, other_segments, seeded(seed))[1])
        for seed in range(40)
    }
    assert max(counts) == expected


def test_ids_that_no_byte_holds_get_a_wider_type():
    ids = torch.arange(400).reshape(20, 20)
    many = Segments(ids.clamp(max=250).to(torch.uint8), torch.zeros(250, dtype=torch.int64))
    other = Segments((ids % 10).to(torch.uint8), torch.ones(9, dtype=torch.int64))
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    results = [CopyPaste(1.0, (False, True))(image, many, image, other, seeded(seed))[1] for seed in range(20)]
    for result in results:
        assert len(result) == len(result.class_ids) and (result.areas() > 0).all()
        assert int((result.class_ids == 1).sum()) in range(1, 10)


class Numbered:
    """Images of one colour each, with a square of class 0 in one corner that differs."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        ids = torch.zeros(48, 48, dtype=torch.uint8)
        ids[:10, 10 * index : 10 * index + 10] = 1
        picture = tvF.to_pil_image(torch.full((3, 48, 48), 50 * index, dtype=torch.uint8))
        return Sample(picture, Segments(ids, [0]), str(index))


def test_any_other_image_is_the_one_whose_things_are_pasted_and_never_the_same():
    dataset = SegmentationDataset(Numbered(), Augmentation(STILL), CopyPaste(1.0, [True]))
    for index in range(4):
        partners = set()
        for seed in range(40):
            item = dataset[View(index, seed)]
            (others,) = (set((item["image"][0] // 50).unique().tolist()) - {index},)
            assert len(others) == 1 and len(item["segments"]) == 2 and item["name"] == str(index)
            partners |= others
        assert partners == set(range(4)) - {index}
    assert {CopyPaste(1.0, [True]).draw_partner(0, 2, seeded(seed)) for seed in range(9)} == {1}  # of two the other


def test_the_probability_is_the_part_of_the_views_and_one_seed_gives_one_view():
    half = SegmentationDataset(Numbered(), Augmentation(STILL), CopyPaste(0.5, [True]))
    views = [View(number % 4, view_seed(1, 2, number)) for number in range(400)]
    pasted = [len(half[view]["segments"]) == 2 for view in views]
    assert np.mean(pasted) == pytest.approx(0.5, abs=0.1)
    assert pasted == [len(half[view]["segments"]) == 2 for view in views]
    images = [half[view]["image"] for view in views[:8] for _ in range(2)]
    assert all(torch.equal(one, again) for one, again in list(pairwise(images))[::2])


def test_without_it_views_are_as_they_were_bit_by_bit():
    shapes = ShapesDataset(6, "panoptic", size=64)
    augmentation = Augmentation(AugmentationConfig(crop_size=(48, 48)))
    plain = SegmentationDataset(shapes, augmentation)
    never = SegmentationDataset(shapes, augmentation, CopyPaste(0.0, [True] * 8))
    for index in range(6):
        image, segments = augmentation(shapes[index], seeded(index))
        for dataset in (plain, never):
            item = dataset[View(index, index)]
            assert torch.equal(item["image"], image) and torch.equal(item["segments"].ids, segments.ids)


def test_a_single_image_has_no_partner():
    dataset = SegmentationDataset([Numbered()[0]], Augmentation(STILL), CopyPaste(1.0, [True]))
    assert len(dataset[View(0, 3)]["segments"]) == 1


def test_crowds_of_the_other_image_are_not_pasted():
    class Crowds(Numbered):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.segments.is_crowd[:] = index > 0
            return sample

    item = SegmentationDataset(Crowds(), Augmentation(STILL), CopyPaste(1.0, [True]))[View(0, 1)]
    assert len(item["segments"]) == 1 and not item["segments"].void.any()


def test_only_things_are_pasted_on_and_tasks_without_them_are_refused():
    semantic = open_dataset("shapes", "semantic")
    assert choose_copy_paste(0.0, semantic, None) is None and choose_copy_paste(None, semantic, None) is None
    data = open_dataset("shapes", "panoptic")
    assert choose_copy_paste(0.5, data, data.training()).is_thing == (True,) * 5 + (False,) * 3
    data = open_dataset("shapes", "instance")
    assert choose_copy_paste(0.25, data, data.training()) == CopyPaste(0.25, (True,) * 5)
    assert choose_copy_paste(None, data, data.training()) == CopyPaste(0.5, (True,) * 5)
    assert choose_copy_paste(0.0, data, data.training()) is None
    with pytest.raises(DataError, match="task semantic has no objects: it is for instance and panoptic"):
        choose_copy_paste(0.5, semantic, None)
    stream = StreamSamples.__new__(StreamSamples)  # one that nothing is read from
    with pytest.raises(DataError, match="a stream has no other image at hand: leave --streaming out"):
        choose_copy_paste(0.5, data, stream)
    assert choose_copy_paste(None, data, stream) is None
    for is_thing in (None, (False, False)):
        unknown = SegmentationData({}, LabelSet(("sky", "road"), (0, 1), is_thing), "panoptic")
        with pytest.raises(DataError, match="no class is known to be a thing"):
            choose_copy_paste(0.5, unknown, [])
        assert choose_copy_paste(None, unknown, []) is None
