"""Two processes on the CPU measure and log what one does with all images."""

import json
import sys
from pathlib import Path

import averaged_run
import ddp_run
import pytest
import torch
import two_process_run
from launched import run_together
from models import tiny

REPOSITORY = Path(__file__).resolve().parents[3]


def run_in_two_processes(program, *arguments):
    command = [sys.executable, program.__file__, *arguments]
    codes, said = run_together([command] * 2, ACCELERATE_USE_CPU="true", PYTHONPATH=str(REPOSITORY))
    assert codes == [0, 0], said


def test_two_processes_measure_and_log_what_one_does(tmp_path):
    alone, _ = two_process_run.run(str(tmp_path / "alone"), batch_size=4)
    (tmp_path / "two").mkdir()
    run_in_two_processes(two_process_run, str(tmp_path / "two"), "2")
    found = json.loads((tmp_path / "two" / "found.json").read_text())
    assert alone["num_images"] == found["num_images"] == 5  # the sixth, which fills up the last batch, is no sample
    for name in ("eval_mean_iou", "eval_pixel_accuracy", "eval_mean_accuracy"):
        assert found[name] == pytest.approx(alone[name], rel=1e-4), name
    # the number of masks is averaged over processes, so their mean loss is that of the whole batch
    for name in ("loss_mask", "loss_dice", "loss_mask_auxiliary", "loss_dice_auxiliary"):
        assert found[name] == pytest.approx(alone[name], rel=1e-4), name


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_plain_ddp_and_fsdp2_train_swin_without_looking_for_unused_weights(tmp_path, kind):
    run_in_two_processes(ddp_run, str(tmp_path), kind)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = tiny("maskformer", "swin")
    before = {name: value.clone() for name, value in alone.state_dict().items()}
    ddp_run.train(alone, slice(None))
    for name, weight in alone.state_dict().items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], weight, rtol=1e-3, atol=1e-6)
    moved = [name for name, weight in alone.named_parameters() if not torch.equal(weight, before[name])]
    assert len(moved) > 100


def test_averaged_weights_are_the_same_in_all_processes_and_those_of_one(tmp_path):
    run_in_two_processes(averaged_run, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = averaged_run.train(tmp_path / "alone", batch_size=4)
    for name, average in alone.items():
        assert torch.equal(first["model"][name], second["model"][name]), name
        torch.testing.assert_close(first["model"][name], average)
    # each process has seen statistics of its own: all take the first one's
    assert torch.equal(first["statistics"], torch.tensor([0.25, 0.25]))
    assert torch.equal(second["statistics"], first["statistics"])
