"""Masks saved as JPEG, and such with smooth edges: refused with the reason; read by the nearest colour on request."""

import numpy as np
import pytest
from PIL import Image

from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.errors import DataError

COLOURS = {"sky": (128, 128, 128), "road": (128, 64, 128), "bike": (0, 128, 192)}
CLASS_DICT = "name,r,g,b\n" + "".join(f"{name},{r},{g},{b}\n" for name, (r, g, b) in COLOURS.items())
SIZE = (32, 48)


def draw(number):
    """`(H, W)` ids of three classes in upright bands, on the grid of JPEG's blocks."""
    ids = np.zeros(SIZE, np.uint8)
    ids[:, 16:] = 1
    ids[8 * number :, 32:] = 2
    return ids


@pytest.fixture
def make(tmp_path):
    """Three images and their masks, in these colours or values, saved in this form."""

    def write(palette, ending="jpg", smooth=False, **files):
        for number in range(1, 4):
            for folder, picture in (
                ("images", Image.new("RGB", SIZE[::-1])),
                ("masks", Image.fromarray(np.uint8(palette)[draw(number)])),
            ):
                (tmp_path / folder).mkdir(exist_ok=True)
                if smooth and folder == "masks":  # as after a resize to another size and back
                    picture = picture.resize((30, 20), Image.BILINEAR).resize(SIZE[::-1], Image.BILINEAR)
                picture.save(tmp_path / folder / f"{number}.{ending if folder == 'masks' else 'jpg'}", quality=85)
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        return str(tmp_path)

    return write


def check(data, merged=lambda ids: ids, exact=True):
    """Pixels have the classes that were drawn; all of them, or all but a few at edges."""
    for number in range(1, 4):
        segments = data.splits["train"][number - 1].segments
        found = segments.masks().numpy()
        expected = np.stack([merged(draw(number)) == label for label in segments.class_ids.tolist()])
        assert (found == expected).all() if exact else (found == expected).mean() > 0.9
        assert not segments.void.any()


def test_jpeg_masks_are_refused_because_jpeg_changes_ids(make):
    with pytest.raises(
        DataError, match=r"3 of 3 images .* no mask of the same stem .* JPEG changes the values of pix"
    ):
        open_dataset(make(list(COLOURS.values()), class_dict__csv=CLASS_DICT), "semantic")


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_jpeg_masks_are_read_by_the_nearest_colour_on_request(make, task):
    folder = make(list(COLOURS.values()), class_dict__csv=CLASS_DICT)
    assert len(np.unique(Image.open(f"{folder}/masks/1.jpg"))) > 9  # colours did change
    data = open_dataset(folder, task, nearest_colour=True)
    assert data.labels.names == tuple(COLOURS)
    check(data)


def test_colours_of_smooth_edges_are_read_so_too(make):
    folder = make(list(COLOURS.values()), "png", smooth=True, class_dict__csv=CLASS_DICT)
    with pytest.raises(DataError, match=r"colours that the table of classes lacks, .* --nearest_colour takes each"):
        open_dataset(folder, "semantic").splits["train"][0]
    check(open_dataset(folder, "semantic", nearest_colour=True), exact=False)


@pytest.mark.parametrize("flags", [{}, {"annotation_format": "binary_mask"}, {"id2label": ["no", "yes"]}])
@pytest.mark.parametrize("smooth", [False, True])
def test_black_and_white_jpeg_masks_need_no_table(make, flags, smooth):
    folder = make([0, 255, 0], smooth=smooth)
    data = open_dataset(folder, "semantic", nearest_colour=True, **flags)
    assert data.labels.names == (("no", "yes") if "id2label" in flags else ("background", "foreground"))
    check(data, lambda ids: ids % 2, exact=not smooth)


def test_smooth_edges_of_black_and_white_are_no_classes(make):
    folder = make([0, 255, 0], "png", smooth=True)
    with pytest.raises(DataError, match=r"black and white with a few greys between, .* Pass --nearest_colour"):
        open_dataset(folder, "semantic")
    check(open_dataset(folder, "semantic", nearest_colour=True), lambda ids: ids % 2, exact=False)
    grey_ids = make([0, 100, 200], "png")
    assert open_dataset(grey_ids, "semantic").labels.dataset_ids == (0, 100, 200)


def test_values_far_apart_are_told_by_the_names_of_ids(make):
    folder = make([0, 60, 120])
    data = open_dataset(folder, "semantic", nearest_colour=True, id2label={"0": "a", "60": "b", "120": "c"})
    assert data.labels.names == ("a", "b", "c")
    check(data)


