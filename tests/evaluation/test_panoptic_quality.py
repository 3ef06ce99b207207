"""Panoptic quality against cases worked by hand, and against the definition in plain code on two COCO images."""

import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_maskformer.evaluation import PanopticQuality
from modeling_maskformer.targets import VOID, Segments, segments_from_masks

LABELS = {0: "person", 1: "dog", 2: "sky", 3: "grass"}
STUFF = [2, 3]


def row(numbers, class_ids, is_crowd=None):
    """A reference of one row of pixels; -1 is void."""
    return Segments(torch.tensor([numbers], dtype=torch.int16), class_ids, is_crowd)


def found(numbers, label_ids):
    """A prediction of one row of pixels; `label_ids` by segment id."""
    segments = [{"id": number, "label_id": label_id} for number, label_id in label_ids.items()]
    return {"segmentation": torch.tensor([numbers], dtype=torch.int32), "segments_info": segments}


def quality(prediction, reference, labels=LABELS):
    metric = PanopticQuality(labels, STUFF if labels is LABELS else ())
    metric.update(prediction, reference)
    return metric.compute()


def test_match_miss_and_false_alarm_by_hand():
    # person 1: 4 of 5 pixels shared (IoU 0.8); person 2 missed; sky: IoU 4/6 with one of 2 skies; a dog that is none
    reference = row([1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 0, 0, 0], [0, 0, 2])
    prediction = found([1, 1, 1, 1, 1, 0, 5, 5, 5, 5, 5, 5, 7], {1: 0, 5: 2, 7: 1})
    results = quality(prediction, reference)
    person = {"sq": 4 / 5, "rq": 1 / (1 + 0 / 2 + 1 / 2), "pq": 4 / 5 / 1.5}
    assert results["per_class"]["person"] == pytest.approx(person)
    assert results["per_class"]["sky"] == pytest.approx({"sq": 4 / 6, "rq": 1.0, "pq": 4 / 6})
    assert results["per_class"]["dog"] == {"sq": 0.0, "rq": 0.0, "pq": 0.0}
    assert all(math.isnan(value) for value in results["per_class"]["grass"].values())
    assert results["pq_things"] == pytest.approx((person["pq"] + 0) / 2)
    assert results["pq_stuff"] == pytest.approx(4 / 6)
    assert results["pq"] == pytest.approx((person["pq"] + 0 + 4 / 6) / 3)
    assert results["sq"] == pytest.approx((4 / 5 + 0 + 4 / 6) / 3)
    assert results["rq"] == pytest.approx((1 / 1.5 + 0 + 1) / 3)


def test_an_iou_of_exactly_half_is_no_match():
    assert quality(found([1, 1, -1, -1], {1: 0}), row([1, 1, 1, 1], [0]))["pq"] == 0.0
    assert quality(found([1, 1, 1, -1], {1: 0}), row([1, 1, 1, 1], [0]))["pq"] == 0.75


def test_another_class_is_a_miss_and_a_false_alarm():
    results = quality(found([1, 1], {1: 1}), row([1, 1], [0]))
    assert results["per_class"]["person"]["pq"] == results["per_class"]["dog"]["pq"] == 0.0
    assert results["pq"] == 0.0


def test_void_is_left_out_of_the_union():
    assert quality(found([1, 1, 1, 1], {1: 0}), row([1, 1, VOID, VOID], [0]))["pq"] == 1.0
    assert quality(found([1, 1, 1, 1], {1: 0}), row([1, 1, 1, 0], [0]))["pq"] == 0.75


def test_a_prediction_without_any_class_there_is_not_left_out_of_the_union():
    assert quality(found([1, 1, 1, 0, -1], {1: 0}), row([1, 1, 1, 1, 1], [0]))["pq"] == pytest.approx(3 / 5)


