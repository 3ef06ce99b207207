"""The plain way, that of devices, forced on a CPU: gives what the CPU's way gives, and hardly waits for a device."""

import pytest
import torch
from device_waits import DeviceWaits
from id_maps import with_void
from tiny import tiny_model

from modeling_maskformer import fast_on_cpu
from modeling_maskformer.losses import matching, points
from modeling_maskformer.losses.mask_classification import MaskFormerLoss
from modeling_maskformer.losses.matching import HungarianMatcher
from modeling_maskformer.targets import segments_from_masks

LAYERS, Q, K, SMALL, SIZE = 3, 7, 4, (12, 10), (48, 40)
MOST_WAITS = 4


def _criterion(mask_loss="dense", **fields):
    return MaskFormerLoss(K, HungarianMatcher(**fields), mask_loss=mask_loss, num_points=400)


def _logits(batch_size, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(LAYERS, batch_size, Q, K + 1, generator=generator) * 2
    masks = torch.randn(LAYERS, batch_size, Q, *SMALL, generator=generator) * 3
    return [logits.to(dtype).requires_grad_() for logits in (classes, masks)]


def _targets(counts, overlap=False, void=0.0, masks=False, seed=0):
    """Targets of a batch in one of the two forms; `void` is the share of each image that is void."""
    generator = torch.Generator().manual_seed(seed)
    labels = [torch.randint(0, K, (count,), generator=generator) for count in counts]
    stacks, holes = [], []
    for count in counts:
        fields = torch.randn(count + 1, *SIZE, generator=generator)
        stacks.append(fields[1:] > 0.5 if overlap else fields.argmax(0) == torch.arange(1, count + 1)[:, None, None])
        holes.append(torch.rand(SIZE, generator=generator) < void)
    if masks:
        return {"class_labels": labels, "mask_labels": [stack.float() for stack in stacks]}
    segments = [
        with_void(segments_from_masks(stack & ~hole, label, size=SIZE), hole).ids
        for stack, hole, label in zip(stacks, holes, labels, strict=True)
    ]
    ids = torch.zeros(len(counts), max(map(len, segments)), *SIZE, dtype=torch.uint8)
    for target, image in zip(ids, segments, strict=True):
        target[: len(image)] = image
    return {"class_labels": labels, "segment_ids": ids}


def _loss_and_gradients(criterion, logits, targets):
    torch.manual_seed(3)  # the same points
    parts = criterion(*logits, **targets)
    return parts, torch.autograd.grad(sum(parts.values()), logits)


CASES = {
    "labelled": {"counts": (3, 5)},
    "void": {"counts": (3, 5), "void": 0.3},
    "all void": {"counts": (2, 1), "void": 1.0},
    "overlapping": {"counts": (5, 2), "overlap": True},
    "overlapping, void": {"counts": (5, 2), "overlap": True, "void": 0.3},
    "an image without segments": {"counts": (0, 4, 0)},
    "no segments": {"counts": (0, 0)},
    "more segments than queries": {"counts": (9, 3)},
    "masks": {"counts": (3, 0, 5), "masks": True},
    "overlapping masks": {"counts": (4, 9), "masks": True, "overlap": True},
}


@pytest.mark.parametrize("mask_loss", ["dense", "points"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_the_cpu(case, mask_loss, monkeypatch):
    targets, logits, criterion = _targets(**case), _logits(len(case["counts"])), _criterion(mask_loss)
    expected, expected_gradients = _loss_and_gradients(criterion, logits, targets)
    monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ())
    parts, gradients = _loss_and_gradients(criterion, logits, targets)
    assert list(parts) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(
            parts[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
    for mine, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_pieces_by_memory_change_nothing(mask_loss, plain_path, monkeypatch):
    targets, logits, criterion = _targets((3, 5), void=0.2), _logits(2), _criterion(mask_loss)
    whole, whole_gradients = _loss_and_gradients(criterion, logits, targets)
    monkeypatch.setattr(matching, "LOGITS_AT_ONCE", 1)
    monkeypatch.setattr(points, "CANDIDATES_AT_ONCE", 5 * 1200)
    pieces, gradients = _loss_and_gradients(criterion, logits, targets)
    torch.testing.assert_close(pieces, whole)
    torch.testing.assert_close(gradients, whole_gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_half_precision_logits_are_scored_in_float32(mask_loss, dtype, plain_path):
    targets, half, criterion = _targets((3, 5), void=0.2), _logits(2, dtype), _criterion(mask_loss)
    full = [logits.detach().float().requires_grad_() for logits in half]
    expected, expected_gradients = _loss_and_gradients(criterion, full, targets)
    with torch.autocast("cpu", dtype=dtype):
        parts, gradients = _loss_and_gradients(criterion, half, targets)
    torch.testing.assert_close(parts, expected)
    for mine, other in zip(gradients, expected_gradients, strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.float(), other, rtol=0.01, atol=1e-6)


@pytest.mark.parametrize("masks", [False, True], ids=["id maps", "masks"])
@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_a_step_waits_for_the_device_at_most_four_times_whatever_the_batch(mask_loss, masks, plain_path):
    counted = []
    for batch_size in (2, 16):
        targets = _targets((3, 5) * (batch_size // 2), overlap=True, masks=masks)
        model = tiny_model(mask_loss=mask_loss, num_points=64).train()
        pixels = torch.randn(batch_size, 3, *SIZE)
        with DeviceWaits() as device:
            output = model(pixels, **targets)
            output.loss.backward()
        counted.append((device.waits, device.kernels.total()))
    (few, few_kernels), (many, many_kernels) = counted
    assert few == many and few.total() <= MOST_WAITS, few
    # only mask stacks come one by one
    assert many_kernels - few_kernels <= (3 * 14 if masks else 0)


def test_prepared_targets_give_the_same_loss(plain_path):
    targets, logits, criterion = _targets((3, 5), void=0.2), _logits(2), _criterion()
    prepared = criterion.prepare(2, **targets)
    torch.testing.assert_close(criterion(*logits, prepared), criterion(*logits, **targets))


@pytest.mark.parametrize("masks", [False, True], ids=["id maps", "masks"])
def test_class_labels_may_be_lists_or_arrays(masks, both_ways):
    targets, logits, criterion = _targets((3, 0, 5), masks=masks), _logits(3), _criterion()
    expected = criterion(*logits, **targets)
    for form in (torch.Tensor.tolist, torch.Tensor.numpy):
        labels = [form(labels) for labels in targets["class_labels"]]
        torch.testing.assert_close(criterion(*logits, **{**targets, "class_labels": labels}), expected)


def test_targets_that_are_wrong_are_named(both_ways):
    logits, criterion = _logits(2), _criterion()

    def call(**changed):
        criterion(*logits, **{**_targets((3, 2), overlap=True), **changed})

    labels = [torch.tensor([0, 1, 2]), torch.tensor([0, 3])]
    with pytest.raises(ValueError, match=r"class_labels\[1\] holds class id -1, expected ids from 0 to 3"):
        call(class_labels=[labels[0], torch.tensor([2, -1])])
    with pytest.raises(ValueError, match="class_labels has 1 entries, expected one per image: 2"):
        call(class_labels=labels[:1])
    ids = torch.zeros(2, 2, *SIZE, dtype=torch.int16)
    ids[1, 0, 5, 5] = 900  # far outside any table
    with pytest.raises(ValueError, match=r"segment_ids\[1\] holds id 900, expected 0 \(no segment\), 1 to 2"):
        call(segment_ids=ids)
    ids[1, 0, 5, 5], ids[0, 1, 0, 0] = 2, -7
    with pytest.raises(ValueError, match=r"segment_ids\[0\] holds id -7"):
        call(segment_ids=ids)
    ids[0, :, 0, 0] = 3
    with pytest.raises(ValueError, match=r"segment_ids\[0\] has segment 3 in several layers"):
        call(segment_ids=ids)
    with pytest.raises(ValueError, match="Pass either segment_ids or mask_labels"):
        call(mask_labels=[torch.zeros(3, *SIZE), torch.zeros(2, *SIZE)])


def test_masks_of_unequal_size_are_padded_with_background(both_ways):
    labels, logits, criterion = [torch.tensor([1]), torch.tensor([0, 2])], _logits(2), _criterion()
    masks = _targets((1, 2), masks=True)["mask_labels"]
    cut = [masks[0][:, :30], masks[1][:, :, :25]]
    padded = [torch.zeros_like(stack) for stack in masks]
    padded[0][:, :30], padded[1][:, :, :25] = cut
    cut[1] = torch.cat((cut[1], torch.zeros(2, 48, 15)), 2)  # one of the images has the batch's size
    expected = criterion(*logits, labels, mask_labels=padded)
    torch.testing.assert_close(criterion(*logits, labels, mask_labels=cut), expected)


def test_a_step_that_is_not_finite_under_float16_has_no_finite_gradient_and_no_error(plain_path):
    logits, criterion = _logits(2, torch.float16), _criterion("points")
    with torch.no_grad():
        logits[1][0, 1, 2] = torch.inf
    with torch.autocast("cpu", dtype=torch.float16):
        parts = criterion(*logits, **_targets((3, 2)))
    assert all(part.isnan() for part in parts.values())
    for gradient in torch.autograd.grad(sum(parts.values()), logits):
        assert not gradient.isfinite().all()
    criterion(*_logits(2), **_targets((3, 2)))  # the scaler has left the step out: the run goes on


def test_what_the_host_did_not_wait_for_is_an_error_at_the_next_step(plain_path, monkeypatch):
    monkeypatch.setattr(matching, "stays_on_device", lambda costs: True)
    logits, criterion = _logits(2), _criterion("points")
    with torch.no_grad():
        logits[1][2, 1, 3] = torch.nan
    parts = criterion(*logits, **_targets((3, 2)))
    assert all(part.isnan() for part in parts.values())
    with pytest.raises(FloatingPointError, match=r"decoder layer 2, image 1 of the batch is not finite \(2 entries\)"):
        criterion(*_logits(2), **_targets((3, 2)))
    assert all(part.isfinite() for part in criterion(*_logits(2), **_targets((3, 2))).values())


def test_a_cost_that_is_ignored_leaves_the_loss_finite(plain_path):
    logits, criterion = _logits(2), _criterion("points", non_finite_cost="ignore")
    with torch.no_grad():
        logits[1][0, :, :2] = torch.nan
    assert all(part.isfinite() for part in criterion(*logits, **_targets((3, 2))).values())
