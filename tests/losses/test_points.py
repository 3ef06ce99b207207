"""The point losses, both ways: where points lie, and that on average they are Mask2Former's."""

from functools import partial

import plain_mask_losses
import pytest
import torch
from id_maps import target_maps, with_void

from modeling_maskformer.losses import scratch
from modeling_maskformer.losses.assignment import Matches
from modeling_maskformer.losses.dense import dense_losses
from modeling_maskformer.losses.mask_losses import mask_losses
from modeling_maskformer.losses.point_sampling import (
    BilinearPoints,
    draw_candidates,
    pixels_at,
    sample,
    uniform_points,
)
from modeling_maskformer.losses.points import choose_points, point_losses
from modeling_maskformer.targets import segments_from_masks

SIZE, LARGE = (10, 8), (40, 32)

pytestmark = pytest.mark.usefixtures("both_ways")


def _case(num_masks=3, overlap=False, seed=0, roughness=0.5):
    """Blobs: logits (1, 1, M, h, w) that roughly fit masks (M, H, W); no void (H, W); maps of a batch of one."""
    torch.manual_seed(seed)
    fields = torch.randn(num_masks, 1, 4, 4)
    large = torch.nn.functional.interpolate(fields, size=LARGE, mode="bicubic")[:, 0]
    small = torch.nn.functional.interpolate(fields, size=SIZE, mode="bicubic")[:, 0]
    masks = (large > 0.3) if overlap else (large == large.amax(0)) & (large > 0)
    logits = (5 * small + roughness * torch.randn_like(small))[None, None].requires_grad_()
    ids = segments_from_masks(masks, [0] * num_masks, size=LARGE).ids[None]
    return logits, masks, torch.zeros(LARGE, dtype=torch.bool), target_maps(ids, [num_masks])


def _points(logits, maps, num_points=200, oversample_ratio=3.0, importance_sample_ratio=0.75):
    losses = partial(
        point_losses,
        num_points=num_points,
        oversample_ratio=oversample_ratio,
        importance_sample_ratio=importance_sample_ratio,
    )
    rows = torch.arange(logits.shape[2])
    matches = Matches(rows[:, None], rows[:, None], torch.zeros_like(rows), [len(rows)])
    return mask_losses(logits, matches, maps, losses)


def _mask2former(logits, masks, num_points=200, oversample_ratio=3, importance_sample_ratio=0.75):
    """Focal and dice loss as Mask2Former samples: for each mask candidates of its own, the least certain kept."""
    num_masks, important = len(masks), int(importance_sample_ratio * num_points)
    candidates = torch.rand(num_masks, oversample_ratio * num_points, 2)
    distance = plain_mask_losses.sample(logits.detach(), candidates).abs()
    order = distance.argsort(1)[:, :important]
    kept = candidates.gather(1, order[..., None].expand(-1, -1, 2))
    points = torch.cat((kept, torch.rand(num_masks, num_points - important, 2)), 1)
    return plain_mask_losses.at_points(
        plain_mask_losses.sample(logits, points), plain_mask_losses.under(masks, points)
    )


def _statistics(draw, logits, num_draws):
    """Mean and standard deviation of the summed losses, and the mean gradient by the logits."""
    values, gradients = [], 0
    for _ in range(num_draws):
        focal, dice = (loss.sum() for loss in draw())
        values.append([focal.item(), dice.item()])
        gradients = gradients + torch.autograd.grad(20 * focal + dice, logits)[0].double() / num_draws
    values = torch.tensor(values, dtype=torch.float64)
    return values.mean(0), values.std(0), gradients.flatten()


@pytest.mark.parametrize("roughness", [0.5, 5.0], ids=["smooth", "rough"])
def test_losses_are_on_average_those_of_mask2former_and_vary_less(roughness):
    logits, masks, _, maps = _case(roughness=roughness)
    maps_alone = logits[0, 0]
    mean, spread, gradient = _statistics(lambda: _points(logits, maps), logits, 300)
    expected, their_spread, their_gradient = _statistics(lambda: _mask2former(maps_alone, masks), logits, 300)
    error = (spread.square() + their_spread.square()).div(300).sqrt()
    assert ((mean - expected).abs() < 4 * error + 0.01 * expected).all()
    assert (spread < their_spread).all()
    assert torch.cosine_similarity(gradient, their_gradient, dim=0) > 0.99
    assert gradient.norm().item() == pytest.approx(their_gradient.norm().item(), rel=0.05)


