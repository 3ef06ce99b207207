"""The product of mask and pixel embeddings, plain and with a gradient for used queries only."""

import pytest
import torch

from modeling_maskformer.layers import mask_product as module

pytestmark = pytest.mark.usefixtures("both_ways")


def mask_product(masks, pixels):
    """`(layers, B, Q, h, w)`."""
    return torch.stack(module.mask_product(masks, pixels))


def _embeddings(dtype=torch.float32):
    torch.manual_seed(0)
    shapes = (3, 2, 5, 8), (2, 8, 6, 4)
    return [torch.randn(*shape, dtype=dtype, requires_grad=True) for shape in shapes]


def test_product_and_gradients_are_those_of_dot_products():
    masks, pixels = _embeddings(torch.float64)
    ours = mask_product(masks, pixels)
    expected = (masks[..., None, None] * pixels[None, :, None]).sum(3)
    torch.testing.assert_close(ours, expected)
    gradient = torch.randn_like(ours)
    gradient[torch.rand(3, 2, 5) > 0.4] = 0
    gradient[:, 1] = 0  # an image without segments
    for mine, other in zip(
        torch.autograd.grad(ours, (masks, pixels), gradient),
        torch.autograd.grad(expected, (masks, pixels), gradient),
        strict=True,
    ):
        torch.testing.assert_close(mine, other)


def test_a_gradient_that_is_not_finite_is_not_lost():
    masks, pixels = _embeddings()
    gradient = torch.zeros(3, 2, 5, 6, 4)
    gradient[1, 0, 2, 3, 3] = float("nan")
    by_masks, by_pixels = torch.autograd.grad(mask_product(masks, pixels), (masks, pixels), gradient)
    assert by_masks[1, 0, 2].isnan().all()
    assert by_pixels[0, :, 3, 3].isnan().all() and by_pixels[1].isfinite().all()


def test_under_autocast_the_gradients_keep_the_dtypes_of_the_embeddings():
    masks, pixels = _embeddings()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        product = mask_product(masks, pixels)
    assert product.dtype == torch.bfloat16
    by_masks, by_pixels = torch.autograd.grad(product.float().sum(), (masks, pixels))
    assert by_masks.dtype == by_pixels.dtype == torch.float32
    expected = pixels.sum((2, 3))[None, :, None].expand_as(masks)
    torch.testing.assert_close(by_masks, expected, rtol=0.05, atol=0.1)
