"""The kernels of the point losses, interpreted on a CPU, against the plain form and against sums in float64."""

import plain_mask_losses
import pytest
import torch
from id_maps import target_maps
from torch.nn import functional as F

from modeling_maskformer.losses import points
from modeling_maskformer.losses.point_sampling import draw_candidates
from modeling_maskformer.losses.points import point_losses

HALF_ERROR = 1e-2  # of gradients that are rounded to bfloat16, which the interpreter cuts off


@pytest.fixture
def kernels(monkeypatch, interpreted_triton):
    """Kernels of the smallest sizes, so that small cases have several programs."""
    from modeling_maskformer.losses.kernels import points as points_triton

    sizes = {"CANDIDATES": 64, "CELLS": 16, "STRIP": 2, "SUM_PROGRAMS": 2, "GRADIENT_PROGRAMS": 2}
    for name, value in sizes.items():
        monkeypatch.setattr(points_triton, name, value)
    monkeypatch.setattr(points, "triton_module", lambda name, where: points_triton)
    return points_triton


def make_case(small=(5, 7), size=(19, 26), overlap=False, pairs=((0, 1), (0, 2), (1, 0)), dtype=torch.float32):
    """The arguments of `point_losses` for pairs (image, segment) of two images, much of the first void."""
    ids = torch.randint(0, 4, (2, 1 + overlap, *size))
    if overlap:
        ids[:, 0], ids[:, 1] = ids[:, 0].clamp(max=1), ids[:, 1] * (ids[:, 1] > 1)
    ids[0, 0, : size[0] // 3] = -1
    maps = target_maps(ids.to(torch.int16), [3, 3])
    images, segments = torch.tensor(pairs, dtype=torch.int64).view(-1, 2).unbind(1)
    logits = (4 * torch.randn(len(pairs), *small)).to(dtype).requires_grad_()
    return [logits, images, segments, maps.layers[images, segments], maps.ids, maps.void]


def losses_and_gradient(case, importance=0.75, num_points=40):
    """Focal and dice loss and the gradient of a mix of both, with the same candidates at each call."""
    torch.manual_seed(1)
    focal, dice = point_losses(*case, num_points=num_points, importance_sample_ratio=importance)
    factors = torch.linspace(10, 20, len(focal))
    (gradient,) = torch.autograd.grad((factors * focal + dice).sum(), case[0])
    return focal, dice, gradient


def error(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@pytest.mark.parametrize(
    ("small", "size", "overlap", "dtype", "importance"),
    [
        ((5, 7), (19, 26), False, torch.float32, 0.75),
        ((5, 7), (19, 26), True, torch.float32, 0.0),
        ((3, 4), (12, 16), True, torch.bfloat16, 0.75),
        ((4, 3), (21, 17), False, torch.float16, 1.0),
        ((1, 1), (3, 2), False, torch.float32, 0.0),
    ],
    ids=["incomplete last cells", "uniform", "stride 4", "no whole factor", "one cell"],
)
def test_values_and_gradients_are_those_of_the_plain_form(
    kernels, small, size, overlap, dtype, importance, monkeypatch
):
    case = make_case(small, size, overlap, dtype=dtype)
    *losses, gradient = losses_and_gradient(case, importance)
    monkeypatch.setattr(points, "triton_module", lambda name, where: None)
    *expected, of_plain = losses_and_gradient(case, importance)
    for found, loss in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    assert gradient.dtype == dtype and of_plain.norm() > 0
    assert error(gradient, of_plain) < (HALF_ERROR if dtype == torch.bfloat16 else 1e-5)


def test_equally_certain_candidates_share_what_is_left_of_the_important_points(kernels):
    """A mask that is constant but for one cell: most candidates have the same logit."""
    case = make_case((6, 6), (24, 24), pairs=((1, 0),))
    logits = torch.full((1, 6, 6), 2.0)
    logits[0, 2, 2] = -1.0
    case[0] = logits.requires_grad_()
    focal, dice, gradient = losses_and_gradient(case)
    torch.manual_seed(1)
    candidates = draw_candidates(*case[4:], (6, 6), 40, 3.0, 0.75)
    exact = logits.detach().double().requires_grad_()
    values = plain_mask_losses.sample(exact, candidates.points[None])[0]
    certainty = values.detach().float().abs()
    limit = certainty.sort().values[29]
    before, tied = certainty < limit - 1e-5, (certainty - limit).abs() <= 1e-5
    assert tied.sum() > 30 - before.sum() > 0
    weights = before + tied * (30 - before.sum()) / tied.sum() + (torch.arange(120) < 10)
    inside = candidates.ids[1, 0] == 1
    by_point = plain_mask_losses.focal(values, inside)
    probability = values.sigmoid()
    numerator = 2 * (weights * probability * inside).sum() + 1
    expected = (weights * by_point).sum() / 40, 1 - numerator / ((weights * (probability + inside)).sum() + 1)
    torch.testing.assert_close(focal[0].double(), expected[0], rtol=1e-5, atol=0)
    torch.testing.assert_close(dice[0].double(), expected[1], rtol=1e-5, atol=0)
    (reference,) = torch.autograd.grad(10 * expected[0] + expected[1], exact)
    assert error(gradient, reference) < 1e-5


def test_the_kernels_keep_what_is_not_a_number_in_its_mask_and_take_logits_of_any_size(kernels, monkeypatch):
    case = make_case()
    with torch.no_grad():
        case[0] *= torch.tensor([1e-3, 1.0, 100.0])[:, None, None]
        case[0][1] = float("nan")
    *losses, gradient = losses_and_gradient(case)
    monkeypatch.setattr(points, "triton_module", lambda name, where: None)
    *expected, of_plain = losses_and_gradient(case)
    for found, loss in zip(losses, expected, strict=True):
        assert torch.equal(found.isnan(), torch.tensor([False, True, False]))
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert gradient[1].isnan().any() and error(gradient[[0, 2]], of_plain[[0, 2]]) < 1e-5


def test_an_image_of_void_alone_costs_nothing(kernels):
    case = make_case()
    case[4][0], case[5][0] = 0, True
    focal, dice, gradient = losses_and_gradient(case)
    assert not focal[:2].any() and not dice[:2].any() and not gradient[:2].any()
    assert focal[2] > 0 and dice[2] > 0 and gradient[2].any()


def test_no_pair_costs_nothing(kernels):
    assert [tuple(part.shape) for part in losses_and_gradient(make_case(pairs=()))] == [(0,), (0,), (0, 5, 7)]


def test_sorting_keeps_all_candidates_and_says_where_each_cell_has_its_own(kernels):
    case = make_case()
    candidates = draw_candidates(*case[4:], (5, 7), 40, 3.0, 0.75)
    by_cell = kernels.sort_candidates(candidates, (5, 7))
    x, y = by_cell.positions
    assert x.min() >= 0 and x.max() <= 6 and y.min() >= 0 and y.max() <= 4
    counts = F.one_hot(y.long() * 7 + x.long(), 35).sum(0)
    assert torch.equal(by_cell.starts, F.pad(counts.cumsum(0), (1, 0)).int())
    for image in range(2):
        kinds, valid = by_cell.kinds[image], ~candidates.void[image]
        assert torch.equal(kinds > 0, by_cell.ids[image, 0] >= 0)
        assert (kinds > 0).sum() == valid.sum() and (kinds == 2).sum() == candidates.num_uniform[image]
        uniform = candidates.points[valid][: candidates.num_uniform[image]] * torch.tensor([7, 5]) - 0.5
        uniform = uniform.clamp(min=0).minimum(torch.tensor([6.0, 4.0]))
        found = by_cell.positions.T[kinds == 2]
        for axis in range(2):
            torch.testing.assert_close(found[:, axis].sort().values, uniform[:, axis].sort().values)
