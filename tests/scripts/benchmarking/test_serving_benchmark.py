"""scripts/benchmark.py serving: which pictures it sends, and what it refuses to measure."""

import numpy as np
import pytest
from models import tiny
from PIL import Image

from benchmarks import serving
from image_processing import MaskFormerImageProcessor
from scripts import benchmark


@pytest.fixture
def photos(tmp_path):
    """Pictures as cameras name them, and beside them what is none."""
    folder = tmp_path / "photos"
    (folder / "day.jpg").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("DSC_0001.PNG", "day.jpg/DSC_0002.JPG", "small.png"):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("none")
    return folder


def test_pictures_are_found_whatever_the_case_of_their_ending(photos, tmp_path, monkeypatch):
    sent = []
    monkeypatch.setattr(serving, "measure", lambda arguments, pictures, *_: sent.append(pictures) or {})
    flags = ["--model", "street", "--pictures", str(photos), "--output_dir", str(tmp_path / "out")]
    benchmark.main(["serving", *flags])
    assert [len(pictures) for pictures in sent] == [3, 3, 3]
    assert (tmp_path / "out" / "serving.json").is_file()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format", "jpg"], "--format: invalid choice: 'jpg' (choose from"),
        (["--clients", "0"], "--clients must be at least 1, got 0"),
        (["--requests", "-3"], "--requests must be at least 1, got -3"),
    ],
)
def test_flags_that_mean_nothing_are_refused(photos, capsys, flags, sentence):
    with pytest.raises(SystemExit) as stop:
        benchmark.main(["serving", "--model", "street", "--pictures", str(photos), *flags])
    assert stop.value.code == 2 and sentence in capsys.readouterr().err


def test_a_service_that_answers_nothing_is_not_measured(photos, tmp_path):
    tiny(segmentation_task="instance").eval().save_pretrained(tmp_path / "model")
    size = {"shortest_edge": 32, "longest_edge": 64}
    MaskFormerImageProcessor(size=size).save_pretrained(tmp_path / "model")
    flags = ["--model", str(tmp_path / "model"), "--pictures", str(photos), "--format", "png"]
    with pytest.raises(SystemExit, match=r"No request is answered with 200, but with \{422: 2\}"):
        benchmark.main(["serving", *flags])
