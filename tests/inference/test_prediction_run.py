"""A long prediction: shared by processes, ended early at any point, gone on with, joined."""

import errno
import json
import threading
import tracemalloc

import pytest
import torch
from PIL import Image

from modeling_maskformer.inference.inputs import Picture
from modeling_maskformer.inference.prediction_run.predict_pictures import FullDiskError, predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile, Records
from modeling_maskformer.inference.prediction_run.run import join_results, pictures_to_do, start_run
from modeling_maskformer.inference.prediction_run.writer import Failure, ResultWriter
from modeling_maskformer.inference.result_names import RECORDS

LABELS = {0: "sky", 3: "tree"}


def pictures(count, load=None):
    load = load or (lambda number: Image.new("RGB", (8, 6), (number % 256,) * 3))
    return [Picture(f"part/{number}", 100 + number, lambda number=number: load(number)) for number in range(count)]


def panoptic(images):
    ids = torch.ones(6, 8, dtype=torch.int32)
    return [{"segmentation": ids, "segments_info": [{"id": 1, "label_id": 3, "score": 0.5}]} for _ in images]


def instances(images):
    """As many objects as the picture's brightness says."""
    rle = {"size": [6, 8], "counts": "0`1"}
    counts = [image.getpixel((0, 0))[0] % 3 for image in images]
    return [
        {"segmentation": [rle] * n, "segments_info": [{"id": k, "label_id": 3, "score": 0.5} for k in range(n)]}
        for n in counts
    ]


def predict_share(writer, chosen, predictor, run=1, process=0):
    records = RecordFile(writer.folder / RECORDS, run, process)
    predict_pictures(chosen, predictor, writer, records, batch_size=2, show_progress=False)
    records.close()


