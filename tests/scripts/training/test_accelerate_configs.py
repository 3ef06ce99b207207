"""scripts/accelerate/: what Accelerate makes of each file, and that README lists them."""

from pathlib import Path

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

FOLDER = Path(__file__).parents[3] / "scripts" / "accelerate"
EXPECTED = {  # kind, machines, processes
    "one_gpu": ("NO", 1, 1),
    "several_gpus": ("MULTI_GPU", 1, 8),
    "several_nodes": ("MULTI_GPU", 2, 16),
    "fsdp2": ("FSDP", 1, 8),
    "deepspeed_zero2": ("DEEPSPEED", 1, 8),
}


def test_each_file_is_listed_and_known():
    assert {file.stem for file in FOLDER.glob("*.yaml")} == set(EXPECTED)
    readme = (FOLDER / "README.md").read_text()
    assert all(f"[{name}.yaml]({name}.yaml)" in readme for name in EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_reads_each_file(name):
    config = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(config, ClusterConfig)
    assert (config.distributed_type.value, config.num_machines, config.num_processes) == EXPECTED[name]
    assert config.mixed_precision == "bf16" and not config.use_cpu


@pytest.mark.parametrize("name", EXPECTED)
def test_accelerate_launches_a_script_by_each_file(name, monkeypatch):
    if name == "deepspeed_zero2":
        monkeypatch.setattr("accelerate.commands.launch.is_deepspeed_available", lambda: True)
    monkeypatch.setattr("accelerate.commands.launch.torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("accelerate.commands.launch.torch.cuda.device_count", lambda: 8)
    words = ["--config_file", str(FOLDER / f"{name}.yaml"), "--num_processes", "8", "train.py", "--seed", "1"]
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(words))
    assert arguments.training_script == "train.py" and arguments.training_script_args == ["--seed", "1"]
    assert arguments.mixed_precision == "bf16"
    assert arguments.use_fsdp == (name == "fsdp2") and arguments.use_deepspeed == (name == "deepspeed_zero2")
    if name == "fsdp2":
        assert str(arguments.fsdp_version) == "2" and arguments.fsdp_state_dict_type == "FULL_STATE_DICT"
    if name == "deepspeed_zero2":
        assert arguments.zero_stage == 2 and arguments.gradient_accumulation_steps == "auto"
