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


def image_of(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def assert_same(results, others):
    assert [(result["label"], result["score"]) for result in results] == [
        (result["label"], result["score"]) for result in others
    ]
    for result, other in zip(results, others, strict=True):
        np.testing.assert_array_equal(np.asarray(result["mask"]), np.asarray(other["mask"]))


def test_a_semantic_model_gives_its_semantic_result_unless_something_else_is_asked(model):
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64}, task="semantic")
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    image = image_of(60, 80)
    results = segmenter(image)
    assert_same(results, segmenter(image, subtask="semantic"))
    assert sum(np.asarray(result["mask"], dtype=int) for result in results).min() == 255  # every pixel has a class
    assert all(result["score"] is not None for result in segmenter(image, subtask="instance", threshold=0.1))
    with torch.no_grad():
        outputs = model(**processor(image, return_tensors="pt"))
    asked = processor.post_process_panoptic_segmentation(outputs, threshold=0.1)[0]
    unknown = MaskFormerImageProcessor().post_process_panoptic_segmentation(outputs, threshold=0.1)[0]
    assert torch.equal(asked["segmentation"], unknown["segmentation"])
    assert asked["segments_info"] == unknown["segments_info"]


def test_images_come_from_a_generator_and_in_batches(model):
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64}, task="semantic")
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    images = [image_of(60, 80), image_of(50, 40, 1), image_of(90, 70, 2)]
    alone = [segmenter(image) for image in images]
    for batch_size in (1, 2):
        found = list(segmenter((image for image in images), batch_size=batch_size))
        assert len(found) == 3
        for results, others in zip(found, alone, strict=True):
            assert_same(results, others)
