"""Crops of rare classes: which class is drawn, that the crop holds it, and that all others are as they were."""

import dataclasses
from collections import Counter

import pytest
import torch
from torchvision.transforms.v2 import functional as tvF

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig, Box, draw_crop
from modeling_maskformer.data.views.rare_classes import RareClassPixels
from modeling_maskformer.targets import Segments, segments_from_class_map, segments_from_masks

PLAIN = AugmentationConfig(
    (24, 32), scale_range=(2.5, 2.5), brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=0
)  # crops of the scene below at its own size
RARE = dataclasses.replace(PLAIN, rare_class_crop_probability=1.0)


def numbered_pixels(height, width):
    """A picture whose red and green tell the row and the column of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return tvF.to_pil_image(torch.stack((rows, columns, 0 * rows)).to(torch.uint8))


def seeds(count):
    return (torch.Generator().manual_seed(seed) for seed in range(count))


@pytest.fixture
def scene():
    """60 x 80: class 0 above class 5, a pole of class 2, one pixel of class 7 in a corner, void at the bottom."""
    classes = torch.zeros(60, 80, dtype=torch.uint8)
    classes[30:] = 5
    classes[10:40, 50:52] = 2
    classes[59, 79] = 7
    classes[55:, :70] = 255
    return Sample(numbered_pixels(60, 80), segments_from_class_map(classes), "scene")


def test_classes_are_drawn_by_the_square_root_of_their_rarity(scene):
    shares = {0: 0.64, 5: 0.32, 2: 0.04, 3: 0.0}  # 7 is not known: it counts as the rarest, 2
    rarity = {0: 0.64**-0.5, 5: 0.32**-0.5, 2: 0.04**-0.5, 7: 0.04**-0.5}
    classes = torch.tensor([0, *scene.segments.class_ids])[scene.segments.ids[0].clamp(max=4).long()]
    pixels, draws = RareClassPixels(shares), 3000
    drawn = [pixels.draw(scene.segments, generator) for generator in seeds(draws)]
    counts = Counter(int(classes[row, column]) for row, column in drawn)
    for label, weight in rarity.items():
        expected = weight / sum(rarity.values())
        assert counts[label] / draws == pytest.approx(expected, abs=4 * (expected * (1 - expected) / draws) ** 0.5)
    assert all(scene.segments.ids[0, row, column] != 255 for row, column in drawn)
    rows = torch.tensor([row for row, column in drawn if classes[row, column] == 2]).double()
    assert rows.min() < 13 and rows.max() > 36 and rows.mean() == pytest.approx(24.5, abs=2)  # each pixel alike


def test_without_shares_all_classes_are_alike_however_many_segments_they_have():
    masks = torch.zeros(4, 20, 20, dtype=torch.bool)
    masks[0, :10, :10], masks[1, 5:15, 5:15], masks[2, 8:20, :6], masks[3, 15:, 15:] = True, True, True, True
    segments = segments_from_masks(masks, [1, 1, 1, 4])  # those of class 1 overlap
    assert len(segments.ids) > 1
    drawn = [RareClassPixels({}).draw(segments, generator) for generator in seeds(1000)]
    assert sum(bool(masks[3, row, column]) for row, column in drawn) == pytest.approx(500, abs=65)
    for mask in masks[:3]:  # also objects of other layers than the first
        assert any(mask[row, column] for row, column in drawn)


def test_every_crop_holds_the_class_that_was_drawn_and_is_anywhere_around_it(scene):
    augment = Augmentation(RARE, {0: 1.0, 5: 1.0, 2: 1e-12, 7: 1.0})
    corners = set()
    for generator in seeds(300):
        image, segments = augment(scene, generator)
        assert image.shape[1:] == (24, 32) == segments.size
        assert 2 in segments.class_ids
        corners.add((int(image[0].min()), int(image[1].min())))
    tops, lefts = ({corner[axis] for corner in corners} for axis in (0, 1))
    assert min(tops) == 0 and max(tops) in (35, 36)  # rows 10 to 39 of 60
    assert lefts == set(range(19, 49)) or lefts == set(range(20, 49))  # columns 50 and 51 of 80
    for generator in seeds(20):  # a pixel in the corner leaves a single place
        image, _ = Augmentation(RARE, {0: 1.0, 5: 1.0, 2: 1.0, 7: 1e-12})(scene, generator)
        assert image[:2, -1, -1].tolist() == [59, 79]


@pytest.mark.parametrize("pixel", [(0, 0), (19, 29), (7, 12)])
def test_a_crop_around_a_pixel_is_each_of_those_that_hold_it(pixel):
    source = Box(3, 5, 20, 30)
    drawn = {draw_crop(source, (20, 30), (4, 5), generator, pixel) for generator in seeds(400)}
    every = {Box(3 + top, 5 + left, 4, 5) for top in range(17) for left in range(26)}
    holding = {
        box for box in every if 0 <= 3 + pixel[0] - box.top < box.height and 0 <= 5 + pixel[1] - box.left < box.width
    }
    assert drawn == holding


def test_the_probability_is_the_part_of_the_crops(scene):
    plain, rare = (Augmentation(dataclasses.replace(RARE, rare_class_crop_probability=p)) for p in (0.0, 0.5))
    rare.rare_classes = RareClassPixels({0: 1.0, 5: 1.0, 2: 1.0, 7: 1e-12})

    def part_with_corner(augment):
        return sum(7 in augment(scene, generator)[1].class_ids for generator in seeds(300)) / 300

    assert part_with_corner(plain) < 0.03
    assert part_with_corner(rare) == pytest.approx(0.5, abs=0.1)


def test_an_early_crop_is_drawn_before_and_the_class_of_those_in_it(scene):
    early = dataclasses.replace(
        RARE,
        crop_size=(8, 8),
        scale_range=(2.5, 2.5),
        early_crop_probability=1.0,
        early_crop_short_edges=(60,),
        early_crop_range=(20, 24),
    )
    holds_pole = set()
    for generator in seeds(200):
        _, segments = Augmentation(early, {0: 1.0, 5: 1.0, 2: 1e-12, 7: 1.0})(scene, generator)
        holds_pole.add(2 in segments.class_ids)
    assert holds_pole == {True, False}  # the pole is in some of the early crops


def test_without_it_a_view_takes_the_random_numbers_it_took_before(scene):
    for seed, generator in enumerate(seeds(20)):
        image, _ = Augmentation(PLAIN, {0: 0.5, 2: 0.5})(scene, generator)
        numbers = torch.Generator().manual_seed(seed)
        torch.rand((), generator=numbers)  # no early crop
        torch.randint(1, (), generator=numbers)  # the only scale
        top, left = (int(torch.randint(places, (), generator=numbers)) for places in (60 - 24 + 1, 80 - 32 + 1))
        torch.rand((), generator=numbers)  # not mirrored
        assert torch.equal(image, tvF.pil_to_tensor(scene.image)[:, top : top + 24, left : left + 32])
        assert torch.equal(generator.get_state(), numbers.get_state())


def test_an_image_without_labelled_pixels_is_cropped_anywhere():
    nothing = Sample(numbered_pixels(60, 80), Segments(torch.zeros(60, 80, dtype=torch.uint8), []), "empty")
    assert {Augmentation(RARE, {0: 1.0})(nothing, generator)[0].shape for generator in seeds(3)} == {(3, 24, 32)}
    void = Sample(nothing.image, Segments(torch.full((60, 80), -1, dtype=torch.int16), [3]), "void")
    assert len(Augmentation(RARE, {0: 1.0})(void)[1]) == 0


def test_the_same_seed_gives_the_same_view(scene):
    augment = Augmentation(dataclasses.replace(RARE, scale_range=(1.5, 4.0)), {0: 0.9, 2: 0.1})
    one, again, other = (augment(scene, torch.Generator().manual_seed(seed))[0] for seed in (4, 4, 5))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_whole_images_have_no_crop_to_place():
    with pytest.raises(ValueError, match="rare_class_crop_probability must be 0: there is no crop"):
        AugmentationConfig(crop_size=None, short_edges=(30,), rare_class_crop_probability=0.5)
    with pytest.raises(ValueError, match=r"rare_class_crop_probability must lie in \[0, 1\], got 2"):
        AugmentationConfig(rare_class_crop_probability=2)
