"""scripts/train.py on small folders: what it leaves, how it goes on, and what it refuses before training."""

import json
import re
import shutil

import numpy as np
import pytest
import transformers
from PIL import Image
from script_runs import BRIEF, SMALL, run

import modeling_maskformer
from modeling_maskformer.commands import train
from modeling_maskformer.training.saving import only_run

MAIN_METRIC = {"semantic": "mean_iou", "instance": "ap", "panoptic": "pq"}
CLASSES = {
    "semantic": ["sky", "road", "car"],
    "instance": ["road", "car"],
    "panoptic": ["background", "road", "car"],
}


@pytest.mark.parametrize("task", MAIN_METRIC)
def test_a_run_leaves_model_processor_results_and_pictures(trained, task):
    folder = trained[task]
    results = json.loads((folder / "eval_results.json").read_text())
    assert MAIN_METRIC[task] in results
    assert list(results["per_class"]) == CLASSES[task]
    assert json.loads((folder / "train_results.json").read_text())["train_loss"] > 0
    pictures = sorted((folder / "pictures").iterdir())
    assert len(pictures) == 2
    assert Image.open(pictures[0]).width > 2 * 48
    model = transformers.AutoModelForUniversalSegmentation.from_pretrained(folder)
    assert isinstance(model, modeling_maskformer.MaskFormerForInstanceSegmentation)
    assert model.config.segmentation_task == task
    assert list(model.config.id2label.values()) == CLASSES[task]


def test_every_loss_part_is_logged(trained):
    state = json.loads((trained["semantic"] / "trainer_state.json").read_text())
    first = state["log_history"][0]
    parts = [f"loss_{part}{suffix}" for part in ("cross_entropy", "mask", "dice") for suffix in ("", "_auxiliary")]
    assert first["loss"] == pytest.approx(sum(first[part] for part in parts), rel=1e-3)


