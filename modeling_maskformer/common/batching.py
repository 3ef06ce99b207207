"""Images of any size, alone and in batches: each gets the padding that the model was trained with, and no other.

The original gives every image zeros at the bottom and right up to multiples of 32 (its size divisibility), in training
and inference. What a processor or a batch padded beyond that would enter the result of every pixel: through
convolutions near the border, through GroupNorm and attention everywhere. So a batch is cut into images of one padded
size each, which run together, and what comes out is cropped to the pixels that went in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.utils import ModelOutput

from ..to_device import to_device

SIZE_DIVISOR = 32  # of the original, for every backbone

# the strides of the maps (B, C, h, w) in each field of an output; what follows in `hidden_states` are no maps
MAP_STRIDES: dict[str, int | tuple[int, ...]] = {
    "encoder_last_hidden_state": 32,
    "pixel_decoder_last_hidden_state": 4,
    "masks_queries_logits": 4,
    "logits": 4,
    "auxiliary_logits": 4,
    "encoder_hidden_states": (4, 8, 16, 32),
    "pixel_decoder_hidden_states": (16, 8, 4),
    "hidden_states": (4, 8, 16, 32, 16, 8, 4),
}


def image_sizes_of(pixel_values: Tensor, pixel_mask: Tensor | None) -> Tensor:
    """`(B, 2)` int64 height and width of each image without its padding, which is below and right of it."""
    if pixel_mask is None:
        lengths = [torch.full(pixel_values.shape[:1], n, device=pixel_values.device) for n in pixel_values.shape[-2:]]
        return torch.stack(lengths, dim=1)
    inside = pixel_mask.bool()
    return torch.stack((inside.any(2).sum(1), inside.any(1).sum(1)), dim=1)


def run_at_any_size(
    forward: Callable[[Tensor], ModelOutput],
    pixel_values: Tensor,
    pixel_mask: Tensor | None = None,
    size_divisor: int = SIZE_DIVISOR,
    keep_together: bool = False,
) -> ModelOutput:
    """The output of `forward` for images of any size, with `image_sizes` set.

    Maps of stride s come out as `(B, C, ceil(H / s), ceil(W / s))`, of no meaning beyond an image's own size.

    Args:
        forward: maps pixels `(b, 3, h, w)`, h and w multiples of `size_divisor`, to an output whose tensors have the
            batch first.
        pixel_values: `(B, 3, H, W)`, any H and W.
        pixel_mask: `(B, H, W)`, 1 at pixels of the image and 0 at padding, which is right of and below the image.
        size_divisor: zeros are added at the bottom and right up to multiples of this.
        keep_together: run the batch as one, padded to its largest image, as in training. So it is in a captured graph
            too, which cannot depend on what is in a mask.

    Raises:
        ValueError: a mask has no pixel of the image, or padding above, left of or inside it, where masks are looked
            at: not of batches kept together.
    """
    size = pixel_values.shape[-2:]
    image_sizes = image_sizes_of(pixel_values, pixel_mask)
    pixels = pad_to(pixel_values, padded_size(size, size_divisor))
    if pixel_mask is not None:
        pixels = pixels.masked_fill(pad_to(pixel_mask, pixels.shape[-2:])[:, None] == 0, 0.0)
    if pixel_mask is None or keep_together or torch.compiler.is_compiling() or torch.jit.is_tracing():
        output = _merge([forward(pixels)], size)
    else:
        on_host = checked_sizes(pixel_mask, image_sizes)
        output = _run_by_size(forward, pixels, image_sizes, on_host, size, size_divisor)
    output["image_sizes"] = image_sizes
    return output


def checked_sizes(pixel_mask: Tensor, image_sizes: Tensor) -> list[tuple[int, int]]:
    """The height and width of each image `(B, 2)` on the host, if it fills the top left of its mask `(B, H, W)`.

    Raises:
        ValueError: it does not.
    """
    rows, columns = (
        torch.arange(length, device=pixel_mask.device) < image_sizes[:, axis, None]
        for axis, length in enumerate(pixel_mask.shape[1:])
    )
    is_elsewhere = (pixel_mask.bool() != rows[:, :, None] & columns[:, None, :]).flatten(1).any(1)
    sizes = []
    for image, (height, width, wrong) in enumerate(torch.cat((image_sizes, is_elsewhere[:, None]), 1).tolist()):
        if min(height, width) < 1:
            raise ValueError(f"pixel_mask[{image}] is 0 everywhere: at least one pixel of each image must be 1.")
        if wrong:
            raise ValueError(
                f"pixel_mask[{image}] is 1 in {height} rows and {width} columns, but not in the first {height}x"
                f"{width} pixels alone: padding is expected right of and below the image only."
            )
        sizes.append((height, width))
    return sizes


def _run_by_size(
    forward: Callable[[Tensor], ModelOutput],
    pixels: Tensor,
    image_sizes: Tensor,
    on_host: Sequence[tuple[int, int]],
    size: torch.Size,
    size_divisor: int,
) -> ModelOutput:
    """The output for pixels `(B, 3, H, W)`, images of each padded size apart, in the order of the batch.

    The images' sizes `(B, 2)` come as on the device and as the host knows them.
    """
    if all(lengths == tuple(size) for lengths in on_host):
        return _merge([forward(pixels)], size)
    groups: dict[tuple[int, ...], list[int]] = {}
    for image, lengths in enumerate(on_host):
        groups.setdefault(padded_size(lengths, size_divisor), []).append(image)
    order = [image for images in groups.values() for image in images]
    places = to_device(torch.tensor(order), pixels.device)  # (B,)
    of_groups = places.split([len(images) for images in groups.values()])
    parts = [
        forward(pixels[..., :height, :width].index_select(0, images))
        for (height, width), images in zip(groups, of_groups, strict=True)
    ]
    own_sizes = [image_sizes.index_select(0, images) for images in of_groups]
    return _merge(parts, size, places.argsort(), own_sizes)


def _merge(
    parts: list,
    size: Sequence[int],
    order: Tensor | None = None,
    own_sizes: Sequence[Tensor] = (),
    strides: int | tuple | None = None,
):
    """One output of the groups' outputs, maps brought to the size of the batch, images in its order.

    Args:
        parts: the outputs.
        size: (height, width) of the batch in pixels.
        order: `(B,)` int64, where each image of the batch is in `parts`. None: one part, all of whose images fill it.
        own_sizes: of each of `parts`, `(b, 2)`, its images' own height and width.
        strides: of maps.
    """
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        if order is None:
            return crop(first, _cells(size, strides)) if isinstance(strides, int) else first
        if isinstance(strides, int):
            own_cells = [(own + strides - 1) // strides for own in own_sizes]
            parts = [_fit(*part, _cells(size, strides)) for part in zip(parts, own_cells, strict=True)]
        return torch.cat(parts).index_select(0, order)
    if isinstance(first, dict):
        names = [(name, MAP_STRIDES.get(name)) for name in first]
        return type(first)(
            **{name: _merge([part[name] for part in parts], size, order, own_sizes, of) for name, of in names}
        )
    each = strides if isinstance(strides, tuple) else (strides,) * len(first)
    each += (None,) * (len(first) - len(each))
    return tuple(_merge(list(items), size, order, own_sizes, of) for *items, of in zip(*parts, each, strict=True))


def _cells(size: Sequence[int], stride: int) -> list[int]:
    """Height and width of a map of this stride."""
    return [-(-length // stride) for length in size]


def _fit(maps: Tensor, own: Tensor, size: list[int]) -> Tensor:
    """Maps `(b, C, h, w)` cropped to images' `own` sizes `(b, 2)`, the last row and column repeated up to `size`.

    Then enlarging a map blends nothing else into the image's last pixels, as alone.
    """
    rows, columns = (
        torch.arange(length, device=own.device).minimum(own[:, axis, None] - 1) for axis, length in enumerate(size)
    )  # (b, H), (b, W)
    cells = rows[:, :, None] * maps.shape[-1] + columns[:, None]  # (b, H, W)
    return maps.flatten(2).gather(2, cells.flatten(1)[:, None].expand(-1, maps.shape[1], -1)).unflatten(2, size)


def crop(values: Tensor, size: list[int]) -> Tensor:
    """The first `size` rows and columns of `(..., h, w)`."""
    if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
        return values[..., : size[0], : size[1]]
    # a slice that may or may not be the whole would have two layouts, and the graph could serve one of them only
    rows, columns = (torch.arange(length, device=values.device) for length in size)
    return values.index_select(-2, rows).index_select(-1, columns)


def pad_to(values: Tensor, size: Sequence[int]) -> Tensor:
    """`(..., h, w)` with zeros below and right, `size` high and wide."""
    return F.pad(values, (0, size[1] - values.shape[-1], 0, size[0] - values.shape[-2]))


def padded_size(size: Sequence[int], size_divisor: int = SIZE_DIVISOR) -> tuple[int, ...]:
    """Height and width raised to multiples of `size_divisor`."""
    # the form that a graph for all sizes simplifies
    return tuple((length + size_divisor - 1) // size_divisor * size_divisor for length in size)
