"""Random views: image and segments stay together, sizes follow the recipe, nothing becomes void."""

import colorsys
import dataclasses
import math

import numpy as np
import pytest
import torch
from PIL import Image
from plain_augmentation import plain_view
from torchvision.transforms.v2 import functional as tvF

from modeling_maskformer.data.samples import Sample
from modeling_maskformer.data.views.augmentation import Augmentation, AugmentationConfig, Box, largest_class_share
from modeling_maskformer.data.views.color_jitter import (
    RGB_TO_YIQ,
    YIQ_TO_RGB,
    ColorJitter,
    apply_color_matrix,
    change_of_chroma,
)
from modeling_maskformer.targets import Segments

COLOURS = torch.tensor([[10, 20, 30], [250, 0, 0], [0, 250, 0], [0, 0, 250], [200, 200, 0]], dtype=torch.uint8)
PLAIN = AugmentationConfig(crop_size=(48, 64), brightness=0, contrast=0, saturation=0, hue=0, horizontal_flip=0)


@pytest.fixture
def sample():
    """Large blocks of ids 0 to 3 and void (painted in the last colour), 90 x 120; class ids 1, 2, 3."""
    blocks = torch.randint(0, 5, (6, 8), generator=torch.Generator().manual_seed(3))
    index = blocks.repeat_interleave(15, 0).repeat_interleave(15, 1)  # (90, 120)
    image = Image.fromarray(COLOURS[index].numpy())
    ids = torch.where(index == 4, 255, index).to(torch.uint8)
    return Sample(image, Segments(ids, torch.tensor([1, 2, 3])), "blocks")


def config(**changes):
    return dataclasses.replace(PLAIN, **changes)


def painted(segments):
    """The picture that the segments stand for, each pixel in the colour of its segment's class or of void."""
    colour_index = torch.tensor([0, *segments.class_ids, 4])
    ids = segments.ids[0].to(torch.int64)
    return COLOURS[colour_index[torch.where(ids == 255, len(colour_index) - 1, ids)]].movedim(-1, 0)  # (3, H, W)


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_image_and_segments_show_the_same_view(sample, scale, flip):
    augment = Augmentation(config(scale_range=(scale, scale), horizontal_flip=flip))
    for _ in range(5):
        image, segments = augment(sample)
        assert image.dtype == torch.uint8 and image.is_contiguous()
        differs = (image.int() - painted(segments).int()).abs().amax(0) > 60
        assert differs.float().mean() < 0.15  # pixels on borders, which are blended


def test_nothing_is_changed_at_the_images_own_size(sample):
    image, segments = Augmentation(config(crop_size=(90, 120), scale_range=(1, 1)))(sample)
    assert (image == tvF.pil_to_tensor(sample.image)).all()
    assert (segments.ids == sample.segments.ids).all() and segments.ids.dtype == torch.uint8
    flipped_image, flipped = Augmentation(config(crop_size=(90, 120), scale_range=(1, 1), horizontal_flip=1))(sample)
    assert (flipped_image == image.flip(-1)).all() and (flipped.ids == segments.ids.flip(-1)).all()


def test_an_id_is_that_of_the_pixel_in_the_middle():
    ids = torch.zeros(30, 30, dtype=torch.uint8)
    ids[1::3, 1::3] = 1  # the middle of each 3 x 3 pixels
    sample = Sample(Image.new("RGB", (30, 30)), Segments(ids, [0]), "dots")
    _, segments = Augmentation(config(crop_size=(10, 10), scale_range=(1, 1)))(sample)
    assert segments.ids.shape == (1, 10, 10) and (segments.ids == 1).all()


def test_the_short_edge_is_scaled_in_steps_of_the_crop_and_what_is_larger_is_cropped(sample):
    short_edges = set()
    for _ in range(200):
        image, _ = Augmentation(config(crop_size=(40, 400), scale_range=(0.5, 2.0)))(sample)
        height, width = image.shape[1:]
        assert height <= 40  # the width of 400 is never reached, so it tells the scale
        short_edges.add(round(width * 90 / 120))
    assert short_edges == {round(40 * step / 10) for step in range(5, 21)}


def test_without_steps_every_scale_of_the_range_is_drawn(sample):
    augment = Augmentation(config(crop_size=(400, 100), scale_range=(0.5, 1.5), scale_step=0))
    heights = [augment(sample)[0].shape[1] for _ in range(200)]
    assert 50 <= min(heights) < 56 and 144 < max(heights) <= 150 and len(set(heights)) > 60
    assert np.mean(heights) == pytest.approx(100, abs=8)


def test_the_long_edge_is_bounded(sample):
    image, _ = Augmentation(config(crop_size=None, short_edges=(300,), max_long_edge=200))(sample)
    assert image.shape == (3, 150, 200)


