"""Two processes on the CPU measure and log what one does with all images."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import two_process_run

REPOSITORY = Path(__file__).resolve().parents[2]


def run_in_two_processes(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(2):
        environment = os.environ | {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        }
        command = [sys.executable, two_process_run.__file__, str(folder), "2"]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    errors = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    return json.loads((folder / "found.json").read_text())


def test_two_processes_measure_and_log_what_one_does(tmp_path):
    alone, _ = two_process_run.run(str(tmp_path / "alone"), batch_size=4)
    (tmp_path / "two").mkdir()
    found = run_in_two_processes(tmp_path / "two")
    assert alone["num_images"] == found["num_images"] == 5  # the sixth, which fills up the last batch, is no sample
    for name in ("eval_mean_iou", "eval_pixel_accuracy", "eval_mean_accuracy"):
        assert found[name] == pytest.approx(alone[name], rel=1e-4), name
    # the number of masks is averaged over processes, so their mean loss is that of the whole batch
    for name in ("loss_mask", "loss_dice", "loss_mask_auxiliary", "loss_dice_auxiliary"):
        assert found[name] == pytest.approx(alone[name], rel=1e-4), name
