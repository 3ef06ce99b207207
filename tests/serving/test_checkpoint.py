"""Pictures of several sizes, tasks and thresholds in one call are segmented as each alone."""

import numpy as np
import pytest
import torch
from PIL import Image
from served import small_checkpoint

from modeling_maskformer.inference.predictor import Predictor


def pictures():
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in [(40, 60), (60, 40), (50, 50)]
    ]


def test_each_request_is_answered_as_if_it_were_alone(checkpoint):
    wishes = [("panoptic", 0.0), ("semantic", None), ("instance", 0.2), ("panoptic", 0.6), ("instance", 0.2)]
    images = [*pictures(), *pictures()[:2]]
    requests = [checkpoint.request(image, *wish) for image, wish in zip(images, wishes, strict=True)]
    results = checkpoint.segment(requests)
    found = 0
    for request, result in zip(requests, results, strict=True):
        predictor = Predictor(checkpoint.model, checkpoint.image_processor, request.task, request.threshold)
        (expected,) = predictor([request.image])
        if request.task == "semantic":
            assert (result == expected).float().mean() > 0.99  # but for scores that are equal to rounding
            continue
        labels = [[info["label_id"] for info in each["segments_info"]] for each in (result, expected)]
        scores = [[info["score"] for info in each["segments_info"]] for each in (result, expected)]
        assert labels[0] == labels[1] and scores[0] == pytest.approx(scores[1], abs=1e-4)
        found += len(labels[0])
    assert found > 4


def test_what_was_left_out_is_what_the_checkpoint_was_trained_for(checkpoint):
    (image, *_) = pictures()
    assert checkpoint.request(image).task == "panoptic" and checkpoint.request(image).threshold == 0.8
    assert checkpoint.request(image, "instance").threshold == 0.5
    assert small_checkpoint("per_pixel").request(image).task == "semantic"


def test_a_baseline_segments_classes_only():
    baseline = small_checkpoint("per_pixel")
    assert baseline.tasks == ("semantic",)
    (image, *_) = pictures()
    (classes,) = baseline.segment([baseline.request(image)])
    assert classes.shape == (40, 60) and classes.dtype == torch.int64
    with pytest.raises(ValueError, match="cannot do panoptic segmentation, but semantic"):
        baseline.request(image, "panoptic")


def test_a_threshold_that_means_nothing_is_refused(checkpoint):
    (image, *_) = pictures()
    with pytest.raises(ValueError, match="no meaning for semantic"):
        checkpoint.request(image, "semantic", 0.5)
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], got 2"):
        checkpoint.request(image, "panoptic", 2)
