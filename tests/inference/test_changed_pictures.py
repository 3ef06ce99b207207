"""A run that is gone on with: no result stands for another picture than the one that has its name now."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageColumn
from PIL import Image

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.inference.inputs import find_pictures
from modeling_maskformer.inference.prediction_run.predict_pictures import predict_pictures
from modeling_maskformer.inference.prediction_run.records import RecordFile, Records
from modeling_maskformer.inference.prediction_run.run import (
    clear_results,
    join_results,
    pictures_to_do,
    start_run,
)
from modeling_maskformer.inference.prediction_run.writer import ResultWriter
from modeling_maskformer.inference.result_names import RECORDS


def brightness(images):
    """Class maps of the value that the pictures have everywhere."""
    return [torch.from_numpy(np.asarray(image)[..., 0].astype(np.int64)) for image in images]


def save(path, value, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def run(output, pictures, resume=True, predictor=brightness):
    """The names of the pictures that are predicted, and how many are done at the end."""
    writer = ResultWriter(output, "semantic", {number: str(number) for number in range(256)}, overlays=False)
    start = start_run(writer, pictures, {}, resume, overwrite=False)
    before = Records(output / RECORDS)
    share = pictures_to_do(pictures, before, writer)
    records = RecordFile(output / RECORDS, start)
    clear_results(share, before, writer, records)
    try:
        predict_pictures(share, predictor, writer, records, show_progress=False)
    finally:
        records.close()
        totals = join_results(writer, pictures)
    return [picture.name for picture in share], totals.done


def result(output, name):
    return np.asarray(Image.open(output / "class_ids" / f"{name}.png")).max()


def test_a_picture_of_the_same_name_in_another_folder_gets_a_result_of_its_own(tmp_path):
    output = tmp_path / "out"
    for day, value in (("day1", 10), ("day2", 20)):
        for number in range(2):
            save(tmp_path / day / f"IMG_{number}.bmp", value)
            os.utime(tmp_path / day / f"IMG_{number}.bmp", (0, 0))  # as out of some archives
    run(output, find_pictures([tmp_path / "day1"]))
    assert run(output, find_pictures([tmp_path / "day2"])) == (["IMG_0", "IMG_1"], 2)
    assert [result(output, f"IMG_{number}") for number in range(2)] == [20, 20]
    assert run(output, find_pictures([tmp_path / "day2"])) == ([], 2)


def test_a_picture_that_was_replaced_in_place_is_done_again_alone(tmp_path, caplog):
    output, folder = tmp_path / "out", tmp_path / "in"
    for name in ("a", "b", "c"):
        save(folder / f"{name}.bmp", 10, size=(400, 200))
    run(output, find_pictures([folder]))
    content = bytearray((folder / "b.bmp").read_bytes())
    content[-30:] = b"\x40" * 30  # far behind its beginning
    (folder / "b.bmp").write_bytes(content)
    assert run(output, find_pictures([folder])) == (["b"], 3)
    assert (result(output, "a"), result(output, "b")) == (10, 64)
    assert "1 of the results are made again, such as that of 'b'" in caplog.text


def test_a_folder_that_was_moved_or_copied_with_its_times_is_not_done_again(tmp_path):
    output = tmp_path / "out"
    for name in ("a", "more/b"):
        save(tmp_path / "in" / f"{name}.png", 10)
    run(output, find_pictures([tmp_path / "in"]))
    shutil.copytree(tmp_path / "in", tmp_path / "copied")
    (tmp_path / "in").rename(tmp_path / "moved")
    assert run(output, find_pictures([tmp_path / "moved"])) == ([], 2)
    assert run(output, find_pictures([tmp_path / "copied"])) == ([], 2)


def rows(folder, values, in_file):
    """A dataset whose pictures are in its table, or in files beside it."""
    folder.mkdir(exist_ok=True)
    if in_file:
        for number, value in enumerate(values):
            save(folder / "train" / f"{number}.png", value)
        lines = [json.dumps({"file_name": f"{number}.png"}) for number in range(len(values))]
        (folder / "train" / "metadata.jsonl").write_text("\n".join(lines))
        return
    images = [Image.new("RGB", (8, 6), (value,) * 3) for value in values]
    features = Features({"image": ImageColumn(), "note": Value("string")})
    Dataset.from_dict({"image": images, "note": ["x"] * len(values)}, features).to_parquet(folder / "train.parquet")


@pytest.mark.parametrize("in_file", [False, True])
def test_rows_of_another_dataset_are_done_again_where_they_differ(tmp_path, in_file):
    output = tmp_path / "out"
    rows(tmp_path / "one", [10, 30], in_file)
    run(output, dataset_pictures(str(tmp_path / "one")))
    assert run(output, dataset_pictures(str(tmp_path / "one"))) == ([], 2)
    rows(tmp_path / "two", [10, 40], in_file)
    again, done = run(output, dataset_pictures(str(tmp_path / "two")))
    assert "train_000001" in again and (in_file or len(again) == 1) and done == 2
    assert [result(output, f"train_{row:06d}") for row in range(2)] == [10, 40]


def test_no_earlier_result_is_left_of_a_picture_that_is_broken_now(tmp_path):
    output, folder = tmp_path / "out", tmp_path / "in"
    save(folder / "a.png", 10)
    save(folder / "b.png", 10)
    run(output, find_pictures([folder]))
    (folder / "b.png").write_bytes(b"no picture")
    assert run(output, find_pictures([folder])) == (["b"], 1)
    assert not (output / "class_ids" / "b.png").exists()
    (failure,) = json.loads((output / "failures.json").read_text())
    assert failure["name"] == "b" and failure["step"] == "reading"


def test_an_earlier_result_counts_no_more_where_the_run_ends_before_it_is_made_again(tmp_path):
    output, folder = tmp_path / "out", tmp_path / "in"
    save(folder / "a.png", 10)
    save(folder / "b.png", 10)
    run(output, find_pictures([folder]))
    save(folder / "a.png", 30)

    def broken_off(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(output, find_pictures([folder]), predictor=broken_off)
    (failure,) = json.loads((output / "failures.json").read_text())
    assert failure == {"name": "a", "step": "reading", "cause": "the run ended before its result was made again"}
    assert run(output, find_pictures([folder])) == (["a"], 2)


def test_a_result_is_kept_where_its_picture_is_out_of_reach(tmp_path):
    output, folder = tmp_path / "out", tmp_path / "in"
    save(tmp_path / "disk" / "a.png", 10)
    folder.mkdir()
    (folder / "a.png").symlink_to(tmp_path / "disk" / "a.png")
    run(output, find_pictures([folder]))
    (tmp_path / "disk").rename(tmp_path / "away")
    assert run(output, find_pictures([folder])) == ([], 1)
    assert result(output, "a") == 10


def test_a_file_that_is_replaced_while_it_is_read_is_done_again(tmp_path):
    output, folder = tmp_path / "out", tmp_path / "in"
    save(folder / "a.png", 10)

    def replaced(images):
        save(folder / "a.png", 30)
        return brightness(images)

    run(output, find_pictures([folder]), predictor=replaced)
    assert run(output, find_pictures([folder])) == (["a"], 1)
    assert result(output, "a") == 30
