"""A run that was ended, by kill -9 while saving or by SIGTERM, goes on and ends as if nothing had happened."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from killed_run_flags import FLAGS
from safetensors import SafetensorError
from same_run import assert_same_run
from script_runs import SMALL, run
from transformers import TrainerCallback, modeling_utils

from modeling_maskformer.commands import train
from modeling_maskformer.training import run as run_module
from modeling_maskformer.training.saving.checkpointing import TERMINATED, EndOnSigterm

KILLED_RUN = Path(__file__).with_name("killed_run.py")


def flags(dataset, folder):
    return ["--dataset", dataset, "--output_dir", folder, *FLAGS]


@pytest.fixture(scope="module")
def uninterrupted(street, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ended") / "whole"
    run(train.main, *flags(street, folder))
    return folder


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


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [
        (modeling_utils, "safe_save_file", SafetensorError("No space left on device (os error 28)")),
        (os, "fsync", OSError(errno.ENOSPC, "No space left on device")),
    ],
    ids=["weights", "flush"],
)
def test_a_full_disk_ends_a_run_with_a_sentence_and_leaves_what_was_saved(
    street, uninterrupted, tmp_path, refused, monkeypatch, module, name, error
):
    folder = tmp_path / "full"
    write = getattr(module, name)

    def write_until_full(*arguments, **named):
        if (folder / "unfinished-6").is_dir():
            raise error
        return write(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, write_until_full)
        said = refused(train.main, *flags(street, folder), code=1)
    assert "The checkpoint of step 6 could not be written to" in said and "MB are free" in said
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    run(train.main, *flags(street, folder), "--resume_from_checkpoint", "last")
    assert_same_run(folder, uninterrupted)


@pytest.mark.parametrize("name", ["model.safetensors", "README.md"])
def test_so_it_does_where_all_steps_are_made(street, uninterrupted, tmp_path, refused, monkeypatch, capsys, name):
    folder = tmp_path / "full"
    replace, save = os.replace, modeling_utils.safe_save_file

    def save_until_full(tensors, path, *arguments, **named):
        if Path(path) == folder / name:
            raise SafetensorError("No space left on device (os error 28)")
        return save(tensors, path, *arguments, **named)

    def full(path):
        if Path(path) == folder / name:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(modeling_utils, "safe_save_file", save_until_full)
        patched.setattr(os, "replace", lambda part, path: (full(path), replace(part, path)))
        write = Path.write_text
        patched.setattr(Path, "write_text", lambda path, *text, **named: (full(path), write(path, *text, **named))[1])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run(train.main, *flags(street, folder))
        said = capsys.readouterr()
    assert stop.value.code == 1 and "All steps are made, but not all" in said.err and "No space left" in said.err
    assert ("mean_iou " in said.out) is (name != "model.safetensors")  # what was measured is not lost
    run(train.main, *flags(street, folder), "--resume_from_checkpoint", "last")
    assert_same_run(folder, uninterrupted)


def test_all_is_written_before_the_numbers_are_said(street, uninterrupted, tmp_path, monkeypatch):
    def closed(*_):  # as the pipe to `head` once that has ended
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(run_module, "results_table", closed)
    with pytest.raises(BrokenPipeError):
        run(train.main, *flags(street, tmp_path / "piped"))
    assert {path.name for path in (tmp_path / "piped").iterdir()} == {path.name for path in uninterrupted.iterdir()}
    assert (tmp_path / "piped" / "train_results.json").is_file()


@pytest.mark.parametrize("architecture", ["per_pixel", "maskformer"])
def test_a_diverged_run_ends_with_a_sentence_and_what_it_leaves_is_replaced_with_the_rest(
    street, tmp_path, refused, architecture
):
    folder = tmp_path / "diverged"
    small = SMALL[:8] if architecture == "per_pixel" else SMALL  # without a decoder's flags
    common = ["--dataset", street, "--output_dir", folder, "--task", "semantic", *small, *FLAGS[2 + len(SMALL) :]]
    common += ["--architecture", architecture, "--max_steps", 6]
    rate = ["--learning_rate", 1e30, "--max_grad_norm", 0, "--save_steps", 6, "--eval_steps", 6]
    said = refused(train.main, *common, *rate, code=1)
    assert re.search(r"Step \d: .*samples: \d, \d; it is saved as", said), said
    assert [path.name[:20] for path in folder.iterdir()] == ["diverged_batch_step_"]
    said = refused(train.main, *common)
    assert "holds another run (diverged_batch_step_" in said
    run(train.main, *common, "--overwrite_output_dir")
    assert not list(folder.glob("diverged_batch_step_*"))


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


def test_a_run_that_is_broken_off_says_how_it_goes_on_and_leaves_the_signals_as_they_were(
    street, uninterrupted, tmp_path, capsys, monkeypatch
):
    def break_off(trainer, *arguments):
        if trainer.state.global_step == 5:
            raise KeyboardInterrupt
        return training_step(trainer, *arguments)

    folder, at_sigterm = tmp_path / "broken off", signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patched:
        training_step = run_module.MaskFormerTrainer.training_step
        patched.setattr(run_module.MaskFormerTrainer, "training_step", break_off)
        patched.setattr(sys, "excepthook", sys.excepthook)
        with pytest.raises(KeyboardInterrupt) as end:
            run(train.main, *flags(street, folder))
        capsys.readouterr()
        sys.excepthook(end.type, end.value, end.tb)
    said = capsys.readouterr().err
    assert said.endswith("broken off after step 5: go on with --resume_from_checkpoint last, from checkpoint-4.\n")
    assert signal.getsignal(signal.SIGTERM) is at_sigterm
    run(train.main, *flags(street, folder), "--resume_from_checkpoint", "last")
    assert_same_run(folder, uninterrupted)


class State:
    """At the end of an epoch."""

    epoch, global_step = 2.0, 6


class Control:
    should_save = False


def test_a_signal_in_the_last_step_of_an_epoch_waits_for_its_evaluation():
    callback = EndOnSigterm()
    callback._ask()
    control = callback.on_step_end(None, State, Control())
    assert not control.should_save
    assert callback.on_epoch_end(None, State, control).should_save
    with pytest.raises(SystemExit, match="75"):
        callback.on_save(None, State, control)


def test_so_does_a_signal_that_comes_while_the_last_step_is_measured_or_saved():
    callback = EndOnSigterm()
    control = callback.on_epoch_end(None, State, callback.on_step_end(None, State, Control()))
    callback.on_save(None, State, control)  # nobody has asked
    callback._ask()
    with pytest.raises(SystemExit, match="75"):
        callback.on_save(None, State, control)


def test_a_run_killed_after_its_last_checkpoint_makes_no_step_more(street, uninterrupted, tmp_path):
    folder = tmp_path / "killed"
    shutil.copytree(uninterrupted, folder)
    for file in folder.iterdir():
        if file.is_file():  # all that is written after training
            file.unlink()
    run(train.main, *flags(street, folder), "--resume_from_checkpoint", "last")
    assert json.loads((folder / "train_results.json").read_text())["global_step"] == 8
    assert_same_run(folder, uninterrupted)


def test_resuming_a_finished_run_changes_no_file(street, uninterrupted, capsys):
    def state():
        return {path: path.stat().st_mtime_ns for path in sorted(uninterrupted.rglob("*"))}

    before = state()
    run(train.main, *flags(street, uninterrupted), "--resume_from_checkpoint", "last")
    assert state() == before
    assert "is finished" in capsys.readouterr().out
