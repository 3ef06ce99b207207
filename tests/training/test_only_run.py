"""Two trainings into one folder at once: the later one is refused."""

import os
import signal
import subprocess
import sys

import pytest

from modeling_maskformer.training.saving import only_run
from modeling_maskformer.training.saving.only_run import FolderInUseError, only_run_in

pytest.importorskip("fcntl", reason="Windows has no such locks")
TAKE_AND_WAIT = """
import sys, time
from pathlib import Path
from modeling_maskformer.training.saving.only_run import only_run_in

with only_run_in(Path(sys.argv[1])):
    print("taken", flush=True)
    time.sleep(600)
"""


def test_a_folder_that_a_training_writes_into_is_refused_until_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(only_run, "SECONDS_TO_TRY", 0.1)
    folder = tmp_path / "new" / "outputs"
    with only_run_in(folder):
        refused = pytest.raises(
            FolderInUseError, match=rf"^Another training writes into {folder} now: wait for its end"
        )
        with refused, only_run_in(folder):
            pytest.fail("both are in the folder")
        with only_run_in(tmp_path / "other"):
            pass
    with pytest.raises(RuntimeError, match="an error of the training"), only_run_in(folder):
        raise RuntimeError("an error of the training")
    with only_run_in(folder):
        assert not os.listdir(folder)  # nothing is left in it


def test_a_killed_training_leaves_the_folder_free(tmp_path, monkeypatch):
    other = subprocess.Popen([sys.executable, "-c", TAKE_AND_WAIT, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "taken\n"
        with monkeypatch.context() as patched, pytest.raises(FolderInUseError):
            patched.setattr(only_run, "SECONDS_TO_TRY", 0.1)
            with only_run_in(tmp_path):
                pytest.fail("both are in the folder")
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    with only_run_in(tmp_path):
        pass


def test_a_disk_without_locks_is_trained_on(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(only_run.fcntl, "flock", no_locks)
    with only_run_in(tmp_path):
        pass
