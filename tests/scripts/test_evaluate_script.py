"""scripts/evaluate.py: the numbers of the training script again, also for checkpoints of transformers."""

import errno
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
import transformers
from PIL import Image
from script_runs import BRIEF, SMALL, run
from torchvision.transforms.v2 import functional as tvF

from modeling_maskformer import half_precision
from modeling_maskformer.commands import evaluate, train
from modeling_maskformer.data.held_out import HeldOut
from modeling_maskformer.evaluation import metric_for_task
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.evaluation.image_size import resize_to_shortest_edge, sizes_to_try
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.multi_scale import MultiScalePredictor
from modeling_maskformer.inference.predictor import Predictor
from modeling_maskformer.inference.tiles.tiled_predictor import TiledPredictor
from modeling_maskformer.targets import segments_from_class_map
from modeling_maskformer.training.arguments.data_arguments import DataArguments


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
    errors = json.loads((tmp_path / "results_errors" / "errors.json").read_text())
    assert errors["num_images"] == 3 and 1 <= len(errors["worst"]) <= 3
    assert all((tmp_path / "results_errors" / entry["file"]).is_file() for entry in errors["worst"])
    assert (
        tmp_path / "results_errors" / f"{'confusion_matrix' if task == 'semantic' else 'error_kinds'}.png"
    ).exists()
    table = capsys.readouterr().out
    others = [label for label, row in expected["per_class"].items() if all(value is None for value in row.values())]
    assert all(f"\n{label} " in table for label in expected["per_class"].keys() - set(others))
    assert not others or f"Without numbers: {', '.join(others)}." in table


def measured(model, dataset, output, *flags):
    run(evaluate.main, "--model", model, "--dataset", dataset, "--output_file", output, "--use_cpu", *flags)
    return json.loads(output.read_text())


@pytest.mark.parametrize(("dtype", "expected"), [("float32", "no"), ("bfloat16", "bf16")])
def test_the_dtype_is_that_of_the_flag_whatever_accelerate_is_told(
    trained, street, tmp_path, monkeypatch, dtype, expected
):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16" if dtype == "float32" else "no")
    prepare, precisions = evaluate.prepare_evaluation, []

    def note_precision(*arguments):
        trainer = prepare(*arguments)
        precisions.append(trainer.accelerator.mixed_precision)
        return trainer

    monkeypatch.setattr(evaluate, "prepare_evaluation", note_precision)
    measured(trained["semantic"], street, tmp_path / "results.json", "--dtype", dtype)
    assert precisions == [expected]


def test_as_many_detections_count_as_are_asked_for(trained, street_objects, tmp_path):
    found = measured(trained["instance"], street_objects, tmp_path / "results.json", "--max_detections", 300)
    assert "ar300" in found and "ar100" not in found


