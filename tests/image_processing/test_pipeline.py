"""The processor serves transformers' image-segmentation pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, pipeline
from transformers.models.maskformer.configuration_maskformer import MaskFormerConfig
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentation

from image_processing import MaskFormerImageProcessor


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = MaskFormerConfig(
        fpn_feature_size=32,
        mask_feature_size=32,
        backbone_config=ResNetConfig(
            embedding_size=8,
            hidden_sizes=[8, 8, 16, 16],
            depths=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config={"model_type": "detr", "d_model": 32, "decoder_layers": 1, "num_queries": 6},
        num_labels=4,
    )
    config.id2label = {label: f"class {label}" for label in range(4)}
    model = MaskFormerForInstanceSegmentation(config).eval()
    # Untrained, all queries are alike: give each one a class and masks with both signs.
    with torch.no_grad():
        model.model.transformer_module.queries_embedder.weight.normal_(0, 10)
        model.class_predictor.weight.normal_(0, 3)
    return model


@pytest.mark.parametrize("subtask", [None, "panoptic", "instance", "semantic"])
def test_pipeline_gives_labels_masks_and_scores(model, subtask):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64}, label_ids_to_fuse=[0])
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    results = segmenter(
        image,
        **({} if subtask is None else {"subtask": subtask}),
        **({} if subtask == "semantic" else {"threshold": 0.1, "overlap_mask_area_threshold": 0.0}),
    )
    assert results
    for result in results:
        assert result["label"].startswith("class ")
        assert result["mask"].size == (80, 60) and set(np.unique(result["mask"])) <= {0, 255}
        assert (result["score"] is None) == (subtask == "semantic")
    if subtask != "instance":  # every pixel has one segment at most
        assert (sum(np.asarray(result["mask"], dtype=int) for result in results) <= 255).all()
