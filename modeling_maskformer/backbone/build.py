"""A backbone from its config, and what the recipes change in it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import AutoBackbone, PreTrainedConfig
from transformers.models.maskformer.configuration_maskformer_swin import MaskFormerSwinConfig

from .pyramid import STRIDES
from .swin_backbone import AnySizeSwinBackbone
from .timm_backbone import AnySizeTimmBackbone

SWIN_TYPES = ("swin", MaskFormerSwinConfig.model_type)


def build_backbone(backbone_config: PreTrainedConfig) -> nn.Module:
    """A backbone module with `channels` (of its feature maps) and, called on pixels, `feature_maps`, finest first.

    Those of transformers give four maps, at strides 4, 8, 16 and 32. Those of timm give what the model has, see
    `AnySizeTimmBackbone`; where that is not four maps, a `FeaturePyramid` makes four of them.
    """
    if backbone_config.model_type == "timm_backbone":
        return AnySizeTimmBackbone._from_config(backbone_config)
    if backbone_config.model_type in SWIN_TYPES:
        # transformers' MaskFormer checkpoints say "swin" for the variant that takes any input size. The config of the
        # module says its own name: by "swin" transformers and peft would rename weights to those of its other Swin
        fields = backbone_config.to_dict() | {"model_type": MaskFormerSwinConfig.model_type}
        backbone_config = MaskFormerSwinConfig.from_dict(fields)
        backbone_config.out_features = [f"stage{stage}" for stage in range(1, len(STRIDES) + 1)]
        return AnySizeSwinBackbone._from_config(backbone_config)
    backbone = AutoBackbone.from_config(backbone_config)
    if len(backbone.channels) != len(STRIDES):
        raise ValueError(
            f"The backbone {backbone_config.model_type!r} gives {len(backbone.channels)} feature maps, expected "
            f"{len(STRIDES)} (strides 4, 8, 16, 32): set out_features of backbone_config."
        )
    return backbone


def dilate_last_stage(backbone: nn.Module, dilations: Sequence[int]) -> None:
    """Dilates the 3x3 convolution of each block of a timm ResNet's last stage, in place; its stride stays 32.

    With 1, 2, 4 and the deep stem of timm's `resnet101s` this is the R101c of the paper (DeepLab's multi-grid).

    Args:
        backbone: as `build_backbone` gives it for a ResNet of bottleneck blocks.
        dilations: one for each block.

    Raises:
        ValueError: another kind of backbone, or not as many dilations as blocks.
    """
    stage = getattr(getattr(backbone, "_backbone", None), "layer4", ())
    convs = [block.conv2 for block in stage if hasattr(block, "conv3")]
    if not convs or any(not isinstance(conv, nn.Conv2d) or conv.kernel_size != (3, 3) for conv in convs):
        raise ValueError(
            "last_stage_dilations is for timm's ResNets of bottleneck blocks (resnet50, resnet101s, ...), got "
            f"{getattr(backbone.config, 'backbone', backbone.config.model_type)!r}."
        )
    if len(dilations) != len(convs):
        raise ValueError(
            f"last_stage_dilations has {len(dilations)} values, but the last stage of {backbone.config.backbone!r} "
            f"has {len(convs)} blocks."
        )
    for conv, dilation in zip(convs, dilations, strict=True):
        conv.dilation = conv.padding = (dilation, dilation)


def freeze_unused(backbone: nn.Module) -> None:
    """Keeps weights of `backbone` that no feature map uses as they are: else plain DDP waits for their gradients."""
    if isinstance(backbone, AnySizeSwinBackbone):
        backbone.freeze_unused()


def freeze_batch_norm(backbone: nn.Module) -> None:
    """Keeps weights and statistics of every BatchNorm in `backbone` as they are: small batches would spoil them."""
    for module in backbone.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.requires_grad_(False)


def keep_untrained_statistics(backbone: nn.Module) -> None:
    """Keeps the statistics of every BatchNorm whose weights are not trained: no file of an adapter would have them."""
    for module in backbone.modules():
        if isinstance(module, _BatchNorm) and module.weight is not None and not module.weight.requires_grad:
            module.eval()
