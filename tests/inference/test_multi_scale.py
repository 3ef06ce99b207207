"""Test-time augmentation equals a plain mean over its views, in memory that does not grow with their number."""

import weakref

import pytest
import torch
from tiny import tiny_model
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional as tvF

from image_processing import MaskFormerImageProcessor, resampling, tiling
from modeling_maskformer.inference.multi_scale import SCALES, MultiScalePredictor, TtaArguments
from modeling_maskformer.inference.predictor import Predictor

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return tiny_model(decoder_config={"decoder_layers": 2}).eval()


@pytest.fixture
def image():
    coarse = torch.rand(1, 3, 6, 7)
    pixels = interpolate(coarse, size=(48, 60), mode="bicubic").clamp(0, 1)[0]
    return tvF.to_pil_image((pixels * 255).to(torch.uint8))


def processor(**settings):
    defaults = {"size": {"shortest_edge": 64, "longest_edge": 256}, "size_divisor": 0}
    return MaskFormerImageProcessor(image_mean=MEAN, image_std=STD, **(defaults | settings))


def scores_of_view(model, image, size):
    """`(K, H, W)` float64 of one picture resized to `size`, by plain torch operations."""
    pixels = tvF.resize(tvF.pil_to_tensor(image), list(size), antialias=True).double() / 255
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    with torch.no_grad():
        outputs = model(pixels[None].float())
    logits = outputs.masks_queries_logits.double()
    logits = interpolate(logits, size=[4 * side for side in logits.shape[-2:]], mode="bilinear")
    logits = logits[..., : size[0], : size[1]]
    masks = interpolate(logits, size=(image.height, image.width), mode="bilinear")[0].sigmoid()
    probs = outputs.class_queries_logits.double().softmax(-1)[0, :, :-1]
    return torch.einsum("qk,qhw->khw", probs, masks)


def test_the_scores_are_the_mean_over_scales_and_mirror_images(model, image):
    # 48 x 60 pixels, short edge 64 times the scale
    sizes = {0.5: (32, 40), 0.75: (48, 60), 1.0: (64, 80), 1.25: (80, 100), 1.5: (96, 120), 1.75: (112, 140)}
    assert tuple(sizes) == SCALES
    views = []
    for size in sizes.values():
        views.append(scores_of_view(model, image, size))
        views.append(scores_of_view(model, tvF.horizontal_flip(image), size).flip(-1))
    expected = torch.stack(views).mean(0)
    predictor = MultiScalePredictor(model, processor())
    scores = predictor.mean_scores(image)
    torch.testing.assert_close(scores, expected.float(), atol=1e-5, rtol=1e-5)
    assert max((view - expected).abs().max() for view in views) > 0.01  # the views do differ
    (classes,) = predictor([image])
    assert classes.dtype == torch.int64 and torch.equal(classes, scores.argmax(0))


def test_the_bound_of_the_long_edge_is_scaled_too(model, image):
    predictor = MultiScalePredictor(
        model, processor(size={"shortest_edge": 64, "longest_edge": 60}), scales=[1.5], flip=False
    )
    expected = scores_of_view(model, image, (72, 90))  # 48 x 60 is what the bound leaves of 64 x 80
    torch.testing.assert_close(predictor.mean_scores(image), expected.float(), atol=1e-5, rtol=1e-5)


def test_one_scale_without_mirroring_is_the_plain_prediction(model, image):
    (plain,) = Predictor(model, processor(), "semantic")([image])
    predictor = MultiScalePredictor(model, processor(), scales=[1.0], flip=False)
    scores = predictor.mean_scores(image)
    (classes,) = predictor([image])
    # the class may differ where two scores are equal but for rounding, nowhere else
    assert (scores.amax(0) - scores.gather(0, plain[None])[0]).max() < 1e-5
    assert (classes == plain).float().mean() > 0.99


def test_a_mirrored_picture_has_mirrored_scores(model, image):
    predictor = MultiScalePredictor(model, processor(), scales=[0.75, 1.25])
    mirrored = predictor.mean_scores(tvF.horizontal_flip(image)).flip(-1)
    torch.testing.assert_close(predictor.mean_scores(image), mirrored, atol=1e-5, rtol=1e-5)


def test_pictures_and_tensors_give_the_same_each_at_its_own_size(model, image):
    predictor = MultiScalePredictor(model, processor(), scales=[0.5, 1.0])
    other = image.crop((0, 0, 33, 47))
    maps = predictor([image, tvF.pil_to_tensor(image), other])
    assert torch.equal(maps[0], maps[1])
    assert [tuple(class_map.shape) for class_map in maps] == [(48, 60), (48, 60), (47, 33)]


class Watched(MaskFormerImageProcessor):
    """Counts the outputs, and the numbers in strips of scores, that are alive at once."""

    def __init__(self, **settings):
        super().__init__(**settings)
        object.__setattr__(self, "alive", {"outputs": 0, "scores": 0})
        object.__setattr__(self, "most", {"outputs": 0, "scores": 0})

    def watch(self, kind, thing, amount):
        self.alive[kind] += amount
        self.most[kind] = max(self.most[kind], self.alive[kind])
        weakref.finalize(thing, lambda: self.alive.update({kind: self.alive[kind] - amount}))

    def semantic_score_strips(self, outputs, target_sizes):
        self.watch("outputs", outputs, 1)
        for strips in super().semantic_score_strips(outputs, target_sizes):
            yield self.watched(strips)

    def watched(self, strips):
        for rows, scores in strips:
            self.watch("scores", scores, scores.numel())
            yield rows, scores


def test_memory_holds_one_scale_whatever_their_number(model, image, monkeypatch):
    monkeypatch.setattr(resampling, "CPU_STRIP_ELEMENTS", 6 * 15 * 60)  # strips of 6 rows: 10 queries, 5 classes
    most = []
    for scales in ([1.0], SCALES):
        watched = Watched(size={"shortest_edge": 64, "longest_edge": 256}, size_divisor=0)
        MultiScalePredictor(model, watched, scales).mean_scores(image)
        assert watched.alive == {"outputs": 0, "scores": 0}
        most.append(watched.most)
    assert most[0] == most[1]
    assert most[1]["outputs"] == 1
    assert most[1]["scores"] <= 2 * (5 * 6 * 60) < 5 * 48 * 60  # a strip and the next one, not the whole map


def test_outputs_that_are_not_finite_are_refused_on_every_device(image, monkeypatch):
    monkeypatch.setattr(tiling, "use_tiles", lambda maps: False)  # as elsewhere than on a CPU
    model = tiny_model()
    torch.nn.init.constant_(model.mask_embedder[-1][0].bias, float("nan"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        MultiScalePredictor(model, processor(), scales=[1.0])([image])


@pytest.mark.parametrize("scales", [[], [0.0], [1.0, -1.0], [float("nan")]])
def test_impossible_scales_are_refused(model, scales):
    with pytest.raises(ValueError, match="must be numbers above 0, at least one, got"):
        MultiScalePredictor(model, processor(), scales)
    with pytest.raises(ValueError, match="must be numbers above 0"):
        TtaArguments(tta=True, tta_scales=scales)


def test_a_processor_that_does_not_resize_is_refused(model):
    with pytest.raises(ValueError, match="does not resize pictures"):
        MultiScalePredictor(model, processor(do_resize=False))


def test_settings_without_the_flag_itself_are_refused():
    for settings in ({"tta_scales": [1.0]}, {"tta_flip": False}):
        with pytest.raises(ValueError, match="go with --tta"):
            TtaArguments(**settings)
