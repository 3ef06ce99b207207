"""What the three metrics share: factory, state, labels, and nothing at all as input."""

import math
import pickle
import tracemalloc
import warnings
from math import prod

import numpy as np
import pytest
import torch
from pycocotools import mask as mask_utils

from modeling_maskformer.evaluation import MAIN_METRIC, MaskAP, MeanIoU, PanopticQuality, metric_for_task
from modeling_maskformer.evaluation.metrics import base
from modeling_maskformer.evaluation.metrics.error_kinds import ErrorKinds
from modeling_maskformer.targets import Segments

LABELS = {0: "cell", 1: "wall", 2: "water"}
TASKS = sorted(MAIN_METRIC)


def random_images(task, count, seed):
    """(prediction, reference) pairs whose predictions are the reference with a tenth of the pixels changed."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        ids = np.kron(random.integers(0, 4, size=(3, 4)), np.ones((5, 5), dtype=np.int64))
        class_ids = random.integers(0, 3, size=3)
        guess = np.where(random.random(ids.shape) < 0.1, random.integers(0, 4, size=ids.shape), ids)
        reference = Segments(torch.from_numpy(ids).to(torch.uint8), class_ids, [False, False, True])
        listed = [number for number in (1, 2, 3) if (guess == number).any()]
        info = [{"id": n, "label_id": int(class_ids[n - 1]), "score": random.random()} for n in listed]
        prediction = {"segmentation": torch.from_numpy(guess), "segments_info": info}
        if task == "semantic":
            prediction = torch.from_numpy(np.array([-1, *class_ids])[guess])
        if task == "instance":
            masks = [np.asfortranarray(guess == number, dtype=np.uint8) for number in listed]
            prediction["segmentation"] = [mask_utils.encode(mask) for mask in masks]
        pairs.append((prediction, reference))
    return pairs


def measured(task, pairs):
    metric = metric_for_task(task, LABELS, [1, 2])
    for prediction, reference in pairs:
        metric.update(prediction, reference)
    return metric


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, dict):
            assert_same(value, right[name])
        else:
            assert value == pytest.approx(right[name], abs=1e-12, nan_ok=True), name


def test_each_task_has_its_metric():
    metrics = {task: type(metric_for_task(task, LABELS)) for task in TASKS}
    assert metrics == {"semantic": MeanIoU, "instance": MaskAP, "panoptic": PanopticQuality}
    assert metric_for_task("panoptic", LABELS, [2]).is_stuff.tolist() == [False, False, True]
    assert metric_for_task("instance", LABELS, max_detections=300).max_detections == 300
    with pytest.raises(ValueError, match="task must be one of semantic, instance, panoptic, got 'depth'"):
        metric_for_task("depth", LABELS)


@pytest.mark.parametrize("task", TASKS)
def test_results_are_floats_and_one_dict_of_classes(task):
    results = measured(task, random_images(task, 3, seed=0)).compute()
    assert 0 < results[MAIN_METRIC[task]] < 1
    per_class = results.pop("per_class")
    assert list(per_class) == list(LABELS.values())
    assert all(type(value) is float for value in results.values())
    assert all(type(value) is float for entry in per_class.values() for value in entry.values())


@pytest.mark.parametrize("task", TASKS)
def test_states_of_two_processes_merge_into_that_of_one(task):
    pairs = random_images(task, 5, seed=1)
    whole = measured(task, pairs)
    states = [pickle.loads(pickle.dumps(measured(task, part).state())) for part in (pairs[:2], pairs[2:], [])]
    merged = metric_for_task(task, LABELS, [1, 2])
    for state in states:
        merged.merge(state)
    assert merged.num_images == 5
    assert_same(merged.compute(), whole.compute())


@pytest.mark.parametrize("task", TASKS)
def test_a_state_is_a_copy_and_compute_changes_nothing(task):
    pairs = random_images(task, 4, seed=2)
    metric = measured(task, pairs[:2])
    state, before = metric.state(), metric.compute()
    assert_same(metric.compute(), before)
    for prediction, reference in pairs[2:]:
        metric.update(prediction, reference)
    restored = metric_for_task(task, LABELS, [1, 2])
    restored.merge(state)
    assert_same(restored.compute(), before)


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_strips_of_rows_change_no_number(task, monkeypatch):
    pairs = random_images(task, 3, seed=7)
    whole = measured(task, pairs).compute()
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 80)  # four rows of the fifteen
    assert_same(measured(task, pairs).compute(), whole)


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_an_image_that_is_refused_for_its_last_row_changes_nothing(task, monkeypatch):
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 1)
    (prediction, reference), other = random_images(task, 2, seed=8)
    metric = measured(task, [other])
    before = metric.compute()
    (prediction if task == "semantic" else prediction["segmentation"])[-1] = 9
    with pytest.raises(ValueError, match=r"image number 1: .*(holds class 9|segment 9 of the prediction)"):
        metric.update(prediction, reference)
    assert metric.num_images == 1
    assert_same(metric.compute(), before)


def large_image(kind, side=1500, cell=60):
    """A prediction of 400 objects that is its reference, one in each cell of a grid but the last rows and columns."""
    numbers = 1 + np.arange(400).reshape(20, 20)
    ids = np.zeros((side, side), dtype=np.int16)
    for (row, column), number in np.ndenumerate(numbers):
        ids[row * cell : (row + 1) * cell - 9, column * cell : (column + 1) * cell - 9] = number
    reference = Segments(torch.from_numpy(ids), [number % 3 for number in range(400)])
    infos = [{"id": number, "label_id": (number - 1) % 3, "score": 0.9} for number in range(1, 401)]
    if kind == "classes":
        return reference, torch.from_numpy(
            np.array([255, *[number % 3 for number in range(400)]], dtype=np.uint8)[ids]
        )
    if kind == "map":
        return reference, {"segmentation": torch.from_numpy(ids), "segments_info": infos}
    rles = [mask_utils.encode(np.asfortranarray(ids == number, dtype=np.uint8)) for number in range(1, 401)]
    return reference, {"segmentation": rles, "segments_info": infos}


@pytest.mark.parametrize(
    ("make_metric", "kind", "name"),
    [
        (lambda labels: MeanIoU(labels, 255), "classes", "mean_iou"),
        (PanopticQuality, "map", "pq"),
        (ErrorKinds, "map", "quality"),
        (ErrorKinds, "masks", "quality"),
        (lambda labels: MaskAP(labels, 400), "masks", "ap"),
    ],
)
def test_memory_is_some_bytes_a_pixel_however_many_objects_there_are(make_metric, kind, name, monkeypatch):
    reference, prediction = large_image(kind)
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 1 << 15)
    metric = make_metric(LABELS)
    tracemalloc.start()
    metric.update(prediction, reference)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * prod(reference.size) + 6 * 8 * 400**2, "and some numbers for each pair of objects"
    assert metric.compute()[name] == pytest.approx(1.0)


@pytest.mark.parametrize("task", TASKS)
def test_reset_forgets(task):
    pairs = random_images(task, 4, seed=3)
    metric = measured(task, pairs[:2])
    metric.reset()
    for prediction, reference in pairs[2:]:
        metric.update(prediction, reference)
    assert_same(metric.compute(), measured(task, pairs[2:]).compute())


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_state_does_not_grow_with_images_or_pixels(task):
    def size(metric):
        return sum(value.nbytes for value in metric.state().values())

    assert size(measured(task, random_images(task, 6, seed=4))) == size(metric_for_task(task, LABELS))


@pytest.mark.parametrize("task", TASKS)
def test_nothing_at_all_is_nan_without_a_warning(task):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = metric_for_task(task, LABELS, [1]).compute()
    per_class = results.pop("per_class")
    assert all(math.isnan(value) for value in results.values())
    assert all(math.isnan(value) for entry in per_class.values() for value in entry.values())


@pytest.mark.parametrize("task", TASKS)
def test_a_class_outside_the_labels_is_named_with_its_image(task):
    metric = measured(task, random_images(task, 2, seed=5))
    prediction, reference = random_images(task, 1, seed=6)[0]
    reference.class_ids[1] = 3
    with pytest.raises(ValueError, match="image number 2: the reference holds class 3; classes are 0 to 2"):
        metric.update(prediction, reference)
    assert metric.num_images == 2


def test_states_of_other_metrics_and_other_labels_are_refused():
    with pytest.raises(ValueError, match=r"MeanIoU cannot merge a state with \['images', 'num_images'\]"):
        MeanIoU(LABELS).merge(MaskAP(LABELS).state())
    with pytest.raises(ValueError, match="was the other metric made for other labels"):
        MeanIoU(LABELS).merge(MeanIoU({0: "a"}).state())


def test_labels_must_be_complete_and_equal_ones_are_told_apart():
    with pytest.raises(ValueError, match="name classes 0 to K-1 without a gap"):
        MeanIoU({0: "a", 2: "b"})
    results = MeanIoU({0: "door", 1: "wall", 2: "door"}).compute()
    assert list(results["per_class"]) == ["door (0)", "wall", "door (2)"]


@pytest.mark.parametrize("task", TASKS)
def test_labels_may_stand_under_the_strings_of_json(task):
    from_json = metric_for_task(task, {str(class_id): label for class_id, label in LABELS.items()}, [1, 2])
    for prediction, reference in random_images(task, 2, seed=0):
        from_json.update(prediction, reference)
    assert_same(from_json.compute(), measured(task, random_images(task, 2, seed=0)).compute())
