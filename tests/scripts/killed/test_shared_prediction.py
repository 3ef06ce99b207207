"""scripts/predict.py in two processes, of which one is killed: what is done is kept, and the run goes on."""

import json
import shutil
import sys
from pathlib import Path

import pytest
from launched import run_together
from script_runs import run

from modeling_maskformer.commands import predict

KILLED_PREDICTION = Path(__file__).with_name("killed_prediction.py")


@pytest.fixture
def photos(street, tmp_path):
    """Nine pictures, one of them broken."""
    (tmp_path / "photos").mkdir()
    for number in range(8):
        shutil.copy(street / "val" / "images" / f"{number % 3}.png", tmp_path / "photos" / f"{number}.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    return tmp_path / "photos"


def run_in_two_processes(flags, die_at=(0, 0)):
    """The codes and what was said, of two processes as torchrun starts them."""
    return run_together([(sys.executable, KILLED_PREDICTION, each, *flags) for each in die_at])


def results(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != "records"
    }


def test_two_processes_do_what_one_does_and_a_killed_one_is_made_up_for(trained, photos, tmp_path):
    flags = ["--model", trained["panoptic"], "--inputs", photos, "--threshold", 0, "--use_cpu", "--output_dir"]
    with pytest.raises(SystemExit, match="1"):
        run(predict.main, *flags, tmp_path / "alone")
    expected = results(tmp_path / "alone")
    assert len(json.loads(expected["panoptic.json"])["images"]) == 8 and len(expected) == 8 + 8 + 2

    codes, said = run_in_two_processes([*flags, tmp_path / "shared"])
    assert codes == [1, 0], said  # the first tells of the broken picture
    assert "8 of 9 pictures segmented" in said[0][0] and "broken" in said[0][1] and "segmented" not in said[1][0]
    assert results(tmp_path / "shared") == expected
    files = sorted((tmp_path / "shared" / "records").glob("*.jsonl"))
    assert len(files) == 2 and all(len(file.read_text().splitlines()) > 1 for file in files)

    codes, said = run_in_two_processes([*flags, tmp_path / "killed"], die_at=(0, 2))
    assert codes == [1, -9], said
    assert "Another process ended early" in said[0][1] and "go on with --resume" in said[0][1], said
    done = len(json.loads((tmp_path / "killed" / "panoptic.json").read_text())["images"])
    assert 0 < done < 8
    with pytest.raises(SystemExit, match="1"):
        run(predict.main, *flags, tmp_path / "killed", "--resume")
    assert results(tmp_path / "killed") == expected
