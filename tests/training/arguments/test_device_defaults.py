"""What scripts/train.py does by default on the device that it finds."""

import pytest
import torch
from transformers import TrainingArguments
from transformers.training_args import ParallelMode

from modeling_maskformer.training.arguments import arguments as arguments_module
from modeling_maskformer.training.arguments import run_arguments
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.arguments.device_defaults import Machine, default_num_workers
from modeling_maskformer.training.arguments.run_arguments import RunArguments

GPU = Machine(has_gpu=True, has_bf16=True, has_tf32=True, cores=9, processes=2)


def left_open(machine, **settings):
    """The arguments after the machine has decided what was left open, as far as a CPU can tell."""
    arguments = RunArguments(output_dir="unused", use_cpu=True)
    for name in ("bf16", "tf32", "dataloader_num_workers", "dataloader_persistent_workers"):
        setattr(arguments, name, settings.get(name))
    arguments.fp16 = settings.get("fp16", False)
    arguments._fill_in_defaults(machine)
    return arguments


def test_on_a_cpu_nothing_is_changed():
    arguments = RunArguments(output_dir="unused", use_cpu=True)
    assert not arguments.bf16 and arguments.tf32 is None
    assert arguments.dataloader_num_workers == 0 and not arguments.dataloader_persistent_workers
    assert not arguments.dataloader_pin_memory


def test_a_gpu_gets_workers_and_the_precision_that_it_has():
    arguments = left_open(GPU)
    assert arguments.bf16 and arguments.tf32
    assert arguments.dataloader_num_workers == 3 and arguments.dataloader_persistent_workers
    older = left_open(Machine(has_gpu=True, cores=4))
    assert not older.bf16 and older.tf32 is None and older.dataloader_num_workers == 3


@pytest.mark.parametrize(("cores", "processes", "workers"), [(1, 1, 1), (8, 1, 7), (64, 1, 12), (64, 8, 7), (8, 8, 1)])
def test_workers_share_the_cores(cores, processes, workers):
    assert default_num_workers(Machine(has_gpu=True, cores=cores, processes=processes)) == workers


def test_what_was_asked_for_stays():
    arguments = left_open(GPU, bf16=False, tf32=False, dataloader_num_workers=0, dataloader_persistent_workers=False)
    assert (arguments.bf16, arguments.tf32, arguments.dataloader_num_workers) == (False, False, 0)
    assert not arguments.dataloader_persistent_workers
    assert not left_open(GPU, fp16=True).bf16


def test_the_machine_is_asked_before_transformers_reads_the_settings(monkeypatch):
    monkeypatch.setattr(run_arguments, "this_machine", lambda use_cpu: Machine(has_gpu=not use_cpu, cores=5))
    assert RunArguments(output_dir="unused", use_cpu=False).dataloader_num_workers == 4
    assert RunArguments(output_dir="unused", use_cpu=True).dataloader_num_workers == 0


@pytest.mark.parametrize("arguments_class", [RunArguments, MaskFormerTrainingArguments])
def test_bfloat16_where_nothing_but_a_cpu_is_there_means_the_cpu(monkeypatch, arguments_class):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    arguments = arguments_class(output_dir="unused", bf16=True)
    assert arguments.bf16 and arguments.device.type == "cpu"


@pytest.mark.parametrize("arguments_class", [RunArguments, MaskFormerTrainingArguments])
def test_a_process_that_nobody_launched_uses_one_of_several_gpus(monkeypatch, caplog, arguments_class):
    """transformers would cut the segments of each image into parts, one for each GPU: no training does that."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    arguments = arguments_class(output_dir="unused", bf16=False)
    assert arguments.n_gpu == 1 and arguments.parallel_mode == ParallelMode.NOT_PARALLEL
    assert arguments.train_batch_size == arguments.per_device_train_batch_size
    assert "One of 2 GPUs is used: accelerate launch starts a process for each of them." in caplog.text


def test_bfloat16_on_a_tpu_does_not_mean_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setattr(arguments_module, "is_torch_xla_available", lambda: True)
    monkeypatch.setattr(TrainingArguments, "__post_init__", _stop)
    arguments = MaskFormerTrainingArguments.__new__(MaskFormerTrainingArguments)
    arguments.bf16, arguments.use_cpu, arguments.metric_for_best_model = True, False, None
    with pytest.raises(NotImplementedError):
        arguments.__post_init__()
    assert not arguments.use_cpu


def _stop(arguments):
    """In place of transformers' part, which would look for the TPU."""
    raise NotImplementedError
