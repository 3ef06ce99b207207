"""scripts/benchmark.py from start to end at tiny sizes: that it measures, not what."""

import json

import pytest
from PIL import Image

from scripts import benchmark


def test_inference_is_measured_beside_transformers(tmp_path, capsys):
    benchmark.main(["inference", "--quick", "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "inference.json").read_text())
    assert [row["task"] for row in report["post_processing"]] == ["semantic", "instance", "panoptic"]
    for row in report["post_processing"]:
        assert row["seconds"]["this package"]["median"] > 0 and row["times_faster"]["median"] > 0
    forward, pipeline = report["forward"]
    assert forward["largest_difference"] < 1e-3
    assert pipeline["program"] == "pipeline, tiny"
    assert {row["axis"] for row in report["growth"]} == {"queries", "megapixels"}
    assert Image.open(tmp_path / "inference.png").width > 100
    assert "x faster" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["inferense"]], ids=str)
def test_a_benchmark_must_be_named(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(arguments)
    assert stopped.value.code == 2
    assert "must be inference or training" in capsys.readouterr().err
