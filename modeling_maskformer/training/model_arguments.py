"""ModelArguments: which model to train, and how to build it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from transformers import PreTrainedModel

from ..backbone import create_timm_model, load_backbone_weights
from ..configuration_maskformer import MaskFormerConfig
from ..inference.loading import load_model
from ..modeling_maskformer import MaskFormerForInstanceSegmentation
from ..swin import DROP_PATH_RATE, SWINS, Swin, load_swin_weights

# flag -> default; a checkpoint has these built in
ARCHITECTURE = {
    "fpn_feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "encoder_layers": 0,
    "decoder_layers": 6,
    "attention_heads": 8,
    "ffn_dim": 2048,
    "num_queries": 100,
}


@dataclass
class ModelArguments:
    """Either a checkpoint to fine-tune (`model`) or a backbone to put a new MaskFormer on (`backbone`).

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
    backbone: str | None = field(
        default=None,
        metadata={
            "help": "Instead of --model: name of a timm model to build a new MaskFormer on, e.g. resnet50, "
            "tf_efficientnet_lite0, vit_small_patch14_dinov2, any that gives feature maps; or the Swin Transformers "
            f"of the paper: {', '.join(SWINS)}."
        },
    )
    backbone_weights: str | None = field(
        default=None,
        metadata={
            "help": "Where the weights of --backbone come from: pretrained (timm's, from the Hub; the default), "
            "random, or the path of a .safetensors file."
        },
    )
    last_stage_dilations: list[int] | None = field(
        default=None,
        metadata={
            "help": "Of a timm ResNet: the dilation of the 3x3 convolution of each block of the last stage; 1 2 4 "
            "with resnet101s is the paper's R101c. Default: none."
        },
    )
    drop_path: float | None = field(
        default=None,
        metadata={
            "help": f"Stochastic depth of {', '.join(SWINS)}: the part of training images for which the last block "
            f"is left out, less for those before. Default {DROP_PATH_RATE}."
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
    encoder_layers: int | None = field(
        default=None,
        metadata={
            "help": "Transformer encoder layers before the pixel decoder. Default 0; the paper has 6 for panoptic "
            "segmentation with ResNets."
        },
    )
    decoder_layers: int | None = field(
        default=None, metadata={"help": "Layers of the transformer decoder. Default 6."}
    )
    attention_heads: int | None = field(
        default=None, metadata={"help": "Attention heads of each encoder and decoder layer. Default 8."}
    )
    ffn_dim: int | None = field(
        default=None, metadata={"help": "Hidden channels of each layer's feed-forward part. Default 2048."}
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
    mask_loss: Literal["points", "dense"] = field(
        default="points",
        metadata={
            "help": "Mask losses at --num_points sampled points of each mask (several times cheaper), or dense: at "
            "every pixel, as in the paper."
        },
    )
    num_points: int = field(default=12544, metadata={"help": "Points per mask with --mask_loss points."})
    importance_sample_ratio: float = field(
        default=0.75,
        metadata={
            "help": "Part of these points, in [0, 1], that is drawn where the mask is uncertain, as in Mask2Former; "
            "the rest is uniform. 0: all uniform, which estimates the paper's loss."
        },
    )

    def __post_init__(self) -> None:
        if (self.model is None) == (self.backbone is None):
            given = "neither" if self.model is None else "both"
            raise ValueError(
                f"Pass either --model (a checkpoint to fine-tune) or --backbone (a timm model), got {given}."
            )
        if self.model is not None:
            for name in ("backbone_weights", "last_stage_dilations", "drop_path", *ARCHITECTURE):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} goes with --backbone; the checkpoint of --model has it built in.")
            if self.train_batch_norm is None:
                self.train_batch_norm = False
            return
        for name, default in ARCHITECTURE.items():
            if getattr(self, name) is None:
                setattr(self, name, default)
            least = min(1, default)
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}.")
        if self.backbone in SWINS and self.drop_path is None:
            self.drop_path = DROP_PATH_RATE
        if self.drop_path is not None:
            if self.backbone not in SWINS:
                raise ValueError(f"--drop_path goes with --backbone {', '.join(SWINS)}, got {self.backbone}.")
            if not 0 <= self.drop_path < 1:
                raise ValueError(f"--drop_path must lie in [0, 1), got {self.drop_path}.")
        if self.backbone_weights is None:
            self.backbone_weights = "pretrained"
        if self.train_batch_norm is None:
            self.train_batch_norm = self.backbone_weights == "random"


def build_model(arguments: ModelArguments, id2label: Mapping[int, str], task: str) -> PreTrainedModel:
    """A MaskFormer for these classes, new on a backbone or from a checkpoint; its config remembers the task.

    Raises:
        ValueError, OSError: the backbone, its weights or the checkpoint cannot be used, in a sentence.
    """
    settings = {
        "id2label": dict(id2label),
        "label2id": {label: class_id for class_id, label in id2label.items()},
        "mask_loss": arguments.mask_loss,
        "num_points": arguments.num_points,
        "importance_sample_ratio": arguments.importance_sample_ratio,
        "use_auxiliary_loss": True,
        "freeze_backbone_batch_norm": not arguments.train_batch_norm,
    }
    if arguments.model is not None:
        model = load_model(arguments.model, ignore_mismatched_sizes=True, **settings)
        model.config.segmentation_task = task
        return model
    if arguments.backbone in SWINS:
        backbone_config = SWINS[arguments.backbone].config(arguments.drop_path)
    else:
        backbone_config = {"model_type": "timm_backbone", "backbone": arguments.backbone}
    config = MaskFormerConfig(
        backbone_config=backbone_config,
        decoder_config={
            "model_type": "detr",
            "d_model": arguments.hidden_dim,
            "num_queries": arguments.num_queries,
            "decoder_layers": arguments.decoder_layers,
            "decoder_attention_heads": arguments.attention_heads,
            "decoder_ffn_dim": arguments.ffn_dim,
            "encoder_attention_heads": arguments.attention_heads,
            "encoder_ffn_dim": arguments.ffn_dim,
        },
        last_stage_dilations=arguments.last_stage_dilations,
        pixel_decoder_layers=arguments.encoder_layers,
        fpn_feature_size=arguments.fpn_feature_size,
        mask_feature_size=arguments.mask_feature_size,
        segmentation_task=task,
        **settings,
    )
    model = MaskFormerForInstanceSegmentation(config)
    if arguments.backbone_weights == "pretrained":
        load_timm_weights(model, SWINS.get(arguments.backbone))
    elif arguments.backbone_weights != "random":
        load_backbone_weights(model.get_backbone(), arguments.backbone_weights)
    return model


def load_timm_weights(model: MaskFormerForInstanceSegmentation, swin: Swin | None = None) -> None:
    """Puts timm's pretrained weights, downloaded from the Hub or cached, into the backbone.

    Args:
        model: on a timm backbone; or, with `swin`, on that Swin of transformers.
        swin: whose weights.

    Raises:
        OSError: they cannot be had.
    """
    config = model.config.backbone_config
    name = config.backbone if swin is None else swin.timm_name
    try:
        if swin is not None:
            pretrained = timm.create_model(name, pretrained=True)
        else:
            pretrained = create_timm_model(config, pretrained=True)
    except Exception as error:  # timm passes on whatever the Hub, the network or the file system raises
        raise OSError(
            f"timm's pretrained weights of {name} could not be loaded ({error}). Without the Hub, pass "
            "--backbone_weights with the path of a .safetensors file, or random."
        ) from error
    if swin is not None:
        load_swin_weights(model.get_backbone(), pretrained.state_dict())
    else:
        model.get_backbone()._backbone.load_state_dict(pretrained.state_dict())


def normalization_of(backbone: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the pixels (in [0, 1]) that timm's weights of `backbone` were trained on."""
    settings = timm.get_pretrained_cfg(SWINS[backbone].timm_name if backbone in SWINS else backbone)
    if settings is None:
        return IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    return settings.mean, settings.std
