"""Any timm or transformers backbone -> features at strides 4, 8, 16 and 32."""

from .build import build_backbone, dilate_last_stage, freeze_batch_norm, freeze_unused, keep_untrained_statistics
from .pyramid import STRIDES, FeaturePyramid, needs_pyramid
from .timm_backbone import AnySizeTimmBackbone
from .timm_models import complete_timm_config, pretrained_timm_model, runs_in_transformers, timm_out_indices
from .weights import load_backbone_weights, put_weights

__all__ = [
    "STRIDES",
    "AnySizeTimmBackbone",
    "FeaturePyramid",
    "build_backbone",
    "complete_timm_config",
    "dilate_last_stage",
    "freeze_batch_norm",
    "freeze_unused",
    "keep_untrained_statistics",
    "load_backbone_weights",
    "needs_pyramid",
    "pretrained_timm_model",
    "put_weights",
    "runs_in_transformers",
    "timm_out_indices",
]
