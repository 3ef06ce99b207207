"""The processor serves transformers' image-segmentation pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import tiny_model
from transformers import ResNetConfig, pipeline
from transformers.models.maskformer.configuration_maskformer import MaskFormerConfig
from transformers.models.maskformer.image_processing_maskformer import (
    MaskFormerImageProcessor as TransformersImageProcessor,
)
from transformers.models.maskformer.modeling_maskformer import MaskFormerForInstanceSegmentation
from transformers.pipelines.image_segmentation import ImageSegmentationPipeline

import modeling_maskformer  # noqa: F401  registers the pipeline
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


def test_a_semantic_model_gives_its_semantic_result_unless_something_else_is_asked(model, monkeypatch):
    monkeypatch.setattr(model.config, "segmentation_task", "semantic", raising=False)
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64})
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    image = image_of(60, 80)
    results = segmenter(image)
    assert_same(results, segmenter(image, subtask="semantic"))
    assert sum(np.asarray(result["mask"], dtype=int) for result in results).min() == 255  # every pixel has a class
    for subtask in ("instance", "panoptic"):
        found = segmenter(image, subtask=subtask, threshold=0.1, overlap_mask_area_threshold=0.0)
        assert found and all(result["score"] is not None for result in found)


def test_names_may_stand_under_the_strings_of_json(model, monkeypatch):
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64})
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    image = image_of(60, 80)
    expected = segmenter(image, subtask="semantic")
    monkeypatch.setattr(model.config, "id2label", {str(label): name for label, name in model.config.id2label.items()})
    assert expected and [result["label"] for result in segmenter(image, subtask="semantic")] == [
        result["label"] for result in expected
    ]


def test_images_come_from_a_generator_and_in_batches(model):
    processor = MaskFormerImageProcessor(size={"height": 64, "width": 64})
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    images = [image_of(60, 80), image_of(50, 40, 1), image_of(90, 70, 2)]
    alone = [segmenter(image) for image in images]
    for batch_size in (1, 2):
        found = list(segmenter((image for image in images), batch_size=batch_size))
        assert len(found) == 3
        for results, others in zip(found, alone, strict=True):
            assert_same(results, others)


def test_images_of_different_shape_share_a_batch_and_give_what_they_give_alone():
    torch.manual_seed(0)
    model = tiny_model().eval()
    with torch.no_grad():
        model.class_predictor.weight.normal_(0, 3)
    processor = MaskFormerImageProcessor(size={"shortest_edge": 48, "longest_edge": 96}, size_divisor=0)
    segmenter = pipeline("image-segmentation", model=model, image_processor=processor)
    images = [image_of(60, 80), image_of(80, 60, 1), image_of(50, 90, 2)]
    options = {"threshold": 0.1, "overlap_mask_area_threshold": 0.0}
    alone = [segmenter(image, **options) for image in images]
    assert any(alone)
    for results, others in zip(segmenter(images, batch_size=2, **options), alone, strict=True):
        assert [result["label"] for result in results] == [result["label"] for result in others]
        for result, other in zip(results, others, strict=True):
            assert result["score"] == pytest.approx(other["score"], abs=1e-4)
            differ = np.asarray(result["mask"]) != np.asarray(other["mask"])
            assert differ.mean() < 1e-3  # sums of a batch are rounded otherwise


def test_other_models_get_the_pipeline_of_transformers(model):
    ours = pipeline("image-segmentation", model=model, image_processor=MaskFormerImageProcessor())
    theirs = pipeline("image-segmentation", model=model, image_processor=TransformersImageProcessor())
    assert ours.is_ours and not theirs.is_ours
    image = image_of(64, 64)
    expected = ImageSegmentationPipeline(model=model, image_processor=TransformersImageProcessor())(image)
    assert_same(theirs(image), expected)
