"""Pictures that are scored against a COCO file: they are those of the file, in the sizes that it tells."""

import json

import pytest
from PIL import Image

from modeling_maskformer.data.coco_ids import CocoIds
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.inference.inputs import find_pictures


def coco_file(folder, *images):
    content = {"images": [{"id": 7 + n, **image} for n, image in enumerate(images)], "categories": [{"id": 1}]}
    content["categories"][0]["name"] = "car"
    (folder / "coco.json").write_text(json.dumps(content))
    return folder / "coco.json"


def save(path, size, turned=False):
    exif = Image.Exif()
    if turned:
        exif[0x0112] = 6
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size).save(path, exif=exif)


@pytest.mark.parametrize("name", ["a.jpg", "elsewhere/a.jpg"])
def test_a_picture_of_another_size_than_the_file_tells_cannot_be_read(tmp_path, name):
    save(tmp_path / "in" / "a.jpg", (20, 10))
    ids = CocoIds(coco_file(tmp_path, {"file_name": name, "width": 40, "height": 20}))
    (picture,) = ids.pictures(find_pictures([tmp_path / "in"]))
    with pytest.raises(
        DataError, match=r"it is 20 x 10 pixels \(width x height\), but 40 x 20 in .*coco.json.*: predict"
    ):
        picture.load()


def test_a_photo_is_measured_as_its_camera_was_held(tmp_path):
    save(tmp_path / "in" / "a.jpg", (20, 10), turned=True)
    (listed,) = CocoIds(coco_file(tmp_path, {"file_name": "a.jpg", "width": 10, "height": 20})).pictures(
        find_pictures([tmp_path / "in"])
    )
    assert listed.load().size == (10, 20) and listed.image_id == 7
    (unturned,) = CocoIds(coco_file(tmp_path, {"file_name": "a.jpg", "width": 20, "height": 10})).pictures(
        find_pictures([tmp_path / "in"])
    )
    with pytest.raises(DataError, match=r"but 20 x 10 in .* a photo that its EXIF tag turns"):
        unturned.load()


@pytest.mark.parametrize("size", [{}, {"width": None, "height": None}, {"width": 0, "height": 0}, {"width": 99}])
def test_where_the_file_tells_no_size_any_is_taken(tmp_path, size):
    save(tmp_path / "in" / "a.jpg", (20, 10))
    (picture,) = CocoIds(coco_file(tmp_path, {"file_name": "a.jpg", **size})).pictures(
        find_pictures([tmp_path / "in"])
    )
    assert picture.load().size == (20, 10)


def test_sizes_may_be_written_as_text_but_must_be_numbers(tmp_path):
    save(tmp_path / "in" / "a.jpg", (20, 10))
    text = coco_file(tmp_path, {"file_name": "a.jpg", "width": "20", "height": "10.0"})
    with pytest.raises(DataError, match=r"image 'a\.jpg' has the height '10\.0': an integer"):
        CocoIds(text)
    text = coco_file(tmp_path, {"file_name": "a.jpg", "width": "20", "height": "10"})
    (picture,) = CocoIds(text).pictures(find_pictures([tmp_path / "in"]))
    assert picture.load().size == (20, 10)
