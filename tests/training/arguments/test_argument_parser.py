"""The command line: flags and files give the same values, mistakes are sentences, the help is in groups."""

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from transformers import TrainingArguments

from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser


@dataclass
class FruitArguments:
    _argument_group_name = "fruit"

    apples: int = field(metadata={"help": "How many apples."})
    kind: Literal["red", "green"] = field(default="red", metadata={"help": "Colour of the apples."})
    weights: list[float] = field(default_factory=list, metadata={"help": "Weight of each."})
    rate: float = field(default=0.5, metadata={"help": "A rate."})
    washed: bool = field(default=True, metadata={"help": "Whether they are washed."})
    note: str | None = field(default=None, metadata={"help": "A remark."})


@dataclass
class Run(TrainingArguments):
    _argument_group_name = "training"

    learning_rate: float = field(default=1.0, metadata={"help": "How fast."})


def parse(*argv):
    return ScriptArgumentParser([FruitArguments]).parse([str(argument) for argument in argv])[0]


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_file_gives_the_values_that_its_flags_would(tmp_path, suffix):
    settings = {"apples": 3, "kind": "green", "weights": [0.5, 2], "rate": "1e-4", "washed": False, "note": None}
    file = tmp_path / f"run.{suffix}"
    if suffix == "json":
        file.write_text(json.dumps(settings))
    else:
        file.write_text("apples: 3\nkind: green\nweights: [0.5, 2]\nrate: 1e-4\nwashed: false\nnote:\n")
    expected = FruitArguments(3, "green", [0.5, 2.0], 1e-4, False)
    assert parse(file) == expected
    assert parse("--apples", 3, "--kind", "green", "--weights", 0.5, 2, "--rate", 1e-4, "--no_washed") == expected


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("apples: 3\nrate: 2\n")
    assert parse(file, "--apples", 4) == FruitArguments(4, rate=2.0)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--aples", "3"], "There is no argument --aples. Did you mean --apples?"),
        (["--apples", "many"], "invalid int value: 'many'"),
        (["--apples", "1", "--kind", "blue"], "choose from 'red', 'green'"),
        (["--kind", "red"], "required: --apples"),
        (["--apples", "1", "pears"], "Unexpected value 'pears'"),
        (["nowhere.yaml"], "Cannot read the settings file nowhere.yaml"),
    ],
)
def test_a_mistake_ends_with_code_2_and_one_line(capsys, argv, message):
    with pytest.raises(SystemExit) as stop:
        parse(*argv)
    error = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("run.json", "{", "is not valid JSON"),
        ("run.yaml", "- 1\n", "must hold names and values, got list"),
        ("run.yml", "aples: 1\n", "There is no argument --aples"),
        ("run.yaml", "apples: 1\nrate: 0.1\napples: 2\n", "run.yaml is not valid YAML: 'apples' stands twice"),
        ("run.json", '{"apples": 1, "apples": 2}', "run.json is not valid JSON: 'apples' stands twice"),
        ("run.yaml", "apples: 1\nnote: {tree: 1, tree: 2}\n", "'tree' stands twice"),
        ("run.json", '{"apples": 1, "note": {"tree": 1, "tree": 2}}', "'tree' stands twice"),
        ("run.yaml", "apples: 1\nwashed: true\nno_washed:\n", "sets one thing twice, by --washed and by --no_washed"),
    ],
)
def test_a_bad_file_is_named(tmp_path, capsys, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SystemExit) as stop:
        parse(tmp_path / name)
    assert stop.value.code == 2 and message in capsys.readouterr().err


def test_a_wrong_value_found_by_the_dataclass_is_a_mistake_too(capsys, tmp_path):
    parser = ScriptArgumentParser([Run])
    with pytest.raises(SystemExit) as stop:
        parser.parse(["--output_dir", str(tmp_path), "--warmup_steps", "-1"])
    assert stop.value.code == 2 and "warmup_steps >= 0" in capsys.readouterr().err


def test_help_has_groups_shows_every_field_and_says_its_default():
    text = ScriptArgumentParser([FruitArguments, Run], ["output_dir"], "What it does.").format_help()
    fruit, training, rest = (text.index(title) for title in ("\nfruit:", "\ntraining:", "\neverything else"))
    assert fruit < training < rest
    assert "What it does." in text[:fruit]
    for name in FruitArguments.__dataclass_fields__:
        assert fruit < text.index(f"--{name} ") < training
    assert training < text.index("--output_dir ") < rest and training < text.index("--learning_rate ") < rest
    for name in TrainingArguments.__dataclass_fields__:
        assert f"--{name} " in text
    assert "Weight of each.\n" in text and "A rate. (default: 0.5)" in text
    assert "Turns --washed off." in text


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], None),
        (["--peeled"], True),
        (["--peeled", "true"], True),
        (["--peeled", "false"], False),
        (["--no_peeled"], False),
    ],
)
def test_a_switch_that_may_stay_open_is_turned_on_and_off_like_any_other(flags, expected):
    @dataclass
    class Peeling:
        _argument_group_name = "peeling"

        peeled: bool | None = field(default=None, metadata={"help": "Peel them. Default: if need be."})

    (arguments,) = ScriptArgumentParser([Peeling]).parse(flags)
    assert arguments.peeled is expected
