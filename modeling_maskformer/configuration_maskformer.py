"""MaskFormerConfig: the fields of transformers' config and the few of ours."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import MaskFormerConfig as TransformersMaskFormerConfig
from transformers import PreTrainedConfig

from .backbone import needs_pyramid, runs_in_transformers
from .common.config_fields import (
    AttentionsOnRequest,
    are_of_a_file,
    check_decoder,
    check_keywords,
    check_num_labels,
    check_pixel_level,
    is_count,
    refuse_elsewhere,
    take_extended_decoder,
    take_timm_backbone,
)

EXTENDED_MODEL_TYPE = "maskformer-extended"
MASK_LOSSES = ("dense", "points")
NON_FINITE_COSTS = ("raise", "ignore")
WEIGHTS = ("no_object_weight", "cross_entropy_weight", "mask_weight", "dice_weight")


@strict
class MaskFormerConfig(AttentionsOnRequest, TransformersMaskFormerConfig):
    """Configuration of `MaskFormerModel` and `MaskFormerForInstanceSegmentation`.

    It has every field of `transformers.MaskFormerConfig` with the same meaning, so a config of either library loads
    in the other (but see `to_dict`), and the fields below. One default differs: deep supervision is on, as in the
    paper.

    A keyword that is no field is refused. `backbone="resnet50"`, or the Hub's `"timm/resnet50.a1_in1k"`, stands for
    the `backbone_config` of this timm model, and `num_queries=100` for that field of `decoder_config`.

    Args:
        backbone_config: config of the backbone, as a config or a dict with `model_type`: `"swin"`, `"resnet"` (of
            transformers) or `"timm_backbone"` with `backbone` = name of a timm model. For timm the feature maps at
            strides 4, 8, 16 and 32 are found by themselves unless `out_indices` says otherwise. Where they are not
            four, as those of plain ViTs, a feature pyramid makes four of them. Images may have any size (what is done
            to them where the model wants certain ones: see `AnySizeTimmBackbone`).
        last_stage_dilations: for timm's ResNets of bottleneck blocks, the dilation of the 3x3 convolution of each
            block of the last stage, whose stride stays 32. R101c is timm's `resnet101s` with 1, 2, 4.
        decoder_config: a `DetrConfig` (or dict); read are `d_model`, `num_queries`, `decoder_layers`,
            `decoder_attention_heads`, `decoder_ffn_dim`, `dropout`, `attention_dropout`, `activation_dropout`
            and `activation_function`.
        pixel_decoder_layers: transformer encoder layers on the stride-32 feature before the FPN; 0 for none. The
            original has 6 for panoptic segmentation with ResNets. Heads and feed-forward width are
            `encoder_attention_heads` and `encoder_ffn_dim` of `decoder_config`, the width is `fpn_feature_size`.
        enforce_input_projection: whether image features are projected for the transformer decoder even where they
            have its width already.
        use_auxiliary_loss: whether every decoder layer's output is supervised (paper, section 3.4). Default True.
        mask_loss: how the mask losses sum over pixels. `"dense"` visits every pixel of the target (the paper);
            `"points"` samples `num_points` points per mask (Mask2Former), several times cheaper.
        num_points: points per matched mask with `mask_loss="points"`.
        oversample_ratio: random candidates per point, from which the uncertain ones are chosen.
        importance_sample_ratio: share of the points chosen for their uncertainty, in [0, 1]; the rest is uniform.
        non_finite_cost: what matching does where a cost is not finite, as when training has diverged. `"raise"` an
            error that names the decoder layer and the image, or `"ignore"` it: such a pair is matched only if no other
            is left, as in transformers.
        freeze_backbone_batch_norm: whether the backbone's BatchNorm layers keep the weights and statistics they were
            loaded with, as the paper does. Set to False to train a backbone from scratch: then those do whose weights
            require no gradient, as under adapters.
        segmentation_task: the task it was trained for, "semantic", "instance" or "panoptic"; None if it is not said.
        category_ids: for each class its id in the annotations it was trained on, such as COCO's categories, which
            files of results have too. None: those of the classes, 0 to K - 1.
    """

    model_type = "maskformer"
    # what Trainer's evaluation does not collect: all but the logits and the sizes of the images
    keys_to_ignore_at_inference: ClassVar[list[str]] = [
        "auxiliary_logits",
        "encoder_last_hidden_state",
        "pixel_decoder_last_hidden_state",
        "transformer_decoder_last_hidden_state",
        "encoder_hidden_states",
        "pixel_decoder_hidden_states",
        "transformer_decoder_hidden_states",
        "hidden_states",
        "attentions",
        "loss_dict",
    ]
    backbones_supported = ("swin", "maskformer-swin", "resnet", "timm_backbone")

    last_stage_dilations: list[int] | None = None
    pixel_decoder_layers: int = 0
    enforce_input_projection: bool = False
    use_auxiliary_loss: bool = True
    mask_loss: str = "dense"
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75
    non_finite_cost: str = "raise"
    freeze_backbone_batch_norm: bool = True
    segmentation_task: str | None = None
    category_ids: list[int] | None = None

    def __post_init__(self, **kwargs):
        check_keywords(self, kwargs, ("deep_supervision", "num_queries"))
        check_num_labels(kwargs)
        take_extended_decoder(self)
        take_timm_backbone(self, kwargs)
        deep_supervision = kwargs.pop("deep_supervision", None)
        num_queries = kwargs.pop("num_queries", None)
        if are_of_a_file(kwargs):  # where, as in transformers, the decoder's alone counts
            num_queries = None
        super().__post_init__(**kwargs)
        # beside it use_auxiliary_loss was written as off; if it is on, transformers switched it on since
        if deep_supervision is not None:
            self.use_auxiliary_loss = deep_supervision or (are_of_a_file(kwargs) and self.use_auxiliary_loss)
        if num_queries is not None:
            self.num_queries = num_queries
        self.check()

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs):
        """As transformers', but `category_ids` go with the names that they are of: other names have none."""
        names, earlier = (
            {int(k): v for k, v in (each or {}).items()}
            for each in (kwargs.get("id2label"), config_dict.get("id2label"))
        )
        if names and names != earlier:
            config_dict = config_dict | {"category_ids": None}
        return super().from_dict(config_dict, **kwargs)

    @property
    def num_queries(self) -> int:
        """That field of `decoder_config`, so that `from_pretrained(..., num_queries=7)` changes it."""
        return self.decoder_config.num_queries

    @num_queries.setter
    def num_queries(self, value: int) -> None:
        self.decoder_config.num_queries = value

    def check(self) -> None:
        """Checks the fields, which may have been set since, as by `from_pretrained(..., mask_loss="points")`.

        Raises:
            ValueError: a field is out of range.
        """
        check_pixel_level(self)
        check_decoder(self)
        if self.mask_loss not in MASK_LOSSES:
            raise ValueError(f"mask_loss must be one of {', '.join(MASK_LOSSES)}, got {self.mask_loss!r}.")
        if self.non_finite_cost not in NON_FINITE_COSTS:
            raise ValueError(
                f"non_finite_cost must be one of {', '.join(NON_FINITE_COSTS)}, got {self.non_finite_cost!r}."
            )
        for name in WEIGHTS:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be at least 0 and finite, got {getattr(self, name)!r}.")
        if not is_count(self.num_points):
            raise ValueError(f"num_points must be at least 1, got {self.num_points}.")
        if not isinstance(self.oversample_ratio, Real) or not 1 <= self.oversample_ratio < math.inf:
            raise ValueError(f"oversample_ratio must be at least 1, got {self.oversample_ratio!r}.")
        if not isinstance(self.importance_sample_ratio, Real) or not 0 <= self.importance_sample_ratio <= 1:
            raise ValueError(f"importance_sample_ratio must lie in [0, 1], got {self.importance_sample_ratio!r}.")

    def to_dict(self) -> dict:
        """The fields as plain values, in a form that plain transformers can run.

        With `use_auxiliary_loss` on, transformers' model fails in every plain forward. So it is written as off there,
        and as `deep_supervision` for this class, which reads it back. Where the model has parts that
        transformers' lacks, or a timm backbone that needs what `AnySizeTimmBackbone` does even for images in multiples
        of 32, the model types of it and of its decoder say so, so that the Auto classes and the classes there refuse
        it, instead of loading it without them.
        """
        fields = super().to_dict()
        if (
            self.pixel_decoder_layers
            or self.enforce_input_projection
            or self.last_stage_dilations is not None
            or needs_pyramid(self.backbone_config)
            or not runs_in_transformers(self.backbone_config)
        ):
            fields["model_type"] = EXTENDED_MODEL_TYPE
            refuse_elsewhere(fields)
        fields["deep_supervision"] = fields["use_auxiliary_loss"]
        fields["use_auxiliary_loss"] = False
        return fields

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs) -> tuple[dict, dict]:
        fields, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if fields.get("model_type") == EXTENDED_MODEL_TYPE:
            fields["model_type"] = cls.model_type  # the fields themselves say which parts there are
        return fields, kwargs


def own_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The config, as this package's where it is transformers' own MaskFormerConfig, whose fields mean the same."""
    if not isinstance(config, TransformersMaskFormerConfig) or isinstance(config, MaskFormerConfig):
        return config
    own = MaskFormerConfig.from_dict(config.to_dict())
    own._attn_implementation = config._attn_implementation  # which stands in no dictionary
    return own


@strict
class MaskFormerExtendedConfig(MaskFormerConfig):
    """What AutoConfig finds under the model type of such checkpoints: a door to MaskFormerConfig."""

    model_type = EXTENDED_MODEL_TYPE

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs) -> MaskFormerConfig:
        return MaskFormerConfig.from_dict(config_dict | {"model_type": MaskFormerConfig.model_type}, **kwargs)
