"""A dataset names its own files and no others: what a Parquet file or a metadata file says is not believed."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List
from PIL import Image as PILImage
from png_files import png

from modeling_maskformer.data.dataset_pictures import dataset_pictures
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.layouts import inside_dataset

PIXELS = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8) % 2


def parquet(folder, pictures, more=None):
    """A folder of one Parquet file whose pictures are (bytes, path)."""
    folder.mkdir(exist_ok=True)
    cells = [{"bytes": data, "path": path} for data, path in pictures]
    maps = [{"bytes": png(PIXELS), "path": None} for _ in pictures]
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
    good = png(np.zeros((6, 8, 3), np.uint8))
    folder = parquet_with_path(tmp_path / "data", [(good, "0.png"), (None, path)])
    for opened in (lambda: open_dataset(str(folder), "semantic"), lambda: dataset_pictures(str(folder))):
        with pytest.raises(
            DataError, match=r"Sample 1 of split 'train': the picture in column 'image' is the file .*"
        ):
            opened()


def parquet_with_path(folder, pictures):
    """As `parquet`, also where `datasets` would read the named file into the table."""
    placeholder = png(np.zeros((6, 8, 3), np.uint8))
    table = pq.read_table(parquet(folder, [(placeholder, None)] * len(pictures)) / "train.parquet")
    cells = pa.array([{"bytes": data, "path": path} for data, path in pictures], table.schema.field("image").type)
    table = table.set_column(0, table.schema.field("image"), cells)
    pq.write_table(table, folder / "train.parquet")
    return folder


def test_pictures_in_the_table_may_have_any_name(tmp_path, secret):
    picture = np.full((6, 8, 3), 9, np.uint8)
    folder = parquet_with_path(tmp_path / "data", [(png(picture), str(secret)), (png(picture), "../b.png")])
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
    good = png(PIXELS)
    picture = png(np.zeros((6, 8, 3), np.uint8))
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


@pytest.mark.parametrize("layout", ["pairs", "together", "yolo"])
def test_folders_among_the_images_that_are_links_are_read_or_refused(tmp_path, save_picture, layout):
    places = {"pairs": ("images", "masks"), "together": ("", ""), "yolo": ("images", "labels")}[layout]
    data, store, other = tmp_path / "data", tmp_path / "data" / "store", tmp_path / "other"
    for of_images, of_masks in (
        (data / places[0] / "a", data / places[1] / "a"),
        *((root / "0", root / ("1" if layout != "together" else "0")) for root in (store, other)),
    ):
        save_picture(of_images / ("0.jpg" if layout == "together" else "0.png"), np.zeros((6, 8, 3), np.uint8))
        save_picture(of_masks / "0.png", PIXELS)
        (of_masks / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    if layout == "yolo":
        (data / "data.yaml").write_text("{names: [car], train: images}")
    (data / places[0] / "a" / "again").symlink_to(data)  # leads back
    links = {data / place / "b": str(number) for number, place in enumerate(dict.fromkeys(places))}
    for link, part in links.items():
        link.symlink_to(store / part)
    task = "instance" if layout == "yolo" else "semantic"
    assert len(open_dataset(str(data), task).splits["train"]) == 2
    for link, part in links.items():
        link.unlink()
        link.symlink_to(other / part)
    with pytest.raises(DataError, match=r"b' is a link to '.*other.*', which is not in the dataset's folder"):
        open_dataset(str(data), task)


def test_a_link_to_images_that_are_there_already_adds_none(tmp_path, save_picture):
    for kind, picture in (("images", np.zeros((6, 8, 3), np.uint8)), ("masks", PIXELS)):
        save_picture(tmp_path / kind / "monday" / "0.png", picture)
        save_picture(tmp_path / kind / ".store" / "1.png", picture)  # hidden, but for the link
        (tmp_path / kind / "tuesday").symlink_to(".store")
    (tmp_path / "images" / "latest").symlink_to("monday")
    samples = open_dataset(str(tmp_path), "semantic").splits["train"]
    assert [samples[index].name for index in range(len(samples))] == ["0", "1"]


def test_a_link_beside_a_table_matters_to_nobody(tmp_path, save_picture):
    files = [save_picture(tmp_path / "other" / f"{number}.png", PIXELS) for number in range(2)]
    picture = {"bytes": files[0].read_bytes(), "path": None}
    rows = Dataset.from_dict({"image": [picture], "label": [picture]}, Features(image=Image(), label=Image()))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "runs").symlink_to(tmp_path / "other")
    rows.to_parquet(tmp_path / "data" / "train.parquet")
    assert len(open_dataset(str(tmp_path / "data"), "semantic").splits["train"]) == 1


@pytest.mark.parametrize("name", ["../../secret", "/etc/hosts"])
def test_lists_of_images_cannot_name_files_outside(tmp_path, secret, save_picture, name):
    save_picture(tmp_path / "data" / "JPEGImages" / "0.jpg", np.zeros((6, 8, 3), np.uint8))
    save_picture(tmp_path / "data" / "SegmentationClass" / "0.png", PIXELS)
    (tmp_path / "data" / "ImageSets" / "Segmentation").mkdir(parents=True)
    (tmp_path / "data" / "ImageSets" / "Segmentation" / "train.txt").write_text(f"0\n{name}\n")
    with pytest.raises(DataError, match=r"The file name of line 2 of '.*train.txt' is .* leads out of the dataset"):
        open_dataset(str(tmp_path / "data"), "semantic")


def street(folder, save_picture):
    save_picture(folder / "images" / "0.png", np.zeros((6, 8, 3), np.uint8))
    save_picture(folder / "masks" / "0.png", PIXELS)
    return folder


def test_links_in_the_folders_of_coco_and_yolo_do_not_lead_out_either(tmp_path, secret, save_picture):
    coco = tmp_path / "coco"
    coco.mkdir()
    (coco / "0.png").symlink_to(secret)
    outline = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 4, 0, 4, 4]]}
    content = {"images": [{"id": 1, "file_name": "0.png"}], "annotations": [outline]}
    (coco / "instances.json").write_text(json.dumps(content | {"categories": [{"id": 1, "name": "car"}]}))
    yolo = tmp_path / "yolo"
    (yolo / "images").mkdir(parents=True)
    (yolo / "labels").mkdir()
    (yolo / "images" / "0.png").symlink_to(secret)
    (yolo / "labels" / "0.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5")
    (yolo / "data.yaml").write_text("{names: [car], train: images}")
    for folder in (coco, coco / "instances.json", yolo, yolo / "data.yaml"):
        with pytest.raises(DataError, match=r"is a link to .*secret.png', which is not in the dataset's folder"):
            open_dataset(str(folder), "instance")


@pytest.mark.parametrize(
    "name",
    [
        "..\\..\\secret.png",
        "C:\\secret.png",
        "\\\\host\\share\\a.png",
        "a/../../secret.png",
        "/etc/a.png",
        "a\0.png",
        "",
    ],
)
def test_names_that_lead_out_on_any_system_are_refused_in_coco_files(tmp_path, name):
    content = {
        "images": [{"id": 1, "file_name": name}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"The file name of image 1 in .* a path below"):
        open_dataset(str(tmp_path), "instance")


def test_percent_signs_in_names_are_percent_signs(tmp_path, secret, save_picture):
    folder = tmp_path / "data"
    content = {
        "images": [{"id": 1, "file_name": "%2e%2e%2fsecret.png"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 4, 0, 4, 4]]}],
        "categories": [{"id": 1, "name": "car"}],
    }
    folder.mkdir()
    (folder / "instances.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="No folder near"):
        open_dataset(str(folder), "instance")
    save_picture(folder / "%2e%2e%2fsecret.png", np.full((6, 8, 3), 5, np.uint8))
    assert np.asarray(open_dataset(str(folder), "instance").splits["train"][0].image).max() == 5


def test_what_is_written_for_a_printer_is_no_picture(tmp_path, save_picture):
    """For EPS Pillow would start Ghostscript."""
    folder = street(tmp_path / "data", save_picture)
    PILImage.new("RGB", (8, 6)).save(folder / "images" / "0.png", "EPS")
    with pytest.raises(DataError, match=r"Sample 0 .* cannot be read: cannot identify image file"):
        open_dataset(str(folder), "semantic").splits["train"][0]


@pytest.mark.parametrize("name", ["someone/street", "street"])
def test_files_of_other_datasets_of_the_hub_are_not_a_datasets_own(tmp_path, monkeypatch, name):
    monkeypatch.setattr(inside_dataset.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    folders = inside_dataset.own_folders(name)
    own = tmp_path / "hub" / f"datasets--{name.replace('/', '--')}"
    assert inside_dataset.is_inside(str(own / "snapshots" / "0.png"), *folders)
    assert not inside_dataset.is_inside(str(tmp_path / "hub" / "datasets--someone--private" / "0.png"), *folders)
    assert not inside_dataset.is_inside(str(own) + "-more/0.png", *folders)
