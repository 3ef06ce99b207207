"""Mask AP against pycocotools run on COCO files, and against cases worked by hand."""

import json
import math

import numpy as np
import pytest
import torch
from id_maps import with_void
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from modeling_maskformer.evaluation import MaskAP
from modeling_maskformer.evaluation.metrics.rle import reference_rles
from modeling_maskformer.targets import Segments, segments_from_masks

PRECISIONS = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]
RECALLS = ["ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"]
LABELS = {0: "person", 1: "dog", 2: "kite"}


def result(masks, label_ids, scores):
    """An image's prediction as the post-processing returns it."""
    rles = [mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    return {
        "segmentation": [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles],
        "segments_info": [
            {"id": number, "label_id": label_id, "was_fused": False, "score": score}
            for number, (label_id, score) in enumerate(zip(label_ids, scores, strict=True))
        ],
    }


def rectangle(x, y, width, height, size=(130, 130)):
    mask = np.zeros(size, dtype=bool)
    mask[y : y + height, x : x + width] = True
    return mask


def random_scene(random):
    """Rectangles (x, y, width, height) of one image, with class, crowd flag; and noisy detections of most of them."""
    objects, detections = [], []
    for _ in range(random.integers(3, 9)):
        width, height = random.choice([10, 25, 50, 110], size=2)
        box = (*random.integers(0, 20 if max(width, height) == 110 else 70, size=2), width, height)
        class_id = int(random.integers(0, 2))  # class 2 is never there, but sometimes detected
        objects.append((tuple(map(int, box)), class_id, bool(random.random() < 0.2)))
        for _ in range(random.integers(0, 3)):
            noisy = np.maximum(np.array(box) + random.integers(-3, 4, size=4), [0, 0, 4, 4])
            wrong = random.random() < 0.2
            detections.append((tuple(map(int, noisy)), 2 if wrong else class_id, float(random.random())))
    return objects, detections


def by_pycocotools(scenes, folder):
    """COCO's twelve numbers and the AP of each class from files in COCO's format."""
    annotations, results = [], []
    for image_id, (objects, detections) in enumerate(scenes, start=50):
        for (x, y, width, height), class_id, crowd in objects:
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            segmentation = [polygon]
            if crowd:
                rle = mask_utils.frPyObjects([polygon], 130, 130)[0]
                segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 7,
                    "segmentation": segmentation,
                    "area": width * height,
                    "bbox": [x, y, width, height],
                    "iscrowd": int(crowd),
                }
            )
        for (x, y, width, height), class_id, score in detections:
            rle = mask_utils.encode(np.asfortranarray(rectangle(x, y, width, height), dtype=np.uint8))
            segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
            results.append(
                {"image_id": image_id, "category_id": class_id + 7, "segmentation": segmentation, "score": score}
            )
    images = [{"id": 50 + number, "height": 130, "width": 130} for number in range(len(scenes))]
    categories = [{"id": class_id + 7, "name": name} for class_id, name in LABELS.items()]
    (folder / "gt.json").write_text(
        json.dumps({"images": images, "categories": categories, "annotations": annotations})
    )
    (folder / "dt.json").write_text(json.dumps(results))
    truth = COCO(str(folder / "gt.json"))
    detected = truth.loadRes(str(folder / "dt.json"))

    def statistics(category_ids):
        evaluation = COCOeval(truth, detected, "segm")
        evaluation.params.catIds = category_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return evaluation.stats

    return statistics([7, 8, 9]), [statistics([category_id])[:2] for category_id in (7, 8, 9)]


def reference_of(objects):
    masks = [rectangle(*box) for box, _, _ in objects]
    return segments_from_masks(masks, [entry[1] for entry in objects], [entry[2] for entry in objects])


def test_values_equal_those_of_pycocotools_on_coco_files(tmp_path):
    random = np.random.default_rng(5)
    scenes = [random_scene(random) for _ in range(6)]
    assert any(crowd for objects, _ in scenes for _, _, crowd in objects)
    metric = MaskAP(LABELS)
    for objects, detections in scenes:
        prediction = result(
            [rectangle(*d[0]) for d in detections], [d[1] for d in detections], [d[2] for d in detections]
        )
        metric.update(prediction, reference_of(objects))
    results = metric.compute()
    expected, per_class = by_pycocotools(scenes, tmp_path)
    assert (expected > 0).all() and expected[0] < 1  # every number says something
    assert [results[name] for name in PRECISIONS + RECALLS] == pytest.approx(expected.tolist(), abs=1e-12)
    for label, (ap, ap50) in zip(LABELS.values(), per_class, strict=True):
        found = results["per_class"][label]
        if ap == -1:
            assert label == "kite" and math.isnan(found["ap"]) and math.isnan(found["ap50"])
        else:
            assert found == pytest.approx({"ap": ap, "ap50": ap50}, abs=1e-12)


