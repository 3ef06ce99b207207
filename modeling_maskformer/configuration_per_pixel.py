"""PerPixelBaselineConfig and PerPixelBaselinePlusConfig: what the paper's two per-pixel baselines are built of."""

from __future__ import annotations

from typing import ClassVar

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .common.config_fields import (
    AttentionsOnRequest,
    check_decoder,
    check_keywords,
    check_num_labels,
    check_pixel_level,
    refuse_elsewhere,
    take_extended_decoder,
    take_timm_backbone,
)
from .configuration_maskformer import MaskFormerConfig


@strict
class PerPixelBaselineConfig(AttentionsOnRequest, PreTrainedConfig):
    """Configuration of `PerPixelBaselineForSemanticSegmentation`: the fields of `MaskFormerConfig` that it has.

    Args:
        backbone_config: as in `MaskFormerConfig`.
        last_stage_dilations: as in `MaskFormerConfig`.
        fpn_feature_size: channels of the pixel decoder, a multiple of 32.
        mask_feature_size: channels of the per-pixel embeddings.
        pixel_decoder_layers: transformer encoder layers on the stride-32 feature before the FPN; 0 for none.
        decoder_config: a `DetrConfig` (or dict). This baseline has no transformer decoder; read are `dropout`,
            `encoder_attention_heads` and `encoder_ffn_dim`, where there are encoder layers.
        freeze_backbone_batch_norm: as in `MaskFormerConfig`.
        segmentation_task: as in `MaskFormerConfig`.
    """

    model_type = "maskformer-per-pixel"
    sub_configs_defaults = MaskFormerConfig.sub_configs_defaults
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["hidden_states", "attentions", "auxiliary_logits", "loss_dict"]

    backbone_config: dict | PreTrainedConfig | None = None
    last_stage_dilations: list[int] | None = None
    fpn_feature_size: int = 256
    mask_feature_size: int = 256
    pixel_decoder_layers: int = 0
    decoder_config: dict | PreTrainedConfig | None = None
    freeze_backbone_batch_norm: bool = True
    segmentation_task: str | None = None

    def __post_init__(self, **kwargs):
        check_keywords(self, kwargs)
        check_num_labels(kwargs)
        take_extended_decoder(self)
        take_timm_backbone(self, kwargs)
        super().__post_init__(**kwargs)
        self.check()

    def check(self) -> None:
        """Raises a ValueError where a field is out of range: see `MaskFormerConfig`."""
        check_pixel_level(self)

    def to_dict(self) -> dict:
        """The fields as plain values, in a form that transformers' own MaskFormer refuses."""
        fields = super().to_dict()
        refuse_elsewhere(fields)
        return fields


@strict
class PerPixelBaselinePlusConfig(PerPixelBaselineConfig):
    """Configuration of `PerPixelBaselinePlusForSemanticSegmentation`: the fields above and those of its decoder.

    Args:
        decoder_config: as in `MaskFormerConfig`; but the model sets `num_queries` to the number of classes, since each
            query is one.
        enforce_input_projection: as in `MaskFormerConfig`.
        use_auxiliary_loss: whether every decoder layer's output is supervised, as in the paper.
        output_auxiliary_logits: whether the model puts out the class logits of every decoder layer.
    """

    model_type = "maskformer-per-pixel-plus"

    enforce_input_projection: bool = False
    use_auxiliary_loss: bool = True
    output_auxiliary_logits: bool = False

    def check(self) -> None:
        super().check()
        check_decoder(self)