def test_detrs_recipe_draws_short_edges_and_crops_some_images_before(sample):
    augment = Augmentation(config(crop_size=None, short_edges=(48, 64), max_long_edge=1333))
    assert {augment(sample)[0].shape[1:] for _ in range(20)} == {(48, 64), (64, 85)}
    early = Augmentation(
        config(
            crop_size=None,
            short_edges=(48,),
            max_long_edge=1333,
            early_crop_probability=1.0,
            early_crop_short_edges=(180,),
            early_crop_range=(60, 90),
        )
    )
    ratios = [image.shape[2] / image.shape[1] for image, _ in (early(sample) for _ in range(50))]
    assert min(ratios) < 0.85 and max(ratios) > 1.15  # crops of 60 to 90 by 60 to 90
    assert all(60 / 90 - 0.05 < ratio < 90 / 60 + 0.05 for ratio in ratios)


@pytest.mark.parametrize("seed", range(8))
def test_a_view_is_that_of_the_plain_order_of_steps(seed):
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.integers(0, 256, (3, 4, 5), np.uint8))
    smooth = tvF.resize(coarse, [90, 120], antialias=True)
    blocks = torch.from_numpy(rng.integers(0, 4, (6, 8), np.uint8)).repeat_interleave(15, 0).repeat_interleave(15, 1)
    sample = Sample(tvF.to_pil_image(smooth), Segments(blocks, [0, 1, 2]), "smooth")
    augment = Augmentation(AugmentationConfig(crop_size=(48, 64)))
    image, segments = augment(sample, torch.Generator().manual_seed(seed))
    expected, ids = plain_view(augment, sample, seed)
    assert image.shape == expected.shape
    # a crop from the source begins at a whole pixel of it, which may be half a pixel off in the resized image
    assert (image.int() - expected.int()).abs().float().mean() < 4
    classes = torch.tensor([-1, *segments.class_ids])[segments.ids[0].long()]
    assert (classes == ids[0].int() - 1).float().mean() > 0.9  # borders of blocks


def test_segments_outside_the_view_are_dropped_and_void_stays_void():
    ids = torch.zeros(64, 64, dtype=torch.uint8)
    ids[:, :20], ids[:, 20:44], ids[:, 44:] = 1, 255, 2
    sample = Sample(Image.new("RGB", (64, 64)), Segments(ids, [3, 9]), "stripes")
    augment = Augmentation(config(crop_size=(64, 16), scale_range=(4, 4)))
    seen = set()
    for _ in range(60):
        _, segments = augment(sample)
        values = set(segments.ids.unique().tolist())
        assert values <= {1, 255} and len(segments) == len(values - {255})  # 16 of 64 columns never show both
        seen.add(tuple(segments.class_ids.tolist()))
    assert seen == {(), (3,), (9,)}


def test_layers_of_overlapping_segments_are_moved_together():
    layers = torch.zeros(2, 60, 60, dtype=torch.int16)
    layers[0, 10:40, 10:40], layers[1, 20:50, 20:50] = 1, 2
    layers[0, :5] = -1
    sample = Sample(Image.new("RGB", (60, 60)), Segments(layers, [0, 1]), "layers")
    _, segments = Augmentation(config(crop_size=(60, 60), scale_range=(0.5, 0.5), horizontal_flip=1))(sample)
    first, second = segments.masks()
    expected = torch.zeros(2, 30, 30, dtype=torch.bool)
    expected[0, 5:20, 10:25], expected[1, 10:25, 5:20] = True, True
    assert (first == expected[0]).all() and (second == expected[1]).all()
    assert segments.void[:2].all() and not segments.void[3:].any()


def test_a_crop_in_which_one_class_dominates_is_drawn_again():
    ids = torch.full((60, 120), 1, dtype=torch.uint8)
    ids[:, 60:] = 2
    sample = Sample(Image.new("RGB", (120, 60)), Segments(ids, [0, 1]), "halves")

    def shares(max_area):
        augment = Augmentation(config(crop_size=(30, 30), scale_range=(2, 2), single_category_max_area=max_area))
        views = [augment(sample)[1] for _ in range(100)]
        return np.array([float(view.areas().max() / view.areas().sum()) for view in views])

    assert (shares(1.0) > 0.8).mean() > 0.5
    assert (shares(0.8) > 0.85).mean() < 0.15  # ten attempts do not always find one


def test_the_share_of_a_class_is_that_of_all_its_segments_among_the_labelled_pixels_of_a_region():
    ids = torch.zeros(10, 10, dtype=torch.uint8)
    ids[0, :4], ids[1, :3], ids[2, :3], ids[3], ids[9] = 1, 2, 3, 255, 2
    segments = Segments(ids, [7, 2, 7])
    assert largest_class_share(segments, Box(0, 0, 9, 10)) == pytest.approx(0.7)
    assert largest_class_share(segments, Box(3, 0, 6, 10)) == 0.0  # void and no segment


