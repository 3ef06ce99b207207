"""What the Markdown pages point to is there, and the commands they show are ones that are accepted."""

import re
import shlex
from pathlib import Path

import pytest

from modeling_maskformer.commands import convert, data, evaluate, export, predict, train

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("", "scripts", "scripts/accelerate", "scripts/benchmarks", "model_cards", "model_cards/trained")
PAGES = [page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md"))]
PREPARES = {
    "data": (data, "show"),
    "train": (train, "prepare_training"),
    "evaluate": (evaluate, "prepare_evaluation"),
    "predict": (predict, "prepare_prediction"),
    "convert": (convert, "convert"),
    "export": (export, "export"),
}
CODE = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)
COMMAND = re.compile(
    r"(?:\w+=\S+ )*(?:maskformer |python scripts/)(data|train|evaluate|predict|convert|export)\S* (.*)"
)


def name_of(page):
    return str(page.relative_to(ROOT))


def anchors(page):
    """What `#...` may say of a page, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def commands(page):
    """(subcommand, arguments) of the lines of code that are whole commands."""
    for block in CODE.findall(page.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", "").splitlines():
            if match := COMMAND.fullmatch(line):
                yield match[1], shlex.split(match[2], comments=True)


@pytest.mark.parametrize("page", [page for page in PAGES if any(commands(page))], ids=name_of)
def test_every_command_is_accepted(page, capsys, monkeypatch, tmp_path):
    def prepared(*_):
        raise ValueError("its arguments are fine")

    for command, function in PREPARES.values():
        monkeypatch.setattr(command, function, prepared)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    settings = re.search(
        r"with `camvid.yaml`:\n\n```\n(.*?)```", (ROOT / "scripts/benchmarks/README.md").read_text(), re.S
    )
    (tmp_path / "camvid.yaml").write_text(settings[1])
    monkeypatch.chdir(tmp_path)
    for name, argv in commands(page):
        with pytest.raises(SystemExit) as stop:
            PREPARES[name][0].main(argv)
        assert "its arguments are fine" in f"{stop.value.code}{capsys.readouterr().err}", (name, argv)