def grid(count):
    """As many cells of 6x6 pixels, in rows of 20."""
    return [rectangle(7 * (n % 20), 7 * (n // 20), 6, 6, size=(150, 150)) for n in range(count)]


@pytest.mark.parametrize("limit", [1, 7, 100, 130])
def test_more_objects_than_detections_count_are_missed(limit):
    cells = grid(120)
    metric = MaskAP(LABELS, limit)
    metric.update(result(cells, [1] * 120, [0.9] * 120), segments_from_masks(cells, [1] * 120))
    results = metric.compute()
    recalls = {name: min(int(name[2:]), 120) / 120 for name in results if name[2:].isdigit() and name[:2] == "ar"}
    assert list(recalls) == [f"ar{number}" for number in (1, 10) if number < limit] + [f"ar{limit}"]
    assert {name: results[name] for name in recalls} == pytest.approx(recalls)
    found = min(limit, 120) / 120
    for name in ("ap", "ap50", "ap75", "ap_small"):
        assert results[name] == pytest.approx((math.floor(100 * found + 1e-9) + 1) / 101)  # of 101 recalls
    assert results["ar_small"] == pytest.approx(found) and math.isnan(results["ap_medium"])
    assert results["per_class"]["dog"]["ap"] == results["ap"]


def test_other_limits_give_the_same_values_where_no_image_has_so_many_detections():
    random = np.random.default_rng(6)
    metrics = [MaskAP(LABELS), MaskAP(LABELS, 300)]
    for _ in range(4):
        objects, detections = random_scene(random)
        boxes, labels, scores = zip(*detections, strict=True)
        for metric in metrics:
            metric.update(result([rectangle(*box) for box in boxes], labels, scores), reference_of(objects))
    usual, other = (metric.compute() for metric in metrics)
    other["ar100"] = other.pop("ar300")
    np.testing.assert_equal(other, usual)
    assert 0 < usual["ap"] < 1


def test_more_objects_of_a_class_than_detections_count_are_said_once(caplog):
    cells = grid(101)
    prediction, reference = result(cells, [1] * 101, [0.9] * 101), segments_from_masks(cells, [1] * 101)
    crowded = segments_from_masks(cells, [1] * 101, [True] + [False] * 100)
    several = segments_from_masks(cells, [0, 1] * 50 + [1])
    metric = MaskAP(LABELS)
    metric.update(prediction, crowded)
    metric.update(prediction, several)
    MaskAP(LABELS, 101).update(prediction, reference)
    assert not caplog.records
    for _ in range(2):
        metric.update(prediction, reference)
        metric.reset()
    (record,) = caplog.records
    assert "Image number 2, counted from 0, has 101 objects of class 'dog'" in record.getMessage()
    assert "100 surest" in record.getMessage() and "max_detections" in record.getMessage()


def test_at_least_one_detection_counts():
    with pytest.raises(ValueError, match="max_detections must be at least 1, got 0"):
        MaskAP(LABELS, 0)
    masks = [rectangle(0, 0, 20, 20), rectangle(50, 50, 20, 20)]
    metric = MaskAP(LABELS, 1)
    metric.update(result(masks, [0, 0], [0.9, 0.8]), segments_from_masks(masks, [0, 0]))
    assert metric.compute()["ar1"] == 0.5


def test_the_reference_found_again_is_one():
    masks = np.stack([rectangle(0, 0, 20, 20), rectangle(10, 10, 20, 20)])
    metric = MaskAP(LABELS)
    metric.update(result(masks, [0, 1], [0.9, 0.8]), segments_from_masks(masks, [0, 1]))
    results = metric.compute()
    assert results["ap"] == pytest.approx(1.0)
    assert results["ar100"] == 1.0
    assert math.isnan(results["ap_large"])


def test_one_of_two_objects_found_gives_precision_at_half_of_the_recalls():
    masks = [rectangle(0, 0, 20, 20), rectangle(50, 50, 20, 20)]
    metric = MaskAP(LABELS)
    metric.update(result(masks[:1], [0], [0.9]), segments_from_masks(masks, [0, 0]))
    results = metric.compute()
    assert results["ap"] == pytest.approx(51 / 101)  # of the recalls 0, 0.01, ... 1, those up to 0.5
    assert results["ar100"] == pytest.approx(0.5)


def test_a_false_alarm_halves_precision_only_if_it_scores_higher():
    masks = [rectangle(0, 0, 20, 20), rectangle(50, 50, 20, 20)]
    for score, expected in ((0.95, 0.5), (0.5, 1.0)):
        metric = MaskAP(LABELS)
        metric.update(result(masks, [0, 0], [0.9, score]), segments_from_masks(masks[:1], [0]))
        assert metric.compute()["ap"] == pytest.approx(expected)


def test_half_of_a_mask_counts_at_the_lowest_threshold_only():
    metric = MaskAP(LABELS)
    metric.update(result([rectangle(0, 0, 10, 20)], [0], [0.9]), segments_from_masks([rectangle(0, 0, 20, 20)], [0]))
    results = metric.compute()
    assert results["ap50"] == pytest.approx(1.0)
    assert results["ap75"] == 0.0
    assert results["ap"] == pytest.approx(0.1)


def test_a_detection_inside_crowd_or_void_is_no_false_alarm():
    person, group = rectangle(0, 0, 20, 20), rectangle(50, 50, 60, 60)
    detected = result([person, rectangle(60, 60, 20, 20)], [0, 0], [0.8, 0.9])
    references = {
        "crowd": segments_from_masks([person, group], [0, 0], [False, True]),
        "void": with_void(segments_from_masks([person], [0]), group),
        "crowd of another class": segments_from_masks([person, group], [0, 1], [False, True]),
        "background": segments_from_masks([person], [0]),
    }
    found = {}
    for name, reference in references.items():
        metric = MaskAP(LABELS)
        metric.update(detected, reference)
        found[name] = metric.compute()["ap"]
    assert found == pytest.approx({"crowd": 1, "void": 1, "crowd of another class": 0.5, "background": 0.5})


def test_a_segment_without_a_pixel_is_an_object_not_found():
    person = rectangle(0, 0, 20, 20)
    metric = MaskAP(LABELS)
    metric.update(result([person], [0], [0.9]), segments_from_masks([person, np.zeros_like(person)], [0, 0]))
    assert metric.compute()["ap"] == pytest.approx(51 / 101)


def test_references_are_encoded_as_their_masks_are():
    rng = np.random.default_rng(7)
    boxes = [(*rng.integers(0, 90, 2), *rng.integers(1, 60, 2)) for _ in range(7)]
    masks = [rectangle(*box) & (rng.random((130, 130)) < 0.9) for box in boxes]
    masks += [np.zeros_like(masks[0]), rectangle(20, 0, 5, 130), rectangle(129, 129, 1, 1)]
    reference = with_void(segments_from_masks(masks, [0] * 10), rectangle(0, 0, 130, 60))
    assert len(reference.ids) > 1 and reference.void.any()
    expected = [mask_utils.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    assert reference_rles(reference) == expected


def test_masks_are_kept_as_run_lengths_only():
    masks = torch.from_numpy(np.stack([rectangle(0, 0, 20, 20), rectangle(50, 50, 20, 20)]))
    metric = MaskAP(LABELS)
    metric.update(result(masks.numpy(), [0, 1], [0.5, 0.5]), segments_from_masks(masks, [0, 1]))
    (image,) = metric.state()["images"]
    for entry in image["objects"] + image["detections"]:
        assert set(entry["segmentation"]) == {"size", "counts"}
        assert isinstance(entry["segmentation"]["counts"], bytes)
        assert len(entry["segmentation"]["counts"]) < 200


def test_an_image_with_nothing_changes_nothing():
    mask = rectangle(0, 0, 20, 20)
    metric = MaskAP(LABELS)
    nothing = Segments(torch.zeros(130, 130, dtype=torch.uint8), [])
    metric.update({"segmentation": [], "segments_info": []}, nothing)
    assert math.isnan(metric.compute()["ap"])
    metric.update(result([mask], [0], [0.9]), segments_from_masks([mask], [0]))
    assert metric.compute()["ap"] == pytest.approx(1.0)


def test_uncompressed_run_lengths_are_read():
    rle = {"size": [2, 3], "counts": [2, 4]}
    metric = MaskAP(LABELS)
    metric.update(
        {"segmentation": [rle], "segments_info": [{"label_id": 1, "score": 0.3}]},
        Segments(torch.tensor([[0, 1, 1], [0, 1, 1]], dtype=torch.uint8), [1]),
    )
    assert metric.compute()["ap"] == pytest.approx(1.0)


def test_a_wrong_prediction_is_named():
    reference = segments_from_masks([rectangle(0, 0, 20, 20)], [0])
    good = result([rectangle(0, 0, 20, 20)], [0], [0.9])
    label = good["segments_info"][0]
    for prediction, message in (
        (torch.zeros(130, 130), "must be a dict with 'segmentation' and 'segments_info', got Tensor"),
        (good | {"segmentation": torch.zeros(130, 130)}, "return_coco_annotation=True"),
        (good | {"segmentation": good["segmentation"] * 2}, "has 2 masks but lists 1"),
        (good | {"segments_info": [label | {"label_id": 3}]}, "holds class 3; classes are 0 to 2"),
        (result([rectangle(0, 0, 2, 2, size=(4, 5))], [0], [0.9]), "4 high and 5 wide, the reference 130 and 130"),
    ):
        with pytest.raises(ValueError, match=message):
            MaskAP(LABELS).update(prediction, reference)