@pytest.mark.parametrize(("void_pixels", "false_alarms"), [(1, 1), (2, 1), (3, 0), (4, 0)])
def test_a_prediction_mostly_on_void_is_no_false_alarm(void_pixels, false_alarms):
    reference = row([1] * 4 + [VOID] * void_pixels + [0] * (4 - void_pixels), [0])
    results = quality(found([1] * 4 + [2] * 4, {1: 0, 2: 0}), reference)
    assert results["rq"] == pytest.approx(1 / (1 + false_alarms / 2))


@pytest.mark.parametrize(("crowd_class", "expected"), [(0, 1.0), (1, 1 / 1.5)])
def test_a_prediction_mostly_on_crowd_of_its_class_is_no_false_alarm(crowd_class, expected):
    reference = row([1, 1, 2, 2, 2, 0], [0, crowd_class], [False, True])
    results = quality(found([1, 1, 2, 2, 2, 2], {1: 0, 2: 0}), reference)
    assert results["per_class"]["person"]["rq"] == pytest.approx(expected)


def test_void_and_crowd_add_up_to_excuse_a_prediction():
    reference = row([1, 1, 2, VOID, 0, 0], [0, 0], [False, True])
    assert quality(found([1, 1, 2, 2, 2, -1], {1: 0, 2: 0}), reference)["rq"] == 1.0
    assert quality(found([1, 1, 2, 2, 2, 2], {1: 0, 2: 0}), reference)["rq"] == pytest.approx(1 / 1.5)


def test_a_crowd_region_is_neither_matched_nor_missed():
    reference = row([1, 1, 2, 2], [0, 0], [False, True])
    assert quality(found([1, 1, -1, -1], {1: 0}), reference)["pq"] == 1.0
    assert quality(found([1, 1, 2, 2], {1: 0, 2: 0}), reference)["pq"] == 1.0


def test_a_reference_segment_without_a_pixel_is_no_miss():
    assert quality(found([1, 1], {1: 0}), row([1, 1], [0, 0]))["pq"] == 1.0


def test_id_zero_may_be_a_segment_or_nothing():
    assert quality(found([0, 0, 1, 1], {0: 0, 1: 2}), row([1, 1, 2, 2], [0, 2]))["pq"] == 1.0
    assert quality(found([0, 0, 1, 1], {1: 2}), row([0, 0, 1, 1], [2]))["pq"] == 1.0


def test_a_prediction_is_matched_only_inside_its_own_image():
    metric = PanopticQuality(LABELS, STUFF)
    metric.update(found([1, 1], {1: 0}), row([0, 0], []))
    metric.update(found([-1, -1], {}), row([1, 1], [0]))
    assert metric.compute()["pq"] == 0.0


def test_an_image_with_nothing_changes_nothing():
    metric = PanopticQuality(LABELS, STUFF)
    metric.update(found([-1, -1], {}), row([0, 0], []))
    assert math.isnan(metric.compute()["pq"])
    metric.update(found([1, 1], {1: 0}), row([1, 1], [0]))
    assert metric.compute()["pq"] == 1.0


def test_a_wrong_prediction_is_named():
    reference = row([1, 1], [0])
    good = found([1, 1], {1: 0})
    for prediction, message in (
        (good | {"segments_info": good["segments_info"] * 2}, "lists id 1 more than once"),
        (good | {"segments_info": []}, "segment 1 of the prediction is not listed"),
        (found([1, 1], {1: 0, 2: 0}), "lists a segment without a pixel"),
        (found([1, 1], {1: 4}), "the prediction holds class 4; classes are 0 to 3"),
        (found([1, 1, 1], {1: 0}), r"has shape \(1, 3\); the reference is 1 high and 2 wide"),
        (good["segmentation"], "must be a dict"),
    ):
        with pytest.raises(ValueError, match=message):
            quality(prediction, reference)


