"""The losses over every pixel on a GPU: in every precision, with and without Triton, they are those of a CPU."""

import importlib.util

import pytest
import torch
from grids import sizes_and_precisions

from modeling_maskformer.losses import dense
from modeling_maskformer.losses.dense import dense_losses
from modeling_maskformer.losses.per_pixel import per_pixel_cross_entropy
from modeling_maskformer.targets import void_value

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
SIZES = {
    "stride 4": ((32, 48), (128, 192)),
    "incomplete last cells": ((33, 41), (130, 161)),
    "narrow": ((70, 1), (279, 2)),
    "no whole factor": ((32, 48), (101, 150)),  # Triton has no kernel for it
}
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
ERRORS = {"fp32": 1e-5, "tf32": 1e-5, "bf16": 4e-3, "fp16": 1e-3}  # of gradients, in the dtype of the logits
each_precision = pytest.mark.parametrize("precision", PRECISIONS)


@pytest.fixture
def tf32(precision):
    """TF32 allowed in matrix products or not, as asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(params=["Triton", "plain"])
def way(request, monkeypatch):
    """Which of the two ways of a GPU is taken."""
    if request.param == "plain":
        monkeypatch.setattr(dense, "triton_kernels", lambda logits, size: None)
    elif importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    return request.param


def make_case(small, size, dtype=torch.float32, num_pairs=24, num_segments=7, ids_dtype=torch.uint8):
    """The arguments of `dense_losses` on the CPU: segments of two images in two layers, some pixels void."""
    ids = torch.randint(0, num_segments + 1, (2, 2, *size))
    in_layer = torch.tensor([[True] * 4 + [False] * 4, [True] + [False] * 3 + [True] * 4])  # 3 segments, and 4
    ids = torch.where(torch.stack([in_layer[layer][ids[:, layer]] for layer in range(2)], 1), ids, 0)
    void = (torch.rand(2, *size) > 0.8) & (ids == 0).all(1)
    segments = torch.randint(0, num_segments, (num_pairs,))
    logits = (3 * torch.randn(num_pairs, *small)).to(dtype).requires_grad_()
    return [logits, torch.randint(0, 2, (num_pairs,)), segments, (segments >= 3).long(), ids.to(ids_dtype), void]


def losses_and_gradient(case, device, precision="fp32"):
    """Focal, dice and the gradient of a mix of both, of a case moved to a device."""
    logits, *others = (part.detach().to(device) for part in case)
    logits.requires_grad_()
    half = HALVES.get(precision)
    with torch.autocast(device, half, enabled=half is not None):
        focal, dice = dense_losses(logits, *others)
    by_focal = torch.linspace(10, 20, len(logits), device=device)
    (gradient,) = torch.autograd.grad((focal * by_focal + dice).sum(), logits)
    return focal.cpu(), dice.cpu(), gradient.cpu()


def error(found, expected):
    return ((found.double() - expected.double()).norm() / expected.double().norm()).item()


@sizes_and_precisions(SIZES, PRECISIONS)
def test_values_and_gradients_are_those_of_a_cpu(way, tf32, precision, sizes):
    case = make_case(*sizes, dtype=HALVES.get(precision, torch.float32))
    *losses, gradient = losses_and_gradient(case, "cuda", precision)
    *expected, of_cpu = losses_and_gradient([case[0].float(), *case[1:]], "cpu")
    for found, loss in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    assert gradient.dtype == case[0].dtype
    assert error(gradient, of_cpu) < ERRORS[precision]


@pytest.mark.parametrize("ids_dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_ids_may_have_any_integer_dtype(way, ids_dtype):
    case = make_case((33, 41), (130, 161), ids_dtype=ids_dtype)
    assert (case[4] != void_value(ids_dtype)).all()
    for found, expected in zip(losses_and_gradient(case, "cuda"), losses_and_gradient(case, "cpu"), strict=True):
        assert error(found, expected) < 1e-5


def test_triton_is_used_where_it_is_installed():
    pytest.importorskip("triton")
    logits = torch.zeros(1, 32, 48, device="cuda")
    assert dense.triton_kernels(logits, (128, 192)) is not None
    assert dense.triton_kernels(logits, (127, 189)) is not None
    assert dense.triton_kernels(logits, (128, 180)) is None


@pytest.mark.parametrize("scale", [1e-3, 30.0, 300.0], ids=["undecided", "sure", "beyond exp"])
def test_extreme_logits_keep_their_accuracy(way, scale):
    case = make_case((32, 48), (128, 192))
    case[0] = (case[0].detach() * scale / 3).requires_grad_()
    *losses, gradient = losses_and_gradient(case, "cuda")
    *expected, of_cpu = losses_and_gradient(case, "cpu")
    for found, loss in zip(losses, expected, strict=True):
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    assert error(gradient, of_cpu) < 1e-5


def test_what_is_not_a_number_stays_so_in_its_pair_alone(way):
    case = make_case((33, 41), (130, 161))
    case[0] = case[0].detach()
    case[0][5, 20, 20] = float("nan")
    focal, dice, gradient = losses_and_gradient(case, "cuda")
    sixth = torch.arange(24) == 5
    assert torch.equal(focal.isnan(), sixth) and torch.equal(dice.isnan(), sixth)
    assert torch.equal(gradient.isnan().flatten(1).any(1), sixth)


def test_no_pair_costs_nothing(way):
    case = make_case((32, 48), (128, 192), num_pairs=0)
    assert [tuple(part.shape) for part in losses_and_gradient(case, "cuda")] == [(0,), (0,), (0, 32, 48)]


def test_many_pairs_go_in_several_launches(monkeypatch):
    kernels = pytest.importorskip("modeling_maskformer.losses.kernels.dense", exc_type=ImportError)
    case = make_case((33, 41), (130, 161), num_pairs=50)
    whole = losses_and_gradient(case, "cuda")
    monkeypatch.setattr(kernels, "CELLS_AT_ONCE", 7 * 33 * 41)
    for found, expected in zip(losses_and_gradient(case, "cuda"), whole, strict=True):
        assert torch.equal(found, expected)


def test_the_host_does_not_wait_for_the_device(way):
    case = [part.detach().cuda() for part in make_case((33, 41), (130, 161))]
    case[0].requires_grad_()
    classes = torch.randint(-1, 5, (2, 130, 161), device="cuda")
    logits = torch.randn(2, 5, 33, 41, device="cuda", requires_grad=True)

    def step():
        (sum(loss.sum() for loss in dense_losses(*case)) + per_pixel_cross_entropy([logits], classes).sum()).backward()

    step()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_triton_writes_nothing_of_the_size_of_the_targets():
    pytest.importorskip("triton")
    case = [part.detach().cuda() for part in make_case((128, 128), (512, 512), num_pairs=128)]
    case[0].requires_grad_()
    focal, dice = dense_losses(*case)
    (focal + dice).sum().backward()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    focal, dice = dense_losses(*case)
    (focal + dice).sum().backward()
    # the gradient, before and after it is added to the last, and its two parts; one map of all pixels would be 128 MB
    assert torch.cuda.max_memory_allocated() - before < 5 * case[0].numel() * 4


@each_precision
@pytest.mark.parametrize("size", [(128, 192), (126, 189), (101, 150)], ids=str)
def test_the_cross_entropy_of_pixels_is_that_of_a_cpu(tf32, precision, size):
    half = HALVES.get(precision)
    layers = [torch.randn(2, 21, 32, 48).to(half or torch.float32) for _ in range(2)]
    classes = torch.randint(-1, 21, (2, *size))
    results = []
    for device, dtype in (("cuda", layers[0].dtype), ("cpu", torch.float32)):
        logits = [layer.to(device, dtype).requires_grad_() for layer in layers]
        with torch.autocast(device, half, enabled=half is not None and device == "cuda"):
            losses = per_pixel_cross_entropy(logits, classes.to(device))
        gradients = torch.autograd.grad((losses * torch.tensor([1.0, 2.0], device=device)).sum(), logits)
        results.append((losses.cpu(), torch.stack(gradients).cpu()))
    (losses, gradient), (expected, of_cpu) = results
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    # in float16 the mean's gradients are too small: trainers scale the loss
    assert error(gradient, of_cpu) < (0.05 if precision == "fp16" else ERRORS[precision])
