"""`AutoImageProcessor` and `pipeline("image-segmentation")` use this package after the import."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from tiny import tiny_model

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation, MaskFormerModel


@pytest.fixture
def checkpoint(tmp_path):
    model = tiny_model(id2label={0: "person", 1: "sky", 2: "car", 3: "dog", 4: "tree"})
    with torch.no_grad():  # confident classes, so that something is segmented
        model.class_predictor.weight.mul_(20)
        model.class_predictor.bias[-1] = -20
    model.save_pretrained(tmp_path)
    MaskFormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128}, label_ids_to_fuse=[1, 4]
    ).save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def image():
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8))


def test_auto_image_processor_gives_ours(checkpoint):
    processor = transformers.AutoImageProcessor.from_pretrained(checkpoint)
    assert type(processor) is MaskFormerImageProcessor
    assert processor.label_ids_to_fuse == [1, 4]


@pytest.mark.parametrize("choice", [{"use_fast": False}, {"use_fast": True}, {"backend": "pil"}], ids=str)
def test_no_argument_brings_the_processor_of_transformers_back(checkpoint, choice):
    assert type(transformers.AutoImageProcessor.from_pretrained(checkpoint, **choice)) is MaskFormerImageProcessor
    segment = transformers.pipeline("image-segmentation", model=str(checkpoint), use_fast=choice.get("use_fast"))
    assert type(segment.image_processor) is MaskFormerImageProcessor


def test_a_config_imported_from_transformers_builds_and_loads_this_model(checkpoint, tmp_path):
    config = transformers.MaskFormerConfig.from_pretrained(checkpoint)
    assert type(config) is not MaskFormerConfig
    config.id2label = {0: "cat", 1: "dog"}
    for model in (
        MaskFormerForInstanceSegmentation(config),
        transformers.AutoModelForUniversalSegmentation.from_config(config),
        transformers.AutoModelForInstanceSegmentation.from_pretrained(
            checkpoint, config=config, ignore_mismatched_sizes=True
        ),
    ):
        assert type(model) is MaskFormerForInstanceSegmentation
        assert type(model.config) is MaskFormerConfig
        assert model.config.id2label == {0: "cat", 1: "dog"}
        assert model.class_predictor.out_features == 3
    assert type(transformers.AutoModel.from_config(config)) is MaskFormerModel
    transformers.models.maskformer.modeling_maskformer.MaskFormerForInstanceSegmentation(config)  # as before
    model.save_pretrained(tmp_path / "saved")
    again = transformers.AutoModelForUniversalSegmentation.from_pretrained(tmp_path / "saved")
    assert type(again) is MaskFormerForInstanceSegmentation
    assert again.config.id2label == {0: "cat", 1: "dog"}


@pytest.mark.parametrize("subtask", [None, "panoptic", "instance", "semantic"])
def test_pipeline_segments_an_image(checkpoint, image, subtask):
    segment = transformers.pipeline("image-segmentation", model=str(checkpoint))
    assert type(segment.model) is MaskFormerForInstanceSegmentation
    results = segment(image, subtask=subtask, threshold=0.1, overlap_mask_area_threshold=0.0)
    assert results
    for result in results:
        assert result["mask"].size == image.size
        assert result["label"] in segment.model.config.id2label.values()


def test_stuff_is_fused_without_an_argument(checkpoint, image):
    segment = transformers.pipeline("image-segmentation", model=str(checkpoint))
    results = segment(image, subtask="panoptic", threshold=0.0, overlap_mask_area_threshold=0.0)
    labels = [result["label"] for result in results]
    assert labels.count("sky") <= 1 and labels.count("tree") <= 1


def test_pipeline_and_processor_agree(checkpoint, image):
    segment = transformers.pipeline("image-segmentation", model=str(checkpoint))
    results = segment(image, subtask="semantic")
    inputs = segment.image_processor(images=[image], return_tensors="pt")
    with torch.no_grad():
        outputs = segment.model(**inputs)
    expected = segment.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(70, 90)])[0]
    for result in results:
        label = {name: index for index, name in segment.model.config.id2label.items()}[result["label"]]
        np.testing.assert_array_equal(np.asarray(result["mask"]) > 0, (expected == label).numpy())