def test_ids_may_be_whole_numbers_as_floats_as_transformers_has_them():
    reference = row([1, 1, 2, 0], [0, 2])
    good = found([7, 7, 4, -1], {7: 0, 4: 2})
    floats = good | {"segmentation": good["segmentation"].float()}
    assert quality(floats, reference)["pq"] == quality(good, reference)["pq"] == 1.0
    nothing = {"segmentation": torch.zeros(1, 4) - 1, "segments_info": []}
    assert quality(nothing, reference)["pq"] == 0.0
    for wrong in (0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=r"must be an .* map of integers, got shape .* float32"):
            quality(nothing | {"segmentation": torch.full((1, 4), wrong)}, reference)


def test_overlapping_references_are_refused():
    masks = torch.tensor([[[True, True, False]], [[False, True, True]]])
    with pytest.raises(ValueError, match="segments of the reference overlap"):
        quality(found([1, 1, 1], {1: 0}), segments_from_masks(masks, [0, 0]))


def test_stuff_must_be_a_class():
    with pytest.raises(ValueError, match="label_ids_to_fuse holds class 4"):
        PanopticQuality(LABELS, [4])


# two annotated images of COCO


@pytest.fixture(scope="module")
def coco_panoptic(shared_data):
    """(id2label, stuff ids, images); an image is (id map, {id: (class, is_crowd)}), 0 is void."""
    folder = shared_data / "panoptic_sample"
    categories = json.loads((folder / "panoptic_coco_categories.json").read_text())
    number_of = {category["id"]: number for number, category in enumerate(categories)}
    images = []
    for annotation in json.loads((folder / "panoptic_examples.json").read_text())["annotations"]:
        channels = np.array(Image.open(folder / "panoptic_examples" / annotation["file_name"])).astype(np.int64)
        segments = {s["id"]: (number_of[s["category_id"]], bool(s["iscrowd"])) for s in annotation["segments_info"]}
        images.append((channels @ [1, 256, 65536], segments))
    id2label = {number_of[category["id"]]: category["name"] for category in categories}
    return id2label, [number_of[c["id"]] for c in categories if not c["isthing"]], images


def as_reference(ids, segments):
    numbers = np.full(ids.shape, VOID, dtype=np.int16)
    for number, segment_id in enumerate(segments, start=1):
        numbers[ids == segment_id] = number
    return Segments(
        torch.from_numpy(numbers), [c for c, _ in segments.values()], [crowd for _, crowd in segments.values()]
    )


def as_prediction(ids, segments):
    return {
        "segmentation": torch.from_numpy(ids),
        "segments_info": [{"id": segment_id, "label_id": class_id} for segment_id, (class_id, _) in segments.items()],
    }


def by_definition(pairs):
    """{class: (pq, sq, rq)} of ((reference ids, segments), (predicted ids, segments)) pairs, pixel sets as counts."""
    ious, misses, alarms = {}, Counter(), Counter()
    for (expected, truths), (predicted, guesses) in pairs:
        shared = Counter(zip(expected.flatten().tolist(), predicted.flatten().tolist(), strict=True))
        truth_area, guess_area = Counter(expected.flatten().tolist()), Counter(predicted.flatten().tolist())
        matched = set()
        for (truth, guess), pixels in shared.items():
            if truth in truths and guess in guesses and truths[truth] == (guesses[guess][0], False):
                iou = pixels / (truth_area[truth] + guess_area[guess] - shared[0, guess] - pixels)
                if iou > 0.5:
                    ious.setdefault(truths[truth][0], []).append(iou)
                    matched |= {("truth", truth), ("guess", guess)}
        for truth, (class_id, crowd) in truths.items():
            misses[class_id] += not crowd and ("truth", truth) not in matched
        for guess, (class_id, _) in guesses.items():
            excused = shared[0, guess] + sum(
                shared[truth, guess] for truth, (other, crowd) in truths.items() if crowd and other == class_id
            )
            alarms[class_id] += ("guess", guess) not in matched and excused / guess_area[guess] <= 0.5
    qualities = {}
    for class_id in sorted({*ious, *misses, *alarms}):
        hits = ious.get(class_id, [])
        total = len(hits) + misses[class_id] / 2 + alarms[class_id] / 2
        if total:
            sq, rq = (sum(hits) / len(hits) if hits else 0.0), len(hits) / total
            qualities[class_id] = (sq * rq, sq, rq)
    return qualities


