"""Weights and architecture of the original -> this package's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..architectures import ARCHITECTURES
from ..backbone.swin import swin_config
from .architecture import Architecture, Kind, ResNetArchitecture, SwinArchitecture, infer_architecture
from .errors import LayoutError
from .names import name_table
from .unpickle import read_checkpoint

# No shape tells these; every model of the original has them.
NUM_HEADS = 8
DROPOUT = 0.1


def convert_weights(weights: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """The weights under this package's names. Every weight of the file is used, and none is made up but constants.

    Args:
        weights: names and tensors as `read_checkpoint` gives them.
        architecture: as `infer_architecture` gives it for them.

    Raises:
        LayoutError: names are missing or unknown (all are listed), or a tensor cannot be split into its parts.
    """
    table = name_table(architecture)
    missing = [name for name in table.targets if name not in weights]
    unknown = [name for name in weights if name not in table.targets]
    if missing or unknown:
        raise LayoutError(
            f"The checkpoint does not fit the {architecture.kind.value} that its other names describe. "
            f"Missing: {', '.join(missing) or 'none'}. Unknown: {', '.join(unknown) or 'none'}."
        )
    converted = dict(table.constants)
    for name, tensor in weights.items():
        targets = table.targets[name]
        if len(targets) == 1:
            converted[targets[0]] = tensor
            continue
        if tensor.ndim == 0 or len(tensor) % len(targets):
            raise LayoutError(f"{name} has shape {tuple(tensor.shape)}, expected {len(targets)} equal parts of rows.")
        parts = (part.clone() for part in tensor.chunk(len(targets)))
        converted.update(zip(targets, parts, strict=True))
    return converted


def build_config(
    architecture: Architecture, no_object_weight: float | None = None, labels: Sequence[str] | None = None
) -> PreTrainedConfig:
    """The config of a model of this architecture.

    Args:
        architecture: as `infer_architecture` gives it.
        no_object_weight: weight of "no object" in the classification loss; None for the baselines, which have none.
        labels: the names of its classes, in order; default class_0, class_1, ...

    Raises:
        ValueError: not as many labels as the model has classes.
    """
    if labels is None:
        labels = [f"class_{number}" for number in range(architecture.num_labels)]
    if len(labels) != architecture.num_labels:
        raise ValueError(
            f"There are {len(labels)} label names, but the checkpoint has {architecture.num_labels} classes."
        )
    fields = {}
    if architecture.decoder is not None:
        fields["enforce_input_projection"] = architecture.enforces_input_projection
    if no_object_weight is not None:
        fields["no_object_weight"] = no_object_weight
    config_class = ARCHITECTURES[architecture.kind.name.lower()].config_class
    return config_class(
        backbone_config=build_backbone_config(architecture.backbone),
        last_stage_dilations=list_dilations(architecture.backbone),
        decoder_config=build_decoder_config(architecture),
        fpn_feature_size=architecture.fpn_channels,
        mask_feature_size=architecture.mask_channels,
        pixel_decoder_layers=architecture.num_encoder_layers,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **fields,
    )


def load_original(path: str | Path) -> PreTrainedModel:
    """The model in a `.pkl` file of the original's model zoo, in evaluation mode.

    The file does not say the task: where `find_preset` tells it, set `model.config.segmentation_task` before saving.

    Args:
        path: the file.

    Raises:
        FileNotFoundError, CheckpointError: see `read_checkpoint`, `infer_architecture` and `load_weights`.
    """
    weights = read_checkpoint(path)
    return load_weights(weights, infer_architecture(weights))


def load_weights(
    weights: Mapping[str, Tensor], architecture: Architecture, labels: Sequence[str] | None = None
) -> PreTrainedModel:
    """The model of this architecture with these weights of the original, in evaluation mode.

    Raises:
        CheckpointError: see `convert_weights` and `build_config`; or a weight does not have the shape that
            follows from the others.
        ValueError: not as many labels as the model has classes.
    """
    converted = convert_weights(weights, architecture)
    no_object_weight = None
    if architecture.kind is Kind.MASKFORMER:
        no_object_weight = round(converted["criterion.empty_weight"][-1].item(), 6)  # 0.1, not exact in float32
    model_class = ARCHITECTURES[architecture.kind.name.lower()].model_class
    model = model_class(build_config(architecture, no_object_weight, labels))
    try:
        model.load_state_dict(converted)
    except RuntimeError as error:
        raise LayoutError(f"The weights do not fit the model that they describe: {error}") from error
    return model.eval()


def build_decoder_config(architecture: Architecture) -> dict:
    """The `decoder_config`, which also tells the sizes of the pixel decoder's encoder layers."""
    decoder, encoder_ffn_channels = architecture.decoder, architecture.encoder_ffn_channels
    fields = {"model_type": "detr", "encoder_attention_heads": NUM_HEADS, "dropout": DROPOUT}
    if decoder is not None:
        fields |= {
            "d_model": decoder.channels,
            "decoder_layers": decoder.num_layers,
            "decoder_ffn_dim": decoder.ffn_channels,
            "decoder_attention_heads": NUM_HEADS,
            "encoder_ffn_dim": decoder.ffn_channels,
            "num_queries": decoder.num_queries,
        }
    return fields | ({"encoder_ffn_dim": encoder_ffn_channels} if encoder_ffn_channels else {})


def build_backbone_config(backbone: ResNetArchitecture | SwinArchitecture) -> dict:
    """The `backbone_config` of this backbone: a timm ResNet or transformers' Swin, without pretrained weights."""
    if isinstance(backbone, ResNetArchitecture):
        return {"model_type": "timm_backbone", "backbone": backbone.timm_name, "use_pretrained_backbone": False}
    return swin_config(
        backbone.embed_dim,
        backbone.depths,
        backbone.num_heads,
        backbone.window_size,
        image_size=32 * backbone.window_size,  # the size it was pretrained with: 224 or 384
        mlp_ratio=backbone.mlp_ratio,
    )


def list_dilations(backbone: ResNetArchitecture | SwinArchitecture) -> list[int] | None:
    """The `last_stage_dilations` of this backbone: None where nothing is dilated."""
    dilations = backbone.last_stage_dilations if isinstance(backbone, ResNetArchitecture) else ()
    return list(dilations) if any(dilation > 1 for dilation in dilations) else None
