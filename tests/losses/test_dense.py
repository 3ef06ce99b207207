"""The dense mask losses, in each of their ways, against whole maps in float64."""

import plain_mask_losses
import pytest
import torch
from device_waits import DeviceWaits
from id_maps import target_maps
from torch.nn import functional as F

from modeling_maskformer import fast_on_cpu
from modeling_maskformer.losses import dense, scratch
from modeling_maskformer.losses.dense import dense_losses
from modeling_maskformer.losses.enlargement import Enlargement, enlarge
from modeling_maskformer.targets import segments_from_masks

SIZES = {
    "stride 4": ((6, 5), (24, 20)),
    "incomplete last cells": ((6, 5), (22, 17)),
    "another whole factor": ((6, 5), (12, 15)),
    "no whole factor": ((6, 5), (31, 18)),
    "one cell": ((1, 1), (4, 4)),
    "part of one cell": ((1, 1), (2, 3)),
    "same size": ((7, 5), (7, 5)),
}
each_size = pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
HALF_ERROR = 4e-3  # of gradients that are rounded to bfloat16


@pytest.fixture(params=["on a CPU", "plain"])
def way(request, monkeypatch):
    """Makes `dense_losses` take one of its ways."""
    monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ("cpu",) if request.param == "on a CPU" else ())
    return request.param


@pytest.fixture
def interpreted(monkeypatch, interpreted_triton):
    """Kernels of the smallest sizes, so that small cases have several programs."""
    from modeling_maskformer.losses.kernels import dense as dense_triton

    for name, value in {"SQUARES": 8, "STEPS": 1, "STRIP": 2}.items():
        monkeypatch.setattr(dense_triton, name, value)
    monkeypatch.setattr(dense, "triton_kernels", lambda logits, size: dense_triton)


def make_case(small, size, overlap=False, void=True, scale=3.0, pairs=((0, 2), (1, 0), (1, 2), (0, 1), (1, 1))):
    """The arguments of `dense_losses` for pairs (image, segment) of two images, and their masks (M, H, W)."""
    masks = torch.rand(2, 3, *size) > 0.5
    if not overlap:
        masks = torch.randint(0, 4, (2, 1, *size)) == torch.arange(1, 4)[:, None, None]
    empty = (torch.rand(2, *size) > 0.5) & ~masks.any(1) & void
    maps = [segments_from_masks(of_image, [0] * 3, size=size).ids for of_image in masks]
    num_layers = max(len(ids) for ids in maps)
    targets = target_maps(torch.stack([F.pad(ids, (0,) * 5 + (num_layers - len(ids),)) for ids in maps]), [3, 3])
    images, segments = torch.tensor(pairs).unbind(1)
    layers = torch.stack(tuple(targets.layers))[images, segments]
    logits = (torch.randn(len(pairs), *small) * scale).requires_grad_()
    return [logits, images, segments, layers, targets.ids, empty], masks[images, segments]


def expected_losses(logits, masks, void):
    """Focal and dice loss (M,) of whole maps in the dtype of the logits, pair by pair."""
    pairs = zip(logits, masks, void, strict=True)
    losses = [plain_mask_losses.dense(one[None], mask[None], empty) for one, mask, empty in pairs]
    return [torch.cat(parts) for parts in zip(*losses, strict=True)]


def assert_right(case, masks, gradient_error=1e-5, autocast=False):
    """Values and gradient are those in float64."""
    logits, images, *_, void = case
    exact = logits.detach().double().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = dense_losses(*case)
    expected = expected_losses(exact, masks, void[images])
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    by_focal, by_dice = torch.rand(2, len(logits)) + 0.5
    (gradient,) = torch.autograd.grad((losses[0] * by_focal * 20 + losses[1] * by_dice).sum(), logits)
    (reference,) = torch.autograd.grad((expected[0] * by_focal * 20 + expected[1] * by_dice).sum(), exact)
    assert gradient.dtype == logits.dtype and reference.norm() > 0
    assert (gradient.double() - reference).norm() / reference.norm() < gradient_error


@pytest.mark.parametrize("overlap", [False, True], ids=["one layer", "overlapping"])
@each_size
def test_values_and_gradients_are_those_of_whole_maps_in_float64(way, sizes, overlap):
    assert_right(*make_case(*sizes, overlap=overlap))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32_also_under_autocast(way, dtype):
    case, masks = make_case((6, 5), (22, 17))
    case[0] = case[0].detach().to(dtype).requires_grad_()
    assert_right(case, masks, HALF_ERROR, autocast=True)


@pytest.mark.parametrize(
    ("small", "size", "overlap", "dtype"),
    [
        ((3, 4), (12, 16), False, torch.float32),
        ((2, 3), (7, 10), True, torch.bfloat16),
        ((1, 1), (2, 3), False, torch.float16),
    ],
    ids=["stride 4", "incomplete last cells", "part of one cell"],
)
def test_the_kernels_are_right(interpreted, small, size, overlap, dtype):
    case, masks = make_case(small, size, overlap, pairs=((0, 2), (1, 0)))
    case[0] = case[0].detach().to(dtype).requires_grad_()
    assert_right(case, masks, 1e-5 if dtype == torch.float32 else HALF_ERROR)


