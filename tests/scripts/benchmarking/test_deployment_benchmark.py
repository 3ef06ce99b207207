"""scripts/benchmark.py deployment at tiny sizes: that it measures, not what."""

import importlib.util
import json

import numpy as np
import pytest
from models import tiny
from PIL import Image

from image_processing import MaskFormerImageProcessor
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


def test_the_pipeline_of_a_trained_checkpoint_is_measured_on_pictures(tmp_path):
    missing = [name for name in ("openvino", "onnx") if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (extra `export`)")
    tiny(segmentation_task="semantic").eval().save_pretrained(tmp_path / "model")
    MaskFormerImageProcessor().save_pretrained(tmp_path / "model")
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{number}.png")
    flags = ["--quick", "--programs", "OpenVINO, f32", "--output_dir", str(tmp_path)]
    trained = ["--checkpoint", str(tmp_path / "model"), "--pictures", str(tmp_path / "pictures")]
    benchmark.main(["deployment", *flags, *trained])
    rows = json.loads((tmp_path / "deployment.json").read_text())["rows"]
    rows = [row for row in rows if row["work"] == "semantic pipeline, 2 pictures"]
    names, found = zip(*(row["program"].split(" (") for row in rows), strict=True)
    assert names == ("transformers", "this package", "OpenVINO, f32")
    assert len(set(found)) == 1 and found[0] != "0 segments)"
