"""Predicting many pictures: one that fails, at whatever step, ends nothing, and is told with its cause."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from modeling_maskformer.inference.inputs import Picture, find_pictures
from modeling_maskformer.inference.prediction_run import writer as writer_module
from modeling_maskformer.inference.prediction_run.predict_pictures import predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile
from modeling_maskformer.inference.prediction_run.run import join_results
from modeling_maskformer.inference.prediction_run.writer import ResultWriter
from modeling_maskformer.inference.result_names import RECORDS


def pictures(count, load=None):
    """Pictures 8 x 6 whose pixels are their number."""
    loads = {number: lambda number=number: Image.new("RGB", (8, 6), (number,) * 3) for number in range(count)}
    return [Picture(f"part/{number}", number, (load or {}).get(number, loads[number])) for number in range(count)]


def fail(error):
    def raising(*_, **__):
        raise error

    return raising


def predict(images):
    """Pictures whose pixels are 2 or 5 do not go through, nor does a batch with one of them."""
    values = [np.asarray(image)[0, 0, 0] for image in images]
    if {2, 5} & set(values):
        raise RuntimeError("out of memory")
    return [
        torch.full((image.height, image.width), int(value), dtype=torch.int64)
        for image, value in zip(images, values, strict=True)
    ]


def make_writer(folder, **settings):
    return ResultWriter(folder, "semantic", {number: f"class {number}" for number in range(9)}, **settings)


def predict_all(pictures, predictor, writer, *settings, **more):
    """A whole run; the failures that its manifest tells."""
    records = RecordFile(writer.folder / RECORDS)
    try:
        predict_pictures(pictures, predictor, writer, records, *settings, **more)
    finally:
        join_results(writer, pictures)
    file = writer.folder / "failures.json"
    return json.loads(file.read_text()) if file.exists() else []


def done(folder):
    return sorted(int(file.stem) for file in (folder / "class_ids" / "part").glob("*.png"))


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_picture_that_fails_at_any_step_is_left_out_alone(tmp_path, monkeypatch, batch_size):
    draw = writer_module.draw_prediction

    def draw_most(task, image, prediction, id2label):
        return fail(MemoryError())() if prediction[0, 0] == 6 else draw(task, image, prediction, id2label)

    monkeypatch.setattr(writer_module, "draw_prediction", draw_most)
    broken = {1: fail(SyntaxError("no picture")), 7: fail(KeyError("decoder"))}
    failures = predict_all(pictures(9, broken), predict, make_writer(tmp_path), batch_size, num_threads=2)
    assert done(tmp_path) == [0, 3, 4, 8]
    assert len(list((tmp_path / "overlays" / "part").iterdir())) == 4
    expected = {
        ("part/1", "reading", "no picture"),
        ("part/2", "predicting", "out of memory"),
        ("part/5", "predicting", "out of memory"),
        ("part/6", "writing", "MemoryError"),
        ("part/7", "reading", "'decoder'"),
    }
    assert {(failure["name"], failure["step"], failure["cause"]) for failure in failures} == expected
    assert (tmp_path / "classes.json").is_file()


def test_failures_of_an_earlier_run_are_forgotten_when_all_goes_well(tmp_path):
    assert predict_all(pictures(3), predict, make_writer(tmp_path))
    assert not predict_all(pictures(2), predict, make_writer(tmp_path))
    assert not (tmp_path / "failures.json").exists()


def test_what_was_done_is_listed_where_a_run_is_broken_off(tmp_path):
    def found(images):
        if np.asarray(images[0])[0, 0, 0] == 4:
            raise KeyboardInterrupt
        ids = torch.ones(6, 8, dtype=torch.int32)
        return [{"segmentation": ids, "segments_info": [{"id": 1, "label_id": 3, "score": 0.5}]} for _ in images]

    writer = ResultWriter(tmp_path, "panoptic", {3: "tree"}, overlays=False)
    with pytest.raises(KeyboardInterrupt):
        predict_all(pictures(9), found, writer)
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [image["id"] for image in content["images"]] == list(range(len(content["images"]))) != []
    assert len(content["annotations"]) == len(content["images"]) >= 2


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (13300, 13300)).save(tmp_path / "bomb.png")
    Image.new("1", (100, 50)).save(tmp_path / "small.png")
    assert (tmp_path / "bomb.png").stat().st_size < 30_000
    decoded = []
    convert = Image.Image.convert
    monkeypatch.setattr(Image.Image, "convert", lambda self, *_: decoded.append(self.size) or convert(self, *_))
    failures = predict_all(find_pictures([tmp_path]), predict, make_writer(tmp_path / "out", overlays=False))
    (failure,) = failures
    assert failure["name"] == "bomb" and failure["step"] == "reading"
    assert failure["cause"].startswith(
        "it is 13300 x 13300 pixels (width x height), expected at most 100000000 in all"
    )
    assert (13300, 13300) not in decoded
    (big, small) = find_pictures([tmp_path / "bomb.png", tmp_path / "small.png"], max_pixels=5000)
    assert small.load().size == (100, 50)
    with pytest.raises(ValueError, match="expected at most 5000"):
        big.load()