def test_coco_ground_truth_against_itself_is_one(coco_panoptic):
    id2label, stuff, images = coco_panoptic
    metric = PanopticQuality(id2label, stuff)
    for ids, segments in images:
        metric.update(as_prediction(ids, segments), as_reference(ids, segments))
    results = metric.compute()
    assert all(results[name + group] == 1.0 for name in ("pq", "sq", "rq") for group in ("", "_things", "_stuff"))
    assert {value for entry in results["per_class"].values() for value in entry.values() if value == value} == {1.0}


def altered(coco_panoptic):
    """The images with, in the first, a person made a truck, another cut to its upper part, the ball gone, a stuff
    segment grown over its neighbour; in the second, void filled by a new horse and a person put onto the crowd."""
    id2label, _, images = coco_panoptic
    label2id = {label: class_id for class_id, label in id2label.items()}
    (first, first_segments), (second, second_segments) = [(ids.copy(), dict(segments)) for ids, segments in images]

    first_segments[3937500] = (label2id["truck"], False)
    rows = np.nonzero((first == 4260062).any(1))[0]
    cut = (first == 4260062) & (np.arange(len(first))[:, None] > rows[0] + 0.7 * len(rows))
    first[cut] = 0
    first[first == 16757838] = 0
    del first_segments[16757838]
    first[(first == 11829830) & (np.arange(first.shape[1]) < 500)] = 2330219

    second[second == 0] = 77
    second_segments[77] = (label2id["horse"], False)
    crowd = np.argwhere(second == 5120499)
    second[tuple(crowd[: len(crowd) // 2].T)] = 78
    second_segments[78] = (label2id["person"], False)
    return [(first, first_segments), (second, second_segments)]


def test_coco_altered_ground_truth_scores_what_the_definition_says(coco_panoptic):
    id2label, stuff, images = coco_panoptic
    predictions = altered(coco_panoptic)
    metric = PanopticQuality(id2label, stuff)
    for truth, guess in zip(images, predictions, strict=True):
        metric.update(as_prediction(*guess), as_reference(*truth))
    results = metric.compute()
    expected = by_definition(zip(images, predictions, strict=True))
    for position, name in enumerate(("pq", "sq", "rq")):
        for group, members in (
            ("", expected),
            ("_things", [class_id for class_id in expected if class_id not in stuff]),
            ("_stuff", [class_id for class_id in expected if class_id in stuff]),
        ):
            mean = sum(expected[class_id][position] for class_id in members) / len(members)
            assert results[name + group] == pytest.approx(mean, abs=1e-12)
            assert mean < 1 or (name, group) == ("rq", "_stuff")  # the alterations show
        for class_id, label in id2label.items():
            value = results["per_class"][label][name]
            assert (
                math.isnan(value) if class_id not in expected else value == pytest.approx(expected[class_id][position])
            )


def test_coco_alterations_by_hand(coco_panoptic):
    id2label, stuff, images = coco_panoptic
    metric = PanopticQuality(id2label, stuff)
    for truth, guess in zip(images, altered(coco_panoptic), strict=True):
        metric.update(as_prediction(*guess), as_reference(*truth))
    per_class = metric.compute()["per_class"]
    # 26 persons: one is another class now and missed, one is cut, the one on the crowd is excused
    (ids, _), (cut_ids, _) = images[0], altered(coco_panoptic)[0]
    iou = (cut_ids == 4260062).sum() / (ids == 4260062).sum()
    assert 0.5 < iou < 1
    assert per_class["person"]["pq"] == pytest.approx((24 + iou) / (25 + 1 / 2))
    assert per_class["truck"]["rq"] == pytest.approx(2 / (2 + 1 / 2))
    assert per_class["sports ball"]["pq"] == 0.0
    assert per_class["horse"]["pq"] == 1.0  # the new one lies on void
