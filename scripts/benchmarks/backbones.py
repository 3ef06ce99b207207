"""The backbones that the benchmarks put models on."""

from modeling_maskformer.backbone.swin import SWINS, Swin

SWIN_TINY = SWINS["swin-tiny"].config()
BACKBONES = {
    "Swin-T": SWIN_TINY,
    "ResNet-50": {"model_type": "timm_backbone", "backbone": "resnet50"},
    "tf_efficientnet_lite0": {"model_type": "timm_backbone", "backbone": "tf_efficientnet_lite0"},
}
MINIATURE = Swin(16, (1, 1, 1, 1), (1, 2, 4, 8), 4, 64, timm_name="").config()  # to see that a benchmark works