def test_uniform_points_alone_estimate_the_dense_losses():
    logits, masks, void, maps = _case(overlap=True)
    exact = logits.detach()[0, 0].double().requires_grad_()
    focal, dice = _points(logits, maps, num_points=100_000, oversample_ratio=1.0, importance_sample_ratio=0.0)
    # points lie anywhere in a pixel, the dense losses look at its centre: so cut pixels into 64
    fine_masks, fine_void = (m.repeat_interleave(8, -1).repeat_interleave(8, -2) for m in (masks, void))
    expected_focal, expected_dice = (loss.sum() for loss in plain_mask_losses.dense(exact, fine_masks, fine_void))
    assert focal.item() == pytest.approx(expected_focal.item(), rel=2e-3)
    assert dice.item() == pytest.approx(expected_dice.item(), rel=2e-3)
    (gradient,) = torch.autograd.grad(20 * focal.sum() + dice.sum(), logits)
    (reference,) = torch.autograd.grad(20 * expected_focal + expected_dice, exact)
    assert (gradient[0, 0] - reference).norm() < 0.02 * reference.norm()


def test_points_lie_where_the_dense_losses_see_them_if_the_image_ends_inside_a_cell():
    """38 x 30 pixels have 10 x 8 cells at stride 4, the last of which are halves."""
    logits, _, _, _ = _case()
    masks = torch.zeros(1, 38, 30, dtype=torch.bool)
    masks[0, 25:, 19:] = True
    maps = target_maps(masks[None].to(torch.uint8), [1])
    one = logits[:, :, :1]
    points = _points(one, maps, num_points=100_000, oversample_ratio=1.0, importance_sample_ratio=0.0)
    images, segments = torch.zeros(2, 1, dtype=torch.int64)
    dense = dense_losses(one[0, 0], images, segments, segments, maps.ids, maps.void)
    for ours, expected in zip(points, dense, strict=True):
        torch.testing.assert_close(ours, expected, rtol=0.01, atol=0)


@pytest.mark.parametrize("block", [1, 1300, 1 << 18], ids=["a mask at a time", "some", "all"])
@pytest.mark.parametrize("overlap", [False, True], ids=["one layer", "overlapping"])
def test_gradients_are_those_of_the_losses_at_the_chosen_points(overlap, block, monkeypatch):
    monkeypatch.setattr(scratch, "CPU_BLOCK", block)
    logits, masks, _, maps = _case(overlap=overlap)
    torch.manual_seed(5)
    focal, dice = _points(logits, maps)
    torch.manual_seed(5)
    candidates = uniform_points(600).expand(3, -1, -1)
    exact = logits.detach()[0, 0].double().requires_grad_()
    values = plain_mask_losses.sample(exact, candidates)
    # a quarter of the 200 points is uniform, the others are the least certain of all 600
    chosen = torch.cat((torch.arange(50).expand(3, -1), values.detach().float().abs().argsort(1)[:, :150]), 1)
    inside = plain_mask_losses.under(masks, candidates).gather(1, chosen)
    expected = plain_mask_losses.at_points(values.gather(1, chosen), inside)
    for ours, reference_losses in zip((focal, dice), expected, strict=True):
        torch.testing.assert_close(ours.sum().double(), reference_losses.sum(), rtol=1e-5, atol=0)
        (gradient,) = torch.autograd.grad(ours.sum(), logits, retain_graph=True)
        (reference,) = torch.autograd.grad(reference_losses.sum(), exact, retain_graph=True)
        torch.testing.assert_close(gradient[0, 0].double(), reference, rtol=1e-4, atol=1e-5 * reference.abs().max())


def test_uniform_points_cover_the_image_evenly_and_anew_each_time():
    first, second = uniform_points(1000), uniform_points(1000)
    assert not torch.equal(first, second)
    for points in (first, first[300:556]):
        assert points.min() >= 0 and points.max() < 1
        cells = (points * 8).long()
        counts = torch.bincount(cells[:, 1] * 8 + cells[:, 0], minlength=64)
        assert (counts - len(points) / 64).abs().max() < 4  # independent points: about 12 of 1000
    # one point, over many draws, is anywhere with equal probability
    tenth = torch.stack([uniform_points(11)[10] for _ in range(2000)])
    torch.testing.assert_close(tenth.mean(0), torch.full((2,), 0.5), rtol=0, atol=0.03)
    torch.testing.assert_close(tenth.var(0), torch.full((2,), 1 / 12), rtol=0, atol=0.01)


