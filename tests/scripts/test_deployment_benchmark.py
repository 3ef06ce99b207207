"""scripts/benchmark.py deployment at tiny sizes: that it measures, not what."""

import importlib.util
import json

import pytest

from scripts import benchmark


def test_exported_graphs_are_measured_beside_transformers(tmp_path, capsys):
    packages = ("onnx", "onnxscript", "onnxruntime", "nncf")
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (extra `export`)")
    programs = ["ONNX Runtime, f32", "ONNX Runtime, int8"]
    flags = ["--quick", "--programs", *programs, "--output_dir", str(tmp_path)]
    benchmark.main(["deployment", *flags])
    rows = json.loads((tmp_path / "deployment.json").read_text())["rows"]
    assert [row["program"] for row in rows] == ["transformers", "this package", *programs]
    assert rows[0]["times_faster"]["median"] == 1
    printed = capsys.readouterr().out
    assert all(f"| forward, tiny | {program} |" in printed for program in programs)
