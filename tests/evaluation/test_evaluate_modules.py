"""The metrics as modules of the `evaluate` library: loaded from their files without a network, fed batch by batch."""

import doctest
import socket
import tracemalloc

import evaluate
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from modeling_maskformer.evaluation import MODULES, MaskAP, MeanIoU, PanopticQuality, load_metric
from modeling_maskformer.evaluation.metrics import base
from modeling_maskformer.evaluation.metrics.references import segments_from_id_map, segments_from_rles
from modeling_maskformer.targets import Segments, segments_from_class_map, segments_from_masks

NAMES = ["mean_iou", "mask_ap", "panoptic_quality"]
LABELS = {0: "cell", 1: "wall"}


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a metric went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def same(left, right):
    return np.testing.assert_equal(left, right)  # NaN equals NaN


@pytest.mark.parametrize(
    ("name", "form"),
    [("mean_iou", "ignore_index"), ("mask_ap", "segments_info"), ("panoptic_quality", "segments_info")],
)
def test_a_module_is_a_metric_with_a_description(name, form):
    module = evaluate.load(str(MODULES / f"{name}.py"), id2label=LABELS)
    assert isinstance(module, evaluate.Metric)
    assert module.name == name
    assert list(module.features) == ["predictions", "references"]
    assert module.description.strip() and module.citation.strip().startswith("@")
    assert form in module.compute.__doc__, "what predictions and references have to look like"


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_the_description_runs(name):
    text = load_metric(name, LABELS).inputs_description.replace("path/to", str(MODULES))
    example = doctest.DocTestParser().get_doctest(text, {"evaluate": evaluate}, name, None, None)
    assert len(example.examples) >= 3
    assert doctest.DocTestRunner().run(example).failed == 0


def test_mean_iou_of_batches_equals_the_class():
    random = np.random.default_rng(0)
    predictions, references = random.choice([0, 1, 255], (4, 6, 5)), random.choice([0, 1, 255], (4, 6, 5))
    metric = MeanIoU(LABELS, ignore_index=255)
    for prediction, reference in zip(predictions, references, strict=True):
        metric.update(prediction, segments_from_class_map(reference))
    module = load_metric("mean_iou", LABELS)
    module.add_batch(predictions=predictions[:2], references=references[:2].tolist())
    module.add(prediction=torch.from_numpy(predictions[2]), reference=Image.fromarray(references[2].astype(np.uint8)))
    assert len(module) == 3
    same(module.compute(predictions=predictions[3:], references=references[3:]), metric.compute())


def test_mean_iou_ignores_the_value_it_is_told():
    module = load_metric("mean_iou", LABELS, ignore_index=7)
    assert module.compute(predictions=[[[0, 1, 1]]], references=[[[0, 1, 7]]])["mean_iou"] == 1.0


def test_mask_ap_of_batches_equals_the_class():
    masks = np.zeros((3, 12, 10), dtype=np.uint8)
    masks[0, 1:5, 1:5] = masks[1, 3:9, 3:9] = masks[2, 6:12, 2:6] = 1
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    reference = {
        "segmentation": rles,
        "segments_info": [{"label_id": 0}, {"label_id": 1}, {"label_id": 1, "iscrowd": 1}],
    }
    prediction = {
        "segmentation": [{"size": rle["size"], "counts": rle["counts"].decode()} for rle in rles],
        "segments_info": [{"label_id": label_id, "score": 0.5 + label_id / 4} for label_id in (0, 0, 1)],
    }
    nothing = {"segmentation": [], "segments_info": []}
    metric = MaskAP(LABELS)
    metric.update(prediction, segments_from_masks(masks, [0, 1, 1], [False, False, True]))
    metric.update(prediction, Segments(torch.zeros(12, 10, dtype=torch.uint8), []))
    metric.update(nothing, Segments(torch.zeros(12, 10, dtype=torch.uint8), []))
    module = load_metric("mask_ap", LABELS)
    module.add_batch(predictions=[prediction, prediction], references=[reference, nothing])
    module.add(prediction={"segmentation": torch.zeros(12, 10) - 1, "segments_info": []}, reference=nothing)
    expected = metric.compute()
    assert 0 < expected["ap"] < 1
    same(module.compute(), expected)


