"""Streams: every row once over processes, the same order again, and a position to go on from."""

import json
import logging
import subprocess
import sys
import tracemalloc

import datasets
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, load_dataset
from PIL import Image as Picture
from png_files import png

from modeling_maskformer.data.check_samples import check_dataset
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.streams import some_of
from modeling_maskformer.data.views.collate import SegmentationDataset
from modeling_maskformer.data.views.stream_batches import StreamBatches, StreamPosition

pytestmark = pytest.mark.usefixtures("no_pause_after_threads")
NAMES = ["sky", "road", "car"]


def write_parquet(folder, files, rows_each, split="train", names=NAMES, first=0):
    """Pictures 8 x 8 whose red is their number, in Parquet files; the class of all their pixels is number % 3."""
    features = Features({"image": Image(), "annotation": Image(), "classes": List(ClassLabel(names=NAMES))})
    if names is None:
        del features["classes"]
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(files):
        table = {name: [] for name in features}
        for number in range(first + file * rows_each, first + (file + 1) * rows_each):
            table["image"].append(png(np.full((8, 8, 3), number, np.uint8)))
            table["annotation"].append(png(np.full((8, 8), number % 3, np.uint8)))
            if names is not None:
                table["classes"].append([])
        Dataset.from_dict(table, features=features).to_parquet(folder / f"{split}-{file:05d}-of-{files:05d}.parquet")
    return folder


@pytest.fixture(scope="module")
def streamed(tmp_path_factory):
    """Four files of five training rows, and one of three validation rows."""
    folder = tmp_path_factory.mktemp("streamed")
    write_parquet(folder, 4, 5)
    write_parquet(folder, 1, 3, "validation", first=100)
    return str(folder)


def samples_of(folder, split="train"):
    return open_dataset(folder, "semantic", streaming=True).splits[split]


def number_of(sample):
    return sample.image.getpixel((0, 0))[0]


def test_a_streamed_dataset_gives_the_samples_of_the_one_on_disk(streamed):
    data = open_dataset(streamed, "semantic")
    stream = open_dataset(streamed, "semantic", streaming=True)
    assert stream.labels == data.labels and list(stream.splits) == list(data.splits)
    for split, samples in data.splits.items():
        streamed_samples = [stream.splits[split][row] for row in stream.splits[split].rows()]
        assert len(streamed_samples) == len(samples)
        for one, other in zip(streamed_samples, (samples[index] for index in range(len(samples))), strict=True):
            assert one.image.tobytes() == other.image.tobytes() and one.name == other.name
            assert torch.equal(one.segments.ids, other.segments.ids)
            assert torch.equal(one.segments.class_ids, other.segments.class_ids)


