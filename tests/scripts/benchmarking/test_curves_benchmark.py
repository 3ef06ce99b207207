"""scripts/benchmark.py curves: several runs in one plot and one table, from histories that are made up."""

import json
import re
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_processing.drawing.charts import MISSING
from scripts import benchmark
from scripts.benchmarks.curves import joined, name_of, read_curve


def write_run(folder, values, step_seconds=0.5, every=100, metric="mean_iou", kept=None, eval_runtime=7.0):
    """A run that measured `values` every so many steps, and at its end the checkpoint that it kept once more."""
    folder.mkdir(parents=True)
    steps = [every * number for number in range(1, len(values) + 1)]
    history = []
    for step, value in zip(steps, values, strict=True):
        history += [{"step": step - 50, "loss": 1.0}, {"step": step, "loss": 0.5}]
        history.append({"step": step, f"eval_{metric}": value, "eval_loss": 2.0, "eval_runtime": eval_runtime})
    seconds = steps[-1] * step_seconds + len(values) * eval_runtime
    history.append({"step": steps[-1], "train_runtime": seconds, "train_loss": 0.7})
    if kept is not None:
        history.append({"step": steps[-1], f"eval_{metric}": kept, "eval_runtime": eval_runtime})
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": steps[-1], "log_history": history}))
    return folder


def compare(tmp_path, *folders, flags=()):
    benchmark.main(["curves", "--runs", *map(str, folders), "--output_dir", str(tmp_path / "curves"), *flags])
    text = (tmp_path / "curves" / "curves.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return rows[0], {row[0]: row[1:] for row in rows[2:]}


def test_a_run_is_told_at_its_end_at_its_best_and_at_equal_time_and_steps(tmp_path, capsys):
    slow = write_run(tmp_path / "slow", [0.2, 0.4, 0.6], step_seconds=1.0)  # 100, 200, 300 seconds
    fast = write_run(tmp_path / "fast", [0.1, 0.3, 0.5, 0.4], step_seconds=0.5, kept=0.5)  # 50, 100, 150, 200 seconds
    header, rows = compare(tmp_path, slow, fast)
    assert header[-2:] == ["after 3.3 minutes", "after 300 steps"] and header[4] == "mean_iou, last"
    assert rows["slow"] == ["1", "300", "5.0 minutes", "0.6000", "0.6000", "0.4000", "0.6000"]
    assert rows["fast"] == ["1", "400", "3.3 minutes", "0.4000", "0.5000", "0.4000", "0.5000"]
    assert "| slow |" in capsys.readouterr().out
    picture = np.asarray(Image.open(tmp_path / "curves" / "curves.png").convert("RGB")).reshape(-1, 3)
    for color in ("#1f5fa8", "#d1622b"):
        red_green_blue = [int(color[start : start + 2], 16) for start in (1, 3, 5)]
        assert (picture == red_green_blue).all(1).sum() > 50


def test_without_matplotlib_the_table_is_written_and_said_that_no_chart_is(tmp_path):
    code = "import sys; sys.modules['matplotlib'] = None; sys.path.append('scripts')"
    code += "; import benchmark; benchmark.main()"
    run, output = write_run(tmp_path / "slow", [0.2, 0.4]), tmp_path / "curves"
    command = [sys.executable, "-c", code, "curves", "--runs", run, "--output_dir", output]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert "| slow |" in done.stdout and MISSING in done.stdout
    assert [path.name for path in output.iterdir()] == ["curves.md"]


def test_seeds_of_a_name_are_one_row_of_mean_and_spread(tmp_path):
    ends = [0.70, 0.72, 0.77]
    folders = [write_run(tmp_path / f"points_seed{seed}", [0.3, end + 0.01, end]) for seed, end in enumerate(ends)]
    folders.append(write_run(tmp_path / "seed0" / "dense", [0.2, 0.6]))
    folders.append(write_run(tmp_path / "seed1" / "dense", [0.4, 0.7]))  # a folder for each seed does, too
    _, rows = compare(tmp_path, *folders)
    assert list(rows) == ["points", "dense"]
    mean, spread = map(float, re.fullmatch(r"([\d.]+) ± ([\d.]+)", rows["points"][3]).groups())
    assert mean == pytest.approx(statistics.mean(ends), abs=1e-4)
    assert spread == pytest.approx(statistics.stdev(ends), abs=1e-4)
    assert rows["points"][0] == "3" and rows["dense"][0] == "2" and rows["dense"][3].startswith("0.6500 ± 0.07")


def test_seeds_that_were_measured_at_other_steps_are_joined_too(tmp_path):
    one = write_run(tmp_path / "run_seed0", [0.2, 0.4, 0.6])
    other = write_run(tmp_path / "run_seed1", [0.4, 0.8], every=120)
    _, rows = compare(tmp_path, one, other)
    assert rows["run"][-1].startswith("0.6400")  # after 240 steps: 0.48 and 0.8


def test_the_line_of_seeds_ends_where_they_end_though_one_took_more_steps_in_its_time(tmp_path):
    folders = [
        write_run(tmp_path / f"run_seed{seed}", [0.2, 0.5 + seed / 10], every=100 + 6 * seed) for seed in (0, 1)
    ]
    curves = [read_curve("", json.loads((path / "trainer_state.json").read_text()), "mean_iou") for path in folders]
    steps, seconds, values = joined(curves)
    assert (steps.tolist(), seconds.tolist()) == ([103, 206], [51.5, 103])
    assert values.tolist() == [[0.2, 0.5], [0.2, 0.6]]


def test_the_evaluations_take_no_training_time_and_that_of_the_kept_checkpoint_is_no_step(tmp_path):
    for eval_runtime in (0.0, 50.0):
        folder = write_run(tmp_path / str(eval_runtime), [0.1, 0.2], kept=0.9, eval_runtime=eval_runtime)
        curve = read_curve("run", json.loads((folder / "trainer_state.json").read_text()), "mean_iou")
        assert curve.steps.tolist() == [100, 200] and curve.values.tolist() == [0.1, 0.2]
        assert curve.seconds.tolist() == pytest.approx([50.0, 100.0])


def test_the_metric_is_that_of_the_task_or_the_one_asked_for(tmp_path):
    folder = write_run(tmp_path / "run", [0.1, 0.2], metric="pq")
    assert compare(tmp_path, folder)[0][4] == "pq, last"
    assert compare(tmp_path, folder, flags=["--metric", "loss"])[1]["run"][3] == "2.0000"


def test_names_keep_all_but_a_seed():
    names = ["a/points_seed3", "points-seed-12", "seed3", "points_seeds", "ema0.99"]
    assert [name_of(name) for name in names] == ["points", "points", "seed3", "points_seeds", "ema0.99"]


def test_what_cannot_be_compared_is_said(tmp_path):
    run = write_run(tmp_path / "run", [0.1])
    with pytest.raises(SystemExit, match="never measured ap"):
        compare(tmp_path, run, flags=["--metric", "ap"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match=r"There is no trainer_state\.json in .*empty"):
        compare(tmp_path, tmp_path / "empty")
    unended = {"log_history": [{"step": 5, "eval_mean_iou": 0.3}]}
    (tmp_path / "empty" / "trainer_state.json").write_text(json.dumps(unended))
    with pytest.raises(SystemExit, match="only runs that have ended"):
        compare(tmp_path, tmp_path / "empty")
