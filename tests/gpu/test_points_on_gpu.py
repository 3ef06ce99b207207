"""The losses at points and the matching costs on a GPU: in every precision, with and without Triton, a CPU's."""

import importlib.util

import pytest
import torch
from grids import sizes_and_precisions
from id_maps import target_maps
from scipy.optimize import linear_sum_assignment

from modeling_maskformer.losses import matching, points
from modeling_maskformer.losses.kernels.triton_modules import triton_module
from modeling_maskformer.losses.matching import mask_costs
from modeling_maskformer.losses.points import point_losses
from modeling_maskformer.losses.targets import TargetMaps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SIZES = {
    "stride 4": ((32, 48), (128, 192)),
    "incomplete last cells": ((33, 41), (130, 161)),
    "narrow": ((70, 1), (279, 2)),
    "no whole factor": ((32, 48), (101, 150)),
    "fewer cells than points": ((3, 2), (12, 8)),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
GRADIENT_ERRORS = {"fp32": 1e-4, "bf16": 5e-3, "fp16": 2e-3}  # of the same points
SWAPPED = 2e-2  # more of them, where of two candidates that are almost equally certain the other one is chosen
COST_ERRORS = {"fp32": 1e-5, "bf16": 1e-3, "fp16": 1e-3}


@pytest.fixture(params=["Triton", "plain"])
def way(request, monkeypatch):
    """Which of the two ways of a GPU is taken."""
    if request.param == "plain":
        for module in (matching, points):
            monkeypatch.setattr(module, "triton_module", lambda name, where: None)
    elif importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    return request.param


def make_maps(size, num_segments=7, num_layers=2, ids_dtype=torch.uint8):
    """Segments of two images in one or two layers, some pixels void."""
    ids = torch.randint(0, num_segments + 1, (2, num_layers, *size))
    if num_layers == 2:
        half = num_segments // 2
        ids[:, 0], ids[:, 1] = ids[:, 0].clamp(max=half), ids[:, 1] * (ids[:, 1] > half)
    void = (torch.rand(2, *size) > 0.6) & (ids == 0).all(1)
    void[1, : size[0] // 3] = True
    ids = torch.where(void[:, None], 0, ids)
    ids[:, 0][void] = 255 if ids_dtype == torch.uint8 else -1
    return target_maps(ids.to(ids_dtype), [num_segments] * 2)


def on_device(maps):
    return TargetMaps(maps.ids.cuda(), maps.void.cuda(), maps.layers.cuda())


def make_case(small, size, dtype=torch.float32, num_pairs=24, **maps_arguments):
    """The arguments of `point_losses` on the CPU."""
    maps = make_maps(size, **maps_arguments)
    images, segments = torch.randint(0, 2, (num_pairs,)), torch.randint(0, maps.layers.shape[1], (num_pairs,))
    logits = (3 * torch.randn(num_pairs, *small)).to(dtype)
    return [logits, images, segments, maps.layers[images, segments], maps.ids, maps.void]


def losses_and_gradient(case, device, dtype=None, importance=0.75, num_points=3000):
    """Focal, dice and the gradient of a mix of both, of a case moved to a device, at the same points each time."""
    logits, *others = (part.to(device) for part in case)
    logits = logits.to(dtype or logits.dtype).requires_grad_()
    half = logits.dtype if logits.dtype != torch.float32 else None
    torch.manual_seed(1)
    with torch.autocast(device, half, enabled=half is not None):
        focal, dice = point_losses(logits, *others, num_points=num_points, importance_sample_ratio=importance)
    by_focal = torch.linspace(10, 20, len(logits), device=device)
    (gradient,) = torch.autograd.grad((focal * by_focal + dice).sum(), logits)
    return focal.cpu(), dice.cpu(), gradient.cpu()


def error(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@sizes_and_precisions(SIZES, DTYPES)
@pytest.mark.parametrize("importance", [0.0, 0.75])
def test_values_and_gradients_are_those_of_a_cpu(way, precision, sizes, importance):
    case = make_case(*sizes, dtype=DTYPES[precision])
    *losses, gradient = losses_and_gradient(case, "cuda", importance=importance)
    *expected, of_cpu = losses_and_gradient(case, "cpu", torch.float32, importance)
    # in the corners candidates are equally certain, and each way may choose others
    tied = importance > 0 and min(sizes[0]) < 10
    tolerance = 1e-2 if tied else 1e-3 if importance > 0 else 1e-5
    for found, loss in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, loss, rtol=tolerance, atol=tolerance / 10 + tied * tolerance)
    assert gradient.dtype == case[0].dtype
    assert error(gradient, of_cpu) < GRADIENT_ERRORS[precision] + (0.1 if tied else SWAPPED * (importance > 0))


@pytest.mark.parametrize("num_points", [1, 37, 12544, 50_000])
def test_any_number_of_points_will_do(way, num_points):
    case = make_case((33, 41), (130, 161))
    *losses, gradient = losses_and_gradient(case, "cuda", num_points=num_points)
    *expected, of_cpu = losses_and_gradient(case, "cpu", num_points=num_points)
    for found, loss in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, loss, rtol=1e-3, atol=1e-4)
    assert error(gradient, of_cpu) < SWAPPED


@pytest.mark.parametrize("ids_dtype", [torch.uint8, torch.int16, torch.int32])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_more_pairs_than_programs_and_ids_of_any_dtype(way, ids_dtype, num_layers):
    """A GPU works on some hundred masks at one time; the last of 1500 are as right as the first."""
    case = make_case((16, 24), (64, 96), num_pairs=1500, ids_dtype=ids_dtype, num_layers=num_layers)
    *losses, gradient = losses_and_gradient(case, "cuda", num_points=500)
    *expected, of_cpu = losses_and_gradient(case, "cpu", num_points=500)
    for found, loss in zip(losses, expected, strict=True):
        assert error(found, loss) < 1e-3
    assert error(gradient, of_cpu) < SWAPPED


def test_the_same_points_give_the_same_bits():
    pytest.importorskip("triton")
    case = make_case((33, 41), (130, 161), num_pairs=700)
    first, second = (losses_and_gradient(case, "cuda") for _ in range(2))
    assert all(torch.equal(*parts) for parts in zip(first, second, strict=True))


def test_constant_masks_and_what_is_not_a_number(way):
    case = make_case((33, 41), (130, 161))
    case[0][3], case[0][5] = 1.5, torch.nan
    focal, dice, gradient = losses_and_gradient(case, "cuda")
    of_cpu = losses_and_gradient(case, "cpu")
    sixth = torch.arange(24) == 5
    assert torch.equal(focal.isnan(), sixth) and torch.equal(dice.isnan(), sixth)
    # of a constant mask, all candidates are equally certain: any choice is right
    assert focal[3].item() == pytest.approx(of_cpu[0][3].item(), rel=0.1)
    others = ~sixth & (torch.arange(24) != 3)
    assert error(gradient[others], of_cpu[2][others]) < SWAPPED


def test_no_pair_costs_nothing(way):
    if way == "plain":
        pytest.skip("the plain form wants pairs")
    case = make_case((32, 48), (128, 192), num_pairs=0)
    assert [tuple(part.shape) for part in losses_and_gradient(case, "cuda")] == [(0,), (0,), (0, 32, 48)]


def test_triton_is_used_where_it_is_installed():
    pytest.importorskip("triton")
    for name in ("points", "matching", "dense"):
        assert triton_module(name, torch.zeros(1, device="cuda")) is not None


def test_the_host_does_not_wait_for_the_device(way):
    case = [part.cuda() for part in make_case((33, 41), (130, 161))]
    case[0].requires_grad_()
    maps = on_device(make_maps((130, 161)))
    logits = [torch.randn(2, 20, 33, 41, device="cuda")] * 2

    def step():
        mask_costs(logits, maps)
        sum(loss.sum() for loss in point_losses(*case, num_points=1000)).backward()

    step()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_triton_keeps_no_points():
    pytest.importorskip("triton")
    case = [part.cuda() for part in make_case((64, 64), (256, 256), dtype=torch.bfloat16, num_pairs=4000)]
    case[0].requires_grad_()

    def step():
        focal, dice = point_losses(*case)
        return torch.autograd.grad((focal + dice).sum(), case[0])

    step()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    # the gradient, and 150 KB a program; the chosen points of all masks alone would be 200 MB
    assert torch.cuda.max_memory_allocated() - before < case[0].numel() * 2 + 120e6


@pytest.mark.parametrize(
    ("precision", "num_segments", "num_layers", "small", "num_queries"),
    [
        *((precision, 40, 2, (32, 48), 100) for precision in DTYPES),
        *(("fp32", num_segments, 1, (33, 41), 5) for num_segments in (1, 7, 200)),
        ("fp32", 200, 2, (33, 41), 5),
    ],
    ids=str,
)
def test_matching_costs_are_those_of_a_cpu(way, precision, num_segments, num_layers, small, num_queries):
    maps = make_maps([4 * length for length in small], num_segments, num_layers, torch.int16)
    logits = (3 * torch.randn(3, 2, num_queries, *small)).to(DTYPES[precision])
    expected = mask_costs(list(logits.float()), maps)
    found = mask_costs(list(logits.cuda()), on_device(maps))
    for ours, cost in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), cost, rtol=COST_ERRORS[precision], atol=COST_ERRORS[precision] / 10)
    by_focal, least = (20 * focal.cpu() + dice.cpu() for focal, dice in (found, expected))
    for ours, exact in zip(by_focal.flatten(0, 1).numpy(), least.flatten(0, 1).numpy(), strict=True):
        total, least_total = (exact[linear_sum_assignment(costs)].sum() for costs in (ours, exact))
        assert total <= least_total * (1 + 1e-4)


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="PyTorch before 2.9 does not tell of it")
def test_float32_costs_are_exact_to_tf32_where_it_is_allowed():
    pytest.importorskip("triton")
    maps = make_maps((128, 192), 40, 1)
    logits = [3 * torch.randn(2, 20, 32, 48)]
    expected = mask_costs(logits, maps)
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    try:
        found = mask_costs([logits[0].cuda()], on_device(maps))
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    for ours, cost in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.cpu(), cost, rtol=1e-3, atol=1e-4)
