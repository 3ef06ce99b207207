"""Two and four processes on the CPU train, measure and end as one does with all images."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import several_processes
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[3]
LAUNCHERS = {
    "torchrun, 2 processes": (["-m", "torch.distributed.run", "--nproc_per_node", "2"], "2x1,1x2"),
    "accelerate, 4 processes": (["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "4"], "1x1"),
}


def launch(launcher, folder, *arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, *launcher, several_processes.__file__, str(folder), *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tmp_path_factory.mktemp("several") / "model"


@pytest.fixture(scope="module")
def alone(model):
    return launch([], model.parent / "alone", "4x1", model)


@pytest.fixture(scope="module", params=LAUNCHERS.values(), ids=LAUNCHERS)
def several(request, alone, model):
    launcher, settings = request.param
    return launch(launcher, model.parent / settings, settings, model)


def read(folder, name):
    return json.loads((folder / name).read_text())


def test_losses_and_gradients_are_those_of_one_process(alone, several):
    """With a step of three images, images without segments in one process, and a process without an image."""
    logs, expected = read(several, "logs.json"), read(alone, "logs.json")
    gradients, expected_gradients = (load_file(path / "gradients.safetensors") for path in (several, alone))
    assert {name.split()[0] for name in logs} == set(several_processes.CASES)
    for name, steps in logs.items():
        whole = f"{name.split()[0]} 4x1"
        assert len(steps) == len(expected[whole]) == 4
        for found, entry in zip(steps, expected[whole], strict=True):
            assert found == pytest.approx(entry, rel=1e-5), name
        for found, gradient in zip(gradients[name], expected_gradients[whole], strict=True):
            assert (found - gradient).norm() < 1e-5 * gradient.norm(), name


def test_metrics_of_a_model_that_finds_something_are_those_of_one_process(alone, several):
    found, expected = read(several, "metrics.json"), read(alone, "metrics.json")
    assert expected["panoptic"]["eval_pq"] > 0.3 and expected["instance"]["eval_ap"] > 0.3
    assert expected["semantic"].items() >= expected["stream"].items()
    for task, metrics in expected.items():
        assert metrics["num_images"] == 7
        assert found[task] == pytest.approx(metrics, nan_ok=True), task


def test_all_processes_end_where_one_diverges(several):
    said = [file.read_text() for file in sorted(several.glob("said_*.txt"))]
    assert len(said) in (2, 4)
    *others, last = said
    assert "Step 1: the loss is nan. Batch 1 of the step, samples: shapes_" in last
    assert all(text.startswith("Step 1: the loss is not finite in 1 of the other processes") for text in others)
    files = list(several.glob("diverged_batch_step_1*"))
    assert [file.name for file in files] == [f"diverged_batch_step_1_process_{len(said) - 1}.safetensors"]
