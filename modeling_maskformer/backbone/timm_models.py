"""What timm models are like: the strides of their feature maps, and the image sizes they take.

timm's models say little of this, so they are asked: built and run on the meta device, where tensors have shapes but no
numbers, which takes a moment and no memory even for the largest. The answers are kept.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache, wraps
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import Format
from timm.models.mvitv2 import MultiScaleVit
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedConfig, TimmBackboneConfig

from .pyramid import STRIDES

# no multiple of anything
ODD_SIZE = (75, 109)


@dataclass(frozen=True)
class SizeRule:
    """How an image of any size is brought to a size that the model takes.

    Attributes:
        multiple: zeros are added below and right of the image until height and width are multiples of this; 1 for
            models that take any size.
        is_tiled: whether the model takes images of this one size only. The image is then cut into tiles of it, each
            of which runs through the model on its own.
    """

    multiple: int
    is_tiled: bool = False


def _undisturbed(function: Callable) -> Callable:
    """Runs `function` on the meta device and apart from what surrounds the caller, so that its answers can be kept.

    A thread of its own knows none of the caller's contexts: fake tensors, a default device, autocast, inference mode.
    """

    @wraps(function)
    def run(*arguments: Any) -> Any:
        def on_meta() -> Any:
            with torch.device("meta"), torch.no_grad():
                return function(*arguments)

        with ThreadPoolExecutor(max_workers=1) as executor:
            return executor.submit(on_meta).result()

    return run


@lru_cache(maxsize=8)
@_undisturbed
def _meta_model(name: str, output_stride: int | None) -> tuple[nn.Module, dict[str, bool]]:
    """The feature extractor on the meta device, and the settings that let it take other sizes than its own."""
    if not timm.is_model(name):
        close = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3, cutoff=0.5)
        hint = f" Close names: {', '.join(close)}." if close else ""
        raise ValueError(f"timm has no model called {name!r}.{hint}")
    # with it Swin, ViT and their relatives pad windows and resize position embeddings for each input
    for settings in ({"dynamic_img_size": True}, {}):
        try:
            model = timm.create_model(name, features_only=True, output_stride=output_stride, **settings)
            # the default dtype is another while a model is being loaded in half precision
            return model.to(torch.float32).eval(), settings
        except Exception as error:  # models refuse a setting, or feature maps at all, in many ways
            reason = error
    raise ValueError(f"timm model {name!r} gives no feature maps (features_only): {reason}") from reason


def size_settings(name: str, output_stride: int | None = None) -> dict[str, bool]:
    """Arguments of timm model `name` that let it take other sizes than its own."""
    return dict(_meta_model(name, output_stride)[1])


def pretrained_timm_model(config: TimmBackboneConfig) -> nn.Module:
    """The feature extractor inside the backbone of this config, with timm's pretrained weights."""
    return timm.create_model(
        config.backbone,
        pretrained=True,
        features_only=True,
        in_chans=config.num_channels,
        out_indices=config.out_indices,
        output_stride=config.output_stride,
        **size_settings(config.backbone, config.output_stride),
    )


def nominal_stride(stride: float) -> int:
    """The power of two next to `stride`, on a logarithmic scale: 16 for the 14 pixels of some ViTs' patches."""
    return 2 ** round(math.log2(stride))


def timm_out_indices(name: str, output_stride: int | None = None) -> list[int]:
    """Indices of the feature maps of timm model `name` that have strides 4, 8, 16 and 32, as far as there are such.

    Raises:
        ValueError: timm has no model of this name (close names are given), it gives no feature maps, none has one of
            these strides, or their names are not distinct.
    """
    maps = _meta_model(name, output_stride)[0].feature_info.info
    names = [info["module"] for info in maps]
    if len(set(names)) < len(names):  # as in CoaT and CrossViT
        raise ValueError(
            f"timm model {name!r} gives several feature maps one name, which transformers' backbones cannot have: "
            f"{', '.join(names)}."
        )
    strides = [info["reduction"] for info in maps]
    # where a stride occurs twice, the last map is the deepest one
    last = {nominal_stride(stride): index for index, stride in enumerate(strides)}
    found = [last[stride] for stride in STRIDES if stride in last]
    if not found:
        raise ValueError(
            f"timm model {name!r} has feature maps at strides {strides}, expected one of {list(STRIDES)}."
        )
    return found


def complete_timm_config(backbone_config: PreTrainedConfig) -> None:
    """Completes a timm backbone's config, in place; other configs stay as they are.

    A name as the Hub writes it, `timm/resnet50.a1_in1k`, becomes timm's own; where it is not said which feature maps
    are wanted, `out_indices` becomes what `timm_out_indices` finds.
    """
    if not isinstance(backbone_config, TimmBackboneConfig):
        return
    backbone_config.backbone = backbone_config.backbone.removeprefix("timm/")
    if backbone_config.out_indices in (None, [-1]):
        backbone_config.out_indices = timm_out_indices(backbone_config.backbone, backbone_config.output_stride)


