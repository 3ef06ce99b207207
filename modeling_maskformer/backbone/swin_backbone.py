"""transformers' Swin for MaskFormer, whose inference computes the same in pieces that stay in the processor's cache.

Most of what Swin takes on a CPU beyond its matrix products is memory: hidden layers four times as wide as a feature
map, attention scores of all windows, copies of the map for the cyclic shift, its windows and back. Here a few windows
at a time are gathered, attended to and put away, and a few pixels at a time pass the feed-forward layers.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BackboneOutput
from transformers.models.maskformer.modeling_maskformer_swin import (
    MaskFormerSwinBackbone,
    MaskFormerSwinLayer,
    MaskFormerSwinPatchMerging,
)

from .swin_windows import WindowOrder, window_order

PIECE = 1600  # pixels that are computed together


class SwinBackbone(MaskFormerSwinBackbone):
    """The backbone with transformers' parameter names; its training, and what else it can give, is transformers'."""

    def forward(self, pixel_values: Tensor, **kwargs) -> BackboneOutput:
        """`feature_maps`: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` of pixels `(B, 3, H, W)`, s_i = 4, 8, 16, 32."""
        if self.training or kwargs:
            return super().forward(pixel_values, **kwargs)
        hidden, size = self.model.embeddings(pixel_values, interpolate_pos_encoding=False)  # (B, H/4 * W/4, C)
        maps = []
        for stage, norm in zip(self.model.encoder.layers, self.hidden_states_norms, strict=True):
            for block in stage.blocks:
                hidden = swin_block(block, hidden, size)
            maps.append(norm(hidden).transpose(1, 2).unflatten(2, size))  # (B, C, h, w)
            if stage.downsample is not None:
                hidden = merge_patches(stage.downsample, hidden, size)
                size = tuple((length + 1) // 2 for length in size)
        return BackboneOutput(feature_maps=tuple(maps))


def merge_patches(merging: MaskFormerSwinPatchMerging, hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """`(B, ceil(h / 2) * ceil(w / 2), 2 * C)` of a map `(B, h * w, C)`, padded with zeros where a length is odd."""
    height, width = size
    padded = F.pad(hidden.unflatten(1, size), (0, 0, 0, width % 2, 0, height % 2))
    corners = [padded[:, row::2, column::2] for column in range(2) for row in range(2)]
    return merging.reduction(merging.norm(torch.cat(corners, dim=-1).flatten(1, 2)))


def swin_block(block: MaskFormerSwinLayer, hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """The output `(B, h * w, C)` of one Swin block for a map `(B, h * w, C)` of this size (h, w), in inference."""
    windows = window_order(*size, block.window_size, block.shift_size, hidden.device)
    attended = (hidden + _attend(block, hidden, windows)).flatten(0, 1)  # (B * h * w, C)
    result = torch.empty_like(attended)
    for piece in _ranges(0, len(attended), 1):
        some = attended[piece]
        result[piece] = some + block.output(block.intermediate(block.layernorm_after(some)))
    return result.view_as(hidden)


def _attend(block: MaskFormerSwinLayer, hidden: Tensor, windows: WindowOrder) -> Tensor:
    """What the attention in windows gives to a map `(B, h * w, C)`, of the same shape."""
    attention = block.attention.self
    batch_size, (num_windows, area) = len(hidden), windows.pixels.shape
    bias = attention.relative_position_bias_table[attention.relative_position_index.flatten()]  # (w^4, heads)
    bias = bias.unflatten(0, (area, area)).permute(2, 0, 1)[None].contiguous()  # (1, heads, w * w, w * w)
    attended = hidden.new_empty(batch_size, num_windows, area, hidden.shape[-1])
    first_masked = num_windows - len(windows.mask)
    step = area * batch_size
    for piece in _ranges(0, first_masked, step):
        attended[:, piece] = _attend_in_windows(block, hidden, windows, piece, bias)
    if block.shift_size:
        for piece in _ranges(first_masked, num_windows, step):
            mask = windows.mask[piece.start - first_masked : piece.stop - first_masked, None].to(bias.dtype)
            mask = (bias + mask).repeat(batch_size, 1, 1, 1)
            attended[:, piece] = _attend_in_windows(block, hidden, windows, piece, mask)
    return attended.flatten(1, 2)[:, windows.places]


def _attend_in_windows(
    block: MaskFormerSwinLayer, hidden: Tensor, windows: WindowOrder, piece: slice, mask: Tensor
) -> Tensor:
    """`(B, n, w * w, C)`: the attention in n windows of a map `(B, h * w, C)`, with a mask for each or for all."""
    pixels, padding = windows.pixels[piece], windows.padding[piece]
    attention = block.attention.self
    tokens = block.layernorm_before(hidden[:, pixels.flatten()].unflatten(1, pixels.shape))  # (B, n, w * w, C)
    tokens = tokens.masked_fill(padding[:, :, None], 0).flatten(0, 1)
    query, key, value = (
        layer(tokens).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )  # (B * n, heads, w * w, C / heads)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return block.attention.output.dense(mixed.transpose(1, 2).flatten(2)).unflatten(0, (len(hidden), -1))


def _ranges(start: int, stop: int, pixels: int) -> Iterator[slice]:
    """Pieces of a range whose items are so many pixels each."""
    if torch.compiler.is_compiling():  # a graph for all sizes has no loop over them
        yield slice(start, stop)
        return
    step = max(1, PIECE // pixels)
    for first in range(start, stop, step):
        yield slice(first, min(first + step, stop))
