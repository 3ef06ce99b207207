"""An output folder that is not empty: what an earlier run left there is told from what is the user's."""

import json

import pytest
import torch
from PIL import Image

from modeling_maskformer.inference.inputs import Picture
from modeling_maskformer.inference.prediction_run.predict_pictures import predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile, Records
from modeling_maskformer.inference.prediction_run.run import join_results, start_run
from modeling_maskformer.inference.prediction_run.writer import ResultWriter
from modeling_maskformer.inference.result_names import RECORDS

LABELS = {0: "sky", 3: "tree"}


def pictures(*names):
    return [Picture(name, number, lambda: Image.new("RGB", (8, 6))) for number, name in enumerate(names)]


def predict(task):
    ids = torch.ones(6, 8, dtype=torch.int32)
    found = {"segmentation": ids, "segments_info": [{"id": 1, "label_id": 3, "score": 0.5}]}
    return lambda images: [ids.long() if task == "semantic" else found for _ in images]


def run(folder, everyone, task="panoptic", overwrite=False, overlays=True):
    writer = ResultWriter(folder, task, LABELS, overlays=overlays)
    start_run(writer, everyone, {"task": task}, resume=False, overwrite=overwrite)
    records = RecordFile(folder / RECORDS)
    predict_pictures(everyone, predict(task), writer, records, show_progress=False)
    records.close()
    join_results(writer, everyone)


def write(path, content="mine"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def content_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


USERS_OWN = [
    "records/2024/patients.csv",
    "records/notes.txt",
    "records/visits.jsonl",
    "records/settings.json",
    "records/.hidden/x",
    "records",
    "failures.json",
    "panoptic.json",
    "panoptic/a.png",
    "overlays/a.jpg",
]


@pytest.mark.parametrize("name", USERS_OWN)
@pytest.mark.parametrize("resume", [False, True])
def test_what_the_user_has_where_results_would_be_is_refused_and_stays(tmp_path, name, resume):
    write(tmp_path / name)
    before = content_of(tmp_path)
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    with pytest.raises(ValueError, match="choose another --output_dir") as refusal:
        start_run(writer, pictures("a"), {"task": "panoptic"}, resume, overwrite=False)
    assert str(tmp_path) in str(refusal.value)
    assert content_of(tmp_path) == before


def test_a_link_where_a_result_would_be_is_refused(tmp_path):
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "panoptic" / "a.png").symlink_to(tmp_path / "disk_that_is_away.png")
    with pytest.raises(ValueError, match="1 of the results are already there"):
        run(tmp_path, pictures("a"))


def test_overwriting_replaces_the_records_of_the_run_and_nothing_beside_them(tmp_path):
    run(tmp_path, pictures("a", "b"))
    write(tmp_path / RECORDS / "000007-000000.jsonl", '{"name": "c", "failure": {}}\n')
    write(tmp_path / RECORDS / ".0123456789abcdef.part.json")
    own = [write(tmp_path / RECORDS / name) for name in ("2024/patients.csv", "notes.txt", "visits.jsonl", ".part")]
    run(tmp_path, pictures("b"), overwrite=True)
    assert [file.read_text() for file in own] == ["mine"] * 4
    files = {path.name for path in (tmp_path / RECORDS).iterdir()} - {"2024", "notes.txt", "visits.jsonl", ".part"}
    assert files == {"settings.json", "000001-000000.jsonl"}


def test_files_beside_the_records_are_no_records(tmp_path):
    run(tmp_path, pictures("a"))
    write(tmp_path / RECORDS / "visits.jsonl", '{"name": "b", "image": {}, "annotations": []}\n')
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    assert not Records(tmp_path / RECORDS).is_done("b")
    assert start_run(writer, pictures("a"), {"task": "panoptic"}, resume=True, overwrite=False) == 2


@pytest.mark.parametrize("content", ["", "[]", "notes"])
def test_settings_that_are_none_are_refused_with_their_file(tmp_path, content):
    run(tmp_path, pictures("a"))
    write(tmp_path / RECORDS / "settings.json", content)
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    with pytest.raises(ValueError, match=r"settings\.json holds no settings of a run"):
        start_run(writer, pictures("a"), {"task": "panoptic"}, resume=True, overwrite=False)


def test_records_without_settings_are_not_gone_on_with(tmp_path):
    run(tmp_path, pictures("a"))
    (tmp_path / RECORDS / "settings.json").unlink()
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    with pytest.raises(ValueError, match=r"cannot be gone on with, since .*settings\.json is missing"):
        start_run(writer, pictures("a"), {"task": "panoptic"}, resume=True, overwrite=False)


def test_a_name_too_long_for_the_disk_does_not_end_the_start(tmp_path):
    run(tmp_path, pictures("n" * 300, "a"))
    (failure,) = json.loads((tmp_path / "failures.json").read_text())
    assert failure["step"] == "writing" and (tmp_path / "panoptic" / "a.png").exists()
