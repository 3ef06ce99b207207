"""ModelArguments: which model to train."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ...architectures import architecture_of
from ...backbone.swin import DROP_PATH_RATE, SWINS
from ...inference.loading import load_config
from .device_defaults import Machine, default_backbone

# flag -> default; a checkpoint has these built in
ARCHITECTURE = {
    "fpn_feature_size": 256,
    "mask_feature_size": 256,
    "hidden_dim": 256,
    "encoder_layers": 0,
    "decoder_layers": 6,
    "attention_heads": 8,
    "ffn_dim": 2048,
    "dropout": 0.1,
    "num_queries": 100,
}

# flag -> default; how the mask losses of matched queries are computed
MASK_LOSS = {"mask_loss": "points", "num_points": 12544, "importance_sample_ratio": 0.75}

# flag -> default of a new model, a checkpoint keeps its own; weights of these losses, where that of the classes is 1
LOSS_WEIGHTS = {"mask_weight": 10.0, "dice_weight": 2.5}

# flags of MaskFormer -> why the baselines do not have them
_NO_DECODER = "it has no transformer decoder"
_NO_MATCHING = "it has no queries to match with masks, its loss is the cross-entropy of each pixel"
_OF_DECODER = ("hidden_dim", "decoder_layers", "attention_heads", "ffn_dim", "dropout", "num_queries")
_LACKING_PLUS = {
    "num_queries": "it has one query for each class",
    **dict.fromkeys((*MASK_LOSS, *LOSS_WEIGHTS), _NO_MATCHING),
}
LACKING: dict[str, dict[str, str]] = {
    "maskformer": {},
    "per_pixel": {
        **dict.fromkeys(_OF_DECODER, _NO_DECODER),
        **dict.fromkeys((*MASK_LOSS, *LOSS_WEIGHTS), _NO_MATCHING),
    },
    "per_pixel_plus": _LACKING_PLUS,
}


@dataclass
class ModelArguments:
    """Either a checkpoint to fine-tune (`model`) or a backbone to put a new model on (`backbone`).

    Where neither is given, `choose_for` chooses a backbone for the machine.

    Raises:
        ValueError: both of the two, or a flag that cannot go with the one given.
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
            "tf_efficientnet_lite0, vit_small_patch14_dinov2, any that gives feature maps; or the Swin Transformers "
            f"of the paper: {', '.join(SWINS)}. Default: resnet50 on a GPU, tf_efficientnet_lite0 on a CPU."
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
        metadata={"help": "Channels of per-pixel and mask embeddings. Default 256."},
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
    dropout: float | None = field(
        default=None,
        metadata={
            "help": "Part of what each layer of the transformers adds, in [0, 1), that is left out at random while "
            "training. Default 0.1, as in the paper; 0 may help semantic segmentation, and harmed instances."
        },
    )
    num_queries: int | None = field(
        default=None,
        metadata={"help": "Queries: the most segments an image can get. Default 100, or more where images need it."},
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

    mask_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the focal loss of masks, where that of the classes' cross-entropy is 1. Default 10 "
            "(paper: 20), or the checkpoint's."
        },
    )
    dice_weight: float | None = field(
        default=None,
        metadata={
            "help": "Weight of the dice loss of masks, which counts thin and small segments as much as large ones. "
            "Default 2.5 (paper: 1), or the checkpoint's."
        },
    )

    def __post_init__(self) -> None:
        if self.model is not None and self.backbone is not None:
            raise ValueError("Pass either --model (a checkpoint to fine-tune) or --backbone (a timm model), got both.")
        if self.model is not None:
            for name in ("architecture", "backbone_weights", "last_stage_dilations", "drop_path", *ARCHITECTURE):
                if getattr(self, name) is not None:
                    raise ValueError(f"--{name} goes with --backbone; the checkpoint of --model has it built in.")
            if self.train_batch_norm is None:
                self.train_batch_norm = False
            return
        if self.architecture is None:
            self.architecture = "maskformer"
        self.refuse_flags_without_effect(self.architecture)
        self._queries_are_open = self.num_queries is None
        for name, default in ARCHITECTURE.items():
            if name in LACKING[self.architecture]:
                continue
            if getattr(self, name) is None:
                setattr(self, name, default)
            least = 1 if default >= 1 else 0
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, got {getattr(self, name)}.")
        if self.dropout is not None and self.dropout >= 1:
            raise ValueError(f"--dropout must be less than 1, got {self.dropout}.")
        if self.backbone is not None:
            self._settle_backbone()
        elif self.backbone_weights not in (None, "pretrained", "random"):
            raise ValueError(f"--backbone_weights {self.backbone_weights} needs --backbone: what they are weights of.")

    def choose_for(self, machine: Machine, num_segments: int) -> str | None:
        """Decides what was left open, for a machine and images of so many segments at most.

        Returns:
            Why the backbone was chosen; None where it was named, or comes with a checkpoint.
        """
        if self.model is not None:
            return None
        if self.architecture == "maskformer" and self._queries_are_open and num_segments > self.num_queries:
            self.num_queries = 50 * math.ceil(1.2 * num_segments / 50)
        if self.backbone is not None:
            return None
        self.backbone, reason = default_backbone(machine)
        self._settle_backbone()
        return reason

    def _settle_backbone(self) -> None:
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

    def refuse_flags_without_effect(self, architecture: str) -> None:
        """Raises a ValueError if a flag was given that has no meaning for this architecture."""
        for name, reason in LACKING[architecture].items():
            if getattr(self, name) is not None:
                raise ValueError(f"--{name} has no effect on a {architecture} model: {reason}.")

    def find_architecture(self) -> str:
        """The architecture to train: that of `--architecture`, or of the checkpoint of `--model`.

        Raises:
            ValueError: the checkpoint cannot be read, or its architecture lacks a flag that was given.
        """
        if self.model is None:
            return self.architecture
        architecture = architecture_of(load_config(self.model)).name
        self.refuse_flags_without_effect(architecture)
        return architecture
