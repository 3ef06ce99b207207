"""An installed wheel has all that the package needs, and its command runs in any folder."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]


def run(*command, folder, **environment):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder that holds what a wheel of this working tree installs."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    build = ["--config-settings", f"--build-option=build --build-base {folder / 'build'}"]
    code, output = run("-m", "pip", "wheel", ROOT, *options, *build, "--wheel-dir", folder, folder=folder)
    if "BackendUnavailable" in output or "No module named pip" in output:
        pytest.skip("pip and setuptools are not installed here")
    assert code == 0, output
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


USE = """
import sys
from pathlib import Path
import maskformer_command
sys.argv = ["maskformer", "convert", "nothing.pkl", "out"]
try:
    maskformer_command.main()
except SystemExit as stop:
    print(stop)
import modeling_maskformer
from modeling_maskformer.evaluation import load_metric
from modeling_maskformer.training.cards.model_card import TEMPLATE
print([load_metric(name, id2label={0: "a"}).name for name in ("mean_iou", "mask_ap", "panoptic_quality")])
print(TEMPLATE.is_file(), Path(modeling_maskformer.__file__).parent)
"""


def test_command_templates_and_metrics_of_the_wheel_work_in_any_folder(installed, tmp_path):
    (entry_points,) = installed.glob("*.dist-info/entry_points.txt")
    assert "maskformer = maskformer_command:main" in entry_points.read_text()
    code, output = run("-c", USE, folder=tmp_path, PYTHONPATH=str(installed), HF_MODULES_CACHE=str(tmp_path))
    assert code == 0, output
    assert "maskformer convert: " in output and "nothing.pkl" in output
    assert "['mean_iou', 'mask_ap', 'panoptic_quality']" in output
    assert f"True {installed / 'modeling_maskformer'}" in output


def test_every_file_of_the_packages_is_in_the_wheel_and_nothing_else(installed):
    packages = ("modeling_maskformer", "image_processing")
    sources = {
        path.relative_to(ROOT)
        for package in packages
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    assert {path for path in found if path.parts[0] in packages} == sources
    others = {path.parts[0] for path in found} - set(packages)
    assert {name for name in others if not name.endswith(".dist-info")} == {"maskformer_command.py"}


def test_every_python_that_is_promised_is_one_of_transformers(installed):
    (file,) = installed.glob("*.dist-info/METADATA")
    ours = SpecifierSet(message_from_string(file.read_text(encoding="utf-8"))["Requires-Python"])
    theirs = SpecifierSet(importlib.metadata.metadata("transformers")["Requires-Python"])
    pythons = [f"3.{minor}.0" for minor in range(8, 15)]
    promised = [python for python in pythons if python in ours]
    assert promised
    assert all(python in theirs for python in promised)


OLD_PYTHON = """#!/bin/sh
[ "$1" = -c ] || exit 1
exec {python} -c 'import sys; sys.version_info = (3, 10, 13); exec(sys.argv[1])' "$2"
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_refuses_an_old_python_before_it_makes_an_environment_of_it(tmp_path):
    shutil.copy(ROOT / "setup.py", tmp_path)
    python = tmp_path / "old_python"
    python.write_text(OLD_PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    command = ["make", "-f", ROOT / "Makefile", "demo", f"PYTHON={python}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "Python 3.11 or newer is needed" in done.stderr
