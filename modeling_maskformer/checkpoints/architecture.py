"""The names and shapes in a checkpoint of the original -> which model it is."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from torch import Tensor

from .errors import LayoutError

# what a ResNet's stem is called in timm, by the output channels of its convolutions
TIMM_STEMS = {(64,): "", (32, 32, 64): "c", (64, 64, 128): "s"}
TIMM_DEPTHS = {(3, 4, 6, 3): 50, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}


class Kind(Enum):
    """The architectures that the paper compares, named as in `ARCHITECTURES`, with the paper's names as values."""

    MASKFORMER = "MaskFormer"
    PER_PIXEL = "PerPixelBaseline"
    PER_PIXEL_PLUS = "PerPixelBaseline+"


@dataclass(frozen=True)
class ResNetArchitecture:
    """A ResNet of bottleneck blocks, with its stride in the 3x3 convolutions as torchvision's and timm's.

    Attributes:
        depths: blocks of each stage.
        stem_channels: output channels of the stem's convolutions: one 7x7, or three 3x3 (the "c" in R101c).
    """

    depths: tuple[int, ...]
    stem_channels: tuple[int, ...]

    @property
    def last_channels(self) -> int:
        """Channels of the feature map at stride 32."""
        return 2048

    @property
    def timm_name(self) -> str:
        """The timm model with the same parameters: R101c is resnet101s there, timm's own "c" has a narrower stem."""
        if self.depths not in TIMM_DEPTHS or self.stem_channels not in TIMM_STEMS:
            raise LayoutError(
                f"The backbone is a ResNet with {list(self.depths)} blocks and a stem of {list(self.stem_channels)} "
                f"channels, expected one of {[list(depths) for depths in TIMM_DEPTHS]} blocks and a stem of one of "
                f"{[list(channels) for channels in TIMM_STEMS]} channels."
            )
        return f"resnet{TIMM_DEPTHS[self.depths]}{TIMM_STEMS[self.stem_channels]}"

    @property
    def last_stage_dilations(self) -> tuple[int, ...]:
        """Dilation of the 3x3 convolution of each block at stride 32.

        No name or shape tells it: the original's ResNets with a deep stem (DeepLab's) have (1, 2, 4), the others none.
        """
        return (1, 2, 4) if len(self.stem_channels) == 3 else (1,) * self.depths[-1]


@dataclass(frozen=True)
class SwinArchitecture:
    """A Swin Transformer on 4x4 patches."""

    embed_dim: int
    depths: tuple[int, ...]
    num_heads: tuple[int, ...]
    window_size: int
    mlp_ratio: float

    @property
    def last_channels(self) -> int:
        """Channels of the feature map at stride 32."""
        return self.embed_dim * 2 ** (len(self.depths) - 1)


@dataclass(frozen=True)
class DecoderArchitecture:
    """The transformer decoder.

    Attributes:
        channels: width.
        ffn_channels: width inside the feed-forward networks.
        num_layers: layers.
        num_queries: queries.
        has_input_projection: whether a 1x1 convolution brings the image features to the decoder's width.
    """

    channels: int
    ffn_channels: int
    num_layers: int
    num_queries: int
    has_input_projection: bool


@dataclass(frozen=True)
class Architecture:
    """A model of the original.

    Attributes:
        kind: MaskFormer or one of the baselines.
        backbone: ResNet or Swin.
        num_labels: classes without "no object".
        fpn_channels: width of the pixel decoder.
        mask_channels: channels of the per-pixel embeddings.
        num_encoder_layers: transformer encoder layers in the pixel decoder; 0 for the plain FPN.
        encoder_ffn_channels: width inside their feed-forward networks; 0 for the plain FPN.
        decoder: the transformer decoder; None for PerPixelBaseline, which has none.
        pixel_decoder_prefix: how the names of the pixel decoder begin in this file; the original's code changed it.
    """

    kind: Kind
    backbone: ResNetArchitecture | SwinArchitecture
    num_labels: int
    fpn_channels: int
    mask_channels: int
    num_encoder_layers: int
    encoder_ffn_channels: int
    decoder: DecoderArchitecture | None
    pixel_decoder_prefix: str

    @property
    def enforces_input_projection(self) -> bool:
        """Whether image features are projected that have the decoder's width already (ENFORCE_INPUT_PROJ)."""
        memory_channels = self.fpn_channels if self.num_encoder_layers else self.backbone.last_channels
        return (
            self.decoder is not None and self.decoder.has_input_projection and self.decoder.channels == memory_channels
        )