def test_of_an_image_with_void_fewer_points_are_chosen_and_none_at_void():
    """Of two images, the right half of the second is void: it has half as many points of each kind."""
    void = torch.zeros(2, *LARGE, dtype=torch.bool)
    void[1, :, 16:] = True
    candidates = draw_candidates(torch.zeros(2, 1, *LARGE, dtype=torch.uint8), void, SIZE, 200, 3.0, 0.75)
    at_void = candidates.points[:, 0] >= 0.5
    assert torch.equal(candidates.void, torch.stack((torch.zeros_like(at_void), at_void)))
    share = (~at_void).float().mean()
    assert candidates.num_points.tolist() == [200, round(200 * share.item())]
    assert candidates.num_important.tolist() == [150, int(0.75 * candidates.num_points[1])]
    logits = torch.randn(2, *SIZE)
    chosen = choose_points(logits, torch.tensor([0, 1]), candidates).long()
    certainty = sample(logits, candidates.grid.expand(2, -1, -1)).abs()
    for image, valid in enumerate(~candidates.void):
        num_uniform, num_important = int(candidates.num_uniform[image]), int(candidates.num_important[image])
        uniform, important = (
            [index for index in part.tolist() if valid[index]] for part in chosen[image].split([50, 150])
        )
        assert uniform == valid.nonzero()[:num_uniform, 0].tolist()
        order = certainty[image].masked_fill(~valid, torch.inf).argsort()
        assert sorted(important) == sorted(order[:num_important].tolist())


def test_interpolation_is_grid_sample_and_gathering_its_transpose():
    torch.manual_seed(0)
    points, maps = torch.rand(300, 2), torch.randn(3, *SIZE, requires_grad=True)
    points[:4] = torch.tensor([[0.0, 0.0], [1 - 2**-24, 1 - 2**-24], [0.0, 0.5], [0.999, 0.001]])
    interpolation = BilinearPoints(points, SIZE)
    values, expected = (
        interpolation.values(maps.detach(), scratch.Scratch()),
        plain_mask_losses.sample(maps, points.expand(3, -1, -1)),
    )
    torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-4)
    chosen, factors = torch.rand(3, 300).argsort(1)[:, :70], torch.randn(3, 90)
    points_of_all = torch.cat((torch.arange(20).expand(3, -1), chosen), 1)
    (reference,) = torch.autograd.grad((expected.gather(1, points_of_all) * factors).sum(), maps)
    gathered = interpolation.gather(factors, chosen, scratch.Scratch())
    torch.testing.assert_close(gathered, reference, rtol=1e-3, atol=1e-3)


def test_targets_are_read_in_the_pixel_under_the_point():
    rows, columns = torch.meshgrid(torch.arange(24), torch.arange(20), indexing="ij")
    for offset in (0.01, 0.5, 0.99):
        points = torch.stack(((columns + offset) / 20, (rows + offset) / 24), -1).flatten(0, 1)
        assert torch.equal(pixels_at(points, (24, 20)), torch.arange(480))
    assert pixels_at(torch.tensor([[1 - 2**-24, 1 - 2**-24]]), (24, 20)).item() == 479


def test_void_takes_no_part():
    logits, masks, void, _ = _case()
    void[20:] = True
    masks &= ~void
    ids = with_void(segments_from_masks(masks, [0] * 3, size=LARGE), void).ids[None]
    maps = target_maps(ids, [3])
    moved = logits.detach().clone()
    moved[..., 6:, :] += 40  # row 5 of the cells is void, too, but row 4 is interpolated with it
    results = []
    for maps_of_logits in (logits, moved):
        torch.manual_seed(3)
        results.append(_points(maps_of_logits, maps))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("importance", [0.0, 0.75, 1.0], ids=str)
def test_all_void_costs_nothing(both_ways, importance):
    logits, *_ = _case()
    all_void = target_maps(torch.full((1, 1, *LARGE), 255, dtype=torch.uint8), [3])
    focal, dice = _points(logits, all_void, importance_sample_ratio=importance)
    assert focal.item() == dice.item() == 0
    assert not torch.autograd.grad(focal.sum() + dice.sum(), logits)[0].any()


def test_a_mask_that_is_not_a_number_makes_the_loss_none():
    logits, _, _, maps = _case()
    with torch.no_grad():
        logits[0, 0, 0] = torch.nan
    for loss in _points(logits, maps):
        assert loss.isnan().all()


def test_the_same_seed_gives_the_same_points():
    logits, _, _, maps = _case()
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        results.append(_points(logits, maps)[0].item())
    assert results[0] == results[1] != results[2]