def test_the_kernels_take_logits_of_any_size_and_signed_ids_and_keep_what_is_not_a_number(interpreted):
    case, masks = make_case((2, 2), (8, 8), pairs=((0, 2), (1, 0), (1, 1)))
    case[0] = torch.tensor([1e-3, 30.0, 300.0])[:, None, None] * torch.randn(3, 2, 2).sign() + case[0].detach() * 1e-3
    case[0][1, 1, 1] = float("nan")
    case[0].requires_grad_()
    case[4] = case[4].to(torch.int16)
    focal, dice = dense_losses(*case)
    (gradient,) = torch.autograd.grad((focal + dice).sum(), case[0])
    assert torch.equal(focal.isnan(), torch.tensor([False, True, False])) and torch.equal(dice.isnan(), focal.isnan())
    assert gradient[1].isnan().all() and gradient[[0, 2]].isfinite().all()
    expected = expected_losses(case[0].detach().double(), masks, case[-1][case[1]])
    for ours, theirs in zip((focal, dice), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("block", [32, 300], ids=["many blocks a mask", "some"])
@each_size
def test_blocks_of_any_size_give_the_same(sizes, block, monkeypatch):
    monkeypatch.setattr(scratch, "CPU_BLOCK", block)
    assert_right(*make_case(*sizes, overlap=True))


@pytest.mark.parametrize("masks_at_once", [1, 2])
def test_any_number_of_masks_at_once_gives_the_same(plain_path, masks_at_once, monkeypatch):
    monkeypatch.setattr(dense, "PIXELS_AT_ONCE", masks_at_once * 24 * 20)
    assert_right(*make_case((6, 5), (24, 20)))


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0], ids=["undecided", "sure", "beyond exp"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "random"])
def test_extreme_logits_keep_their_accuracy(way, scale, right):
    case, masks = make_case((7, 5), (7, 5), scale=scale)
    if right:
        case[0] = (case[0].detach().abs() * (masks.float() * 2 - 1)).clamp(-60, 60).requires_grad_()
    exact = case[0].detach().double().requires_grad_()
    (focal, dice), expected = dense_losses(*case), expected_losses(exact, masks, case[-1][case[1]])
    torch.testing.assert_close(focal.double(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(dice.double(), expected[1], rtol=1e-5, atol=1e-6)
    (gradient,) = torch.autograd.grad(focal.sum(), case[0])
    (reference,) = torch.autograd.grad(expected[0].sum(), exact)
    torch.testing.assert_close(gradient.double(), reference, rtol=1e-4, atol=1e-30)


def test_a_million_pixels_sum_up_accurately(way):
    case, masks = make_case((256, 256), (1024, 1024), scale=1.0, pairs=((0, 0), (1, 2)))
    expected = expected_losses(case[0].detach().double(), masks, case[-1][case[1]])
    for ours, theirs in zip(dense_losses(*case), expected, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", [3.0, 1e6], ids=["usual logits", "diverging logits"])
def test_all_void_costs_nothing(way, scale):
    case, _ = make_case((6, 5), (22, 17), scale=scale)
    focal, dice = dense_losses(*case[:4], torch.zeros_like(case[4]), torch.ones_like(case[5]))
    assert not focal.any() and not dice.any()
    assert not torch.autograd.grad((focal + dice).sum(), case[0])[0].any()


def test_no_pair_costs_nothing(way):
    case, _ = make_case((6, 5), (24, 20))
    focal, dice = dense_losses(*(part[:0] for part in case[:4]), *case[4:])
    assert focal.shape == dice.shape == (0,)
    assert not torch.autograd.grad((focal + dice).sum(), case[0])[0].any()


def test_what_is_not_a_number_stays_so_in_its_pair_alone(way):
    case, _ = make_case((6, 5), (22, 17), void=False)
    case[0] = case[0].detach()
    case[0][2, 3, 3] = float("nan")
    case[0].requires_grad_()
    focal, dice = dense_losses(*case)
    (gradient,) = torch.autograd.grad((focal + dice).sum(), case[0])
    third = torch.arange(5) == 2
    assert torch.equal(focal.isnan(), third) and torch.equal(dice.isnan(), third)
    assert torch.equal(gradient.isnan().flatten(1).any(1), third)


def test_a_device_is_not_waited_for(plain_path):
    case, _ = make_case((6, 5), (22, 17), overlap=True)
    with DeviceWaits() as counted:
        focal, dice = dense_losses(*case)
        (focal + dice).sum().backward()
    assert not counted.waits
    assert case[0].grad.any()


def test_the_last_cells_may_be_incomplete(way):
    """Pixels beyond the target are as if they were void, and the others the same as of a target without an end."""
    case, _ = make_case((6, 5), (24, 20), void=False)
    void = case[-1].clone()
    void[:, 22:], void[:, :, 17:] = True, True
    ids = case[4].masked_fill(void[:, None], 0)
    cropped = dense_losses(*case[:4], ids[..., :22, :17], case[-1][:, :22, :17])
    for mine, other in zip(cropped, dense_losses(*case[:4], ids, void), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=0)


@each_size
def test_enlarging_in_pieces_is_the_plain_enlargement_and_gathering_its_transpose(sizes):
    small, size = sizes
    enlargement = Enlargement(small, size)
    maps, pixels = torch.randn(3, *small), torch.randn(3, *size)
    expected, enlarged = enlarge(maps, size), enlargement.taps @ enlargement.spread(maps)
    inside = enlargement.order(torch.ones(size)) == 1
    torch.testing.assert_close(enlarged[:, inside], enlargement.order(expected)[:, inside], rtol=0, atol=1e-6)
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