@pytest.mark.parametrize("processes", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("seed", [None, 3])
def test_processes_together_read_each_row_once_with_a_number_of_its_own(streamed, processes, seed):
    samples = samples_of(streamed)
    rows = [list(samples.rows(seed, 1, 4, process, processes)) for process in range(processes)]
    together = [row for of_process in rows for row in of_process]
    assert sorted(number_of(samples[row]) for row in together) == list(range(20))
    assert len({row.number for row in together}) == 20
    assert max(map(len, rows)) - min(map(len, rows)) <= (1 if 4 % processes else 5 * (processes == 3))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_each_epoch_has_its_own_order_and_the_same_again(streamed, processes):
    def orders_of(seed, epoch):
        samples = samples_of(streamed)
        streams = [samples.rows(seed, epoch, 8, process, processes) for process in range(processes)]
        return tuple(tuple(number_of(samples[row]) for row in rows) for rows in streams)

    orders = [orders_of(*which) for which in ((0, 0), (0, 1), (0, 2), (1, 0))]
    assert all(sorted(sum(order, ())) == list(range(20)) for order in orders)
    assert all(len(set(of_process)) == 4 for of_process in zip(*orders, strict=True))
    assert orders_of(0, 1) == orders[1]


def test_processes_that_share_out_the_files_read_others_in_each_epoch(streamed):
    samples = samples_of(streamed)
    files = {frozenset(number_of(samples[row]) // 5 for row in samples.rows(0, epoch, 8, 0, 2)) for epoch in range(6)}
    assert all(len(of_epoch) == 2 for of_epoch in files) and len(files) > 1


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batches_go_on_from_where_they_were(streamed, tmp_path, processes):
    samples = samples_of(streamed)

    def take(batches, count):
        views = [next(batches) for _ in range(count)]
        return [[(view.index.number, view.seed, number_of(samples[view.index])) for view in batch] for batch in views]

    for process in range(processes):
        start = StreamPosition(process=process, num_processes=processes)
        whole = StreamBatches(samples, 3, start, seed=5, buffer_size=4)
        ahead = iter(whole)  # as a DataLoader, which asks for more than was trained on
        expected = take(ahead, 17)
        whole.trained(11)
        assert whole.position.batches == 11 and whole.position.epoch > 0
        whole.position.save(tmp_path)
        position = StreamPosition.load(tmp_path, process, processes)
        rest = iter(StreamBatches(samples, 3, position, seed=5, buffer_size=4))
        assert [next(rest) for _ in range(11)] == [[]] * 11
        assert take(rest, 6) == expected[11:]
    with pytest.raises(DataError, match=rf"written by {processes} processes.*resume with as many, not with 9"):
        StreamPosition.load(tmp_path, 0, 9)
    with pytest.raises(DataError, match="does not say how far process 8"):
        StreamPosition.load(tmp_path, 8, processes)


def test_views_of_one_row_differ_between_epochs_and_rows(streamed):
    batches = iter(StreamBatches(samples_of(streamed), 20, StreamPosition(), seed=5, shuffle=False))
    first, second = next(batches), next(batches)
    assert [view.index.number for view in first] == [view.index.number for view in second] == list(range(20))
    assert len({view.seed for view in first + second}) == 40


def test_training_batches_come_in_an_order_of_each_epoch_and_seed(streamed):
    samples = samples_of(streamed)

    def orders(seed):
        batches = iter(StreamBatches(samples, 20, StreamPosition(), seed=seed))
        return [[number_of(samples[view.index]) for view in next(batches)] for _ in range(2)]

    (first, second), (other, _) = orders(5), orders(6)
    assert sorted(first) == sorted(second) == sorted(other) == list(range(20))
    assert first != list(range(20)) and first != second and first != other
    assert orders(5) == [first, second]


def test_a_process_without_a_row_has_nothing_to_measure_and_cannot_train(streamed):
    samples, last = samples_of(streamed, "validation"), StreamPosition(process=4, num_processes=5)
    assert list(StreamBatches(samples, 2, last)) == []
    with pytest.raises(DataError, match="'validation' has no row for process 4: train with fewer processes"):
        next(iter(StreamBatches(samples, 2, last, seed=5)))


def test_an_evaluation_reads_one_epoch_in_order_and_the_last_batch_as_it_is(streamed):
    samples = samples_of(streamed, "validation")
    batches = list(StreamBatches(samples, 2, StreamPosition()))
    assert [[number_of(samples[row]) for row in batch] for batch in batches] == [[100, 101], [102]]


def test_workers_of_a_loader_decode_what_the_stream_gives_in_its_order(streamed):
    samples = samples_of(streamed)
    orders = []
    for workers in (0, 2):
        batches = StreamBatches(samples, 3, StreamPosition())
        loader = torch.utils.data.DataLoader(
            SegmentationDataset(samples), batch_sampler=batches, collate_fn=list, num_workers=workers
        )
        orders.append([int(example["image"][0, 0, 0]) for batch in loader for example in batch])
    assert orders[0] == orders[1] == list(range(20))


def test_the_first_rows_of_a_stream_are_looked_at_and_bad_ones_are_named(tmp_path):
    folder = write_parquet(tmp_path / "good", 1, 9)
    samples = samples_of(str(folder))
    assert check_dataset(samples, 6).num_looked_at == 6
    assert [row.number for row in some_of(samples, 4)] == [0, 1, 2, 3]
    table = load_dataset("parquet", data_files=str(folder / "*.parquet"), split="train")
    rows = [dict(row) for row in table.cast_column("image", Image(decode=False))]
    rows[5]["image"] = {"bytes": b"no picture", "path": "broken.png"}
    bad = tmp_path / "bad"
    bad.mkdir()
    Dataset.from_list(rows, features=table.features).to_parquet(bad / "train.parquet")
    with pytest.raises(DataError, match=r"Sample 5 of split 'train' \(broken\): the picture in column 'image' cannot"):
        check_dataset(samples_of(str(bad)), None)
    assert check_dataset(samples_of(str(bad)), 5).num_looked_at == 5


@pytest.mark.parametrize("streaming", [True, False])
def test_a_readme_without_metadata_is_not_worth_a_word(tmp_path, streaming, caplog):
    folder = write_parquet(tmp_path, 1, 2)
    (folder / "README.md").write_text("# Streets\n")
    logger = logging.getLogger("huggingface_hub")
    logger.addHandler(caplog.handler)
    try:
        open_dataset(str(folder), "semantic", streaming=streaming)
        assert caplog.text == ""
        logging.getLogger("huggingface_hub.repocard").warning("Of another folder.")  # what others load is none of ours
        assert "Of another folder" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_a_picture_that_is_a_file_elsewhere_is_not_opened(tmp_path):
    Picture.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    folder = write_parquet(tmp_path / "data", 1, 2)
    table = Dataset.from_parquet(str(folder / "train-00000-of-00001.parquet"), cache_dir=str(tmp_path / "cache"))
    rows = [dict(row) for row in table.cast_column("image", Image(decode=False))]
    rows[1]["image"] = {"bytes": None, "path": str(tmp_path / "secret.png")}
    Dataset.from_list(rows, features=table.features).to_parquet(folder / "train-00000-of-00001.parquet")
    samples = samples_of(str(folder))
    first, second = samples.rows()
    samples[first]
    with pytest.raises(DataError, match=r"Sample 1 of split 'train' \(secret\).*not the dataset's own"):
        samples[second]


def test_what_a_stream_cannot_tell_is_asked_for(tmp_path, paired_folder):
    unnamed = write_parquet(tmp_path / "unnamed", 1, 4, names=None)
    with pytest.raises(DataError, match="a stream is not searched to its end for them: pass --id2label"):
        open_dataset(str(unnamed), "semantic", streaming=True)
    data = open_dataset(str(unnamed), "semantic", streaming=True, id2label=NAMES)
    assert data.labels.names == tuple(NAMES)
    with pytest.raises(DataError, match=r"cannot be parted.*no split to validate on .*has train"):
        data.train_and_validation()
    (unnamed / "id2label.json").write_text(json.dumps(NAMES))
    assert open_dataset(str(unnamed), "semantic", streaming=True).labels.names == tuple(NAMES)
    with pytest.raises(DataError, match="read picture by picture anyway, so leave --streaming out"):
        open_dataset(str(paired_folder()), "semantic", streaming=True)
    with pytest.raises(DataError, match="leave --streaming out"):
        open_dataset("shapes", "semantic", streaming=True)
    with pytest.raises(DataError, match="There is no folder or file"):
        open_dataset(str(tmp_path / "nowhere"), "semantic", streaming=True)
    black_and_white = tmp_path / "masks"
    black_and_white.mkdir()
    rows = {"image": [png(np.zeros((8, 8, 3), np.uint8))] * 2, "mask": [png(np.uint8([[0, 255] * 4] * 8))] * 2}
    features = Features({"image": Image(), "mask": Image()})
    Dataset.from_dict(rows, features=features).to_parquet(black_and_white / "train.parquet")
    with pytest.raises(DataError, match="pass --annotation_format binary_mask"):
        open_dataset(str(black_and_white), "semantic", streaming=True)
    names = ("background", "foreground")
    data = open_dataset(str(black_and_white), "semantic", streaming=True, annotation_format="binary_mask")
    assert data.labels.names == names


def test_reading_a_stream_keeps_no_more_than_its_buffer(tmp_path):
    folder = write_parquet(tmp_path / "long", 2, 100)
    samples = samples_of(str(folder))
    for _ in samples.rows(0, 0, 4):
        pass  # what is imported and cached when it is first needed
    tracemalloc.start()
    peaks = []
    for epochs in (1, 4):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        for epoch in range(epochs):
            for row in samples.rows(0, epoch, 4):
                samples[row]
        peaks.append(tracemalloc.get_traced_memory()[1] - before)
    tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize("seed", [None, 3], ids=["in order", "shuffled"])
def test_a_program_that_ends_in_the_middle_of_a_stream_ends_well(tmp_path, seed):
    noise = np.random.default_rng(0)
    pictures = [png(noise.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(20)]
    features = Features({"image": Image(), "annotation": Image(), "classes": List(ClassLabel(names=NAMES))})
    masks = [png(np.ones((64, 64), np.uint8))] * len(pictures)
    table = Dataset.from_dict({"image": pictures, "annotation": masks, "classes": [[]] * len(pictures)}, features)
    for number in range(2):  # with parts left to read, which PyArrow does ahead
        datasets.concatenate_datasets([table] * 50).to_parquet(tmp_path / f"train-{number}.parquet", batch_size=20)
    program = f"""
from modeling_maskformer.data.datasets import open_dataset
rows = open_dataset({str(tmp_path)!r}, "semantic", streaming=True).splits["train"].rows({seed}, buffer_size=3)
next(rows)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0 and "Traceback" not in ended.stderr, ended.stderr
