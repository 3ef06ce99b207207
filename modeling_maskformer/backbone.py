"""Any timm or transformers backbone -> features at strides 4, 8, 16 and 32."""

from __future__ import annotations

import difflib
from pathlib import Path

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import AutoBackbone, PreTrainedConfig, TimmBackboneConfig
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig

from .swin import swin_weights

STRIDES = (4, 8, 16, 32)


def timm_out_indices(name: str) -> list[int]:
    """Indices of the feature maps of timm model `name` that have strides 4, 8, 16 and 32.

    Raises:
        ValueError: timm has no model of this name (close names are given), or it has no such pyramid.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f" Close names: {', '.join(close)}." if close else ""
        raise ValueError(f"timm has no model called {name!r}.{hint}")
    try:
        reductions = timm.create_model(name, features_only=True, pretrained=False).feature_info.reduction()
    except (RuntimeError, AttributeError) as error:
        raise ValueError(f"timm model {name!r} gives no feature maps (features_only): {error}") from error
    missing = [stride for stride in STRIDES if stride not in reductions]
    if missing:
        raise ValueError(
            f"timm model {name!r} has feature maps at strides {reductions}, "
            f"expected {list(STRIDES)}: {missing} are missing. Choose a hierarchical model."
        )
    # where a stride occurs twice, the last map is the deepest one
    return [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]


def fill_timm_out_indices(backbone_config: PreTrainedConfig) -> None:
    """Sets `out_indices` of a timm backbone config that does not say which feature maps it wants."""
    if isinstance(backbone_config, TimmBackboneConfig) and backbone_config.out_indices in (None, [-1]):
        backbone_config.out_indices = timm_out_indices(backbone_config.backbone)


def build_backbone(backbone_config: PreTrainedConfig) -> nn.Module:
    """A backbone module with `channels` (of its four feature maps) and, called on pixels, `feature_maps`."""
    if backbone_config.model_type == "swin":
        # transformers' MaskFormer checkpoints hold the Swin variant that takes any input size, under this name
        backbone_config = MaskFormerSwinConfig.from_dict(backbone_config.to_dict())
        backbone_config.out_features = ["stage1", "stage2", "stage3", "stage4"]
    backbone = AutoBackbone.from_config(backbone_config)
    if len(backbone.channels) != len(STRIDES):
        raise ValueError(
            f"The backbone {backbone_config.model_type!r} gives {len(backbone.channels)} feature maps, expected "
            f"{len(STRIDES)} (strides 4, 8, 16, 32): set out_features or out_indices of backbone_config."
        )
    return backbone


def extract_features(backbone: nn.Module, channels: list[int], pixel_values: Tensor) -> list[Tensor]:
    """Four feature maps, finest first: `(B, C_i, ceil(H / s_i), ceil(W / s_i))` with s = 4, 8, 16, 32."""
    features = backbone(pixel_values).feature_maps
    # some timm models (Swin) give channels-last maps
    return [
        feature.permute(0, 3, 1, 2) if feature.shape[1] != width and feature.shape[-1] == width else feature
        for feature, width in zip(features, channels, strict=True)
    ]


def freeze_batch_norm(backbone: nn.Module) -> None:
    """Keeps weights and statistics of every BatchNorm in `backbone` as they are: small batches would spoil them."""
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.requires_grad_(False)


def load_backbone_weights(backbone: nn.Module, path: str | Path) -> None:
    """Loads a local safetensors file of ImageNet weights into `backbone`, in place.

    The file may hold the whole classifier, as timm's do: its head is left out. Every parameter and buffer of the
    backbone must be in the file with its shape.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a safetensors file, or tensors are missing or of another shape (they are listed).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No backbone weights at {path}.")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a readable safetensors file: {error}") from error
    inner = getattr(backbone, "_backbone", backbone)  # the timm module inside transformers' wrapper
    state = inner.state_dict()
    if isinstance(backbone.config, MaskFormerSwinConfig):
        weights = swin_weights(backbone, weights)
    elif not any(name in weights for name in state):
        # timm's feature extraction flattens names: layers.0.x may be called layers_0.x
        weights = {_flatten_like(name, state): tensor for name, tensor in weights.items()}
    # a count of training batches is no weight, and not every file has it
    missing = [name for name in state if name not in weights and not name.endswith("num_batches_tracked")]
    mismatched = [
        f"{name} ({tuple(weights[name].shape)} in the file, {tuple(tensor.shape)} in the model)"
        for name, tensor in state.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if missing or mismatched:
        raise ValueError(
            f"{path} does not fit the backbone. Missing: {_shorten(missing)}. "
            f"Of another shape: {_shorten(mismatched)}."
        )
    inner.load_state_dict({name: weights[name] for name in state if name in weights}, strict=False)


def _flatten_like(name: str, state: dict[str, Tensor]) -> str:
    """`name` with the first dots turned to underscores where `state` knows it that way."""
    parts = name.split(".")
    for count in range(1, len(parts)):
        flattened = "_".join(parts[: count + 1]) + "." + ".".join(parts[count + 1 :])
        if flattened.rstrip(".") in state:
            return flattened.rstrip(".")
    return name


def _shorten(names: list[str], limit: int = 5) -> str:
    if not names:
        return "none"
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