def test_a_second_evaluation_leaves_the_file_of_the_first(trained, street, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["--model", trained["semantic"], "--dataset", street, "--use_cpu"]
    run(evaluate.main, *command)
    first = Path("evaluation.json").read_text()
    run(evaluate.main, *command, "--shortest_edge", 32)
    run(evaluate.main, *command, "--shortest_edge", 64)
    assert Path("evaluation.json").read_text() == first
    names = ["evaluation.json", "evaluation-2.json", "evaluation-3.json"]
    assert sorted(path.name for path in tmp_path.glob("*.json")) == sorted(names)
    assert all((tmp_path / f"{Path(name).stem}_errors" / "errors.json").is_file() for name in names)
    edges = [json.loads(Path(name).read_text()).get("shortest_edge") for name in names]
    said = capsys.readouterr().out
    assert edges == [None, 32, 64] and all(f"All numbers are in {name}." in said for name in names)
    run(evaluate.main, *command, "--shortest_edge", 96, "--overwrite")
    assert json.loads(Path("evaluation.json").read_text())["shortest_edge"] == 96
    assert len(list(tmp_path.glob("*.json"))) == 3


@pytest.mark.parametrize("part", ["", "checkpoint-3"])
def test_without_a_validation_split_the_images_that_were_set_aside_are_measured(set_aside, tmp_path, caplog, part):
    folder, dataset = set_aside
    found = measured(folder / part, dataset, tmp_path / "results.json")
    expected = json.loads((folder / "eval_results.json").read_text())["mean_iou"]
    if part:  # the run may have ended with a better checkpoint
        history = json.loads((folder / part / "trainer_state.json").read_text())["log_history"]
        expected = next(entry["eval_mean_iou"] for entry in reversed(history) if "eval_mean_iou" in entry)
    assert found["num_images"] == 2 and "2 images that the run has set aside" in caplog.text
    assert found["mean_iou"] == pytest.approx(expected, abs=1e-4)


def test_half_precision_on_a_cpu_without_it_is_pointed_out(trained, street, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(half_precision, "cpu_computes", lambda dtype: False)
    measured(trained["semantic"], street, tmp_path / "results.json", "--dtype", "bfloat16")
    assert "This CPU has no instructions for bfloat16" in caplog.text


def test_one_image_that_was_set_aside_is_one(set_aside, tmp_path, caplog):
    arguments = DataArguments(str(set_aside[1]), "semantic")
    data = arguments.open("semantic")
    HeldOut.of(data.splits, data.train_and_validation(None, None, 0.1)[1]).save(tmp_path)
    assert len(evaluate.samples_to_measure(data, arguments, str(tmp_path))) == 1
    assert "Measured is the one image that the run has set aside." in caplog.text


def test_images_that_were_added_after_training_are_not_taken_for_those_set_aside(set_aside, tmp_path):
    folder, dataset = set_aside
    before = DataArguments(str(dataset), "semantic")
    expected = [sample.name for sample in evaluate.samples_to_measure(before.open("semantic"), before, str(folder))]
    grown = shutil.copytree(dataset, tmp_path / "grown")
    for number in range(10):
        for kind in ("images", "masks"):
            picture = Image.open(dataset / kind / f"{number % 6}.png")
            tvF.vertical_flip(picture).save(grown / kind / f"0_{number}.png")
    after = DataArguments(str(grown), "semantic")
    samples = evaluate.samples_to_measure(after.open("semantic"), after, str(folder))
    assert [sample.name for sample in samples] == expected


def test_another_dataset_is_measured_as_a_whole_also_where_names_are_the_same(set_aside, tmp_path, caplog):
    folder, dataset = set_aside
    (tmp_path / "masks").mkdir()
    (tmp_path / "images").mkdir()
    for number in range(6):
        for kind in ("images", "masks"):
            tvF.vertical_flip(Image.open(dataset / kind / f"{number}.png")).save(tmp_path / kind / f"{number}.png")
    other = DataArguments(str(tmp_path), "semantic", id2label=str(dataset / "id2label.json"))
    assert len(evaluate.samples_to_measure(other.open("semantic"), other, str(folder))) == 6
    assert "all images that the checkpoint's run has set aside" in caplog.text and "all are measured" in caplog.text


def test_it_is_said_that_training_images_may_be_measured(trained, set_aside, tmp_path, caplog):
    assert measured(trained["semantic"], set_aside[1], tmp_path / "results.json")["num_images"] == 6
    assert "training images may be among them" in caplog.text


@pytest.fixture(scope="module")
def set_aside(street, tmp_path_factory):
    """A run on a dataset without a validation split, and that dataset."""
    dataset = tmp_path_factory.mktemp("one_split") / "street"
    shutil.copytree(street / "train", dataset)
    shutil.copy(street / "id2label.json", dataset)
    folder = dataset.parent / "run"
    flags = ["--validation_fraction", 0.34, "--output_dir", folder, *SMALL, *BRIEF]
    run(train.main, "--dataset", dataset, "--task", "semantic", *flags)
    return folder, dataset


def test_batches_and_workers_change_no_number(trained, street_objects, tmp_path):
    plain = measured(trained["panoptic"], street_objects, tmp_path / "plain.json")
    flags = ["--batch_size", 2, "--num_workers", 1]
    found = measured(trained["panoptic"], street_objects, tmp_path / "batches.json", *flags)
    assert found["pq"] == pytest.approx(plain["pq"], abs=1e-4) and found["images_per_second"] > 0
    assert (
        measured(trained["panoptic"], street_objects, tmp_path / "half.json", "--dtype", "bfloat16")["num_images"] == 3
    )


def test_test_time_augmentation_at_one_scale_changes_nothing(trained, street, tmp_path):
    flags = ["--tta", "--tta_scales", 1, "--no_tta_flip", "--batch_size", 2]
    found = measured(trained["semantic"], street, tmp_path / "tta.json", *flags)
    plain = measured(trained["semantic"], street, tmp_path / "plain.json")
    assert found["num_images"] == 3 and (found["tta_scales"], found["tta_flip"]) == ([1.0], False)
    assert "tta_scales" not in plain
    assert found["mean_iou"] == pytest.approx(plain["mean_iou"], abs=1e-3)


def test_test_time_augmentation_measures_the_averaged_predictions(trained, street, tmp_path):
    folder = trained["semantic"]
    found = measured(folder, street, tmp_path / "results.json", "--tta", "--tta_scales", 0.5, 1.5)
    model, processor = load_model(folder), load_image_processor(folder)
    predictor = MultiScalePredictor(model, processor, [0.5, 1.5])
    metric = metric_for_task("semantic", model.config.id2label, processor.label_ids_to_fuse)
    for number in range(3):
        (prediction,) = predictor([Image.open(street / "val" / "images" / f"{number}.png")])
        mask = tvF.pil_to_tensor(Image.open(street / "val" / "masks" / f"{number}.png"))[0]
        metric.update(prediction, segments_from_class_map(mask))
    assert found["mean_iou"] == pytest.approx(metric.compute()["mean_iou"])


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_tile_as_large_as_the_images_changes_no_number(trained, street, street_objects, tmp_path, task):
    dataset = street if task == "semantic" else street_objects
    found = measured(trained[task], dataset, tmp_path / "tiles.json", "--tile", 48)
    plain = measured(trained[task], dataset, tmp_path / "plain.json")
    assert (found["tile"], found["overlap"]) == (48, 6) and "tile" not in plain
    del found["per_class"], plain["per_class"]
    for name, value in plain.items():
        if isinstance(value, float) and "second" not in name:
            assert found[name] == pytest.approx(value, abs=1e-4, nan_ok=True), name


def test_tiles_measure_what_is_predicted_in_tiles(trained, street, tmp_path):
    folder = trained["semantic"]
    found = measured(folder, street, tmp_path / "results.json", "--tile", 32, "--overlap", 8)
    model, processor = load_model(folder), load_image_processor(folder)
    predictor = TiledPredictor(Predictor(model, processor, "semantic"), 32, 8)
    metric = metric_for_task("semantic", model.config.id2label, processor.label_ids_to_fuse)
    for number in range(3):
        (prediction,) = predictor([Image.open(street / "val" / "images" / f"{number}.png")])
        mask = tvF.pil_to_tensor(Image.open(street / "val" / "masks" / f"{number}.png"))[0]
        metric.update(prediction, segments_from_class_map(mask))
    assert found["mean_iou"] == pytest.approx(metric.compute()["mean_iou"])


def test_a_sweep_measures_at_each_size_and_says_which_is_best(trained, street, tmp_path, capsys, monkeypatch):
    heights, scores = [], iter([0.3, 0.5, 0.4])
    update, compute = Evaluator.update, Evaluator.compute

    def recording_update(self, outputs, *rest):
        heights.append(outputs.masks_queries_logits.shape[-2])
        update(self, outputs, *rest)

    def scripted_compute(self):
        compute(self)
        self.results |= {"mean_iou": next(scores)}
        return self.results

    monkeypatch.setattr(Evaluator, "update", recording_update)
    monkeypatch.setattr(Evaluator, "compute", scripted_compute)
    found = measured(trained["semantic"], street, tmp_path / "sweep.json", "--shortest_edge", 40, 64, 96)
    assert heights == [10] * 3 + [16] * 3 + [24] * 3  # 3 images each, at stride 4
    assert [(entry["shortest_edge"], entry["mean_iou"]) for entry in found["sweep"]] == [
        (40, 0.3),
        (64, 0.5),
        (96, 0.4),
    ]
    assert (found["shortest_edge"], found["mean_iou"]) == (64, 0.5) and "per_class" in found
    assert "Best: --shortest_edge 64, mean_iou 0.5000." in capsys.readouterr().out


def test_errors_are_those_at_the_best_size_of_a_sweep(trained, street, tmp_path, monkeypatch):
    scores, confusions = iter([0.5, 0.3]), []
    compute = Evaluator.compute

    def scripted_compute(self):
        compute(self)
        self.analysis.counts._state["confusion"][0, 0] += len(confusions)  # the untrained model sees one class alone
        confusions.append(self.analysis.confusion().tolist())
        self.results |= {"mean_iou": next(scores)}
        return self.results

    monkeypatch.setattr(Evaluator, "compute", scripted_compute)
    measured(trained["semantic"], street, tmp_path / "sweep.json", "--shortest_edge", 40, 128)
    errors = json.loads((tmp_path / "sweep_errors" / "errors.json").read_text())
    assert errors["confusion"] == confusions[0] != confusions[1]


def test_no_error_analysis_is_made_without_pictures(trained, street, tmp_path):
    measured(trained["semantic"], street, tmp_path / "results.json", "--num_pictures", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.json"]


def test_a_sweep_without_sizes_tries_some_around_the_checkpoints_own(trained, street, tmp_path):
    model = shutil.copytree(trained["semantic"], tmp_path / "model")
    processor = load_image_processor(model)
    resize_to_shortest_edge(processor, 80)
    processor.save_pretrained(model)
    swept = measured(model, street, tmp_path / "own.json", "--sweep")["sweep"]
    assert [entry["shortest_edge"] for entry in swept] == sizes_to_try(processor)


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


def test_scores_can_be_resized_instead_of_logits(trained, street, tmp_path, refused):
    shared = ("--dataset", street, "--use_cpu", "--mask_resize", "scores")
    run(evaluate.main, "--model", trained["semantic"], "--output_file", tmp_path / "scores.json", *shared)
    assert json.loads((tmp_path / "scores.json").read_text())["num_images"] == 3
    assert "--mask_resize scores is for semantic" in refused(
        evaluate.main, "--model", trained["panoptic"], "--output_file", tmp_path / "other.json", *shared
    )


def test_checkpoints_of_transformers_are_measured_too(street, tmp_path):
    # another order of the same classes: they are matched by name
    model = transformers_checkpoint(tmp_path / "model", {0: "car", 1: "sky", 2: "road"})
    output = tmp_path / "results.json"
    arguments = ["--model", model, "--dataset", street, "--output_file", output, "--use_cpu"]
    run(evaluate.main, *arguments, "--task", "semantic")
    assert list(json.loads(output.read_text())["per_class"]) == ["car", "sky", "road"]


def test_reports_of_two_names_do_not_replace_each_other(trained, street, tmp_path):
    for name in ("run.v1", "run.v2", "plain"):
        measured(trained["semantic"], street, tmp_path / name)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["plain", "plain_errors", "run.v1", "run.v1_errors", "run.v2", "run.v2_errors"]


def test_a_report_that_is_there_is_replaced_when_asked_alone(trained, street, tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    command = ["--model", trained["semantic"], "--dataset", street, "--use_cpu"]
    mine = tmp_path / "results_errors" / "errors.json"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert "results_errors is already there" in refused(evaluate.main, *command, "--output_file", "results.json")
    assert mine.read_text() == "mine" and not Path("results.json").exists()
    run(evaluate.main, *command, "--output_file", "results.json", "--overwrite")
    assert mine.read_text() != "mine"

    run(evaluate.main, *command)
    Path("evaluation.json").rename("first.json")  # its report keeps its name
    report = Path("evaluation_errors/errors.json").read_text()
    run(evaluate.main, *command, "--shortest_edge", 32)
    assert Path("evaluation_errors/errors.json").read_text() == report
    assert Path("evaluation-2.json").is_file() and Path("evaluation-2_errors/errors.json").is_file()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_breaks_on_the_way_ends_in_a_sentence(trained, street, tmp_path, refused, workers):
    dataset = shutil.copytree(street, tmp_path / "street")
    (dataset / "val" / "images" / "2.png").write_bytes(b"no picture")
    command = ["--model", trained["semantic"], "--dataset", dataset, "--use_cpu", "--num_workers", workers]
    output = ["--output_file", tmp_path / "results.json"]
    error = refused(evaluate.main, *command, *output, "--check_samples", 1, code=1)
    (said,) = (line for line in error.splitlines() if line.startswith("maskformer evaluate: "))
    assert said.startswith("maskformer evaluate: Sample 2 of split 'val' (2): the picture in column 'image' cannot be")
    assert "Nothing is measured. A larger --check_samples" in said and "Caught" not in error
    assert not (tmp_path / "results.json").exists()
    assert "Nothing is measured" not in refused(evaluate.main, *command, *output)  # found at once


def test_what_cannot_be_written_in_the_end_is_said_below_the_numbers(trained, street, tmp_path, refused, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    command = ["--model", trained["semantic"], "--dataset", street, "--use_cpu"]
    monkeypatch.setattr(evaluate, "write_error_report", full)
    error = refused(evaluate.main, *command, "--output_file", tmp_path / "results.json", code=1)
    assert "Not all of the evaluation is written: [Errno 28] No space left" in error
    assert json.loads((tmp_path / "results.json").read_text())["num_images"] == 3


def test_numbers_are_written_also_where_nobody_reads_what_is_said(trained, street, tmp_path, monkeypatch):
    class Closed(io.StringIO):  # as the pipe to `head` once that has ended
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Closed())
    output = tmp_path / "results.json"
    with pytest.raises(BrokenPipeError):
        run(evaluate.main, "--model", trained["semantic"], "--dataset", street, "--output_file", output, "--use_cpu")
    assert json.loads(output.read_text())["num_images"] == 3
    assert (tmp_path / "results_errors" / "errors.json").is_file()


def test_what_is_wrong_with_arguments_and_places_is_said_before_the_model_runs(
    street, trained, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr(evaluate, "measure", lambda *_: pytest.fail("the model runs"))
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    Path("folder").mkdir()
    Path("evaluation.json").mkdir()
    Path("used.json").write_text("{}")
    Path("used_errors").write_text("mine")
    command = ["--model", trained["semantic"], "--dataset", street, "--use_cpu"]
    cases = [
        (["--batch_size", 0], "--batch_size must be at least 1, got 0"),
        (["--num_workers", -1], "--num_workers must be at least 0, got -1"),
        (["--check_samples", -1], "--check_samples must be at least 0, got -1"),
        (["--validation_fraction", 0.5], "There is no argument --validation_fraction."),  # only training has one
        (["--num_pictures", -1], "--num_pictures must be at least 0, got -1"),
        (["--panoptic_threshold", 80], "--panoptic_threshold must lie in [0, 1], got 80"),
        (["--panoptic_threshold", "nan"], "--panoptic_threshold must lie in [0, 1], got nan"),
        (["--max_detections", 0], "--max_detections must be at least 1, got 0"),
        (["--output_file", "file/results.json"], "file/results.json cannot be written"),
        (["--output_file", "file/deeper/results.json"], "file/deeper/results.json cannot be written"),
        (["--output_file", "new/" + 256 * "n"], "ile name too long"),
        (["--output_file", "folder"], "folder is a folder, expected a file"),
        (["--output_file", "folder", "--overwrite"], "folder is a folder, expected a file"),
        (["--overwrite"], "evaluation.json is a folder, expected a file"),
        (["--output_file", "used.json", "--overwrite"], "used_errors/used.json cannot be written"),
        (["--output_file", "/proc/results.json"], "/proc/results.json cannot be written"),
    ]
    for flags, message in cases:
        assert message in refused(evaluate.main, *command, *flags), flags
    assert Path("file").read_text() == Path("used_errors").read_text() == "mine"
    assert not list(Path("folder").iterdir())


def test_what_cannot_be_measured_is_refused(street, trained, tmp_path, refused):
    output = ["--output_file", tmp_path / "results.json", "--use_cpu"]
    model = transformers_checkpoint(tmp_path / "model", {0: "sky", 1: "road", 2: "boat"})
    (tmp_path / "there.json").write_text("{}")
    cases = [
        (["--model", model, "--dataset", street, *output], "pass the task (--task)"),
        (["--model", model, "--dataset", street, "--task", "semantic", *output], "does not know 1 of the dataset's 3"),
        (["--model", street, "--dataset", street, *output], "has no config.json"),
        (["--model", trained["semantic"] / "pictures", "--dataset", street, *output], "has no config.json"),
        (["--model", trained["semantic"].parent, "--dataset", street, *output], "has no config.json"),
        (
            ["--model", trained["semantic"], "--dataset", street, "--output_file", tmp_path / "there.json"],
            "is already there",
        ),
        (["--model", trained["panoptic"], "--dataset", street, "--tta", *output], "only semantic segmentation has"),
        (["--model", trained["semantic"], "--dataset", street, "--tta_scales", 2, *output], "go with --tta"),
        (["--model", trained["semantic"], "--dataset", street, "--overlap", 2, *output], "goes with --tile"),
        (["--model", trained["semantic"], "--dataset", street, "--shortest_edge", 0, *output], "at least 1 pixel"),
        (
            ["--model", trained["semantic"], "--dataset", street, "--shortest_edge", 32, "--sweep", *output],
            "--sweep chooses short edges itself",
        ),
    ]
    for argv, message in cases:
        assert message in refused(evaluate.main, *argv), argv
