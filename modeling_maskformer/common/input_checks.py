"""What a model's forward refuses: pixels, masks and targets of other forms than it is written for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def check_pixels(pixel_values: Tensor, pixel_mask: Tensor | None) -> None:
    """Raises a ValueError where the pixels or their mask do not have the expected shape."""
    if pixel_values is None:
        raise ValueError("pixel_values are missing: pass normalised pixels (batch, channels, height, width).")
    if pixel_values.ndim != 4:
        raise ValueError(
            f"pixel_values has shape {tuple(pixel_values.shape)}, expected (batch, channels, height, width)."
        )
    if not pixel_values.is_floating_point():
        raise ValueError(f"pixel_values are {pixel_values.dtype}, expected normalised pixels of a floating dtype.")
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()) and 0 in pixel_values.shape:
        raise ValueError(f"pixel_values has shape {tuple(pixel_values.shape)}: there are no pixels.")
    expected = (pixel_values.shape[0], *pixel_values.shape[-2:])
    if pixel_mask is not None and tuple(pixel_mask.shape) != expected:
        raise ValueError(f"pixel_mask has shape {tuple(pixel_mask.shape)}, expected {expected} as pixel_values has.")


def check_inputs(
    pixel_values: Tensor,
    pixel_mask: Tensor | None,
    mask_labels: Sequence[Tensor] | None,
    class_labels: Sequence[Tensor] | None,
    segment_ids: Tensor | None,
) -> None:
    """Raises a ValueError where pixels do not have the expected shape, or masks come without classes."""
    check_pixels(pixel_values, pixel_mask)
    if class_labels is None and (mask_labels is not None or segment_ids is not None):
        raise ValueError("Target masks were passed without class_labels: pass the class ids of the segments too.")
