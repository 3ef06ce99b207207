"""A dataset names its own files and no others: what a Parquet file or a metadata file says is not believed."""

import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List
from PIL import Image as PILImage

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

PIXELS = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) % 2


def encoded(array):
    stream = io.BytesIO()
    PILImage.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def parquet(folder, pictures, more=None):
    """A folder of one Parquet file whose pictures are (bytes, path)."""
    folder.mkdir(exist_ok=True)
    cells = [{"bytes": data, "path": path} for data, path in pictures]
    maps = [{"bytes": encoded(PIXELS), "path": None} for _ in pictures]
    table = {"image": cells, "annotation": maps} | (more or {})
    features = Features({"image": Image(), "annotation": Image()} | dict.fromkeys(more or (), List(Image())))
    Dataset.from_dict(table, features=features).to_parquet(folder / "train.parquet")
    return folder


@pytest.fixture
def secret(tmp_path, save_picture):
    return save_picture(tmp_path / "secret.png", np.full((6, 8, 3), 77, np.uint8))


@pytest.mark.parametrize(
    "path", ["{secret}", "{data}/../secret.png", "secret.png", "https://example.org/a.png", "zip://a.png::{secret}"]
)
def test_a_parquet_file_cannot_name_files_and_urls_as_its_pictures(tmp_path, secret, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    path = path.format(secret=secret, data=tmp_path / "data")
    good = encoded(np.zeros((6, 8, 3), np.uint8))
    folder = parquet_with_path(tmp_path / "data", [(good, "0.png"), (None, path)])
    for opened in (lambda: open_dataset(str(folder), "semantic"), lambda: dataset_pictures(str(folder))):
        with pytest.raises(
            DataError, match=r"Sample 1 of split 'train': the picture in column 'image' is the file .*"
        ):
            opened()


def parquet_with_path(folder, pictures):
    """As `parquet`, also where `datasets` would read the named file into the table."""
    placeholder = encoded(np.zeros((6, 8, 3), np.uint8))
    table = pq.read_table(parquet(folder, [(placeholder, None)] * len(pictures)) / "train.parquet")
    cells = pa.array([{"bytes": data, "path": path} for data, path in pictures], table.schema.field("image").type)
    table = table.set_column(0, table.schema.field("image"), cells)
    pq.write_table(table, folder / "train.parquet")
    return folder


def test_pictures_in_the_table_may_have_any_name(tmp_path, secret):
    picture = np.full((6, 8, 3), 9, np.uint8)
    folder = parquet_with_path(tmp_path / "data", [(encoded(picture), str(secret)), (encoded(picture), "../b.png")])
    samples = open_dataset(str(folder), "semantic").splits["train"]
    assert np.array_equal(samples[0].image, picture) and samples[1].name == "b"


def test_a_metadata_file_cannot_name_files_beside_the_folder(tmp_path, secret, save_picture):
    folder = tmp_path / "data" / "train"
    save_picture(folder / "0.png", np.zeros((6, 8, 3), np.uint8))
    save_picture(folder / "0_map.png", PIXELS)
    rows = [{"file_name": "0.png", "annotation_file_name": "../../secret.png"}]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"secret.png|cannot be opened"):
        open_dataset(str(tmp_path / "data"), "semantic")


def test_files_in_the_folder_of_the_dataset_are_its_own(tmp_path, save_picture, monkeypatch):
    inside = save_picture(tmp_path / "data" / "pictures" / "0.png", np.full((6, 8, 3), 5, np.uint8))
    folder = parquet_with_path(tmp_path / "data", [(None, str(inside))])
    assert np.asarray(open_dataset(str(folder), "semantic").splits["train"][0].image).max() == 5
    monkeypatch.chdir(tmp_path)
    assert len(dataset_pictures("data")) == 1


def test_pictures_within_lists_are_the_datasets_own(tmp_path, secret):
    good = encoded(PIXELS)
    picture = encoded(np.zeros((6, 8, 3), np.uint8))
    masks = {"masks": [[{"bytes": good, "path": "0.png"}], [{"bytes": good, "path": None}] * 2]}
    folder = parquet(tmp_path / "data", [(picture, None)] * 2, masks)
    assert len(open_dataset(str(folder), "instance").splits["train"][1].segments) == 2
    table = pq.read_table(folder / "train.parquet")
    outside = [[{"bytes": good, "path": None}], [{"bytes": good, "path": None}, {"bytes": None, "path": str(secret)}]]
    cells = pa.array(outside, table.schema.field("masks").type)
    pq.write_table(table.set_column(2, table.schema.field("masks"), cells), folder / "train.parquet")
    with pytest.raises(DataError, match=r"Sample 1 of split 'train': the picture in column 'masks' is the file .*"):
        open_dataset(str(folder), "instance")


def test_links_to_files_outside_of_the_folder_are_refused(tmp_path, secret, save_picture):
    folder = tmp_path / "data"
    for kind, picture in (("images", np.zeros((6, 8, 3), np.uint8)), ("masks", PIXELS)):
        save_picture(folder / kind / "0.png", picture)
    (folder / "images" / "1.png").symlink_to(folder / "images" / "0.png")
    (folder / "masks" / "1.png").symlink_to(folder / "masks" / "0.png")
    (tmp_path / "link").symlink_to(folder)  # as a link itself the folder is as good as any
    assert len(open_dataset(str(tmp_path / "link"), "semantic").splits["train"]) == 2
    (folder / "masks" / "1.png").unlink()
    (folder / "masks" / "1.png").symlink_to(secret)
    with pytest.raises(DataError, match=r"1.png' is a link to '.*secret.png', which is not in the dataset's folder"):
        open_dataset(str(folder), "semantic")


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_folders_that_are_links_to_others_outside_are_refused(tmp_path, save_picture, kind):
    for folder, part in (("data", "images"), ("data", "masks"), ("other", kind)):
        save_picture(tmp_path / folder / part / "0.png", np.zeros((6, 8), np.uint8))
    (tmp_path / "data" / kind).rename(tmp_path / "unused")
    (tmp_path / "data" / kind).symlink_to(tmp_path / "other" / kind)
    with pytest.raises(DataError, match=rf"{kind}' is a link to '.*other.*', which is not in the dataset's folder"):
        open_dataset(str(tmp_path / "data"), "semantic")


@pytest.mark.parametrize("name", ["../../secret", "/etc/hosts"])
def test_lists_of_images_cannot_name_files_outside(tmp_path, secret, save_picture, name):
    save_picture(tmp_path / "data" / "JPEGImages" / "0.jpg", np.zeros((6, 8, 3), np.uint8))
    save_picture(tmp_path / "data" / "SegmentationClass" / "0.png", PIXELS)
    (tmp_path / "data" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "data" / "ImageSets" / "Segmentation" / "train.txt").write_text(f"0\n{name}\n")
    with pytest.raises(DataError, match=r"The file name of line 2 of '.*train.txt' is .* leads out of the dataset"):
        open_dataset(str(tmp_path / "data"), "semantic")
