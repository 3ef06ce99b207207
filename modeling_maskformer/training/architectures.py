"""The architectures that the paper compares, as `--architecture` calls them, and which flags each of them has."""

from __future__ import annotations

from transformers import PreTrainedConfig

from ..configuration_maskformer import MaskFormerConfig
from ..configuration_per_pixel import PerPixelBaselineConfig, PerPixelBaselinePlusConfig

CONFIG_CLASSES: dict[str, type[PreTrainedConfig]] = {
    "maskformer": MaskFormerConfig,
    "per_pixel": PerPixelBaselineConfig,
    "per_pixel_plus": PerPixelBaselinePlusConfig,
}

# flag -> default; how the mask losses of matched queries are computed
MASK_LOSS = {"mask_loss": "points", "num_points": 12544, "importance_sample_ratio": 0.75}

# flags of MaskFormer -> why the baselines have them not
_NO_DECODER = "it has no transformer decoder"
_NO_MATCHING = "it has no queries to match with masks, its loss is the cross-entropy of each pixel"
_LACKING_PLUS = {"num_queries": "it has one query for each class", **dict.fromkeys(MASK_LOSS, _NO_MATCHING)}
LACKING: dict[str, dict[str, str]] = {
    "maskformer": {},
    "per_pixel": {
        **dict.fromkeys(("hidden_dim", "decoder_layers", "attention_heads", "ffn_dim", "num_queries"), _NO_DECODER),
        **dict.fromkeys(MASK_LOSS, _NO_MATCHING),
    },
    "per_pixel_plus": _LACKING_PLUS,
}


def architecture_of(config: PreTrainedConfig) -> str:
    """What `--architecture` calls the model of this config."""
    return next(name for name, config_class in CONFIG_CLASSES.items() if type(config) is config_class)
