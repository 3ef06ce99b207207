"""Small datasets of plain folders, and checkpoints trained on them by scripts/train.py."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from script_runs import BRIEF, SMALL, draw_street, run

from modeling_maskformer.commands import train

# what scripts import of their own folder; last, because evaluate.py there would hide the library of that name
sys.path.append(str(Path(__file__).parents[2] / "scripts"))


@pytest.fixture
def refused(capsys):
    """Runs a script that must end with code 2, or another; the sentence it says."""

    def check(main, *argv, code=2):
        with pytest.raises(SystemExit) as stop:
            run(main, *argv)
        error = capsys.readouterr().err
        assert stop.value.code == code, error
        assert "Traceback" not in error
        return error

    return check


def write_dataset(folder, channels):
    """6 training and 3 validation pictures, with class maps, or with classes in red and instances in green."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for number in range(count):
            image, classes, instances = draw_street(rng)
            mask = np.stack([classes, instances, 0 * classes], -1) if channels else classes
            Image.fromarray(image).save(folder / split / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{number}.png")
    names = {"0": "background" if channels else "sky", "1": "road", "2": "car"}
    (folder / "id2label.json").write_text(json.dumps(names))
    return folder


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """A dataset of class maps."""
    return write_dataset(tmp_path_factory.mktemp("street"), channels=False)


@pytest.fixture(scope="session")
def street_objects(tmp_path_factory):
    """A dataset of class and instance in channels."""
    return write_dataset(tmp_path_factory.mktemp("street_objects"), channels=True)


@pytest.fixture(scope="session")
def trained(tmp_path_factory, street, street_objects):
    """Task -> output folder of a run of the training script."""
    folders = {}
    for task, dataset in (("semantic", street), ("instance", street_objects), ("panoptic", street_objects)):
        folders[task] = tmp_path_factory.mktemp("runs") / task
        run(train.main, "--dataset", dataset, "--task", task, "--output_dir", folders[task], *SMALL, *BRIEF)
    return folders