def infer_architecture(weights: Mapping[str, Tensor]) -> Architecture:
    """Which model these weights are of, told from their names and shapes.

    Raises:
        LayoutError: a weight that the architecture is read from is missing (it is named), or nothing is known.
    """
    prefix = "sem_seg_head"
    if any(name.startswith("sem_seg_head.pixel_decoder.") for name in weights):
        prefix = "sem_seg_head.pixel_decoder"
    kind = _infer_kind(weights)
    num_encoder_layers = _count(weights, prefix + r"\.transformer\.encoder\.layers\.(\d+)\.")
    if kind is Kind.MASKFORMER:
        num_labels = _shape(weights, "sem_seg_head.predictor.class_embed.weight")[0] - 1
    elif kind is Kind.PER_PIXEL:
        num_labels = _shape(weights, "sem_seg_head.predictor.weight")[0]
    else:  # one query to a class
        num_labels = _shape(weights, "sem_seg_head.predictor.query_embed.weight")[0]
    mask_channels, fpn_channels = _shape(weights, f"{prefix}.mask_features.weight")[:2]
    return Architecture(
        kind=kind,
        backbone=_infer_backbone(weights),
        num_labels=num_labels,
        fpn_channels=fpn_channels,
        mask_channels=mask_channels,
        num_encoder_layers=num_encoder_layers,
        encoder_ffn_channels=(
            _shape(weights, f"{prefix}.transformer.encoder.layers.0.linear1.weight")[0] if num_encoder_layers else 0
        ),
        decoder=None if kind is Kind.PER_PIXEL else _infer_decoder(weights),
        pixel_decoder_prefix=prefix,
    )


def _infer_kind(weights: Mapping[str, Tensor]) -> Kind:
    if any(name.startswith("sem_seg_head.predictor.class_embed.") for name in weights):
        return Kind.MASKFORMER
    if any(name.startswith("sem_seg_head.predictor.query_embed.") for name in weights):
        return Kind.PER_PIXEL_PLUS
    if "sem_seg_head.predictor.weight" in weights:
        return Kind.PER_PIXEL
    raise LayoutError(
        "The checkpoint is of no MaskFormer or per-pixel baseline: it has no weights under sem_seg_head.predictor. "
        f"Its names begin with {', '.join(sorted({name.split('.')[0] for name in weights}))}."
    )


def _infer_decoder(weights: Mapping[str, Tensor]) -> DecoderArchitecture:
    predictor = "sem_seg_head.predictor"
    num_queries, channels = _shape(weights, f"{predictor}.query_embed.weight")
    return DecoderArchitecture(
        channels=channels,
        ffn_channels=_shape(weights, f"{predictor}.transformer.decoder.layers.0.linear1.weight")[0],
        num_layers=_count(weights, r"sem_seg_head\.predictor\.transformer\.decoder\.layers\.(\d+)\."),
        num_queries=num_queries,
        has_input_projection=any(name.startswith(f"{predictor}.input_proj.") for name in weights),
    )


def _infer_backbone(weights: Mapping[str, Tensor]) -> ResNetArchitecture | SwinArchitecture:
    if any(name.startswith("backbone.patch_embed.") for name in weights):
        return _infer_swin(weights)
    if any(name.startswith("backbone.stem.") for name in weights):
        return _infer_resnet(weights)
    raise LayoutError(
        "The backbone is neither a ResNet of detectron2 (backbone.stem.*) nor a Swin (backbone.patch_embed.*)."
    )


def _infer_resnet(weights: Mapping[str, Tensor]) -> ResNetArchitecture:
    num_convs = max(_numbers(weights, r"backbone\.stem\.conv(\d+)\."), default=1)
    return ResNetArchitecture(
        depths=tuple(_count(weights, rf"backbone\.res{stage}\.(\d+)\.") for stage in (2, 3, 4, 5)),
        stem_channels=tuple(
            _shape(weights, f"backbone.stem.conv{number}.weight")[0] for number in range(1, num_convs + 1)
        ),
    )


def _infer_swin(weights: Mapping[str, Tensor]) -> SwinArchitecture:
    embed_dim = _shape(weights, "backbone.patch_embed.proj.weight")[0]
    stages = range(_count(weights, r"backbone\.layers\.(\d+)\."))
    tables = [
        _shape(weights, f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table") for stage in stages
    ]
    return SwinArchitecture(
        embed_dim=embed_dim,
        depths=tuple(_count(weights, rf"backbone\.layers\.{stage}\.blocks\.(\d+)\.") for stage in stages),
        num_heads=tuple(heads for _, heads in tables),
        window_size=(math.isqrt(tables[0][0]) + 1) // 2,  # a table has a row for each of (2 w - 1)^2 offsets
        mlp_ratio=_shape(weights, "backbone.layers.0.blocks.0.mlp.fc1.weight")[0] / embed_dim,
    )


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in weights:
        raise LayoutError(f"The checkpoint has no weight {name}, so its architecture cannot be told.")
    return tuple(weights[name].shape)


def _numbers(names: Iterable[str], pattern: str) -> set[int]:
    matches = (re.match(pattern, name) for name in names)
    return {int(match[1]) for match in matches if match}


def _count(names: Iterable[str], pattern: str) -> int:
    """One more than the highest number in `names`: a gap is found later, as missing names."""
    return max(_numbers(names, pattern), default=-1) + 1
