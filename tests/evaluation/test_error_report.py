"""The worst images are kept and drawn, and the counts behind the chart are written."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from image_processing.drawing import charts
from image_processing.drawing.signature import save_signed
from modeling_maskformer.evaluation.error_analysis import ErrorAnalysis
from modeling_maskformer.evaluation.error_report import NO_CLASS, shown_confusion, write_error_report
from modeling_maskformer.evaluation.metrics.error_kinds import KINDS
from modeling_maskformer.evaluation.metrics.mean_iou import MeanIoU
from modeling_maskformer.targets import segments_from_class_map

ID2LABEL = {0: "road", 1: "car", 2: "boat"}


def samples_and_predictions(count=6, seed=0):
    """Random class maps, and predictions of which the later ones are more often wrong."""
    rng = np.random.default_rng(seed)
    samples, predictions = [], []
    for number in range(count):
        class_map = rng.choice([0, 1, 255], (12, 16)).astype(np.uint8)
        wrong = rng.random((12, 16)) < number / count
        predictions.append(torch.from_numpy(np.where(wrong, 1, np.where(class_map == 255, 0, class_map)).astype(int)))
        image = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8))
        samples.append(SimpleNamespace(image=image, segments=segments_from_class_map(class_map), name=f"a/{number}"))
    return samples, predictions


def analysis_of(samples, predictions, places, num_worst=3):
    analysis = ErrorAnalysis("semantic", ID2LABEL, num_worst)
    for place in places:
        analysis.update(predictions[place], samples[place].segments, place)
    return analysis


def test_the_worst_images_are_those_of_the_lowest_score_however_they_are_spread():
    samples, predictions = samples_and_predictions()
    scores = []
    for sample, prediction in zip(samples, predictions, strict=True):
        metric = MeanIoU(ID2LABEL)
        metric.update(prediction, sample.segments)
        scores.append(metric.compute()["mean_iou"])
    expected = sorted(range(6), key=lambda place: scores[place])[:3]
    one = analysis_of(samples, predictions, (3, 1, 5, 0, 2, 4))
    parts = [analysis_of(samples, predictions, places) for places in ((0, 2, 4), (1, 3, 5))]
    parts[0].merge(parts[1].state())
    for analysis in (one, parts[0]):
        assert [image.index for image in analysis.worst] == expected
        assert [image.score for image in analysis.worst] == pytest.approx(sorted(scores)[:3])
        assert {index: score for score, index in analysis.scores} == pytest.approx(dict(enumerate(scores)))
        assert all(torch.equal(image.prediction.long(), predictions[image.index]) for image in analysis.worst)
    np.testing.assert_array_equal(one.confusion(), parts[0].confusion())
    assert analysis_of(samples, predictions, range(6), num_worst=0).worst == []


def test_pictures_chart_and_numbers_are_written(tmp_path):
    samples, predictions = samples_and_predictions()
    analysis = analysis_of(samples, predictions, range(6))
    (tmp_path / "errors" / "worst").mkdir(parents=True)
    save_signed(Image.new("RGB", (4, 4)), tmp_path / "errors" / "worst" / "09_earlier.png")
    lines = write_error_report(tmp_path / "errors", analysis, samples)
    report = json.loads((tmp_path / "errors" / "errors.json").read_text())
    assert report["labels"] == ["road", "car", "boat", NO_CLASS] and report["num_images"] == 6
    assert report["confusion"] == analysis.confusion().tolist()
    files = sorted(path.name for path in (tmp_path / "errors" / "worst").iterdir())
    assert files == [f"{number:02d}_{image.index}.png" for number, image in enumerate(analysis.worst, start=1)]
    assert [entry["file"] for entry in report["worst"]] == [f"worst/{file}" for file in files]
    picture = Image.open(tmp_path / "errors" / "worst" / files[0])
    assert picture.width > 3 * 360  # three small pictures, enlarged
    assert Image.open(tmp_path / "errors" / "confusion_matrix.png").width > 200
    assert any("confusion_matrix.png" in line for line in lines)


def test_files_of_somebody_else_among_the_worst_stay(tmp_path):
    samples, predictions = samples_and_predictions()
    analysis = analysis_of(samples, predictions, range(6))
    worst = tmp_path / "worst"
    worst.mkdir()
    taken = f"01_{analysis.worst[0].index}"
    for name in ("notes.txt", "09_holiday.png", f"{taken}.png"):
        (worst / name).write_text("mine")
    write_error_report(tmp_path, analysis, samples)
    assert all((worst / name).read_text() == "mine" for name in ("notes.txt", "09_holiday.png", f"{taken}.png"))
    assert json.loads((tmp_path / "errors.json").read_text())["worst"][0]["file"] == f"worst/{taken}-2.png"
    assert Image.open(worst / f"{taken}-2.png").width > 200


@pytest.mark.parametrize(
    ("largest", "dtype"), [(127, torch.int8), (128, torch.int16), (40_000, torch.int32), (1 << 31, torch.int64)]
)
def test_maps_of_the_worst_images_are_kept_in_the_fewest_bytes(largest, dtype):
    analysis = ErrorAnalysis("panoptic", ID2LABEL)
    segmentation = torch.tensor([[largest, largest, -1]])
    reference = segments_from_class_map(np.array([[0, 0, 0]]))
    prediction = {"segmentation": segmentation, "segments_info": [{"id": largest, "label_id": 0, "score": 0.9}]}
    analysis.update(prediction, reference, 0)
    (kept,) = analysis.worst
    assert kept.prediction["segmentation"].dtype == dtype
    assert torch.equal(kept.prediction["segmentation"].long(), segmentation)


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_kinds_of_errors_are_written_and_unsure_instances_are_not_drawn(tmp_path, task):
    samples, _ = samples_and_predictions()
    analysis = ErrorAnalysis(task, ID2LABEL)
    everything = mask_utils.encode(np.ones((12, 16), dtype=np.uint8, order="F"))
    segments = [{"id": 1, "label_id": 1, "score": 0.9}, {"id": 2, "label_id": 2, "score": 0.1}]
    if task == "instance":
        prediction = {"segmentation": [everything, everything], "segments_info": segments}
    else:
        segmentation = torch.ones(12, 16, dtype=torch.int32)
        prediction = {"segmentation": segmentation, "segments_info": segments[:1]}
    analysis.update(prediction, samples[0].segments, 0)
    assert [segment["label_id"] for segment in analysis.worst[0].prediction["segments_info"]] == [1]
    write_error_report(tmp_path, analysis, samples)
    report = json.loads((tmp_path / "errors.json").read_text())
    assert sum(report["kinds"][kind] for kind in KINDS) == 2  # road and car
    assert report["per_class"]["boat"]["invented"] == 0
    assert Image.open(tmp_path / "error_kinds.png").width > 200


def test_an_image_with_nothing_to_find_and_nothing_found_is_not_among_the_worst():
    analysis = ErrorAnalysis("panoptic", ID2LABEL)
    empty = segments_from_class_map(np.full((4, 4), 255))
    analysis.update({"segmentation": torch.zeros(4, 4, dtype=torch.int32), "segments_info": []}, empty, 0)
    assert analysis.worst == [] == analysis.scores and analysis.counts.num_images == 1


def test_a_large_confusion_matrix_shows_the_classes_with_the_most_wrong_pixels():
    rng = np.random.default_rng(0)
    confusion = np.diag(rng.integers(1, 9, 61))
    confusion[60, 60] = 0  # no pixel without a class
    wrong = rng.choice(60, 20, replace=False)
    confusion[wrong[:10], wrong[10:]] = 100
    shares, shown, title = shown_confusion(confusion)
    assert set(wrong) <= set(shown) and len(shown) == 40 and "40 of 60 classes" in title
    np.testing.assert_allclose(shares[:60].sum(1), 1)
    assert np.isnan(shares[60]).all()


def test_without_matplotlib_all_but_the_chart_is_written_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(charts.importlib.util, "find_spec", lambda name: None)
    samples, predictions = samples_and_predictions()
    lines = write_error_report(tmp_path, analysis_of(samples, predictions, range(6), num_worst=1), samples)
    assert lines[0] == f"{tmp_path}: the worst image in worst/, all counts in errors.json."
    assert lines[-1] == charts.MISSING and "matplotlib" in charts.MISSING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["errors.json", "worst"]
