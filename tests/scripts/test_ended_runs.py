"""A run that was ended, by kill -9 while saving or by SIGTERM, goes on and ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_run_flags import FLAGS
from safetensors.torch import load_file
from script_runs import run
from transformers import TrainerCallback

from modeling_maskformer.commands import train
from modeling_maskformer.training import run as run_module
from modeling_maskformer.training.checkpointing import TERMINATED, EndOnSigterm

KILLED_RUN = Path(__file__).with_name("killed_run.py")


def flags(dataset, folder):
    return ["--dataset", dataset, "--output_dir", folder, *FLAGS]


@pytest.fixture(scope="module")
def uninterrupted(street, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "whole"
    run(train.main, *flags(street, folder))
    return folder


def assert_same_run(folder, expected):
    """The same weights to the last bit, and the same log but for what tells the time."""
    weights, others = (load_file(path / "model.safetensors") for path in (folder, expected))
    assert weights.keys() == others.keys()
    assert all(bool((weights[name] == others[name]).all()) for name in weights)
    logs = []
    for path in (folder, expected):
        history = json.loads((path / "trainer_state.json").read_text())["log_history"]
        logs.append(
            [
                {name: value for name, value in entry.items() if not name.endswith(("second", "runtime", "_data"))}
                for entry in history
                if "train_runtime" not in entry
            ]
        )
    assert logs[0] == logs[1]
    assert not list(folder.glob("unfinished-*"))


@pytest.mark.parametrize("die_at", [13, 24])
def test_a_run_killed_while_saving_goes_on_to_the_same_end(street, uninterrupted, tmp_path, die_at):
    kill_and_resume(street, tmp_path / "killed", die_at)
    assert_same_run(tmp_path / "killed", uninterrupted)


def test_so_does_one_that_averages_its_weights(street, tmp_path):
    average = ["--ema_decay", 0.9, "--early_stopping_patience", 2]
    run(train.main, *flags(street, tmp_path / "whole"), *average)
    kill_and_resume(street, tmp_path / "killed", 12, *average)  # while the weights in training are written
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    assert not (tmp_path / "killed" / "weights_in_training.safetensors").exists()


def kill_and_resume(street, folder, die_at, *settings):
    command = [sys.executable, KILLED_RUN, die_at, *flags(street, folder), *settings]
    killed = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (folder / "checkpoint-2").is_dir()
    assert list(folder.glob("unfinished-*")), "it was killed in the middle of saving or removing"
    run(train.main, *flags(street, folder), *settings, "--resume_from_checkpoint", "last")


def test_a_run_that_is_asked_to_end_saves_and_says_so_by_its_code(street, uninterrupted, tmp_path, monkeypatch):
    class AskedAtStepFive(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 4:
                os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "asked"
    with monkeypatch.context() as patched:
        prepare = run_module.MaskFormerTrainer.__init__

        def with_signal(self, *args, callbacks, **kwargs):
            prepare(self, *args, callbacks=[*callbacks, AskedAtStepFive()], **kwargs)

        patched.setattr(run_module.MaskFormerTrainer, "__init__", with_signal)
        with pytest.raises(SystemExit) as end:
            run(train.main, *flags(street, folder))
    assert end.value.code == TERMINATED
    assert (folder / "checkpoint-5").is_dir() and not (folder / "eval_results.json").exists()
    run(train.main, *flags(street, folder), "--resume_from_checkpoint", "last")
    assert_same_run(folder, uninterrupted)


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_evaluation():
    class State:
        epoch, global_step = 2.0, 6

    class Control:
        should_save = False

    callback = EndOnSigterm()
    callback._ask()
    control = callback.on_step_end(None, State, Control())
    assert not control.should_save
    assert callback.on_epoch_end(None, State, control).should_save
    with pytest.raises(SystemExit, match="75"):
        callback.on_save(None, State, control)


def test_resuming_a_finished_run_changes_no_file(street, uninterrupted, capsys):
    def state():
        return {path: path.stat().st_mtime_ns for path in sorted(uninterrupted.rglob("*"))}

    before = state()
    run(train.main, *flags(street, uninterrupted), "--resume_from_checkpoint", "last")
    assert state() == before
    assert "is finished" in capsys.readouterr().out
