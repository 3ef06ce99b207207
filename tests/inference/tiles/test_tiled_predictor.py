"""Pictures in tiles: what one tile covers is as without tiles; memory is that of a tile and the result."""

import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model
from torchvision.transforms.v2 import functional as tvF

from benchmarks.mosaic import PerfectPredictor, picture_of
from image_processing import MaskFormerImageProcessor
from modeling_maskformer.inference.inputs import find_pictures
from modeling_maskformer.inference.multi_scale import MultiScalePredictor
from modeling_maskformer.inference.predictor import Predictor
from modeling_maskformer.inference.tiles.tiled_predictor import TileArguments, TiledPredictor


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_model().eval()


@pytest.fixture
def image():
    coarse = torch.rand(3, 12, 15)
    pixels = tvF.resize(coarse, [96, 120], antialias=True).clamp(0, 1)
    return tvF.to_pil_image((pixels * 255).to(torch.uint8))


def processor(shortest_edge=48):
    return MaskFormerImageProcessor(size={"shortest_edge": shortest_edge, "longest_edge": 400}, size_divisor=0)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    segmentation = one["segmentation"], other["segmentation"]
    equal = (
        torch.equal(*segmentation) if isinstance(segmentation[0], torch.Tensor) else segmentation[0] == segmentation[1]
    )
    return equal and one["segments_info"] == other["segments_info"]


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_picture_that_one_tile_covers_gets_the_plain_prediction(model, image, task):
    predictor = Predictor(model, processor(), task, threshold=0.0)
    (plain,) = predictor([image])
    (tiled,) = TiledPredictor(predictor, tile=120)([image])
    assert same(plain, tiled)
    assert task == "semantic" or len(plain["segments_info"]) > 0


def test_scores_of_tiles_are_those_of_the_whole_where_the_model_sees_one_pixel_at_a_time(image):
    """A model that maps each pixel by itself, and a processor that resizes nothing: tiles change nothing."""

    class PixelWise(PerfectPredictor):
        def score_strips(self, images):
            for image in images:
                scores = tvF.pil_to_tensor(image) / 255
                yield iter([(slice(0, scores.shape[1]), scores)])

    predictor = PixelWise("semantic")
    ((_, scores),) = next(predictor.score_strips([image]))
    (classes,) = TiledPredictor(predictor, tile=40, overlap=11, batch_size=3)([image])
    best = scores.gather(0, classes[None].long())[0]
    assert (scores.amax(0) - best).max() < 1e-5  # equal but for rounding
    assert len(classes.unique()) == 3


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_pictures_and_tensors_in_tiles_give_the_same_whatever_the_batch(model, image, task):
    predictor = Predictor(model, processor(), task, threshold=0.0)
    one_by_one = TiledPredictor(predictor, 64, 16)
    (first,) = one_by_one([image])
    (second,) = TiledPredictor(predictor, 64, 16, batch_size=5)([tvF.pil_to_tensor(image)])
    if task == "semantic":
        assert first.shape == (96, 120)
        assert (first == second).float().mean() > 0.99  # but for scores that are equal to rounding
    else:
        assert len(first["segments_info"]) == len(second["segments_info"]) > 0


def test_scales_can_be_averaged_in_each_tile(model, image):
    predictor = MultiScalePredictor(model, processor(), scales=[0.5, 1.0])
    (classes,) = TiledPredictor(predictor, 64, 16)([image])
    # where one tile decides alone, its mean of scales is the result
    expected = predictor.mean_scores(image.crop((0, 0, 64, 64))).argmax(0)
    assert torch.equal(classes[:40, :40].long(), expected[:40, :40])


def test_memory_is_that_of_a_tile_and_the_result(model):
    class Flat(PerfectPredictor):
        def score_strips(self, images):
            for image in images:
                width, height = image.size
                yield ((slice(top, top + 8), torch.rand(20, 8, width)) for top in range(0, height, 8))

    picture = Image.new("RGB", (1000, 1000))
    predictor = TiledPredictor(Flat("semantic"), tile=128, overlap=16)
    blended = [tensor_bytes(predictor, picture)]
    assert blended[0] < 2 * (20 * 16 * (1000 + 128) * 4 + 1000 * 1000)  # and 20 x 1000 x 1000 scores are 80 MB


def tensor_bytes(predictor, picture):
    """The most bytes of tensors on the CPU at once that the profiler sees being kept."""
    with torch.profiler.profile(profile_memory=True) as profile:
        predictor([picture])
    level, most = 0, 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            most = max(most, level)
    return most


def test_instances_take_no_mask_of_the_whole_picture():
    objects = np.zeros((720, 720), dtype=np.int64)
    for number in range(100):
        top, left = 70 * (number // 10), 70 * (number % 10)
        objects[top : top + 60, left : left + 60] = number + 1
    picture = picture_of(0 * objects, objects)
    predictor = TiledPredictor(PerfectPredictor("instance"), tile=180, overlap=40)
    tracemalloc.start()
    try:
        (result,) = predictor([picture])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(result["segmentation"]) == 100
    assert peak < 4 * 720 * 720  # where 100 masks have 0.5 MB each


def test_tiles_that_cannot_be_are_refused():
    for tile, overlap in ((64, 64), (64, 0), (0, 0), (64, 100)):
        with pytest.raises(ValueError, match=f"Tiles of {tile} pixels .* must overlap .* got {overlap}"):
            TiledPredictor(PerfectPredictor("semantic"), tile, overlap)
        with pytest.raises(ValueError, match="must overlap"):
            TileArguments(tile, overlap)
    with pytest.raises(ValueError, match="--overlap goes with --tile"):
        TileArguments(overlap=64)


def test_a_picture_that_pil_would_refuse_is_read_for_tiles(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (100, 50)).save(tmp_path / "large.png")
    (picture,) = find_pictures([tmp_path], max_pixels=10_000)
    assert picture.load().size == (100, 50)
    assert Image.MAX_IMAGE_PIXELS == 1000
