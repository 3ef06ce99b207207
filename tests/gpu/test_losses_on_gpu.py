"""Matching and the whole loss on a GPU: in every precision, with both forms of targets, they are those of a CPU."""

import importlib.util
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from modeling_maskformer.losses import assignment
from modeling_maskformer.losses.assignment import assign_on_host
from modeling_maskformer.losses.mask_classification import MaskFormerLoss
from modeling_maskformer.losses.matching import HungarianMatcher

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]
DEVICE = "cuda"
LAYERS, Q, K, SMALL, SIZE = 3, 20, 6, (32, 48), (128, 192)
HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}
MOST_WAITS = 4


@pytest.fixture(params=["fp32", "tf32", "bf16", "fp16"])
def precision(request):
    """The precision of the run, TF32 allowed in matrix products or not."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if request.param == "tf32" else "highest")
    yield request.param
    torch.set_float32_matmul_precision(before)


@pytest.fixture(params=["Triton", "host"])
def solver(request, monkeypatch):
    """Who solves the assignments."""
    if request.param == "host":
        monkeypatch.setattr(assignment, "LARGEST_SIDE", 0)
    elif importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    return request.param


def _logits(batch_size, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    classes = torch.randn(LAYERS, batch_size, Q, K + 1, generator=generator) * 2
    masks = torch.randn(LAYERS, batch_size, Q, *SMALL, generator=generator) * 3
    return [logits.to(dtype).requires_grad_() for logits in (classes, masks)]


def _targets(counts, masks):
    """Overlapping segments, some pixels void; as masks without void."""
    generator = torch.Generator().manual_seed(1)
    labels = [torch.randint(0, K, (count,), generator=generator) for count in counts]
    ids = torch.zeros(len(counts), 2, *SIZE, dtype=torch.uint8)
    for image, count in zip(ids, counts, strict=True):  # half of the segments in each layer
        drawn = torch.randint(0, count + 1, image.shape, generator=generator).to(torch.uint8)
        image[0], image[1] = drawn[0] * (drawn[0] <= count // 2), drawn[1] * (drawn[1] > count // 2)
    if masks:
        numbers = [torch.arange(1, count + 1)[:, None, None] for count in counts]
        stacks = [(image[:, None] == number).any(0).float() for image, number in zip(ids, numbers, strict=True)]
        return {"class_labels": labels, "mask_labels": stacks}
    ids[:, 0][(ids == 0).all(1) & (torch.rand(len(ids), *SIZE, generator=generator) < 0.5)] = 255
    return {"class_labels": labels, "segment_ids": ids}


def _moved(values, device):
    if isinstance(values, dict):
        return {name: _moved(value, device) for name, value in values.items()}
    return [value.to(device) for value in values] if isinstance(values, list) else values.to(device)


def _criterion(mask_loss, device):
    return MaskFormerLoss(K, HungarianMatcher(), mask_loss=mask_loss, num_points=2000).to(device)


def _loss_and_gradients(criterion, logits, targets):
    torch.manual_seed(3)  # the same points
    parts = criterion(*logits, **targets)
    return parts, torch.autograd.grad(sum(parts.values()), logits)


@pytest.mark.parametrize("masks", [False, True], ids=["id maps", "masks"])
@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_values_and_gradients_are_those_of_the_cpu(mask_loss, masks, precision, solver):
    targets = _targets((5, 0, 12, 30), masks)
    logits = _logits(4, HALVES.get(precision, torch.float32))
    on_cpu, on_device = _criterion(mask_loss, "cpu"), _criterion(mask_loss, DEVICE)
    full = [part.detach().float().requires_grad_() for part in logits]
    expected, expected_gradients = _loss_and_gradients(on_cpu, full, targets)
    if precision != "fp32":  # rounding may decide between pairs that cost the same
        matches = on_cpu.matcher(*full, on_cpu.prepare(4, **targets))
        moved = {name: getattr(matches, name).to(DEVICE) for name in ("queries", "segments", "images")}
        on_device.matcher = lambda *_: replace(matches, **moved)
    device_logits = [part.detach().to(DEVICE).requires_grad_() for part in logits]
    half = HALVES.get(precision)
    with torch.autocast(DEVICE, dtype=half or torch.bfloat16, enabled=half is not None):
        parts, gradients = _loss_and_gradients(on_device, device_logits, _moved(targets, DEVICE))
    for name, value in expected.items():
        assert parts[name].dtype == torch.float32
        assert parts[name].item() == pytest.approx(value.item(), rel=2e-3 if mask_loss == "points" else 1e-4), name
    for mine, other in zip(gradients, expected_gradients, strict=True):
        assert mine.dtype == (half or torch.float32)
        assert (mine.cpu().float() - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("masks", [False, True], ids=["id maps", "masks"])
def test_targets_come_from_any_device(masks):
    targets, criterion = _targets((5, 12), masks), _criterion("points", DEVICE)
    logits = [part.detach().to(DEVICE).requires_grad_() for part in _logits(2)]
    forms = [
        targets,
        _moved(targets, DEVICE),
        {**_moved(targets, DEVICE), "class_labels": targets["class_labels"]},
        {**targets, "class_labels": [targets["class_labels"][0].to(DEVICE), targets["class_labels"][1].tolist()]},
    ]
    expected, *others = (_loss_and_gradients(criterion, logits, form)[0] for form in forms)
    for parts in others:
        torch.testing.assert_close(parts, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("masks", [False, True], ids=["id maps", "masks"])
@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_the_host_waits_at_most_four_times_whatever_the_batch(mask_loss, masks, solver):
    waits = []
    for batch_size in (2, 16):
        targets = _moved(_targets((12, 30) * (batch_size // 2), masks), DEVICE)
        logits = [part.detach().to(DEVICE).requires_grad_() for part in _logits(batch_size)]
        criterion = _criterion(mask_loss, DEVICE)
        _loss_and_gradients(criterion, logits, targets)  # compiles
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                _loss_and_gradients(criterion, logits, targets)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing CUDA operation" in str(warning.message) for warning in caught))
    assert waits[0] == waits[1] <= (1 if solver == "Triton" else MOST_WAITS)


@pytest.mark.parametrize(
    ("num_queries", "num_segments"), [(100, (5, 60, 0)), (100, (200, 100)), (300, (512, 250)), (512, (512,))], ids=str
)
@pytest.mark.parametrize("kind", ["random", "tied"])
def test_assignments_are_as_cheap_as_scipy_s(kind, num_queries, num_segments, solver):
    shape = (2, len(num_segments), num_queries, max(num_segments))
    costs = torch.randint(0, 5, shape).float() if kind == "tied" else torch.randn(shape)
    matches = assignment.assign(costs.to(DEVICE), num_segments)
    pairs = [indices.cpu().numpy() for indices in (matches.queries, matches.segments)]
    images, expected = matches.images.cpu().numpy(), assign_on_host(costs.numpy(), num_segments)
    for image, layer in np.ndindex(len(num_segments), 2):
        some, cost = images == image, costs[layer, image].double().numpy()
        (queries, segments), theirs = ([part[some, layer] for part in pair] for pair in (pairs, expected))
        assert len(set(queries)) == len(set(segments)) == min(num_queries, num_segments[image])
        assert np.isclose(cost[queries, segments].sum(), cost[tuple(theirs)].sum(), rtol=1e-6)


def test_a_cost_that_is_not_finite_makes_the_loss_none_and_is_an_error_by_the_next_step(solver):
    criterion, targets = _criterion("points", DEVICE), _targets((5, 12), masks=False)
    logits = [part.detach().to(DEVICE) for part in _logits(2)]
    broken = [logits[0], logits[1].clone()]
    broken[1][1, 0, 3] = torch.nan
    with pytest.raises(FloatingPointError, match="decoder layer 1, image 0 of the batch is not finite"):
        parts = criterion(*broken, **targets)
        assert all(part.isnan() for part in parts.values())
        criterion(*logits, **targets)
    with torch.autocast(DEVICE, dtype=torch.float16):
        assert all(part.isnan() for part in criterion(*broken, **targets).values())
        assert all(part.isfinite() for part in criterion(*logits, **targets).values())
