"""scripts/benchmark.py from start to end at tiny sizes: that it measures, not what."""

import json

import pytest
from PIL import Image

from scripts import benchmark
from scripts.benchmarks.inference import InferenceBenchmarkArguments


def test_inference_is_measured_beside_transformers(tmp_path, capsys):
    benchmark.main(["inference", "--quick", "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "inference.json").read_text())
    assert [row["task"] for row in report["post_processing"]] == ["semantic", "instance", "panoptic"]
    for row in report["post_processing"]:
        assert row["seconds"]["this package"]["median"] > 0 and row["times_faster"]["median"] > 0
    assert report["noisy_masks"]["times_faster"]["median"] > 0
    (forward,), pipeline = report["forward"], report["pipeline"]
    assert forward["largest_difference"] < 1e-3
    assert pipeline["program"] == "pipeline, tiny"
    assert all(number > 0 for number in pipeline["segments"].values())
    assert report["mixed_sizes"]["seconds"].keys() == {"one batch", "one by one"}
    assert {row["axis"] for row in report["growth"]} == {"queries", "megapixels"}
    assert Image.open(tmp_path / "inference.png").width > 100
    assert "x faster" in capsys.readouterr().out


def test_a_scene_has_room_for_its_segments():
    with pytest.raises(ValueError, match="num_live must be from 2 to num_queries \\(20\\), got 30"):
        InferenceBenchmarkArguments(num_queries=20)


@pytest.mark.parametrize("arguments", [[], ["inferense"]], ids=str)
def test_a_benchmark_must_be_named(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        benchmark.main(arguments)
    assert stopped.value.code == 2
    assert "must be inference or training" in capsys.readouterr().err


def test_help_lists_the_benchmarks(capsys):
    benchmark.main(["--help"])
    listed = capsys.readouterr().out
    assert all(f"benchmark.py {name}" in listed and name in listed.splitlines()[-1] for name in benchmark.BENCHMARKS)


def test_memory_of_reading_a_stream_is_measured(tmp_path, capsys):
    flags = ["--samples", "24", "--files", "2", "--size", "32", "--shuffle_buffer", "8", "--points", "3"]
    benchmark.main(["streaming", *flags, "--output_dir", str(tmp_path)])
    report = json.loads((tmp_path / "streaming.json").read_text())
    for line in report["lines"].values():
        assert [samples for samples, _ in line] == [8, 16, 24] and all(megabytes > 0 for _, megabytes in line)
    assert Image.open(tmp_path / "streaming.png").width > 100
    assert "24 samples of" in capsys.readouterr().out
