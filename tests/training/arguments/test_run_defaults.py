"""What follows from other arguments of a run: whether the best checkpoint is kept, and where logs go."""

import pytest

from modeling_maskformer import MaskFormerTrainingArguments
from modeling_maskformer.training.arguments import loggers
from modeling_maskformer.training.arguments.device_defaults import Machine
from modeling_maskformer.training.arguments.run_arguments import RunArguments


def run_arguments(output_dir, **settings):
    return RunArguments(output_dir=str(output_dir), use_cpu=True, **settings)


@pytest.mark.parametrize(
    ("settings", "keeps_the_best", "says_so"),
    [
        ({}, True, False),
        ({"eval_strategy": "no"}, False, False),
        ({"eval_strategy": "no", "save_strategy": "no"}, False, False),
        ({"save_strategy": "no"}, False, False),
        ({"save_strategy": "best"}, True, False),
        ({"save_strategy": "steps"}, False, True),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 50, "save_steps": 100}, True, False),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 60, "save_steps": 100}, False, True),
        ({"eval_strategy": "steps", "save_strategy": "steps", "save_steps": 100}, True, False),  # eval as often as log
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.1, "save_steps": 0.3}, True, False),
        ({"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.1, "save_steps": 100}, False, True),
    ],
)
def test_the_best_checkpoint_is_kept_where_every_one_is_evaluated(tmp_path, caplog, settings, keeps_the_best, says_so):
    assert run_arguments(tmp_path, **settings).load_best_model_at_end is keeps_the_best
    assert ("Not every checkpoint is evaluated" in caplog.text) is says_so


def test_what_was_asked_for_is_not_changed(tmp_path):
    assert run_arguments(tmp_path, load_best_model_at_end=False).load_best_model_at_end is False
    with pytest.raises(ValueError, match="requires the save and eval strategy to match"):
        run_arguments(tmp_path, load_best_model_at_end=True, eval_strategy="no")


@pytest.mark.parametrize(("is_installed", "expected"), [(True, ["tensorboard"]), (False, [])])
def test_logs_go_to_tensorboard_where_it_is_installed(tmp_path, monkeypatch, is_installed, expected):
    monkeypatch.setattr(loggers, "is_tensorboard_available", lambda: is_installed)
    monkeypatch.setattr(loggers, "get_available_reporting_integrations", lambda: ["tensorboard"])
    assert run_arguments(tmp_path).report_to == expected
    assert run_arguments(tmp_path, report_to=["none"]).report_to == []


@pytest.mark.parametrize("arguments", [RunArguments, MaskFormerTrainingArguments])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wandb", r"wandb is not installed\. .*: mlflow, none\."),
        ("wandbb", "no logger 'wandbb': did you mean wandb"),
        ("zzz", "choose from azure_ml, "),
    ],
)
def test_a_missing_logger_is_a_sentence(tmp_path, monkeypatch, arguments, name, message):
    monkeypatch.setattr(loggers, "get_available_reporting_integrations", lambda: ["mlflow"])
    with pytest.raises(ValueError, match=message):
        arguments(output_dir=str(tmp_path), use_cpu=True, report_to=[name])


def test_images_are_not_sorted_by_length(tmp_path):
    with pytest.raises(ValueError, match="train_sampling_strategy must be random or sequential, got group_by_length"):
        run_arguments(tmp_path, train_sampling_strategy="group_by_length")


@pytest.mark.parametrize("arguments", [RunArguments, MaskFormerTrainingArguments])
@pytest.mark.parametrize(
    ("told", "flags", "expected"),
    [
        ("bf16", {}, "bf16"),
        ("fp16", {}, "fp16"),
        ("no", {}, "no"),
        (None, {}, "no"),
        ("no", {"bf16": True}, "bf16"),
        ("bf16", {"fp16": True}, "fp16"),
        ("fp16", {"bf16": True}, "bf16"),
        ("bf16", {"bf16": False}, "no"),
        ("fp16", {"fp16": False, "bf16": False}, "no"),
        ("fp8", {}, "fp8"),
    ],
)
def test_half_precision_is_as_the_flags_say_and_else_as_accelerate_is_told(
    tmp_path, monkeypatch, arguments, told, flags, expected
):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if told is not None:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", told)
    args = arguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **flags)
    assert args.mixed_precision == expected
    assert (args.bf16, args.fp16) == (expected == "bf16", expected == "fp16")  # which cards and checks of losses read


def test_of_a_machine_that_has_bfloat16_accelerates_float16_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "modeling_maskformer.training.arguments.run_arguments.this_machine",
        lambda use_cpu: Machine(has_gpu=True, has_bf16=True),
    )
    assert run_arguments(tmp_path).bf16
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp16")
    args = run_arguments(tmp_path)
    assert args.fp16 and not args.bf16
