"""ModelArguments: which model to train, and how to build it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers import PreTrainedModel

from ..backbone import create_timm_model, load_backbone_weights
from ..inference.loading import CLASSES, check_task, load_config, load_model
from .architectures import CONFIG_CLASSES, LACKING, MASK_LOSS, architecture_of

# flag -> default; a checkpoint has these built in
ARCHITECTURE = {
    "fpn_feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "decoder_layers": 6,
    "attention_heads": 8,
    "ffn_dim": 2048,
    "num_queries": 100,
}


@dataclass
class ModelArguments:
    """Either a checkpoint to fine-tune (`model`) or a backbone to put a new model on (`backbone`).

    Raises:
        ValueError: both or neither of the two, or a flag that cannot go with the one given.
    """

    _argument_group_name = "model"

    model: str | None = field(
        default=None,
        metadata={
            "help": "Checkpoint to fine-tune: a folder, or a name on the Hub; of this package or of transformers' "
            "MaskFormer. Its classes are replaced by those of the dataset."
        },
    )
    architecture: Literal["maskformer", "per_pixel", "per_pixel_plus"] | None = field(
        default=None,
        metadata={
            "help": "What to build on --backbone: maskformer (the default), or one of the paper's baselines for "
            "semantic segmentation: per_pixel (PerPixelBaseline), per_pixel_plus (PerPixelBaseline+)."
        },
    )
    backbone: str | None = field(
        default=None,
        metadata={
            "help": "Instead of --model: name of a timm model to build a new model on, e.g. resnet50, "
            "swin_tiny_patch4_window7_224, vit_small_patch14_dinov2; any that gives feature maps."
        },
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={
            "help": "Where the weights of --backbone come from: pretrained (timm's, from the Hub; the default), "
            "random, or the path of a .safetensors file."
        },
    )
    fpn_feature_size: int | None = field(
        default=None, metadata={"help": "Channels of the pixel decoder, a multiple of 32. Default 256."}
    )
    mask_feature_size: int | None = field(
        default=None,
        metadata={"help": "Channels of per-pixel and mask embeddings, a multiple of 32. Default 256."},
    )
    hidden_dim: int | None = field(
        default=None, metadata={"help": "Channels of the transformer decoder. Default 256."}
    )
    decoder_layers: int | None = field(
        default=None, metadata={"help": "Layers of the transformer decoder. Default 6."}
    )
    attention_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of each decoder layer. Default 8."}
    )
    ffn_dim: int | None = field(
        default=None, metadata={"help": "Hidden channels of each decoder layer's feed-forward part. Default 2048."}
    )
    num_queries: int | None = field(
        default=None, metadata={"help": "Queries: the most segments an image can get. Default 100."}
    )
    train_batch_norm: bool | None = field(
        default=None,
        metadata={
            "help": "true: BatchNorm layers of the backbone learn and update their statistics; false: they stay as "
            "loaded, which small batches need. Default: true for --backbone_weights random, else false."
        },
    )
    mask_loss: Literal["points", "dense"] | None = field(
        default=None,
        metadata={
            "help": "points (the default): mask losses at --num_points sampled points of each mask, several times "
            "cheaper than dense: at every pixel, as in the paper."
        },
    )
    num_points: int | None = field(
        default=None, metadata={"help": "Points per mask with --mask_loss points. Default 12544."}
    )
    importance_sample_ratio: float | None = field(
        default=None,
        metadata={
            "help": "Part of these points, in [0, 1], that is drawn where the mask is uncertain, as in Mask2Former; "
            "the rest is uniform. Default 0.75. 0: all uniform, which estimates the paper's loss."
        },
    )

    def __post_init__(self) -> None:
        if (self.model is None) == (self.backbone is None):
            given = "neither" if self.model is None else "both"
            raise ValueError(
                f"Pass either --model (a checkpoint to fine-tune) or --backbone (a timm model), got {given}."
            )
        if self.model is not None:
            for name in ("architecture", "backbone_weights", *ARCHITECTURE):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} goes with --backbone; the checkpoint of --model has it built in.")
            if self.train_batch_norm is None:
                self.train_batch_norm = False
            return
        if self.architecture is None:
            self.architecture = "maskformer"
        self.refuse_flags_without_effect(self.architecture)
        for name, default in ARCHITECTURE.items():
            if name in LACKING[self.architecture]:
                continue
            if getattr(self, name) is None:
                setattr(self, name, default)
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, got {getattr(self, name)}.")
        if self.backbone_weights is None:
            self.backbone_weights = "pretrained"
        if self.train_batch_norm is None:
            self.train_batch_norm = self.backbone_weights == "random"

    def refuse_flags_without_effect(self, architecture: str) -> None:
        """Raises a ValueError if a flag was given that has no meaning for this architecture."""
        for name, reason in LACKING[architecture].items():
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} has no effect on a {architecture} model: {reason}.")

    def find_architecture(self) -> str:
        """The architecture to train: that of `--architecture`, or of the checkpoint of `--model`.

        Raises:
            ValueError: the checkpoint cannot be read, or its architecture has not all flags that were given.
        """
        if self.model is None:
            return self.architecture
        architecture = architecture_of(load_config(self.model))
        self.refuse_flags_without_effect(architecture)
        return architecture


def build_model(arguments: ModelArguments, id2label: Mapping[int, str], task: str) -> PreTrainedModel:
    """A model for these classes, new on a backbone or from a checkpoint; its config remembers the task.

    Raises:
        ValueError, OSError: the backbone, its weights or the checkpoint cannot be used, or not for the task; in a
            sentence.
    """
    architecture = arguments.find_architecture()
    config_class = CONFIG_CLASSES[architecture]
    check_task(config_class, task)
    settings = {
        "id2label": dict(id2label),
        "label2id": {label: class_id for class_id, label in id2label.items()},
        "freeze_backbone_batch_norm": not arguments.train_batch_norm,
    }
    if architecture == "maskformer":
        given = {name: getattr(arguments, name) for name in MASK_LOSS}
        settings |= MASK_LOSS | {name: value for name, value in given.items() if value is not None}
    if architecture != "per_pixel":
        settings["use_auxiliary_loss"] = True
    if arguments.model is not None:
        model = load_model(arguments.model, ignore_mismatched_sizes=True, **settings)
        model.config.segmentation_task = task
        return model
    decoder = {
        "d_model": arguments.hidden_dim,
        "num_queries": arguments.num_queries,
        "decoder_layers": arguments.decoder_layers,
        "decoder_attention_heads": arguments.attention_heads,
        "decoder_ffn_dim": arguments.ffn_dim,
    }
    config = config_class(
        backbone_config={"model_type": "timm_backbone", "backbone": arguments.backbone},
        # what an architecture has not is None in its arguments
        decoder_config={"model_type": "detr"} | {name: value for name, value in decoder.items() if value is not None},
        fpn_feature_size=arguments.fpn_feature_size,
        mask_feature_size=arguments.mask_feature_size,
        segmentation_task=task,
        **settings,
    )
    model_class, _ = CLASSES[config_class]
    model = model_class(config)
    if arguments.backbone_weights == "pretrained":
        load_timm_weights(model)
    elif arguments.backbone_weights != "random":
        load_backbone_weights(model.get_backbone(), arguments.backbone_weights)
    return model


def load_timm_weights(model: PreTrainedModel) -> None:
    """Puts timm's pretrained weights, downloaded from the Hub or cached, into the backbone.

    Raises:
        OSError: they cannot be had.
    """
    config = model.config.backbone_config
    try:
        pretrained = create_timm_model(config, pretrained=True)
    except Exception as error:  # timm passes on whatever the Hub, the network or the file system raises
        raise OSError(
            f"timm's pretrained weights of {config.backbone} could not be loaded ({error}). Without the Hub, pass "
            "--backbone_weights with the path of a .safetensors file, or random."
        ) from error
    model.get_backbone()._backbone.load_state_dict(pretrained.state_dict())


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels (in [0, 1]) that timm's weights of `backbone` were trained on."""
    settings = timm.get_pretrained_cfg(backbone)
    if settings is None:
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return settings.mean, settings.std
