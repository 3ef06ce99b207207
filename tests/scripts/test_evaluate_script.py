"""scripts/evaluate.py: the numbers of the training script again, also for checkpoints of transformers."""

import json

import pytest
import transformers
from script_runs import run

from scripts import evaluate


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_run_is_measured_as_at_its_end(trained, street, street_objects, tmp_path, capsys, task):
    dataset = street if task == "semantic" else street_objects
    output = tmp_path / "results.json"
    run(evaluate.main, "--model", trained[task], "--dataset", dataset, "--output_file", output, "--use_cpu")
    found = json.loads(output.read_text())
    expected = json.loads((trained[task] / "eval_results.json").read_text())
    assert found["task"] == task and found["num_images"] == 3
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value, abs=1e-4), name
    assert found["per_class"].keys() == expected["per_class"].keys()
    table = capsys.readouterr().out
    assert all(f"\n{label} " in table for label in expected["per_class"])


def transformers_checkpoint(folder, id2label):
    """A checkpoint that transformers itself wrote."""
    config = transformers.MaskFormerConfig(
        backbone_config=transformers.ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 48, 64],
            depths=[1, 1, 1, 1],
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        decoder_config=transformers.DetrConfig(
            d_model=32, decoder_layers=2, num_queries=6, decoder_attention_heads=4, decoder_ffn_dim=32
        ),
        fpn_feature_size=32,
        mask_feature_size=32,
        id2label=id2label,
        label2id={name: class_id for class_id, name in id2label.items()},
    )
    model_class = transformers.models.maskformer.modeling_maskformer.MaskFormerForInstanceSegmentation
    model_class(config).save_pretrained(folder)
    processor_class = transformers.models.maskformer.image_processing_maskformer.MaskFormerImageProcessor
    processor_class(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(folder)
    return folder


def test_checkpoints_of_transformers_are_measured_too(street, tmp_path):
    # another order of the same classes: they are matched by name
    model = transformers_checkpoint(tmp_path / "model", {0: "car", 1: "sky", 2: "road"})
    output = tmp_path / "results.json"
    arguments = ["--model", model, "--dataset", street, "--output_file", output, "--use_cpu"]
    run(evaluate.main, *arguments, "--task", "semantic")
    assert list(json.loads(output.read_text())["per_class"]) == ["car", "sky", "road"]


def test_what_cannot_be_measured_is_refused(street, trained, tmp_path, refused):
    output = ["--output_file", tmp_path / "results.json", "--use_cpu"]
    model = transformers_checkpoint(tmp_path / "model", {0: "sky", 1: "road", 2: "boat"})
    (tmp_path / "there.json").write_text("{}")
    cases = [
        (["--model", model, "--dataset", street, *output], "pass --task"),
        (["--model", model, "--dataset", street, "--task", "semantic", *output], "does not know 1 of the dataset's 3"),
        (["--model", street, "--dataset", street, *output], "has no config.json"),
        (["--model", trained["semantic"] / "pictures", "--dataset", street, *output], "has no config.json"),
        (["--model", trained["semantic"].parent, "--dataset", street, *output], "has no config.json"),
        (
            ["--model", trained["semantic"], "--dataset", street, "--output_file", tmp_path / "there.json"],
            "is already there",
        ),
    ]
    for argv, message in cases:
        assert message in refused(evaluate.main, *argv), argv
