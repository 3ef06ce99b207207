"""ImageNet weights, of timm or in a local safetensors file -> a backbone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig

from .swin import swin_weights


def load_backbone_weights(backbone: nn.Module, path: str | Path) -> None:
    """Loads a local safetensors file of ImageNet weights into `backbone`, in place: see `put_weights`.

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
    put_weights(backbone, weights, str(path))


def put_weights(backbone: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Puts ImageNet weights into `backbone`, in place.

    They may be those of the whole classifier: its head is left out. Every parameter and buffer of the backbone must
    be among them with its shape. Where that is not so and timm has a converter for files of this model, the weights
    are what that makes of them: it knows the authors' own names, and resizes position embeddings of images of another
    size.

    Raises:
        ValueError: tensors are missing or of another shape; they are listed, and `source` is named.
    """
    inner = getattr(backbone, "_backbone", backbone)  # the timm module inside transformers' wrapper
    state = inner.state_dict()
    if isinstance(backbone.config, MaskFormerSwinConfig):
        weights = swin_weights(backbone, weights)
    found = _name_as_in(state, weights)
    missing, mismatched = _compare(found, state)
    if (missing or mismatched) and inner is not backbone:
        converted = _name_as_in(state, _convert(weights, backbone.config.backbone))
        if not any(_compare(converted, state)):
            found, missing, mismatched = converted, [], []
    if missing or mismatched:
        raise ValueError(
            f"{source} does not fit the backbone. Missing: {_shorten(missing)}. "
            f"Of another shape: {_shorten(mismatched)}."
        )
    inner.load_state_dict(found, strict=False)


def _compare(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[list[str], list[str]]:
    """What of `state` is missing in `weights`, and what has another shape there."""
    # a count of training batches is no weight, and not every file has it
    missing = [name for name in state if name not in weights and not name.endswith("num_batches_tracked")]
    mismatched = [
        f"{name} ({tuple(weights[name].shape)} there, {tuple(tensor.shape)} in the model)"
        for name, tensor in state.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    return missing, mismatched


def _convert(weights: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """What timm makes of a file for its model `name`; the weights as they are where it has no way to."""
    with torch.device("meta"):
        model = timm.create_model(name)
    converter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if converter is None:
        return weights
    try:
        return converter(weights, model)
    except Exception:  # it was made for files of this model: any other can make it fail in any way
        return weights


def _name_as_in(state: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights that `state` knows, by its names: timm's feature extraction keeps a model's, or changes them."""
    named = {}
    for name, tensor in weights.items():
        for candidate in (name, f"model.{name}", f"body.{name}", _flatten_like(name, state)):
            if candidate in state:
                named[candidate] = tensor
                break
    return named


def _flatten_like(name: str, state: Mapping[str, Tensor]) -> str:
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