def test_the_logged_learning_rate_is_that_of_the_head(trained):
    history = json.loads((trained["semantic"] / "trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in history if "loss" in entry]
    assert rates == pytest.approx([5e-4 * (1 - step / 3) ** 0.9 for step in range(3)])  # the backbone's is half of it


def test_a_run_need_not_evaluate_to_save(street, tmp_path):
    data = ["--dataset", street, "--task", "semantic", "--output_dir", tmp_path]
    run(train.main, *data, "--eval_strategy", "no", "--save_strategy", "epoch", *SMALL, *BRIEF)
    assert (tmp_path / "checkpoint-3").is_dir() and (tmp_path / "eval_results.json").is_file()


@pytest.mark.parametrize("name", ["", "checkpoint-3"])
def test_the_run_and_its_checkpoints_work_in_a_pipeline(trained, street, name):
    segment = transformers.pipeline("image-segmentation", model=str(trained["semantic"] / name))
    results = segment(str(street / "val" / "images" / "0.png"), subtask="semantic")
    assert {result["label"] for result in results} <= {"sky", "road", "car"}
    assert results[0]["mask"].size == (48, 40)


def test_stuff_is_remembered_in_the_processor(trained):
    fused = {
        task: transformers.AutoImageProcessor.from_pretrained(folder).label_ids_to_fuse
        for task, folder in trained.items()
    }
    assert fused == {"semantic": [0, 1, 2], "instance": None, "panoptic": [0, 1]}


def test_a_checkpoint_is_fine_tuned_onto_other_classes(trained, street_objects, tmp_path):
    run(
        train.main,
        *("--dataset", street_objects, "--task", "instance", "--model", trained["semantic"]),
        *("--output_dir", tmp_path / "tuned", *BRIEF),
    )
    config = transformers.AutoConfig.from_pretrained(tmp_path / "tuned")
    assert config.id2label == {0: "road", 1: "car"} and config.segmentation_task == "instance"


def test_a_run_goes_on_from_its_last_checkpoint_with_settings_from_a_file(trained, street, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained["semantic"], folder)
    settings = {"dataset": str(street), "task": "semantic", "output_dir": str(folder), "max_steps": 5}
    (tmp_path / "run.json").write_text(json.dumps(settings))
    brief = [argument for argument in BRIEF if argument not in ("--max_steps", 3)]
    run(train.main, tmp_path / "run.json", "--resume_from_checkpoint", "last", *SMALL, *brief)
    history = json.loads((folder / "trainer_state.json").read_text())
    assert history["global_step"] == 5
    assert [entry["step"] for entry in history["log_history"] if "loss" in entry] == [1, 2, 3, 4, 5]


def test_a_run_that_goes_on_with_more_images_is_measured_on_those_it_has_set_aside(street, tmp_path, caplog):
    dataset, folder = shutil.copytree(street / "train", tmp_path / "data"), tmp_path / "run"
    shutil.copy(street / "id2label.json", dataset)
    command = ["--dataset", dataset, "--task", "semantic", "--output_dir", folder, *SMALL, *BRIEF]
    run(train.main, *command, "--validation_fraction", 0.34)

    def images_set_aside():
        kept = json.loads((folder / "held_out.json").read_text())
        return sorted(image["sha256"] for image in kept["images"])

    before = images_set_aside()
    assert len(before) == 2
    for kind in ("images", "masks"):
        for number in range(2):
            shutil.copy(street / "val" / kind / f"{number}.png", dataset / kind / f"0_{number}.png")
    more = ["--max_steps", 4, "--validation_fraction", 0.5, "--seed", 5, "--resume_from_checkpoint", "last"]
    run(train.main, *command, *more)
    assert images_set_aside() == before and "2 of what are now 8" in caplog.text
    assert json.loads((folder / "trainer_state.json").read_text())["global_step"] == 4


def copy_with(dataset, folder, path, write):
    shutil.copytree(dataset, folder)
    write(folder / path)
    return folder


def test_bad_data_is_named_before_training(street, tmp_path, refused):
    def check(number, path, write):
        folder = copy_with(street, tmp_path / str(number), path, write)
        error = refused(
            train.main, "--dataset", folder, "--task", "semantic", "--output_dir", tmp_path / "out", *SMALL, *BRIEF
        )
        assert not list((tmp_path / "out").glob("checkpoint-*"))
        return error

    image, mask = "train/images/4.png", "val/masks/1.png"
    unknown = check(1, mask, lambda path: Image.fromarray(np.full((40, 48), 7, dtype=np.uint8)).save(path))
    assert "class id 7" in unknown and "(1)" in unknown
    smaller = check(2, mask, lambda path: Image.new("L", (40, 40)).save(path))
    assert "40 x 40" in smaller and "48 x 40" in smaller
    colours = check(3, mask, lambda path: Image.new("RGB", (48, 40), (200, 10, 10)).save(path))
    assert "one integer per pixel is expected" in colours
    broken = check(4, image, lambda path: path.write_bytes(b"no picture"))
    assert "cannot be read" in broken and "(4)" in broken
    missing = check(5, image.replace("images", "masks"), lambda path: path.unlink())
    assert "no mask" in missing


def test_a_run_that_could_learn_nothing_is_refused(street, tmp_path, refused):
    folder = shutil.copytree(street, tmp_path / "one_class")
    for path in folder.glob("*/masks/*.png"):
        mask = np.asarray(Image.open(path))
        Image.fromarray(np.where(mask == 1, 1, 255).astype(np.uint8)).save(path)
    out = ["--output_dir", tmp_path / "out"]
    error = refused(train.main, "--dataset", folder, "--task", "semantic", *out, *SMALL, *BRIEF)
    assert "are of one class, 'road'" in error and "--ignore_index" in error


def test_bad_arguments_are_refused_before_training(street, trained, tmp_path, refused):
    data = ["--dataset", street, "--task", "semantic"]
    out = ["--output_dir", tmp_path / "out"]
    (tmp_path / "empty").mkdir()
    cases = [
        (["--dataset", tmp_path / "empty", "--task", "semantic", *out, *SMALL], "is empty"),
        (["--dataset", tmp_path / "nowhere", "--task", "semantic", *out, *SMALL], "There is no folder or file"),
        (["--dataset", street, *out, *SMALL], "--task is needed"),
        ([*data, "--output_dir", trained["semantic"], *SMALL], "holds another run"),
        ([*data, *out], "pass --backbone tf_efficientnet_lite0 with --backbone_weights"),
        ([*data, *out, "--model", tmp_path / "empty"], "has no config.json"),
        ([*data, *out, "--model", tmp_path / "nowhere"], "no checkpoint folder"),
        ([*data, *out, "--backbone", "resnet10"], "Close names: resnet10t"),
        ([*data, *out, "--backbone", "resnet10t", "--backbone_weights", "nowhere.safetensors"], "nowhere.safetensors"),
        ([*data, *out, *SMALL, "--validation_split", "dev"], "no split 'dev'"),
        ([*data, *out, *SMALL, "--image_column", "photo"], "no column 'photo'"),
        ([*data, *out, *SMALL, "--fpn_feature_size", 20], "multiple of 32"),
        ([*data, *out, *SMALL, "--resume_from_checkpoint", "last"], "no checkpoint to resume from"),
        ([*data, *out, *SMALL, "--report_to", "no_such_logger"], "--report_to: there is no logger 'no_such_logger'"),
        ([*data, *out, *SMALL, "--optim", "adamw_bnb_8bit"], "need to install `bitsandbytes`"),
        ([*data, *out, *SMALL, "--copy_paste_probability", 0.5], "--copy_paste_probability 0.5 pastes objects"),
        ([*data, *out, *SMALL, "--copy_paste_probability", 2], "--copy_paste_probability must lie in [0, 1], got 2"),
        (
            [*data, *out, *SMALL, "--metric_for_best_model", "miou"],
            "--metric_for_best_model must be one of mean_iou, ",
        ),
        ([*data, *out, *SMALL, "--data_seed", -1], "--data_seed must lie between 0 and 2**32 - 1, got -1"),
        (
            [*data, *out, *SMALL, "--per_device_train_batch_size", 8, "--dataloader_drop_last"],
            "the 6 training images fill none of 8",
        ),
        ([*data, *out, *SMALL, "--eval_strategy", "never"], "--eval_strategy: invalid choice: 'never'"),
        ([*data, *out, *SMALL, "--lr_milestones", 3], "--lr_milestones need --lr_scheduler_type constant_with_warmup"),
        (
            [*data, *out, *SMALL, "--eval_strategy", "no", "--load_best_model_at_end"],
            "--save_strategy best, but found\n- Evaluation strategy: no\n- Save strategy: epoch\n",
        ),
        ([*data, *out, *SMALL, "--lr", "1e-4"], "There is no argument --lr. Did you mean --learning_rate?"),
        ([*data, *out, *SMALL, "--epochs", 3], "Did you mean --num_train_epochs?"),
        ([*data, *out, *SMALL, "--batch_size=3"], "Did you mean --per_device_train_batch_size or"),
        ([*data, *out, *SMALL, "--num_train", 3], "Did you mean --num_train_epochs?"),  # nor is it taken for it
    ]
    for argv, message in cases:
        assert message in refused(train.main, *argv, "--use_cpu"), argv


def test_a_refused_run_leaves_its_folder_as_it_was(street, trained, tmp_path, refused):
    folder = shutil.copytree(trained["semantic"], tmp_path / "run")

    def state():
        return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}

    before = state()
    common = ["--task", "semantic", "--output_dir", folder, "--overwrite_output_dir", *BRIEF]
    for argv, message in [
        (["--dataset", tmp_path / "typo", *SMALL], "There is no folder or file"),
        (["--dataset", street, "--backbone", "resnet50"], "could not be loaded"),
        (["--dataset", street, *SMALL, "--optim", "adamw_bnb_8bit"], "bitsandbytes"),
        (["--dataset", street, "--model", folder], f"would remove {folder}, which --model starts from"),
        (["--dataset", street, *SMALL, "--resume_from_checkpoint", "last"], "pass one of them"),
    ]:
        assert message in refused(train.main, *argv, *common)
        assert state() == before, argv


def test_a_refused_run_may_be_tried_again(street, tmp_path, refused):
    (tmp_path / "data").mkdir()
    for kind in ("images", "masks"):  # without a validation split some are held out
        shutil.copytree(street / "train" / kind, tmp_path / "data" / kind)
    broken = tmp_path / "data" / "images" / "4.png"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:60])
    command = ["--dataset", tmp_path / "data", "--task", "semantic", "--output_dir", tmp_path / "out", *SMALL, *BRIEF]
    command += ["--max_steps", 2]
    for _ in range(2):
        assert "(4)" in refused(train.main, *command)
    broken.write_bytes(whole)
    assert "BatchNorm has no statistics of a batch of one" in refused(train.main, *command, "--max_steps", 3)
    run(train.main, *command)
    assert (tmp_path / "out" / "held_out.json").is_file() and (tmp_path / "out" / "eval_results.json").is_file()


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_broken_picture_that_was_not_looked_at_ends_a_run_with_a_sentence(
    street, trained, tmp_path, refused, workers, split
):
    dataset, folder = (
        shutil.copytree(street, tmp_path / "data"),
        shutil.copytree(trained["semantic"], tmp_path / "run"),
    )
    broken = dataset / split / "images" / "2.png"
    broken.write_bytes(broken.read_bytes()[:60])
    command = ["--dataset", dataset, "--task", "semantic", "--check_samples", 1, *SMALL, *BRIEF]
    command += ["--dataloader_num_workers", workers]
    said = refused(train.main, *command, "--output_dir", tmp_path / "new", code=1)
    assert re.search(rf"maskformer train: Sample 2 of split '{split}' \(2\): .*cannot be read", said), said
    assert "DataLoader" not in said and "resume_from_checkpoint" not in said
    resumed = [*command, "--output_dir", folder, "--resume_from_checkpoint", "last", "--max_steps", 6]
    said = refused(train.main, *resumed, code=1)
    assert "(2)" in said and "Mend it, and go on with --resume_from_checkpoint last" in said
    shutil.copy(street / split / "images" / "2.png", broken)
    run(train.main, *resumed)
    assert json.loads((folder / "train_results.json").read_text())["global_step"] == 6