def everything(folder):
    """The content of each file of results."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.parent.name != RECORDS
    }


@pytest.mark.parametrize(("task", "predictor"), [("instance", instances), ("panoptic", panoptic)])
def test_processes_share_the_pictures_and_their_joined_results_are_those_of_one(tmp_path, task, predictor):
    found = {}
    for processes in (1, 3):
        writer = ResultWriter(tmp_path / str(processes), task, LABELS)
        assert start_run(writer, pictures(20), {}, resume=False, overwrite=False) == 1
        shares = [
            pictures_to_do(pictures(20), Records(tmp_path / "none"), writer, n, processes) for n in range(processes)
        ]
        names = [picture.name for share in shares for picture in share]
        assert len(names) == len(set(names)) == 20 and all(len(share) > 0 for share in shares)
        for number, share in enumerate(shares):
            predict_share(writer, share, predictor, process=number)
        totals = join_results(writer, pictures(20))
        assert (totals.done, totals.failed) == (20, 0)
        found[processes] = everything(writer.folder)
    assert found[1] == found[3]
    content = json.loads(found[1][f"{task}s.json" if task == "instance" else "panoptic.json"])
    assert [image["id"] for image in content["images"]] == list(range(100, 120))
    if task == "instance":
        assert [entry["id"] for entry in content["annotations"]] == list(range(1, len(content["annotations"]) + 1))


def test_a_run_that_goes_on_does_what_is_missing_and_what_failed(tmp_path):
    asked = []

    def load(number):
        asked.append(number)
        if number == 4 and asked.count(4) == 1:
            raise OSError("the network is down")
        return Image.new("RGB", (8, 6))

    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    everyone = pictures(9, load)
    assert start_run(writer, everyone, {"task": "panoptic"}, resume=True, overwrite=False) == 1  # nothing there yet
    predict_share(writer, everyone[:7], panoptic)
    assert json.loads((tmp_path / RECORDS / "settings.json").read_text()) == {"task": "panoptic"}
    assert join_results(writer, everyone).failed == 1
    (tmp_path / "panoptic" / "part" / "2.png").unlink()  # lost, as by a disk
    asked.clear()
    assert start_run(writer, everyone, {"task": "panoptic"}, resume=True, overwrite=False) == 2
    left = pictures_to_do(everyone, Records(tmp_path / RECORDS), writer)
    assert [picture.name for picture in left] == ["part/2", "part/4", "part/7", "part/8"]
    asked.append(4)
    predict_share(writer, left, panoptic, run=2)
    assert asked == [4, 2, 4, 7, 8]
    totals = join_results(writer, everyone)
    assert (totals.done, totals.failed) == (9, 0) and not (tmp_path / "failures.json").exists()
    before = everything(tmp_path)
    assert start_run(writer, everyone, {"task": "panoptic"}, resume=True, overwrite=False) == 3
    assert len(pictures_to_do(everyone, Records(tmp_path / RECORDS), writer)) == 0
    join_results(writer, everyone)
    assert everything(tmp_path) == before


def test_pictures_that_come_to_the_folder_later_get_their_place(tmp_path):
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    few = pictures(6)[::2]
    start_run(writer, few, {}, resume=False, overwrite=False)
    predict_share(writer, few, panoptic)
    left = pictures_to_do(pictures(6), Records(tmp_path / RECORDS), writer)
    predict_share(writer, left, panoptic, run=2)
    join_results(writer, pictures(6))
    content = json.loads((tmp_path / "panoptic.json").read_text())
    assert [image["file_name"] for image in content["images"]] == [f"part/{number}" for number in range(6)]
    assert [entry["image_id"] for entry in content["annotations"]] == list(range(100, 106))


def test_other_settings_and_results_of_others_are_refused(tmp_path):
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    start_run(writer, pictures(2), {"model": "a", "threshold": 0.5}, resume=False, overwrite=False)
    predict_share(writer, pictures(2), panoptic)
    with pytest.raises(ValueError, match="a run with another threshold"):
        start_run(writer, pictures(2), {"model": "a", "threshold": 0.6}, resume=True, overwrite=False)
    with pytest.raises(ValueError, match="holds results of an earlier run"):
        start_run(writer, pictures(2), {"model": "a", "threshold": 0.5}, resume=False, overwrite=False)
    assert start_run(writer, pictures(2), {"model": "b"}, resume=False, overwrite=True) == 1
    assert Records(tmp_path / RECORDS).num_done == 0


def test_a_line_that_a_killed_process_left_half_written_counts_for_nothing(tmp_path):
    whole = RecordFile(tmp_path, 1, 0)
    for name in ("a", 'with "quotes", \\ and a\nnew line', "\udcff of no encoding"):
        whole.add(name, "1 2 3", ["overlays/x.jpg"], {"file_name": name}, [])
    whole.add_failure(Failure("b", "reading", "broken"))
    whole.close()
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        assert Records(tmp_path).num_done == min(3, content[:length].count(b"\n"))
    file.write_bytes(content[:-9])
    assert not Records(tmp_path).is_done("b") and Records(tmp_path).of("b") is None
    again = RecordFile(tmp_path, 2, 0)
    again.add("b", "", [], {"file_name": "b"}, [])
    again.add_failure(Failure("a", "writing", "later"))
    records = Records(tmp_path)
    assert records.is_done("b") and not records.is_done("a") and records.num_done == 3
    assert records.of("a") == {"name": "a", "failure": {"step": "writing", "cause": "later"}}
    assert records.of("\udcff of no encoding")["image"] == {"file_name": "\udcff of no encoding"}


def test_joining_holds_one_record_at_a_time(tmp_path):
    writer = ResultWriter(tmp_path, "panoptic", LABELS, overlays=False)
    records = RecordFile(tmp_path / RECORDS)
    segments = [{"id": number, "category_id": 3} for number in range(400)]
    everyone = pictures(60)
    for picture in everyone:
        entry = {"image_id": 0, "file_name": "x.png", "segments_info": segments}
        records.add(picture.name, "", [], {"file_name": picture.name, "width": 8, "height": 6}, [entry])
    size = sum(file.stat().st_size for file in (tmp_path / RECORDS).iterdir())
    tracemalloc.start()
    join_results(writer, everyone)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 700_000 and peak < 350_000
    assert len(json.loads((tmp_path / "panoptic.json").read_text())["annotations"]) == 60


@pytest.mark.parametrize("where", ["files", "records"])
def test_a_full_disk_ends_the_run_with_a_sentence_and_keeps_what_is_done(tmp_path, monkeypatch, where):
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    everyone = pictures(30)
    start_run(writer, everyone, {}, resume=False, overwrite=False)
    full = OSError(errno.ENOSPC, "No space left on device")
    records = RecordFile(tmp_path / RECORDS)
    write, write_line = writer.write, records._write

    def write_few(picture, image, prediction):
        if where == "files" and picture.image_id >= 105:
            raise full
        return write(picture, image, prediction)

    def write_few_lines(record):
        if where == "records" and "part/5" in record["name"]:
            records._file.write(b'{"name": "part/5", "ima')
            raise full
        write_line(record)

    monkeypatch.setattr(writer, "write", write_few)
    monkeypatch.setattr(records, "_write", write_few_lines)
    with pytest.raises(FullDiskError, match=r"Nothing more can be written to .*No space left"):
        predict_pictures(everyone, panoptic, writer, records, show_progress=False)
    monkeypatch.undo()
    left = pictures_to_do(everyone, Records(tmp_path / RECORDS), writer)
    assert [picture.image_id for picture in left] == list(range(105, 130))
    predict_share(writer, left, panoptic, run=2)
    assert join_results(writer, everyone).done == 30


def test_a_picture_that_cannot_be_written_is_no_full_disk(tmp_path, monkeypatch):
    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    name = "n" * 300  # longer than file systems allow
    everyone = [*pictures(2), Picture(name, 7, lambda: Image.new("RGB", (8, 6)))]
    predict_share(writer, everyone, panoptic)
    assert (join_results(writer, everyone).done, join_results(writer, everyone).failed) == (2, 1)
    (failure,) = json.loads((tmp_path / "failures.json").read_text())
    assert failure["name"] == name and "too long" in failure["cause"]


# Overlap


def test_pictures_are_read_while_others_are_predicted_and_written(tmp_path):
    """Each step waits until the next ones have begun, so that a run of one step after the other would never end."""
    begun = {(step, number): threading.Event() for step in ("read", "predict") for number in range(12)}

    def wait(step, number):
        assert begun[step, number].wait(timeout=20), f"{step} {number} never began"

    def load(number):
        begun["read", number].set()
        return Image.new("RGB", (8, 6), (number,) * 3)

    def predictor(images):
        number = images[0].getpixel((0, 0))[0]
        begun["predict", number].set()
        if number < 10:
            wait("read", number + 2)  # two are read ahead
        return panoptic(images)

    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    write = writer.write

    def slow_write(picture, image, prediction):
        number = picture.image_id - 100
        if number < 11:
            wait("predict", number + 1)
        return write(picture, image, prediction)

    writer.write = slow_write
    records = RecordFile(tmp_path / RECORDS)
    predict_pictures(pictures(12, load), predictor, writer, records, num_threads=1, show_progress=False)
    assert Records(tmp_path / RECORDS).num_done == 12


def test_as_many_threads_as_asked_for_read_and_write_at_once(tmp_path):
    reading, writing = threading.Barrier(3), threading.Barrier(3)

    def load(number):
        reading.wait(timeout=20)
        return Image.new("RGB", (8, 6))

    writer = ResultWriter(tmp_path, "panoptic", LABELS)
    write = writer.write

    def write_together(*picture):
        writing.wait(timeout=20)
        return write(*picture)

    writer.write = write_together
    records = RecordFile(tmp_path / RECORDS)
    predict_pictures(pictures(12, load), panoptic, writer, records, batch_size=3, num_threads=3, show_progress=False)
    assert Records(tmp_path / RECORDS).num_done == 12


def test_no_more_pictures_are_in_memory_than_are_worked_on(tmp_path, monkeypatch):
    held, most, lock = 0, 0, threading.Lock()

    class Counted(Image.Image):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.im, self._mode, self._size = Image.core.fill("RGB", (8, 6), 0), "RGB", (8, 6)
            nonlocal held, most
            with lock:
                held += 1
                most = max(most, held)

        def __del__(self):
            nonlocal held
            with lock:
                held -= 1

    writer = ResultWriter(tmp_path, "panoptic", LABELS, overlays=False)
    records = RecordFile(tmp_path / RECORDS)
    many = pictures(100, lambda number: Counted())
    predict_pictures(many, panoptic, writer, records, batch_size=4, num_threads=2, show_progress=False)
    assert 4 < most <= 2 * 4 + 2 * 2 + 2