def test_mask_ap_counts_as_many_detections_as_it_is_told():
    rle = mask_utils.encode(np.ones((3, 3), dtype=np.uint8, order="F"))
    one = {"segmentation": [rle], "segments_info": [{"label_id": 0, "score": 0.5}]}
    results = load_metric("mask_ap", LABELS, max_detections=300).compute(predictions=[one], references=[one])
    assert results["ar300"] == 1.0 and "ar100" not in results


def test_panoptic_quality_of_batches_equals_the_class():
    ids = np.array([[4, 4, 4, 9, 9, 9, 0, 6]])
    reference = {
        "segmentation": ids,
        "segments_info": [{"id": 4, "label_id": 0}, {"id": 9, "label_id": 1}, {"id": 6, "label_id": 0, "iscrowd": 1}],
    }
    prediction = {
        "segmentation": np.array([[1, 1, -1, 2, 2, 2, 2, 3]]),
        "segments_info": [{"id": 1, "label_id": 0}, {"id": 2, "label_id": 1}, {"id": 3, "label_id": 0}],
    }
    module = load_metric("panoptic_quality", LABELS, label_ids_to_fuse=[1])
    module.add_batch(predictions=[prediction], references=[reference])
    results = module.compute(predictions=[prediction], references=[reference])
    assert results["pq_things"] == pytest.approx(2 / 3)
    assert results["pq_stuff"] == 1.0
    metric = PanopticQuality(LABELS, [1])
    numbers = torch.tensor([[1, 1, 1, 2, 2, 2, -1, 3]], dtype=torch.int16)
    metric.update(prediction, Segments(numbers, [0, 1, 0], [False, False, True]))
    same(results, metric.compute())


@pytest.mark.parametrize("count", [3, 400])
def test_references_of_id_maps_are_read_in_strips_of_rows(count, monkeypatch):
    monkeypatch.setattr(base, "PIXELS_AT_ONCE", 150)  # three rows of the twenty
    listed = np.random.default_rng(1).permutation(2 * count)[:count]
    ids = np.random.default_rng(2).integers(0, 2 * count, (20, 50))
    infos = [{"id": number, "label_id": number % 2, "iscrowd": number % 3 == 0} for number in listed.tolist()]
    segments = segments_from_id_map(ids, infos)
    for mask, number in zip(segments.masks().numpy(), listed, strict=True):
        np.testing.assert_array_equal(mask, ids == number)
    np.testing.assert_array_equal(segments.void.numpy(), ~np.isin(ids, listed))
    assert segments.class_ids.tolist() == (listed % 2).tolist()
    assert segments.is_crowd.tolist() == (listed % 3 == 0).tolist()


def test_references_of_run_lengths_are_decoded_one_at_a_time():
    masks = np.zeros((60, 400, 500), dtype=np.uint8)
    for number, mask in enumerate(masks):
        mask[5 * number : 5 * number + 7] = 1  # each overlaps the next
    rles = [mask_utils.encode(np.asfortranarray(mask)) for mask in masks]
    infos = [{"label_id": number % 2} for number in range(60)]
    tracemalloc.start()
    segments = segments_from_rles(rles, infos, (400, 500))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * masks[0].nbytes
    np.testing.assert_array_equal(segments.masks().numpy(), masks == 1)


@pytest.mark.parametrize("name", NAMES)
def test_compute_starts_anew(name):
    module = load_metric(name, LABELS)
    empty = [[0]] if name == "mean_iou" else {"segmentation": [[0]], "segments_info": []}
    empty = {"segmentation": [], "segments_info": []} if name == "mask_ap" else empty
    module.add(prediction=empty, reference=empty)
    assert len(module) == 1
    module.compute()
    assert len(module) == 0


def test_wrong_use_is_named():
    with pytest.raises(ValueError, match="MeanIou needs the labels"):
        evaluate.load(str(MODULES / "mean_iou.py"))
    with pytest.raises(ValueError, match="num_process must be 1, got 2"):
        load_metric("mean_iou", LABELS, num_process=2)
    with pytest.raises(TypeError, match="ignore_idx"):
        load_metric("mean_iou", LABELS, ignore_idx=3)
    with pytest.raises(ValueError, match="choose one of mask_ap, mean_iou, panoptic_quality"):
        load_metric("miou", LABELS)
    with pytest.raises(ValueError, match="2 predictions but 1 references"):
        load_metric("mean_iou", LABELS).add_batch(predictions=[[[0]], [[0]]], references=[[[0]]])
    with pytest.raises(ValueError, match="got only one of them"):
        load_metric("mean_iou", LABELS).compute(predictions=[[[0]]])