@pytest.fixture
def step_more(street, trained, tmp_path):
    """A run's folder, and the flags that make it go on for a step."""
    folder = shutil.copytree(trained["semantic"], tmp_path / "run")
    command = ["--dataset", street, "--task", "semantic", "--output_dir", folder, *SMALL, *BRIEF]
    return folder, [*command, "--resume_from_checkpoint", "last", "--max_steps", 4]


def test_a_run_does_not_go_on_with_another_model(step_more, refused):
    folder, command = step_more
    for flags, message in [
        (["--num_queries", 12], "--num_queries is 8 there and 12 here"),
        (["--decoder_layers", 3], "--decoder_layers is 2 there and 3 here"),
        (["--attention_heads", 2], "decoder_attention_heads is 4 there and 2 here"),
        (["--train_batch_norm", "false"], "freeze_backbone_batch_norm is False there and True here"),
        (["--backbone", "resnet14t"], "backbone is resnet10t there and resnet14t here"),
    ]:
        assert message in refused(train.main, *command, *flags)
    run(train.main, *command, "--dice_weight", 3, "--dropout", 0.2)
    assert json.loads((folder / "train_results.json").read_text())["global_step"] == 4


def test_a_run_does_not_go_on_with_another_optimizer_or_learning_rate(step_more, refused):
    folder, command = step_more
    for flags, message in [
        (["--learning_rate", 0.001], "learning_rate of the weights 'head_no_decay' is 0.0005 there and 0.001 here"),
        (["--backbone_lr_factor", 0.1], "of the weights 'backbone_no_decay' is 0.00025 there and 5e-05 here"),
        (["--weight_decay", 0.01], "weight_decay of the weights 'head' is 0.0001 there and 0.01 here"),
        (["--optim", "sgd"], "is of another kind (optim)"),
        (["--decay_norms_and_embeddings"], "--decay_norms_and_embeddings is another there"),
    ]:
        assert message in refused(train.main, *command, *flags), message
    run(train.main, *command, "--lr_scheduler_type", "linear", "--max_grad_norm", 2)
    assert json.loads((folder / "train_results.json").read_text())["global_step"] == 4


def test_help_is_a_page_for_newcomers(capsys):
    with pytest.raises(SystemExit) as stop:
        train.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    titles = [f"\n{title}:" for title in ("data", "model", "augmentation and image size", "training")]
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert "maskformer train --dataset" in text


def test_a_run_into_the_folder_of_one_that_trains_now_is_refused_and_removes_nothing(
    street, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(only_run, "SECONDS_TO_TRY", 0.1)
    (tmp_path / "config.json").write_text("{}")
    flags = ["--dataset", street, "--task", "semantic", "--output_dir", tmp_path, "--overwrite_output_dir"]
    with only_run.only_run_in(tmp_path), pytest.raises(SystemExit) as ended:
        run(train.main, *flags, *SMALL, *BRIEF)
    assert ended.value.code == 1
    assert f"Another training writes into {tmp_path} now" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
