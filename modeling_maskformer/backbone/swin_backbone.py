"""transformers' Swin for MaskFormer, whose inference computes the same in pieces that stay in the processor's cache.

Most of what Swin takes on a CPU beyond its matrix products is memory: hidden layers four times as wide as a feature
map, attention scores of all windows, copies of the map for the cyclic shift, its windows and back. Here the pixels of
a few rows of windows at a time pass a whole block.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.modeling_outputs import BackboneOutput
from transformers.models.maskformer.modeling_maskformer_swin import (
    MaskFormerSwinBackbone,
    MaskFormerSwinLayer,
    MaskFormerSwinPatchMerging,
    MaskFormerSwinSelfAttention,
)

from .swin_windows import Windows, pieces_of


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
    result = torch.empty_like(hidden)
    maps, results = hidden.unflatten(1, size), result.unflatten(1, size)  # (B, h, w, C)
    position_bias = _position_bias(block.attention.self)
    windows, scores = None, position_bias
    for piece in pieces_of(maps, block.window_size, block.shift_size):
        if piece.windows is not windows:
            windows = piece.windows
            scores = position_bias if windows.mask is None else position_bias + windows.mask.to(position_bias.dtype)
        pixels = piece.take(maps)  # (P, C)
        attended = pixels + _attend(block, pixels, windows, scores)
        expanded = block.intermediate(block.layernorm_after(attended))
        piece.put(attended + block.output(expanded), results)
    return result


def _position_bias(attention: MaskFormerSwinSelfAttention) -> Tensor:
    """`(1, heads, w * w, w * w)`: what the relative position of two pixels of a window adds to their score."""
    bias = attention.relative_position_bias_table.index_select(0, attention.relative_position_index.flatten())
    area = math.prod(attention.window_size)
    return bias.unflatten(0, (area, area)).permute(2, 0, 1)[None].contiguous()


def _attend(block: MaskFormerSwinLayer, pixels: Tensor, windows: Windows, scores: Tensor) -> Tensor:
    """What the attention in windows gives to pixels `(P, C)`, of the same shape; `scores` are added to theirs."""
    attention = block.attention.self
    normed = F.pad(block.layernorm_before(pixels), (0, 0, 0, 1))  # (P + 1, C), the last for all padding
    tokens = normed.index_select(0, windows.pixels.flatten()).view(*windows.pixels.shape, -1)  # (n, w * w, C)
    query, key, value = (
        layer(tokens).unflatten(-1, (attention.num_attention_heads, -1)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )  # (n, heads, w * w, C / heads)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
    mixed = mixed.transpose(1, 2).flatten(2).flatten(0, 1)  # (n * w * w, C)
    return block.attention.output.dense(mixed.index_select(0, windows.places))
