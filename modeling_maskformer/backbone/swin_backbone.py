"""transformers' Swin for MaskFormer, with PyTorch's fused attention in the windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig
from transformers.models.maskformer.modeling_maskformer_swin import (
    MaskFormerSwinBackbone,
    MaskFormerSwinLayer,
    MaskFormerSwinModel,
    MaskFormerSwinPatchMerging,
    MaskFormerSwinSelfAttention,
)


class WindowAttention(MaskFormerSwinSelfAttention):
    """Self-attention in windows by `F.scaled_dot_product_attention`: the scores of all windows are never stored.

    With it a Swin-T forward at 512x512 takes 0.8 of the time on one core of a CPU.
    """

    def forward(
        self,
        hidden_states: Tensor,  # (B * W, A, C): W windows an image, of A pixels each
        attention_mask: Tensor | None = None,  # (W, A, A), added to the scores
        output_attentions: bool | None = False,
    ) -> tuple[Tensor, ...]:
        if output_attentions:
            return super().forward(hidden_states, attention_mask, output_attentions)
        num_windows, area = hidden_states.shape[:2]
        query, key, value = (
            layer(hidden_states).unflatten(-1, (self.num_attention_heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )  # (B * W, heads, A, C / heads)
        bias = self.relative_position_bias_table[self.relative_position_index.flatten()]  # (A * A, heads)
        bias = bias.unflatten(0, (area, area)).permute(2, 0, 1)[None]  # (1, heads, A, A)
        if attention_mask is not None:
            bias = (bias + attention_mask[:, None]).repeat(num_windows // attention_mask.shape[0], 1, 1, 1)
        dropout = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias.contiguous().to(query.dtype), dropout_p=dropout
        )
        return (mixed.transpose(1, 2).flatten(2),)


class SwinBlock(MaskFormerSwinLayer):
    """The block. In a captured graph it finds the pixels of its windows by their numbers.

    transformers' views of padded and rolled maps cost a graph for all sizes minutes, and hold it to some of them.
    """

    def forward(
        self, hidden_states: Tensor, input_dimensions: tuple[int, int], output_attentions: bool | None = False
    ) -> tuple[Tensor, ...]:
        if output_attentions or not torch.compiler.is_compiling():
            return super().forward(hidden_states, input_dimensions, output_attentions)
        return (self.forward_by_numbers(hidden_states, input_dimensions),)

    def forward_by_numbers(self, hidden_states: Tensor, size: tuple[int, int]) -> Tensor:
        """The output `(B, h * w, C)` for a map `(B, h * w, C)` of this size."""
        area, channels = self.window_size**2, hidden_states.shape[-1]
        pixels, places, mask = window_numbers(*size, self.window_size, self.shift_size, hidden_states.device)
        normed = F.pad(self.layernorm_before(hidden_states), (0, 0, 0, 1))  # (B, h * w + 1, C), zeros for all padding
        windows = normed.index_select(1, pixels).reshape(-1, area, channels)  # (B * W, A, C)
        (attended,) = self.attention(windows, mask.to(windows.dtype) if self.shift_size else None)
        attended = attended.reshape(hidden_states.shape[0], -1, channels).index_select(1, places)
        hidden_states = hidden_states + self.drop_path(attended)
        return hidden_states + self.output(self.intermediate(self.layernorm_after(hidden_states)))


def window_numbers(
    height: int, width: int, window: int, shift: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of a map are in its windows of A pixels, after a cyclic shift of the padded map.

    There are W windows, the last of which is empty.

    Returns:
        `(W * A,)` the pixel at each place of the windows, `height * width` for padding; `(height * width,)` the
        place of each pixel; `(W, A, A)` what is added to the attention scores, -100 for pixels that the shift has
        brought together.
    """
    area = window * window
    down, across = (height + window - 1) // window, (width + window - 1) // window  # windows
    rows, columns = down * window, across * window  # of the padded map
    # and one of padding only: a graph that has seen several windows is not for one, so there are never less than two
    place = torch.arange((down * across + 1) * area, device=device)
    index, inside = divide(place, area)
    window_row, window_column = divide(index, across)
    row, column = (
        of * window + part for of, part in zip((window_row, window_column), divide(inside, window), strict=True)
    )
    source_row, source_column = divide(row + shift, rows)[1], divide(column + shift, columns)[1]
    is_pixel = (source_row < height) & (source_column < width) & (index < down * across)
    # clamped to where they are anyway: the compiler wants to know the bounds of an index
    pixels = torch.where(is_pixel, source_row * width + source_column, height * width).clamp(0, height * width)

    pixel_row, pixel_column = divide(torch.arange(height * width, device=device), width)
    window_row, row_inside = divide(divide(pixel_row - shift + rows, rows)[1], window)
    window_column, column_inside = divide(divide(pixel_column - shift + columns, columns)[1], window)
    places = (window_row * across + window_column) * area + row_inside * window + column_inside
    places = places.clamp(0, down * across * area)

    # the last windows of each axis hold its two ends
    region = (row >= rows - shift).long() * 2 + (column >= columns - shift).long()
    region = region.reshape(-1, area)
    return pixels, places, (region[:, :, None] != region[:, None]) * -100.0


def divide(numbers: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotients, rounded down, and remainders of numbers of at least 0 (ONNX has no `%` by a size left open)."""
    quotients = numbers // by
    return quotients, numbers - quotients * by


class PatchMerging(MaskFormerSwinPatchMerging):
    """The merging of 2x2 patches, whose padding asks no question of the map's size."""

    def maybe_pad(self, input_feature: Tensor, height: int, width: int) -> Tensor:
        """A map `(B, h, w, C)` with zeros below and right, up to even lengths."""
        # (n + 1) // 2 * 2 - n is a form that a graph for all sizes simplifies, n % 2 is not
        bottom, right = ((length + 1) // 2 * 2 - length for length in (height, width))
        return F.pad(input_feature, (0, 0, 0, right, 0, bottom))


class SwinModel(MaskFormerSwinModel):
    """The blocks, with an input embedding that gives a tensor: where adapters are trained with checkpointing, a hook
    makes it require a gradient."""

    def get_input_embeddings(self) -> nn.Module:
        """The convolution that takes the pixels."""
        return self.embeddings.patch_embeddings.projection


OWN_CLASSES = {
    MaskFormerSwinModel: SwinModel,
    MaskFormerSwinSelfAttention: WindowAttention,
    MaskFormerSwinLayer: SwinBlock,
    MaskFormerSwinPatchMerging: PatchMerging,
}


class AnySizeSwinBackbone(MaskFormerSwinBackbone):
    """transformers' backbone with its parameter names and weights, and the classes above for its parts.

    `feature_maps`: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` of pixels `(B, 3, H, W)`, s_i = 4, 8, 16, 32.
    """

    def __init__(self, config: MaskFormerSwinConfig):
        super().__init__(config)
        for module in self.modules():
            module.__class__ = OWN_CLASSES.get(type(module), type(module))
        self.freeze_unused()

    def freeze_unused(self) -> None:
        """The norm after the last block is in every checkpoint, but in no feature map: no loss gives it a gradient."""
        self.model.layernorm.requires_grad_(False)
