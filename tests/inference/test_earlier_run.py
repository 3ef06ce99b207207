"""An output folder that is not empty: what an earlier run left there is told from what is the user's."""

import json
import shutil

import pytest
import torch
from PIL import Image

from modeling_maskformer.inference.inputs import Picture
from modeling_maskformer.inference.prediction_run.predict_pictures import predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile, Records
from modeling_maskformer.inference.prediction_run.run import clear_results, join_results, pictures_to_do, start_run
from modeling_maskformer.inference.prediction_run.writer import ResultWriter
from modeling_maskformer.inference.result_names import RECORDS

LABELS = {0: "sky", 3: "tree"}


def pictures(*names):
    return [Picture(name, number, lambda: Image.new("RGB", (8, 6))) for number, name in enumerate(names)]


def predict(task):
    ids = torch.ones(6, 8, dtype=torch.int32)
    segmentation = [{"size": [6, 8], "counts": "0`1"}] if task == "instance" else ids
    found = {"segmentation": segmentation, "segments_info": [{"id": 1, "label_id": 3, "score": 0.5}]}
    return lambda images: [ids.long() if task == "semantic" else found for _ in images]


def run(folder, everyone, task="panoptic", overwrite=False, overlays=True):
    writer = ResultWriter(folder, task, LABELS, overlays=overlays)
    start_run(writer, everyone, {"task": task}, resume=False, overwrite=overwrite)
    before, records = Records(folder / RECORDS), RecordFile(folder / RECORDS)
    share = pictures_to_do(everyone, before, writer)
    clear_results(share, before, writer, records)
    predict_pictures(share, predict(task), writer, records, show_progress=False)
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


def test_a_run_that_was_killed_before_its_first_record_can_be_gone_on_with(tmp_path):
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    start_run(writer, pictures("a"), {"task": "panoptic"}, resume=False, overwrite=False)
    with pytest.raises(ValueError, match=r"earlier run: go on with it \(--resume\)"):
        start_run(writer, pictures("a"), {"task": "panoptic"}, resume=False, overwrite=False)
    assert start_run(writer, pictures("a"), {"task": "panoptic"}, resume=True, overwrite=False) == 1


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


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
@pytest.mark.parametrize("earlier", ["semantic", "instance", "panoptic"])
def test_overwriting_leaves_nothing_of_the_earlier_run_and_all_of_the_users(tmp_path, earlier, task):
    run(tmp_path, pictures("a", "deep/er/b", "c", "\udcff"), earlier)
    users_own = ["overlays/mine.jpg", "class_ids/mine.png", "panoptic/deep/mine.png", "mine.json"]
    summaries = {"semantic": "classes.json", "instance": "instances.json", "panoptic": "panoptic.json"}
    users_own += [summaries[other] for other in summaries if other not in (earlier, task)]
    for name in users_own:
        write(tmp_path / name)
    run(tmp_path, pictures("a"), task, overwrite=True, overlays=False)
    own = {"semantic": ["class_ids/a.png"], "instance": [], "panoptic": ["panoptic/a.png"]}[task]
    found = {name: content for name, content in content_of(tmp_path).items() if not name.startswith(RECORDS)}
    assert found.keys() == {*users_own, summaries[task], *own}
    assert all(found[name] == b"mine" for name in users_own)
    assert not (tmp_path / "overlays" / "deep").exists() and not (tmp_path / "class_ids" / "deep").exists()


@pytest.mark.parametrize("without_records", [False, True])
def test_overwriting_leaves_no_earlier_result_of_a_picture_that_fails_now(tmp_path, without_records):
    run(tmp_path, pictures("a", "b"))
    if without_records:
        shutil.rmtree(tmp_path / RECORDS)
    (a, _) = pictures("a", "b")
    run(tmp_path, [a, Picture("b", 1, lambda: Image.open(tmp_path / "panoptic.json"))], overwrite=True)
    files = {name for name in content_of(tmp_path) if not name.startswith(RECORDS)}
    assert files == {"panoptic/a.png", "overlays/a.jpg", "panoptic.json", "failures.json"}


def test_overwriting_removes_no_overlay_that_no_run_has_drawn(tmp_path):
    mine = write(tmp_path / "overlays" / "a.jpg")
    run(tmp_path, pictures("a"), overlays=False)
    run(tmp_path, pictures("a"), overlays=False, overwrite=True)
    assert mine.read_text() == "mine"


def test_overwriting_follows_no_record_out_of_the_folder(tmp_path):
    output = tmp_path / "out"
    run(output, pictures("a"))
    outside = [write(tmp_path / "x.png"), write(output / "notes" / "x.png"), write(output / "x.png")]
    write(output / "overlays" / "mine.jpg")  # keeps the folder
    records = RecordFile(output / RECORDS, 2)
    paths = ["../x.png", "overlays/../../x.png", str(tmp_path / "x.png"), "notes/x.png", "x.png", "", "."]
    records.add("b", "", paths, {}, [])
    records.close()
    run(output, pictures("a"), overwrite=True)
    assert [file.read_text() for file in outside] == ["mine"] * 3


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
