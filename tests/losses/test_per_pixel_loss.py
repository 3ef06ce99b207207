"""The per-pixel cross-entropy, in each of its ways, equals a plain float64 computation, in value and gradient."""

from pathlib import Path

import pytest
import torch
from device_waits import DeviceWaits
from torch.nn import functional as F

from modeling_maskformer import fast_on_cpu
from modeling_maskformer.losses import per_pixel as per_pixel_loss
from modeling_maskformer.losses.per_pixel import class_maps, per_pixel_cross_entropy
from modeling_maskformer.losses.targets import checked_targets


def plain(logits, classes):
    """Whole maps in float64, by PyTorch's own enlargement and cross-entropy. The last cells may be incomplete."""
    (height, width), size = logits.shape[-2:], tuple(classes.shape[-2:])
    if (height, width) == ((size[0] + 3) // 4, (size[1] + 3) // 4):
        size = (4 * height, 4 * width)
    large = F.interpolate(logits.double(), size=size, mode="bilinear", align_corners=False)
    large = large[..., : classes.shape[-2], : classes.shape[-1]]
    return F.cross_entropy(large, classes, ignore_index=-1)


def random_case(small=(9, 12), size=(36, 48), layers=2, classes=5, void=0.3):
    logits = [(3 * torch.randn(2, classes, *small)).requires_grad_() for _ in range(layers)]
    targets = torch.randint(0, classes, (2, *size))
    return logits, targets.masked_fill(torch.rand(2, *size) < void, -1)


@pytest.fixture(params=["on a CPU", "plain"])
def way(request, monkeypatch):
    """Makes `per_pixel_cross_entropy` take one of its ways."""
    monkeypatch.setattr(fast_on_cpu, "FAST_DEVICES", ("cpu",) if request.param == "on a CPU" else ())


def assert_right(logits, targets):
    """Losses and gradients are the plain ones."""
    losses = per_pixel_cross_entropy(logits, targets)
    expected = torch.stack([plain(layer, targets) for layer in logits])
    torch.testing.assert_close(losses, expected.float(), atol=1e-5, rtol=1e-5)
    scales = torch.tensor([0.5, 2.0])
    found = torch.autograd.grad((losses * scales).sum(), logits)
    wanted = torch.autograd.grad((expected * scales).sum(), logits)
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-7, rtol=1e-4)


each_size = pytest.mark.parametrize("size", [(36, 48), (33, 45), (20, 100), (33, 100)], ids=str)


@pytest.mark.parametrize("block", [1 << 18, 40, 3])  # all pixels at once, several blocks, tiny blocks
@each_size
def test_loss_and_gradient_equal_the_plain_ones(monkeypatch, block, size):
    monkeypatch.setattr(per_pixel_loss, "block_size", lambda: block)
    assert_right(*random_case(size=size))


@pytest.mark.parametrize("images_at_once", [1, 2])
@each_size
def test_so_do_those_of_whole_images(plain_path, monkeypatch, images_at_once, size):
    monkeypatch.setattr(per_pixel_loss, "LOGITS_AT_ONCE", images_at_once * 5 * size[0] * size[1])
    assert_right(*random_case(size=size))


def test_a_device_is_not_waited_for(plain_path):
    logits, targets = random_case(size=(33, 45))
    with DeviceWaits() as counted:
        per_pixel_cross_entropy(logits, targets).sum().backward()
    assert not counted.waits and logits[0].grad.any()


def test_what_is_not_a_number_stays_so_in_its_layer_alone(way):
    logits, targets = random_case(void=0.0)
    logits = [layer.detach() for layer in logits]
    logits[1][0, 2, 3, 3] = float("nan")
    assert per_pixel_cross_entropy(logits, targets).isnan().tolist() == [False, True]


def test_no_loss_imports_post_processing():
    for file in Path(per_pixel_loss.__file__).parent.glob("*.py"):
        assert "image_processing" not in file.read_text(), file.name


def test_large_logits_lose_nothing(way):
    logits, targets = random_case()
    logits = [(100 * layer.detach() + 1000).requires_grad_() for layer in logits]
    for mine, layer in zip(per_pixel_cross_entropy(logits, targets), logits, strict=True):
        torch.testing.assert_close(mine, plain(layer, targets).float(), atol=1e-3, rtol=1e-5)


def test_unlabelled_pixels_count_nowhere(way):
    logits, targets = random_case(void=0.0)
    targets[:, :, 24:] = -1
    changed = [layer.detach().clone() for layer in logits]
    for layer in changed:
        layer[..., 7:] += 5  # beyond what the labelled half blends
    torch.testing.assert_close(per_pixel_cross_entropy(logits, targets), per_pixel_cross_entropy(changed, targets))


def test_without_a_labelled_pixel_loss_and_gradient_are_zero(way):
    logits, targets = random_case(layers=1)
    loss = per_pixel_cross_entropy(logits, torch.full_like(targets, -1))
    loss.sum().backward()
    assert loss.tolist() == [0.0] and not logits[0].grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_also_under_autocast(way, dtype):
    logits, targets = random_case(layers=1)
    half = logits[0].detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = per_pixel_cross_entropy([half], targets)
    loss.sum().backward()
    torch.testing.assert_close(loss, per_pixel_cross_entropy([half.float()], targets), atol=0, rtol=0)
    assert half.grad.dtype == dtype and half.grad.abs().sum() > 0


def _classes(ids, labels):
    targets = checked_targets(labels, ids, None, num_labels=8, device=ids.device)
    return class_maps(targets.maps.ids, targets.class_ids)


def test_the_class_of_a_pixel_is_that_of_its_segment():
    ids = torch.tensor([[[[1, 2, 0], [255, 3, 3]]], [[[0, 1, 1], [1, 255, 0]]]], dtype=torch.uint8)
    labels = [torch.tensor([4, 0, 2]), torch.tensor([7])]
    expected = [[[4, 0, -1], [-1, 2, 2]], [[-1, 7, 7], [7, -1, -1]]]
    assert _classes(ids, labels).tolist() == expected
    signed = ids.to(torch.int16).masked_fill(ids == 255, -1)
    assert _classes(signed, labels).tolist() == expected


def test_where_segments_overlap_the_later_one_has_the_pixel():
    ids = torch.tensor([[[[1, 1, 3]], [[0, 2, 2]]]], dtype=torch.uint8)  # (1, 2 layers, 1, 3)
    assert _classes(ids, [torch.tensor([5, 6, 7])]).tolist() == [[[5, 6, 7]]]


def test_an_image_without_segments_has_no_label():
    assert _classes(torch.zeros(1, 1, 2, 2, dtype=torch.uint8), [torch.zeros(0).long()]).unique().tolist() == [-1]
