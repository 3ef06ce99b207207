"""The kernel of the matching costs, interpreted on a CPU, against the plain form."""

import pytest
import torch
from id_maps import target_maps
from scipy.optimize import linear_sum_assignment

from modeling_maskformer.losses import matching
from modeling_maskformer.losses.matching import mask_costs

LAYERS, Q, H, W = 2, 18, 9, 7


@pytest.fixture
def kernels(monkeypatch, interpreted_triton):
    """Kernels of the smallest sizes, so that small cases have several programs."""
    from modeling_maskformer.losses.kernels import matching as matching_triton

    monkeypatch.setattr(matching_triton, "PIXELS", 32)
    monkeypatch.setattr(matching_triton, "SEGMENTS", 16)
    monkeypatch.setattr(matching, "triton_module", lambda name, where: matching_triton)


def make_case(num_segments=6, overlap=False, dtype=torch.float32):
    """Mask logits of all layers, and maps of two images of some void, the second with fewer segments."""
    ids = torch.randint(0, num_segments + 1, (2, 1 + overlap, 4 * H - 1, 4 * W - 2))
    if overlap:
        half = num_segments // 2
        ids[:, 0], ids[:, 1] = ids[:, 0].clamp(max=half), ids[:, 1] * (ids[:, 1] > half)
    ids[1] *= ids[1] < num_segments
    ids[0, 0, :9] = -1
    maps = target_maps(ids.to(torch.int16), [num_segments, num_segments - 1])
    return list((4 * torch.randn(LAYERS, 2, Q, H, W)).to(dtype)), maps


def plain_costs(logits, maps, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(matching, "triton_module", lambda name, where: None)
        return mask_costs([layer.float() for layer in logits], maps)


@pytest.mark.parametrize(
    ("num_segments", "overlap", "dtype", "tolerance"),
    [
        (6, False, torch.float32, 1e-5),
        (20, True, torch.float32, 1e-5),
        (6, True, torch.bfloat16, 1e-3),
        (20, False, torch.float16, 1e-3),
    ],
)
def test_costs_are_those_of_the_plain_form(kernels, num_segments, overlap, dtype, tolerance, monkeypatch):
    logits, maps = make_case(num_segments, overlap, dtype)
    found, expected = mask_costs(logits, maps), plain_costs(logits, maps, monkeypatch)
    for ours, plain in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32 and ours.shape == (LAYERS, 2, Q, num_segments)
        torch.testing.assert_close(ours, plain, rtol=tolerance, atol=tolerance / 10)


def test_half_precision_assigns_as_well_as_float32(kernels, monkeypatch):
    logits, maps = make_case(12, dtype=torch.bfloat16)
    found, expected = (
        20 * focal + dice for focal, dice in (mask_costs(logits, maps), plain_costs(logits, maps, monkeypatch))
    )
    for ours, plain in zip(found.flatten(0, 1).numpy(), expected.flatten(0, 1).numpy(), strict=True):
        total, least = (plain[linear_sum_assignment(costs)].sum() for costs in (ours, plain))
        assert total <= least * (1 + 1e-4)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_is_not_a_number_is_seen_but_not_at_void(kernels):
    logits, maps = make_case()
    logits[0][0, 0, 0] = float("nan")  # all void
    logits[1][1, 3, 5, 5] = float("nan")
    logits[1][1, 4, 5, 5] = float("inf")
    focal, _ = mask_costs(logits, maps)
    is_finite = torch.ones(LAYERS, 2, Q, dtype=torch.bool)
    is_finite[1, 1, 3:5] = False
    assert torch.equal(focal.isfinite().all(-1), is_finite)


def test_bfloat16_logits_beyond_float16_have_finite_costs(kernels):
    ids = torch.ones(1, 1, 4, 4, dtype=torch.int64)
    ids[..., :2] = 2
    maps = target_maps(ids, [2])
    for value in (1e5, -1e5):
        costs = mask_costs([torch.full((1, 1, 4, 4), value, dtype=torch.bfloat16)], maps)
        assert all(cost.isfinite().all() for cost in costs)
    costs = mask_costs([torch.full((1, 1, 4, 4), torch.nan, dtype=torch.bfloat16)], maps)
    assert all(cost.isnan().all() for cost in costs)
