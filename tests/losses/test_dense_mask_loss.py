"""The dense mask losses, which visit blocks of pixels, against whole maps in float64."""

import plain_mask_losses
import pytest
import torch

from modeling_maskformer.losses import scratch
from modeling_maskformer.losses.dense import DenseMaskLoss
from modeling_maskformer.losses.enlargement import Enlargement
from modeling_maskformer.losses.mask_losses import mask_losses
from modeling_maskformer.losses.targets import target_maps
from modeling_maskformer.targets import segments_from_masks

SIZES = {
    "stride 4": ((6, 5), (24, 20)),
    "another whole factor": ((6, 5), (12, 15)),
    "no whole factor": ((6, 5), (22, 19)),
    "one cell": ((1, 1), (4, 4)),
    "same size": ((7, 5), (7, 5)),
}


def _case(small, large, num_masks=4, scale=3.0, overlap=False, void=True, seed=0):
    """Mask logits (1, 1, M, h, w) float32, masks (M, H, W), void (H, W) and the id maps of both (1, L, H, W)."""
    torch.manual_seed(seed)
    logits = (torch.randn(1, 1, num_masks, *small) * scale).requires_grad_()
    owners = torch.randint(0, num_masks + 1, large)
    masks = torch.stack([owners == number for number in range(1, num_masks + 1)])
    if overlap:
        masks = torch.rand(num_masks, *large) > 0.5
    empty = (torch.rand(large) > 0.6) & ~masks.any(0) if void else torch.zeros(large, dtype=torch.bool)
    ids = segments_from_masks(masks, [0] * num_masks, size=large, void=empty).ids
    return logits, masks, empty, ids[None]


def _dense(logits, ids, segments):
    queries = torch.arange(len(segments))
    score = DenseMaskLoss(target_maps(ids, [logits.shape[2]]), tuple(logits.shape[-2:]))
    return mask_losses(logits, [[(queries, segments)]], score)


@pytest.mark.parametrize("block", [32, 300, 1 << 18], ids=["many blocks a mask", "some", "one for all"])
@pytest.mark.parametrize("overlap", [False, True], ids=["one layer", "overlapping"])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_values_and_gradients_are_those_of_whole_maps_in_float64(sizes, overlap, block, monkeypatch):
    monkeypatch.setattr(scratch, "CPU_BLOCK", block)
    logits, masks, void, ids = _case(*sizes, overlap=overlap)
    segments = torch.tensor([2, 0, 3])
    exact = logits.detach()[0, 0, :3].double().requires_grad_()
    for ours, expected in zip(
        _dense(logits, ids, segments), plain_mask_losses.dense(exact, masks[segments], void), strict=True
    ):
        torch.testing.assert_close(ours.sum().double(), expected.sum(), rtol=1e-5, atol=0)
        (gradient,) = torch.autograd.grad(ours.sum(), logits, retain_graph=True)
        (reference,) = torch.autograd.grad(expected.sum(), exact, retain_graph=True)
        error = (gradient[0, 0, :3].double() - reference).norm() / reference.norm()
        assert error < 1e-5
        torch.testing.assert_close(
            gradient[0, 0, :3].double(), reference, rtol=1e-4, atol=1e-6 * reference.abs().max()
        )
        assert not gradient[0, 0, 3:].any()


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0], ids=["undecided", "sure", "beyond exp"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "random"])
def test_extreme_logits_keep_their_accuracy(scale, right):
    logits, masks, void, ids = _case((6, 5), (6, 5), scale=scale)
    if right:
        signs = masks.float() * 2 - 1
        logits = (logits.detach().abs() * signs).clamp(-60, 60).requires_grad_()
    exact = logits.detach()[0, 0].double().requires_grad_()
    focal, dice = _dense(logits, ids, torch.arange(4))
    expected_focal, expected_dice = plain_mask_losses.dense(exact, masks, void)
    torch.testing.assert_close(focal.sum().double(), expected_focal.sum(), rtol=1e-5, atol=0)
    torch.testing.assert_close(dice.sum().double(), expected_dice.sum(), rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(focal.sum(), logits)
    (reference,) = torch.autograd.grad(expected_focal.sum(), exact)
    torch.testing.assert_close(gradient[0, 0].double(), reference, rtol=1e-4, atol=1e-30)


def test_a_million_pixels_sum_up_accurately():
    logits, masks, void, ids = _case((256, 256), (1024, 1024), num_masks=2, scale=1.0)
    exact = logits.detach()[0, 0].double()
    for ours, expected in zip(
        _dense(logits, ids, torch.arange(2)), plain_mask_losses.dense(exact, masks, void), strict=True
    ):
        torch.testing.assert_close(ours.sum().double(), expected.sum(), rtol=1e-6, atol=0)


def test_gradients_follow_the_weight_of_each_loss_and_layer():
    logits, _, _, ids = _case((6, 5), (24, 20))
    layers = torch.cat((logits, logits.flip(2))).detach().requires_grad_()
    pairs = [(torch.arange(4), torch.arange(4))]
    score = DenseMaskLoss(target_maps(ids, [4]), (6, 5))
    focal, dice = mask_losses(layers, [pairs, pairs], score)
    (mixed,) = torch.autograd.grad(3 * focal[0] + 5 * dice[1], layers, retain_graph=True)
    (first,) = torch.autograd.grad(focal[0], layers, retain_graph=True)
    (second,) = torch.autograd.grad(dice[1], layers)
    torch.testing.assert_close(mixed, 3 * first + 5 * second)
    assert not first[1].any() and not second[0].any()


def test_all_void_costs_nothing():
    logits, _, _, ids = _case((6, 5), (24, 20))
    focal, dice = _dense(logits, torch.full_like(ids, 255), torch.arange(4))
    assert focal.item() == 0 and dice.item() == 0
    assert not torch.autograd.grad(focal.sum() + dice.sum(), logits)[0].any()


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_enlarging_is_bilinear_interpolation_and_gathering_its_transpose(sizes):
    small, large = sizes
    enlargement = Enlargement(small, large)
    maps, pixels = torch.randn(3, *small), torch.randn(3, *large)
    enlarged = enlargement.taps @ enlargement.spread(maps)
    expected = torch.nn.functional.interpolate(maps[:, None], size=large, mode="bilinear")[:, 0]
    torch.testing.assert_close(enlarged, enlargement.order(expected), rtol=0, atol=1e-6)
    gathered = enlargement.gather(enlargement.taps.T @ enlargement.order(pixels))
    assert (gathered * maps).sum().item() == pytest.approx((pixels * expected).sum().item(), rel=1e-4)


def test_a_segment_in_two_layers_is_named():
    ids = torch.ones(1, 2, 8, 8, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"segment_ids\[0\] has segment 1 in several layers"):
        target_maps(ids, [1])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_an_id_without_a_class_label_is_named(dtype):
    ids = torch.full((1, 1, 8, 8), 3, dtype=dtype)
    with pytest.raises(ValueError, match=r"segment_ids\[0\] holds id 3, expected 0 \(no segment\), 1 to 2"):
        target_maps(ids, [2])
