"""What is suggested for a flag that does not exist, and how messages of libraries are put into the words of flags."""

from dataclasses import fields

import pytest

from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_arguments import DataArguments
from modeling_maskformer.training.arguments.flag_names import OTHER_NAMES, in_words_of_flags, suggested_flags
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.arguments.run_arguments import RunArguments

KNOWN = [
    field.name
    for arguments in (DataArguments, ModelArguments, AugmentationArguments, RunArguments)
    for field in fields(arguments)
]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("lr", "learning_rate"),
        ("epochs", "num_train_epochs"),
        ("num_epochs", "num_train_epochs"),
        ("batch_size", "per_device_train_batch_size"),
        ("batch-size", "per_device_train_batch_size"),
        ("train_batch_size", "per_device_train_batch_size"),
        ("workers", "dataloader_num_workers"),
        ("warmup", "warmup_steps"),
        ("wd", "weight_decay"),
        ("optimizer", "optim"),
        ("output", "output_dir"),
        ("Backbone", "backbone"),
        ("leraning_rate", "learning_rate"),
        ("img_size", "crop_size"),
        ("resume", "resume_from_checkpoint"),
        ("data", "dataset"),
        ("tast", "task"),
        ("split", "validation_split"),
    ],
)
def test_the_first_suggestion_is_what_is_meant(typed, first):
    assert suggested_flags(typed, KNOWN)[0] == first


def test_nothing_is_suggested_for_what_resembles_nothing_and_never_more_than_three():
    assert suggested_flags("zzzqqq", KNOWN) == []
    assert 1 <= len(suggested_flags("eval", KNOWN)) <= 3


def test_only_flags_of_the_command_are_suggested():
    assert suggested_flags("lr", ["model", "batch_size"]) == []
    assert suggested_flags("bs", ["model", "batch_size"]) == ["batch_size"]


def test_no_other_name_is_a_flag_of_training_and_each_leads_to_one():
    flags_elsewhere = {"batch_size", "dtype", "threshold", "inputs", "output_file"}
    assert not set(OTHER_NAMES) & set(KNOWN)
    for names in OTHER_NAMES.values():
        assert set(names) <= {*KNOWN, *flags_elsewhere}, names


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "lr_milestones need lr_scheduler_type=constant_with_warmup.",
            "--lr_milestones need --lr_scheduler_type constant_with_warmup.",
        ),
        ("At most one of fp16 and bf16 can be True", "At most one of --fp16 and --bf16 can be True"),
        ("strategy: IntervalStrategy.NO\n- SaveStrategy.EPOCH", "strategy: no\n- epoch"),
        ('--save_strategy="best"', "--save_strategy best"),
        ("`warmup_steps` must be", "--warmup_steps must be"),
        ("the seed of the dataset", "the seed of the dataset"),
        ("runs/eval_steps/id2label.json and 'eval_steps'", "runs/eval_steps/id2label.json and 'eval_steps'"),
        ("--eval_steps stays", "--eval_steps stays"),
        ("A label file (id2label) names them.", "A label file (--id2label) names them."),
    ],
)
def test_names_of_arguments_become_flags_and_other_words_stay(message, expected):
    assert in_words_of_flags(message, KNOWN) == expected
