"""The backbones that the benchmarks put models on."""

from modeling_maskformer.backbone.swin import SWINS, Swin

SWIN_TINY = SWINS["swin-tiny"].config()
RESNET_50 = {"model_type": "timm_backbone", "backbone": "resnet50"}
EFFICIENTNET_LITE0 = {"model_type": "timm_backbone", "backbone": "tf_efficientnet_lite0"}
MINIATURE = Swin(16, (1, 1, 1, 1), (1, 2, 4, 8), 4, 64, timm_name="").config()  # to see that a benchmark works
