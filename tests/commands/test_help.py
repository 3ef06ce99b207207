"""The help of each subcommand: its examples can be copied, and it lists no flag that is always refused."""

import re
import shlex

import pytest

from modeling_maskformer.commands import convert, data, evaluate, export, predict, train
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments

PREPARES = {
    data: "show",
    train: "prepare_training",
    evaluate: "prepare_evaluation",
    predict: "prepare_prediction",
    convert: "convert",
    export: "export",
}


def help_of(command, capsys):
    with pytest.raises(SystemExit) as stop:
        command.main(["--help"])
    assert stop.value.code == 0
    return capsys.readouterr().out


def examples(text, program):
    """The command lines of the help, as a shell reads them."""
    lines = re.findall(rf"^    {re.escape(program)} (.*)", text.replace("\\\n", ""), re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("command", PREPARES, ids=lambda command: command.__name__.rpartition(".")[2])
def test_every_example_is_a_command_that_is_accepted(command, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text("dataset: shapes\ntask: semantic\nbackbone: resnet10t\noutput_dir: out\n")

    def prepared(*_):
        raise ValueError("its arguments are fine")

    monkeypatch.setattr(command, PREPARES[command], prepared)
    name = command.__name__.rpartition(".")[2]
    found = examples(help_of(command, capsys), f"maskformer {name}")
    assert found
    for argv in found:
        with pytest.raises(SystemExit) as stop:
            command.main(argv)
        said = f"{stop.value.code}{capsys.readouterr().err}"
        assert "its arguments are fine" in said, argv


def test_evaluation_says_where_its_files_are_by_default(capsys):
    text = " ".join(help_of(evaluate, capsys).split())
    assert "evaluation_errors/ beside evaluation.json" in text and "results.json" not in text


def test_what_is_always_refused_is_not_listed_and_not_suggested(capsys, tmp_path):
    text = help_of(train, capsys)
    refused = MaskFormerTrainingArguments._refused_fields
    assert {"prediction_loss_only", "remove_unused_columns", "use_liger_kernel"} <= set(refused)
    for name in refused:
        assert f"--{name} " not in text and f"--no_{name}" not in text
        with pytest.raises(SystemExit):
            train.main([f"--{name[:-1]}", "1"])
        assert f"Did you mean --{name}?" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("--labels", "Did you mean --id2label?"),
        ("--dataste=coco", "Did you mean --dataset?"),
        ("--data", "Did you mean --dataset?"),
    ],
)
def test_positional_commands_suggest_flags_too_and_take_no_abbreviations(typed, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        convert.main(["model.pkl", "out", typed])
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert error == f"maskformer convert: There is no argument {typed.split('=')[0]}. {hint}\n"


@pytest.mark.parametrize("flags", [["--prediction_loss_only"], ["--remove_unused_columns"], ["--use_liger_kernel"]])
def test_whoever_knows_a_refused_flag_is_told_why(flags, capsys, tmp_path):
    model = ["--backbone", "resnet10t"]
    with pytest.raises(SystemExit) as stop:
        train.main(["--dataset", "shapes", "--output_dir", str(tmp_path), "--use_cpu", *model, *flags])
    error = capsys.readouterr().err
    assert stop.value.code == 2 and f"maskformer train: {flags[0]} " in error


def test_the_help_shows_each_flag_once(capsys):
    text = help_of(train, capsys)
    shown = re.findall(r"^  (--\w[\w-]*)", text, re.MULTILINE)
    assert "--help" in shown and "--learning_rate" in shown
    assert len(shown) == len(set(shown)) and not any("-" in flag[2:] for flag in shown)
