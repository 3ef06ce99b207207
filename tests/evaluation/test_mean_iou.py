"""Mean IoU against a loop over pixels, and its treatment of pixels without a class."""

import math

import numpy as np
import pytest
import torch

from modeling_maskformer.evaluation import MeanIoU
from modeling_maskformer.targets import Segments, segments_from_class_map, segments_from_masks

LABELS = {0: "road", 1: "sky", 2: "tree", 3: "car"}


def by_loop(predictions, references, num_labels, void):
    """IoU and accuracy of each class and pixel accuracy, counted pixel by pixel; -1 is no class."""
    intersection, union, referred = [0] * num_labels, [0] * num_labels, [0] * num_labels
    for prediction, reference in zip(predictions, references, strict=True):
        for predicted, expected in zip(prediction.flatten().tolist(), reference.flatten().tolist(), strict=True):
            if expected == void:
                continue
            for label in range(num_labels):
                intersection[label] += predicted == label and expected == label
                union[label] += predicted == label or expected == label
                referred[label] += expected == label
    iou = [i / u if u else math.nan for i, u in zip(intersection, union, strict=True)]
    accuracy = [i / r if r else math.nan for i, r in zip(intersection, referred, strict=True)]
    return iou, accuracy, sum(intersection) / sum(referred)


def test_values_equal_a_loop_over_pixels():
    generator = torch.Generator().manual_seed(3)
    predictions = [torch.randint(-1, 4, (9, 7), generator=generator) for _ in range(3)]
    references = [torch.randint(0, 5, (9, 7), generator=generator) for _ in range(3)]
    references = [torch.where(reference == 4, 255, reference) for reference in references]
    metric = MeanIoU(LABELS)
    for prediction, reference in zip(predictions, references, strict=True):
        metric.update(prediction, segments_from_class_map(reference))
    results = metric.compute()
    iou, accuracy, pixel_accuracy = by_loop(predictions, references, 4, void=255)
    assert results["mean_iou"] == pytest.approx(sum(iou) / 4, abs=1e-12)
    assert results["mean_accuracy"] == pytest.approx(sum(accuracy) / 4, abs=1e-12)
    assert results["pixel_accuracy"] == pytest.approx(pixel_accuracy, abs=1e-12)
    for class_id, label in LABELS.items():
        assert results["per_class"][label]["iou"] == pytest.approx(iou[class_id], abs=1e-12)
        assert results["per_class"][label]["accuracy"] == pytest.approx(accuracy[class_id], abs=1e-12)


def test_images_are_summed_not_averaged():
    metric = MeanIoU({0: "a"}, ignore_index=255)
    metric.update(np.zeros((1, 9), dtype=np.int64), segments_from_class_map(np.zeros((1, 9), dtype=np.int64)))
    metric.update(np.array([[255]]), segments_from_class_map(np.array([[0]])))
    assert metric.compute()["mean_iou"] == pytest.approx(0.9)


def test_void_pixels_of_the_reference_count_nowhere():
    metric = MeanIoU(LABELS)
    metric.update(torch.tensor([[0, 1, 2]]), segments_from_class_map([[0, 1, 255]]))
    results = metric.compute()
    assert results["mean_iou"] == results["pixel_accuracy"] == 1.0
    assert math.isnan(results["per_class"]["tree"]["iou"])


def test_a_pixel_predicted_as_no_class_is_a_miss():
    metric = MeanIoU(LABELS, ignore_index=255)
    metric.update(torch.tensor([[0, 255, 255, 1]]), segments_from_class_map([[0, 0, 255, 1]]))
    results = metric.compute()
    assert results["per_class"]["road"] == {"iou": 0.5, "accuracy": 0.5}
    assert results["per_class"]["sky"] == {"iou": 1.0, "accuracy": 1.0}
    assert results["pixel_accuracy"] == pytest.approx(2 / 3)


def test_a_class_absent_from_both_is_left_out_and_one_only_predicted_is_zero():
    metric = MeanIoU(LABELS)
    metric.update(torch.tensor([[0, 0, 2]]), segments_from_class_map([[0, 0, 0]]))
    results = metric.compute()
    assert results["mean_iou"] == pytest.approx((2 / 3 + 0) / 2)
    assert results["mean_accuracy"] == pytest.approx(2 / 3)
    assert results["per_class"]["tree"]["iou"] == 0.0
    assert math.isnan(results["per_class"]["sky"]["iou"])


def test_pixels_of_no_segment_are_background_and_crowd_is_its_class():
    ids = torch.tensor([[1, 2, 0, 0]], dtype=torch.uint8)
    metric = MeanIoU({0: "person"})
    metric.update(torch.tensor([[0, 0, 0, -1]]), Segments(ids, [0, 0], [False, True]))
    results = metric.compute()
    assert results["mean_iou"] == pytest.approx(2 / 3)
    assert results["pixel_accuracy"] == 1.0


def test_overlapping_segments_need_one_class():
    masks = [[[True, True, False]], [[False, True, True]]]
    metric = MeanIoU(LABELS)
    metric.update(torch.tensor([[2, 2, 2]]), segments_from_masks(torch.tensor(masks), [2, 2]))
    assert metric.compute()["mean_iou"] == 1.0
    with pytest.raises(ValueError, match="image number 1: segments of the reference overlap"):
        metric.update(torch.tensor([[2, 2, 2]]), segments_from_masks(torch.tensor(masks), [2, 3]))


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (torch.tensor([[0, 4]]), "the prediction holds class 4; classes are 0 to 3"),
        (torch.tensor([[0, -2]]), "the prediction holds class -2"),
        (torch.tensor([[0, 1, 2]]), r"has shape \(1, 3\); the reference is 1 high and 2 wide"),
        (torch.tensor([[0.0, 0.5]]), "map of integers, got shape .* float32"),
    ],
)
def test_a_wrong_prediction_is_named(prediction, message):
    with pytest.raises(ValueError, match=message):
        MeanIoU(LABELS).update(prediction, segments_from_class_map([[0, 1]]))


def test_an_ignore_index_that_is_a_class_is_refused():
    with pytest.raises(ValueError, match="ignore_index 3 is also a class"):
        MeanIoU(LABELS, ignore_index=3)
