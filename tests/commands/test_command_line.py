"""The command `maskformer`: it starts without torch, knows its subcommands, and names itself as it was called."""

import io
import runpy
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from modeling_maskformer.commands import command_line
from modeling_maskformer.commands.service_arguments import check_installed
from modeling_maskformer.training.arguments.program_name import launched

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("argv", [[], ["--help"], ["--version"], ["trian"]])
def test_torch_is_not_imported_before_a_subcommand_runs(argv):
    code = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
import maskformer_command
sys.argv = ["maskformer", *{argv}]
try:
    maskformer_command.main()
except SystemExit:
    pass
assert not {{"torch", "transformers", "numpy", "modeling_maskformer"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "maskformer" in done.stdout + done.stderr


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_alone_it_lists_its_subcommands(argv, capsys):
    command_line.main(argv)
    text = capsys.readouterr().out
    assert text.startswith("usage: maskformer COMMAND ...\n")
    for name, what in command_line.COMMANDS.items():
        assert f"  {name} " in text and what in text


@pytest.mark.parametrize("name", command_line.COMMANDS)
def test_each_subcommand_is_a_file_with_a_main(name):
    assert callable(import_module(f"modeling_maskformer.commands.{name}").main)


def test_the_version_is_that_of_the_package(capsys, monkeypatch):
    monkeypatch.setattr(metadata, "version", {"modeling-maskformer": "7.1"}.__getitem__)
    command_line.main(["--version"])
    assert capsys.readouterr().out == "maskformer 7.1\n"


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("trian", "Did you mean train?"), ("evaluation", "Did you mean evaluate?"), ("x", "Choose one")],
)
def test_an_unknown_subcommand_is_refused_with_a_suggestion(typed, hint, capsys):
    with pytest.raises(SystemExit) as stop:
        command_line.main([typed])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"maskformer: There is no command '{typed}'. {hint}") and error.count("\n") == 1


def as_the_command(monkeypatch, name):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(sys, "argv", ["/usr/bin/maskformer", name, *sys.argv[1:]])
    import_module("maskformer_command").main()


def as_the_package(monkeypatch, name):
    monkeypatch.setattr(sys, "argv", ["-m", name, *sys.argv[1:]])
    runpy.run_module("modeling_maskformer", run_name="__main__", alter_sys=True)


def as_a_module(monkeypatch, name):
    runpy.run_module(f"modeling_maskformer.commands.{name}", run_name="__main__", alter_sys=True)


def as_a_script(monkeypatch, name):
    path = f"scripts/{SCRIPT_OF[name]}"
    monkeypatch.chdir(SCRIPTS.parent)
    monkeypatch.setattr(sys, "argv", [path, *sys.argv[1:]])
    runpy.run_path(path, run_name="__main__")


NAMES = ("data", "train", "evaluate", "predict", "export", "convert")
SCRIPT_OF = {
    "train": "train.py",
    "evaluate": "evaluate.py",
    "predict": "predict.py",
    "convert": "convert_checkpoint.py",
}
CALLS = [
    *((as_the_command, name, f"maskformer {name}") for name in NAMES),
    *((as_the_package, name, f"python -m modeling_maskformer {name}") for name in NAMES),
    *((as_a_module, name, f"python -m modeling_maskformer.commands.{name}") for name in NAMES),
    *((as_a_script, name, f"python scripts/{script}") for name, script in SCRIPT_OF.items()),
]


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
@pytest.mark.parametrize(("call", "name", "program"), CALLS, ids=[program for _, _, program in CALLS])
def test_usage_examples_and_errors_name_it_as_it_was_called(call, name, program, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pytest", "--help"])
    with pytest.raises(SystemExit):
        call(monkeypatch, name)
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {program} [")
    assert f"\n    {program} " in text  # an example
    monkeypatch.setattr(sys, "argv", ["pytest", "--lerning_rate", "1"])
    with pytest.raises(SystemExit) as stop:
        call(monkeypatch, name)
    assert stop.value.code == 2 and f"{program}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("program", "with_two"),
    [
        ("maskformer train", "-m modeling_maskformer.commands.train"),
        ("python scripts/train.py", "scripts/train.py"),
        ("python -m modeling_maskformer.commands.train", "-m modeling_maskformer.commands.train"),
    ],
)
def test_the_same_program_is_named_as_accelerate_starts_it(program, with_two):
    assert launched(program, 1) == program
    assert launched(program, 2) == f"accelerate launch --num_processes 2 {with_two}"


def test_what_is_not_installed_is_installed_from_the_repository():
    with pytest.raises(ValueError, match=r"needs no_module: in the repository, pip install -e '\.\[app\]'"):
        check_installed(["no_module"], "app")


@pytest.mark.parametrize("name", sorted(command_line.COMMANDS))
def test_names_in_letters_that_the_output_lacks_end_nothing(name, monkeypatch):
    redirected = io.TextIOWrapper(io.BytesIO(), "cp1252")  # as on Windows
    monkeypatch.setattr(sys, "stdout", redirected)
    with pytest.raises(SystemExit):
        import_module(f"modeling_maskformer.commands.{name}").main(["--help"])
    print("straße, 道")
    redirected.flush()
    assert redirected.buffer.getvalue().rstrip().endswith("straße, \\u9053".encode("cp1252"))