@pytest.mark.parametrize(("names", "words"), [(None, "no class is named"), (["a", "b", "c"], "classes are 0, 1, 2")])
def test_values_that_jpeg_does_not_keep_apart_are_refused(make, names, words):
    folder = make([0, 60, 120] if names is None else [0, 1, 2])
    with pytest.raises(DataError, match=rf"which values classes have, at least 16 apart, .*{words}"):
        open_dataset(folder, "semantic", nearest_colour=True, id2label=names)


def test_a_class_that_the_table_lacks_is_not_given_to_others(make):
    palette = [*list(COLOURS.values())[:2], (255, 255, 0)]
    folder = make(palette, class_dict__csv=CLASS_DICT)
    with pytest.raises(DataError, match=r"2\d% of the pixels .* far from all in the table .* 25\d 25\d \d .* missing"):
        open_dataset(folder, "semantic", nearest_colour=True).splits["train"][0]


def test_jpeg_masks_of_objects_are_read_on_request(tmp_path):
    for image in "ab":
        for number in range(2):
            place = tmp_path / image
            for folder, picture in (
                ("images", Image.new("RGB", SIZE[::-1])),
                ("masks", (draw(1) == number + 1) * 255),
            ):
                (place / folder).mkdir(parents=True, exist_ok=True)
                picture = picture if folder == "images" else Image.fromarray(picture.astype(np.uint8))
                picture.save(place / folder / f"{number if folder == 'masks' else image}.jpg", quality=60)
    with pytest.raises(DataError, match=r"2 of 2 images .* no mask of an object.* JPEG changes the values"):
        open_dataset(str(tmp_path), "instance")
    segments = open_dataset(str(tmp_path), "instance", nearest_colour=True).splits["train"][1].segments
    assert (segments.masks().numpy() == np.stack([draw(1) == 1, draw(1) == 2])).all()


def test_nearest_colours_of_ids_of_objects_mean_nothing(make):
    with pytest.raises(DataError, match=r"nearest_colour is for .* but these are in the form instance_ids"):
        open_dataset(make([0, 1, 2], "png"), "instance", annotation_format="instance_ids", nearest_colour=True)


def test_a_palette_of_the_tables_colours_is_read_by_them_whatever_their_order(make, tmp_path):
    folder = make(list(COLOURS.values()), "png", class_dict__csv=CLASS_DICT)
    for number in range(1, 4):
        picture = Image.fromarray(np.uint8([2, 0, 1])[draw(number)])  # the places of the classes in this palette
        picture.putpalette([value for name in ("road", "bike", "sky") for value in COLOURS[name]])
        picture.save(tmp_path / "masks" / f"{number}.png")
    check(open_dataset(folder, "semantic"))


def test_palettes_that_number_colours_otherwise_in_another_mask_are_refused(make, tmp_path):
    folder = make([0, 1, 2], "png")
    colours = list(COLOURS.values())
    for number, order in ((1, [0, 1, 2]), (2, [0, 1, 2]), (3, [2, 1, 0])):
        picture = Image.fromarray(np.uint8(order)[draw(number)])
        picture.putpalette([value for place in order for value in colours[place]])
        picture.save(tmp_path / "masks" / f"{number}.png")
    for names in (None, ["sky", "road", "bike"]):
        with pytest.raises(
            DataError, match=r"Sample 2 .* \(3\): the palette of the picture .* each was numbered for it"
        ):
            open_dataset(folder, "semantic", id2label=names).splits["train"][2]
    data = open_dataset(folder, "semantic", annotation_format="class_map")
    assert data.splits["train"][2].segments.class_ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize("flags", [{}, {"mask_name": "{stem}_mask.jpg"}])
def test_jpeg_masks_beside_their_images_are_masks_on_request_alone(make, tmp_path, flags):
    make([0, 255, 0])
    (tmp_path / "together").mkdir()
    for number in range(1, 4):
        (tmp_path / "images" / f"{number}.jpg").rename(tmp_path / "together" / f"{number}.jpg")
        (tmp_path / "masks" / f"{number}.jpg").rename(tmp_path / "together" / f"{number}_mask.jpg")
    folder = str(tmp_path / "together")
    with pytest.raises(DataError, match=r"3 of 3 images .* no mask called '\{stem\}_mask' .* JPEG changes the values"):
        open_dataset(folder, "semantic", **flags)
    check(open_dataset(folder, "semantic", nearest_colour=True, **flags), lambda ids: ids % 2)
