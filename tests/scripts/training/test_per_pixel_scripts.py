"""The per-pixel baselines in the scripts: `--architecture` alone makes the paper's comparison."""

import json
import re

import numpy as np
import pytest
import transformers
from PIL import Image
from script_runs import BRIEF, SMALL, run

import modeling_maskformer
from image_processing import PerPixelImageProcessor
from modeling_maskformer.commands import evaluate, predict, train

PIXEL_LEVEL = SMALL[: SMALL.index("--hidden_dim")]
DECODER = ["--hidden_dim", 32, "--attention_heads", 4, "--decoder_layers", 2, "--ffn_dim", 32]
MODELS = {
    "per_pixel": (modeling_maskformer.PerPixelBaselineForSemanticSegmentation, PIXEL_LEVEL),
    "per_pixel_plus": (modeling_maskformer.PerPixelBaselinePlusForSemanticSegmentation, [*PIXEL_LEVEL, *DECODER]),
}
both = pytest.mark.parametrize("architecture", MODELS)


@pytest.fixture(scope="session")
def baselines(tmp_path_factory, street):
    """Architecture -> output folder of a run of the training script."""
    folders = {}
    for architecture, (_, flags) in MODELS.items():
        folders[architecture] = tmp_path_factory.mktemp("baselines") / architecture
        data = ["--dataset", street, "--task", "semantic", "--output_dir", folders[architecture]]
        run(train.main, *data, "--architecture", architecture, *flags, *BRIEF)
    return folders


@both
def test_a_run_leaves_a_baseline_with_its_processor_results_and_pictures(baselines, architecture):
    folder = baselines[architecture]
    results = json.loads((folder / "eval_results.json").read_text())
    assert 0 <= results["mean_iou"] <= 1 and list(results["per_class"]) == ["sky", "road", "car"]
    assert len(list((folder / "pictures").iterdir())) == 2
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder)
    assert type(model) is MODELS[architecture][0]
    assert list(model.config.id2label.values()) == ["sky", "road", "car"]
    assert type(transformers.AutoImageProcessor.from_pretrained(folder)) is PerPixelImageProcessor


@both
def test_every_loss_part_is_logged(baselines, architecture):
    state = json.loads((baselines[architecture] / "trainer_state.json").read_text())
    first = state["log_history"][0]
    parts = ["loss_cross_entropy"] + ["loss_cross_entropy_auxiliary"] * (architecture == "per_pixel_plus")
    assert sorted(name for name in first if name.startswith("loss_")) == parts
    assert first["loss"] == pytest.approx(sum(first[part] for part in parts), rel=1e-3)


@both
def test_a_run_is_measured_as_at_its_end(baselines, street, tmp_path, architecture):
    output = tmp_path / "results.json"
    arguments = ["--dataset", street, "--output_file", output, "--batch_size", 2, "--use_cpu"]
    run(evaluate.main, "--model", baselines[architecture], *arguments)
    found = json.loads(output.read_text())
    expected = json.loads((baselines[architecture] / "eval_results.json").read_text())
    assert found["task"] == "semantic" and found["num_images"] == 3
    # after three steps the classes are almost equal, and rounding decides some pixels
    assert found["mean_iou"] == pytest.approx(expected["mean_iou"], abs=5e-3)


@both
def test_pictures_are_predicted_as_the_pipeline_does(baselines, street, tmp_path, architecture):
    picture = street / "val" / "images" / "0.png"
    arguments = ["--inputs", picture, "--output_dir", tmp_path / "out", "--use_cpu"]
    run(predict.main, "--model", baselines[architecture], *arguments)
    class_map = np.asarray(Image.open(tmp_path / "out" / "class_ids" / "0.png"))
    assert (tmp_path / "out" / "overlays" / "0.jpg").is_file()
    segment = transformers.pipeline("image-segmentation", model=str(baselines[architecture]))
    names = ["sky", "road", "car"]
    for result in segment(str(picture)):
        np.testing.assert_array_equal(np.asarray(result["mask"]) > 0, class_map == names.index(result["label"]))


@both
def test_fine_tuning_keeps_the_architecture_and_takes_other_classes(baselines, street_objects, tmp_path, architecture):
    data = ["--dataset", street_objects, "--task", "semantic", "--output_dir", tmp_path / "tuned"]
    run(train.main, *data, "--model", baselines[architecture], *BRIEF)
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "tuned")
    assert type(model) is MODELS[architecture][0]
    assert list(model.config.id2label.values()) == ["background", "road", "car"]


def test_what_a_baseline_cannot_is_refused(baselines, street, street_objects, tmp_path, refused):
    out = ["--output_dir", tmp_path / "out", "--use_cpu"]
    new = ["--dataset", street, "--task", "semantic", *out, *PIXEL_LEVEL, "--architecture"]
    tuned = ["--dataset", street, "--task", "semantic", *out, "--model"]
    train_cases = [
        ([*new, "per_pixel", "--num_queries", 8], "--num_queries has no effect on a per_pixel model: it has no tr"),
        ([*new, "per_pixel", "--hidden_dim", 32], "--hidden_dim has no effect on a per_pixel model"),
        ([*new, "per_pixel_plus", "--num_queries", 8], "it has one query for each class"),
        ([*new, "per_pixel_plus", "--mask_loss", "points"], "--mask_loss has no effect on a per_pixel_plus model"),
        ([*new, "per_pixels"], "invalid choice: 'per_pixels'"),
        ([*tuned, baselines["per_pixel"], "--num_points", 64], "--num_points has no effect on a per_pixel model"),
        ([*tuned, baselines["per_pixel"], "--architecture", "maskformer"], "--architecture goes with --backbone"),
        (
            ["--dataset", street_objects, "--task", "panoptic", *out, *PIXEL_LEVEL, "--architecture", "per_pixel"],
            "the task (--task) must be semantic, got panoptic",
        ),
        (
            ["--dataset", street_objects, "--task", "instance", *out, "--model", baselines["per_pixel_plus"]],
            "the task (--task) must be semantic, got instance",
        ),
        ([*new, "per_pixel", "--activation_checkpointing"], "--activation_checkpointing has no effect"),
    ]
    for argv, message in train_cases:
        assert message in refused(train.main, *argv), argv
    assert not (tmp_path / "out").exists()
    model = ["--model", baselines["per_pixel"], "--task", "panoptic", "--use_cpu"]
    evaluated = [*model, "--dataset", street_objects, "--output_file", tmp_path / "results.json"]
    predicted = [*model, "--inputs", street / "val", "--output_dir", tmp_path / "out"]
    for main, argv in ((evaluate.main, evaluated), (predict.main, predicted)):
        assert "the task (--task) must be semantic, got panoptic" in refused(main, *argv)


@both
def test_a_run_that_diverges_ends_with_the_error_and_leaves_no_model(street, tmp_path, architecture, capsys):
    data = ["--dataset", street, "--task", "semantic", "--output_dir", tmp_path / "run", "--learning_rate", "1e30"]
    with pytest.raises(SystemExit) as ended:
        run(train.main, *data, "--architecture", architecture, *MODELS[architecture][1], *BRIEF)
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert re.search(r"Step \d+: the (loss|gradient) is (nan|inf).* samples: \d, \d; it is", said)
    assert not list((tmp_path / "run").glob("*.json"))
    assert len(list((tmp_path / "run").glob("diverged_batch_step_*.safetensors"))) == 1
