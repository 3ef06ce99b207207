"""scripts/train.py and evaluate.py on a streamed dataset."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List
from png_files import png
from same_run import assert_same_run
from script_runs import SMALL, draw_street, run

from modeling_maskformer.commands import evaluate, train

pytestmark = pytest.mark.usefixtures("no_pause_after_threads")
REPOSITORY = Path(__file__).resolve().parents[3]
FLAGS = [
    *("--task", "semantic", *SMALL, "--max_steps", 9, "--per_device_train_batch_size", 2, "--crop_size", 32),
    *("--eval_strategy", "steps", "--eval_steps", 3, "--save_strategy", "steps", "--save_steps", 3),
    *("--save_total_limit", 5, "--warmup_steps", 0, "--logging_steps", 1, "--num_pictures", 1, "--use_cpu"),
    *("--streaming", "--shuffle_buffer", 4),
]


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """Seven training pictures in two Parquet files and three validation pictures."""
    import numpy as np

    folder, rng = tmp_path_factory.mktemp("streamed"), np.random.default_rng(0)
    names = List(ClassLabel(names=["sky", "road", "car"]))
    features = Features({"image": Image(), "annotation": Image(), "classes": names})
    for file, count in (("train-0", 4), ("train-1", 3), ("validation-0", 3)):
        pictures = [draw_street(rng)[:2] for _ in range(count)]
        rows = [{"image": png(image), "annotation": png(ids), "classes": [0]} for image, ids in pictures]
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{file}.parquet")
    return folder


@pytest.fixture(scope="module")
def whole(streamed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    run(train.main, "--dataset", streamed, "--output_dir", folder, *FLAGS)
    return folder


def test_a_streamed_run_leaves_what_any_run_leaves(whole):
    for name in ("config.json", "model.safetensors", "train_results.json", "eval_results.json", "README.md"):
        assert (whole / name).is_file(), name
    (picture,) = (whole / "pictures").glob("*.png")
    card = (whole / "README.md").read_text()
    assert f"(pictures/{picture.name})\n\nAn image that it was measured on: not a chosen one" in card
    assert json.loads((whole / "train_results.json").read_text())["global_step"] == 9


@pytest.mark.parametrize("step", [3, 6])  # within the first and the second epoch of three and a half batches
def test_a_streamed_run_that_goes_on_ends_as_one_that_was_not_ended(streamed, whole, tmp_path, step):
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / f"checkpoint-{step}").symlink_to(whole / f"checkpoint-{step}")
    flags = ["--dataset", streamed, "--output_dir", folder, *FLAGS, "--resume_from_checkpoint", "last"]
    run(train.main, *flags, "--dataloader_num_workers", 1)
    assert_same_run(folder, whole)


def test_a_streamed_evaluation_measures_what_one_from_disk_does(streamed, whole, tmp_path):
    reports = []
    for flags in ([], ["--streaming"]):
        file = tmp_path / f"{len(flags)}.json"
        run(evaluate.main, "--model", whole, "--dataset", streamed, "--use_cpu", "--output_file", file, *flags)
        reports.append(json.loads(file.read_text()))
    assert reports[0]["num_images"] == reports[1]["num_images"] == 3
    assert reports[0]["mean_iou"] == reports[1]["mean_iou"] and reports[0]["per_class"] == reports[1]["per_class"]


def test_what_a_stream_needs_is_said(streamed, tmp_path, refused):
    flags = ["--dataset", streamed, "--output_dir", tmp_path / "run", *FLAGS]
    assert "nobody knows how long an epoch is: pass --max_steps" in refused(train.main, *flags, "--max_steps", -1)
    said = refused(train.main, *flags, "--save_strategy", "epoch", "--load_best_model_at_end", "false")
    assert "pass --save_strategy steps and --save_steps" in said


def test_two_processes_share_a_stream_and_end_as_they_would_without_an_interruption(streamed, tmp_path):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(REPOSITORY)}
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        "2",
        REPOSITORY / "scripts/train.py",
    ]
    flags = ["--dataset", streamed, *FLAGS, "--max_steps", 4, "--save_steps", 2, "--eval_steps", 2]
    for output, more in (("whole", []), ("parts", ["--resume_from_checkpoint", "last"])):
        if more:
            (tmp_path / "parts").mkdir()
            (tmp_path / "parts" / "checkpoint-2").symlink_to(tmp_path / "whole" / "checkpoint-2")
        command = [str(word) for word in (*launcher, *flags, "--output_dir", tmp_path / output, *more)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    assert_same_run(tmp_path / "parts", tmp_path / "whole")