@cache
def timm_size_rule(name: str, output_stride: int | None = None) -> SizeRule:
    """How timm model `name` is fed images of any size.

    Tried are: any size; multiples of its finest stride, its coarsest, 32, 64 and its own input size; and that size
    alone. The first is taken whose maps are as large as their strides say, else the first multiple that runs at all.

    Raises:
        ValueError: there is no such model (see `timm_out_indices`), or it takes none of these sizes.
    """
    model, _ = _meta_model(name, output_stride)
    strides = model.feature_info.reduction()
    own_size = max(model.pretrained_cfg["input_size"][-2:])
    if _has_positions_of_one_size(model):
        return SizeRule(own_size, is_tiled=True)
    running = []
    for multiple in (1, *sorted({min(strides), max(strides), 32, 64, own_size})):
        size = ODD_SIZE if multiple == 1 else _odd_multiples(multiple)
        sizes = _map_sizes(model, size)
        if sizes == [map_size(size, stride) for stride in strides]:
            return SizeRule(multiple)
        if sizes is not None and multiple > 1:
            running.append(SizeRule(multiple))
    if running:
        return running[0]
    if _map_sizes(model, (own_size, own_size)) is None:
        raise ValueError(f"timm model {name!r} runs neither on images of {own_size}x{own_size} nor of other sizes.")
    return SizeRule(own_size, is_tiled=True)


def _has_positions_of_one_size(model: nn.Module) -> bool:
    """Whether this is an MViTv2, which looks up relative positions in tables of its own size.

    Of a larger image they lie beyond the tables, which shapes alone do not show; of a smaller one they are others'.
    """
    return any(isinstance(module, MultiScaleVit) for module in model.modules())


def runs_in_transformers(backbone_config: PreTrainedConfig) -> bool:
    """Whether transformers' own backbone of this config gives images in multiples of 32 the same maps as ours."""
    if not isinstance(backbone_config, TimmBackboneConfig):
        return True
    try:
        return _is_plain(backbone_config.backbone, backbone_config.output_stride)
    except ValueError:  # nothing is built of it, neither here nor there
        return True


@cache
def _is_plain(name: str, output_stride: int | None) -> bool:
    """Whether timm model `name`, as timm builds it, gives images in multiples of 32 maps as large as its strides say.

    That is channels first, without settings, zeros, tiles or resizing of ours.
    """
    model, settings = _meta_model(name, output_stride)
    if settings or _is_channels_last(model) or 32 % timm_size_rule(name, output_stride).multiple:
        return False
    size = _odd_multiples(32)
    strides = model.feature_info.reduction()
    return _map_sizes(model, size) == [map_size(size, nominal_stride(stride)) for stride in strides]


def _odd_multiples(multiple: int) -> tuple[int, int]:
    """Height and width that are multiples of `multiple` and of as little else as can be, well over 100 and apart."""
    height = multiple * (math.ceil(150 / multiple) | 1)
    return height, height + 2 * multiple * math.ceil(50 / multiple)


def map_size(image_size: Sequence[int], stride: float) -> tuple[int, int]:
    """Height and width of a map of this stride that covers the whole image."""
    return tuple(math.ceil(length / stride) for length in image_size)


@_undisturbed
def _map_sizes(model: nn.Module, image_size: tuple[int, int]) -> list[tuple[int, int]] | None:
    """Height and width of each feature map of a model on the meta device; None if it refuses this size."""
    try:
        with _CheckedAttention():
            features = model(torch.empty(1, 3, *image_size, dtype=torch.float32))
    except Exception:  # models refuse a size in many ways
        return None
    return [tuple(feature.shape[-2:]) for feature in channels_first(model, features)]


class _CheckedAttention(TorchFunctionMode):
    """Attention whose mask or bias is not of the map's size is an error, which the meta device alone overlooks."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            query, key, mask = args[0], args[1], kwargs.get("attn_mask", args[3] if len(args) > 3 else None)
            if mask is not None:
                mask.expand(*query.shape[:-1], key.shape[-2])
        return function(*args, **kwargs)


def channels_first(model: nn.Module, features: Sequence[Tensor]) -> list[Tensor]:
    """The feature maps of a timm model as `(B, C, h, w)`: some (Swin) give `(B, h, w, C)`."""
    is_last = _is_channels_last(model)
    return [feature.permute(0, 3, 1, 2) if is_last else feature for feature in features]


def _is_channels_last(model: nn.Module) -> bool:
    return getattr(model, "output_fmt", Format.NCHW) == Format.NHWC
