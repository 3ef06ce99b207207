"""The paper's Swin Transformers: their configs by name, and weights of ImageNet under the names of transformers' Swin.

Transformers' Swin for MaskFormer takes any image size and has a LayerNorm on each feature map, as the original's has;
timm's has no such norms.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

DROP_PATH_RATE = 0.3  # of the paper, for all sizes

# of timm and of Microsoft's files -> of transformers
_RENAMED = {
    ".patch_embed.proj.": ".embeddings.patch_embeddings.projection.",
    ".patch_embed.norm.": ".embeddings.norm.",
    ".layers.": ".encoder.layers.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
    ".attn.proj.": ".attention.output.dense.",
    ".attn.": ".attention.self.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
}


@dataclass(frozen=True)
class Swin:
    """A Swin Transformer on patches of 4x4 pixels.

    Attributes:
        embed_dim: channels of the feature map at stride 4; each coarser one has twice as many.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        window_size: height and width of the attention windows.
        image_size: of the images it was pretrained on.
        timm_name: timm's name of the weights that the original starts from.
    """

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    image_size: int
    timm_name: str

    def config(self, drop_path: float = DROP_PATH_RATE) -> dict:
        """The `backbone_config` of a MaskFormer on it, with this rate of stochastic depth at the last block."""
        return swin_config(
            self.embed_dim, self.depths, self.num_heads, self.window_size, self.image_size, drop_path=drop_path
        )


def swin_config(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    image_size: int,
    mlp_ratio: float = 4.0,
    drop_path: float = DROP_PATH_RATE,
) -> dict:
    """The `backbone_config` of a MaskFormer on a Swin, whose numbers are those of `Swin` and its MLPs' ratio."""
    return {
        "model_type": "swin",
        "image_size": image_size,
        "embed_dim": embed_dim,
        "depths": list(depths),
        "num_heads": list(num_heads),
        "window_size": window_size,
        "mlp_ratio": mlp_ratio,
        "drop_path_rate": drop_path,
        "out_features": [f"stage{stage}" for stage in range(1, len(depths) + 1)],
    }


SWINS = {
    "swin-tiny": Swin(96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 224, "swin_tiny_patch4_window7_224.ms_in1k"),
    "swin-small": Swin(96, (2, 2, 18, 2), (3, 6, 12, 24), 7, 224, "swin_small_patch4_window7_224.ms_in1k"),
    "swin-base": Swin(128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 384, "swin_base_patch4_window12_384.ms_in22k"),
    "swin-large": Swin(192, (2, 2, 18, 2), (6, 12, 24, 48), 12, 384, "swin_large_patch4_window12_384.ms_in22k"),
}


def timm_name_of(backbone: str) -> str:
    """timm's name of the weights of a backbone, which goes by that name or by one of `SWINS`."""
    return SWINS[backbone].timm_name if backbone in SWINS else backbone.removeprefix("timm/")


def names_in_transformers(name: str) -> tuple[str, ...]:
    """What a weight of timm's or Microsoft's Swin is called in transformers' Swin for MaskFormer.

    Three names where it holds the rows of query, key and value.
    """
    name = re.sub(r"^norm\.", "layernorm.", name)
    name = re.sub(r"^norm(\d+)\.", r"hidden_states_norms.\1.", name)  # of the feature maps, in the original's files
    if name.startswith("hidden_states_norms."):
        return (name,)
    name = f".{name}"
    for old, new in _RENAMED.items():
        name = name.replace(old, new)
    parts = ("query", "key", "value") if ".qkv." in name else ("",)
    return tuple(f"model{name.replace('.qkv.', f'.{part}.')}" for part in parts)


def swin_weights(backbone: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of transformers' Swin for MaskFormer.

    Args:
        backbone: that Swin. What no classifier has, its norms of feature maps, is taken from it as it is.
        weights: of a classifier, under the names of timm, of Microsoft's own files, or of `backbone`; weights of other
            layers (the head) are kept under names that `backbone` does not have.
    """
    own = backbone.state_dict()
    if any(name in own for name in weights):
        return dict(weights)
    # the merging of patches is the end of a stage, in timm the start of the next
    stages_too_late = int("layers.0.downsample.reduction.weight" not in weights)
    renamed = {
        name: tensor
        for name, tensor in own.items()
        if name.startswith("hidden_states_norms.") or name.endswith(".relative_position_index")
    }
    for name, tensor in weights.items():
        name = re.sub(
            r"^layers\.(\d+)\.downsample", lambda match: f"layers.{int(match[1]) - stages_too_late}.downsample", name
        )
        names = names_in_transformers(name)
        renamed |= zip(names, tensor.chunk(len(names)) if len(names) > 1 else [tensor], strict=True)
    return renamed