def test_the_same_seed_gives_the_same_view(sample):
    augment = Augmentation(AugmentationConfig(crop_size=(48, 64)))
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(augment(sample)[0])
    assert torch.equal(views[0], views[1])
    assert views[0].shape != views[2].shape or not torch.equal(views[0], views[2])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop_size": None}, "short_edges are needed"),
        ({"crop_size": (0, 5)}, "crop_size"),
        ({"scale_range": (2.0, 1.0)}, "scale_range"),
        ({"horizontal_flip": 1.5}, r"horizontal_flip must lie in \[0, 1\], got 1.5"),
        ({"early_crop_range": (600, 384)}, "early_crop_range"),
        ({"short_edges": (480, 0)}, r"short_edges .* must be at least 1, got .*\(480, 0\)"),
        ({"early_crop_short_edges": [-1]}, r"early_crop_short_edges must be at least 1, got .*\(-1,\)"),
        ({"max_long_edge": 0}, "max_long_edge.* must be at least 1, got 0,"),
        ({"scale_step": -0.1}, "scale_step must be at least 0, got -0.1"),
    ],
)
def test_a_recipe_out_of_range_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        AugmentationConfig(**arguments)


@pytest.mark.parametrize("offset", [-300, -10, 0, 10, 300])
def test_colours_stop_at_black_and_white(offset):
    image = torch.arange(256, dtype=torch.uint8).expand(3, 1, 256)
    found = apply_color_matrix(image, torch.eye(3), torch.full((3, 1), float(offset)))
    assert torch.equal(found, (image.int() + offset).clamp(0, 255).to(torch.uint8))


def test_saturation_agrees_with_torchvision():
    image = torch.randint(60, 200, (3, 16, 16), dtype=torch.uint8)
    for saturation in (0.5, 1.0, 1.5):
        ours = apply_color_matrix(image, change_of_chroma(saturation, 0.0), torch.zeros(3, 1))
        assert (ours.int() - tvF.adjust_saturation(image, saturation).int()).abs().max() <= 1


def test_hue_turns_colours_and_keeps_their_luma():
    hues = np.arange(24) / 24
    colours = np.array([colorsys.hsv_to_rgb(hue, 0.3, 150) for hue in hues])  # (24, 3)
    image = torch.from_numpy(colours.T.copy()).round().to(torch.uint8)[:, None]  # (3, 1, 24)
    for degrees in (-36, 20, 36):
        turned = apply_color_matrix(image, change_of_chroma(1.0, math.radians(degrees)), torch.zeros(3, 1))
        assert (tvF.rgb_to_grayscale(turned).int() - tvF.rgb_to_grayscale(image).int()).abs().max() <= 1
        after = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in (turned[:, 0].T / 255).tolist()])
        turns = ((hues - after + 0.5) % 1 - 0.5) * 360  # the chroma plane of YIQ runs against HSV's circle
        assert abs(turns.mean() - degrees) < 3 and (np.sign(turns) == np.sign(degrees)).all()


def test_each_colour_change_is_made_within_its_bounds():
    grey = torch.full((3, 4, 4), 100, dtype=torch.uint8)
    offsets, factors = [], []
    for _ in range(300):
        offsets.append(int(ColorJitter(32, 0, 0, 0)(grey)[0, 0, 0]) - 100)
        factors.append(int(ColorJitter(0, 0.5, 0, 0)(grey)[0, 0, 0]) / 100)
        assert (ColorJitter(0, 0, 0.5, 36)(grey).int() - 100).abs().max() <= 1  # grey has no chroma
    assert -32 <= min(offsets) < -25 and 25 < max(offsets) <= 32
    assert 0.5 <= min(factors) < 0.6 and 1.4 < max(factors) <= 1.5
    assert 0.3 < np.mean(np.array(offsets) == 0) < 0.7  # made for half of the images


def test_chroma_is_scaled_and_turned_within_its_bounds():
    factors, degrees = [], []
    for seed in range(400):
        matrix, offset = ColorJitter(0, 0, 0.5, 36).draw(torch.Generator().manual_seed(seed))
        chroma = (RGB_TO_YIQ @ matrix @ YIQ_TO_RGB)[1:, 1:]  # a rotation, scaled
        assert not offset.any()
        factors.append(math.sqrt(chroma.det()))
        degrees.append(math.degrees(math.atan2(chroma[1, 0], chroma[0, 0])))
    assert 0.499 < min(factors) < 0.53 and 1.47 < max(factors) < 1.501
    assert -36.1 < min(degrees) < -34 and 34 < max(degrees) < 36.1
    kept = np.isclose(factors, 1, atol=1e-4), np.isclose(degrees, 0, atol=1e-2)
    assert np.mean(kept, 1) == pytest.approx([0.5, 0.5], abs=0.1)
    assert np.mean(kept[0] & kept[1]) == pytest.approx(0.25, abs=0.1)  # each by itself
