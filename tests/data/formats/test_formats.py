"""Annotations of each format become the segments that their definition says."""

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from image_processing.run_lengths import decompressed
from modeling_maskformer.data.errors import DataError
from modeling_maskformer.data.formats import (
    BinaryMaskFormat,
    ChannelsFormat,
    ClassMapFormat,
    CocoInstanceFormat,
    CocoPanopticFormat,
    ObjectMasksFormat,
)
from modeling_maskformer.data.formats.id_maps import unique_ids
from modeling_maskformer.data.labels.label_set import NamedIds, make_label_set

SIZE = (9, 7)
LABELS = make_label_set(NamedIds({0: "a", 1: "b", 2: "c"}), void_ids=[255])


def random_map(values, seed=0, size=SIZE):
    return np.random.default_rng(seed).choice(np.array(values), size)


def masks_by_class(segments):
    """Class -> list of masks, in the order of the segments."""
    found = {}
    for class_id, mask in zip(segments.class_ids.tolist(), segments.masks().numpy(), strict=True):
        found.setdefault(class_id, []).append(mask)
    return found


def test_unique_ids_are_numpys_whatever_the_runs():
    every_pixel_another = np.arange(600, dtype=np.int32).reshape(20, 30)
    for id_map in (random_map([3, 9, 70000]), np.zeros(SIZE, np.uint8), every_pixel_another):
        values, index = unique_ids(id_map)
        assert values.tolist() == np.unique(id_map).tolist()
        assert (values[index] == id_map).all()


@pytest.mark.parametrize("mode", ["L", "P", "I", "I;16"])
def test_a_class_map_has_one_segment_per_class(mode):
    class_map = random_map([0, 2, 255])
    if mode == "I;16":
        picture = Image.fromarray(class_map.astype(np.uint16))
    else:
        picture = Image.fromarray(class_map.astype(np.int32 if mode == "I" else np.uint8))
    if mode == "P":
        picture.putpalette(np.random.default_rng(1).integers(0, 255, 768).astype(np.uint8).tobytes())
    assert picture.mode == mode
    segments = ClassMapFormat("label").read({"label": picture}, LABELS, "semantic", SIZE)
    masks = masks_by_class(segments)
    assert masks.keys() == {0, 2}
    for class_id, (mask,) in masks.items():
        assert (mask == (class_map == class_id)).all()
    assert (segments.void.numpy() == (class_map == 255)).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA"])
def test_masks_of_0_and_255_are_background_and_foreground(mode):
    white = random_map([0, 255]).astype(np.uint8)
    picture = Image.fromarray(white)
    if mode == "P":
        picture.putpalette([value for grey in range(256) for value in (grey, 0, 0)])
    elif mode != "L":
        picture = picture.convert(mode)
    if "A" in mode:
        picture.putalpha(Image.new("L", SIZE[::-1], 128))
    assert picture.mode == mode
    labels = make_label_set(NamedIds({0: "road", 1: "crack"}), void_ids=[255])
    segments = BinaryMaskFormat("label").read({"label": picture}, labels, "semantic", SIZE)
    masks = masks_by_class(segments)
    assert (masks[0][0] == (white == 0)).all() and (masks[1][0] == (white == 255)).all()
    assert not segments.void.any()


@pytest.mark.parametrize("kind", ["one bit", "white first", "black first", "GIF"])
def test_white_is_foreground_whatever_number_a_picture_has_for_it(kind, tmp_path):
    for white in (random_map([0, 255]), np.zeros(SIZE, int), np.full(SIZE, 255)):
        picture = Image.fromarray(white.astype(np.uint8))
        if kind == "one bit":
            picture = picture.convert("1")
        elif kind == "GIF":
            picture.save(tmp_path / "mask.gif")
            picture = Image.open(tmp_path / "mask.gif")
        else:
            first = 255 if kind == "white first" else 0
            picture = Image.fromarray((white != first).astype(np.uint8), "P")
            picture.putpalette([first] * 3 + [255 - first] * 3)
        labels = make_label_set(NamedIds({0: "road", 1: "crack"}))
        segments = BinaryMaskFormat("label").read({"label": picture}, labels, "semantic", SIZE)
        masks = masks_by_class(segments)
        assert (masks.get(1, [np.zeros(SIZE)])[0] == (white == 255)).all()


@pytest.mark.parametrize("colour", [0, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_drawn_by_its_transparency_is_refused(mode, colour):
    picture = Image.new("L", SIZE[::-1], colour).convert(mode)
    picture.putalpha(Image.fromarray(random_map([0, 255]).astype(np.uint8)))
    with pytest.raises(DataError, match="is drawn by its transparency"):
        BinaryMaskFormat("label").class_ids({"label": picture})
    with pytest.raises(DataError, match="is drawn by its transparency"):
        ObjectMasksFormat("label").read({"label": picture}, LABELS, "instance", SIZE)


def test_a_stack_of_masks_is_refused_but_not_overviews_of_one(tmp_path):
    pages = [Image.fromarray(random_map([0, 1, 2], seed).astype(np.uint8)) for seed in (0, 1)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif", save_all=True, append_images=[pages[1].resize((3, 4))])
    with pytest.raises(DataError, match="cannot be read: its file has 2 pictures of one size, one is expected"):
        ClassMapFormat("label").class_ids({"label": {"path": str(tmp_path / "stack.tif"), "bytes": None}})
    row = {"label": {"path": str(tmp_path / "one.tif"), "bytes": None}}
    masks = masks_by_class(ClassMapFormat("label").read(row, LABELS, "semantic", SIZE))
    assert all((masks[label][0] == (np.asarray(pages[0]) == label)).all() for label in (0, 1, 2))


def test_a_mask_that_is_not_black_and_white_is_refused_as_one():
    grey = Image.fromarray(random_map([0, 17, 255]).astype(np.uint8))
    with pytest.raises(DataError, match="has value 17, the others only 0 and 255"):
        BinaryMaskFormat("label").class_ids({"label": grey})
    with pytest.raises(DataError, match="has colours"):
        BinaryMaskFormat("label").class_ids({"label": Image.new("RGB", (7, 9), (255, 0, 0))})


@pytest.mark.parametrize("mode", ["RGB", "F", "LA"])
def test_a_class_map_must_be_integers(mode):
    picture = Image.new(mode, (7, 9))
    with pytest.raises(DataError, match=f"column 'label' has mode {mode}: a map of one integer per pixel"):
        ClassMapFormat("label").read({"label": picture}, LABELS, "semantic", SIZE)


def test_an_array_of_floats_is_no_class_map():
    with pytest.raises(DataError, match="float64"):
        ClassMapFormat("label").read({"label": [[0.0, 1.0]]}, LABELS, "semantic", (1, 2))


def test_more_than_255_segments_fit():
    class_map = np.arange(20 * 20, dtype=np.int32).reshape(20, 20)
    labels = make_label_set(NamedIds({number: str(number) for number in range(399)}), void_ids=[399])
    segments = ClassMapFormat("label").read({"label": Image.fromarray(class_map)}, labels, "semantic", (20, 20))
    assert len(segments) == 399 and (segments.areas() == 1).all()
    assert segments.void.sum() == 1 and segments.void[19, 19]


@pytest.fixture
def channels_row():
    classes, instances = random_map([0, 1, 2, 255]), random_map([0, 1, 2], seed=1)
    instances[classes == 0] = 0
    picture = np.stack([classes, instances, np.zeros(SIZE)], axis=-1).astype(np.uint8)
    return {"annotation": Image.fromarray(picture)}, classes, instances


def test_channels_for_instances_leave_background_and_pixels_of_no_instance_out(channels_row):
    row, classes, instances = channels_row
    named = NamedIds({0: "background", 1: "b", 2: "c"})
    labels = make_label_set(named, void_ids=[255], background_ids=[0], reduce_labels=True)
    segments = ChannelsFormat("annotation").read(row, labels, "instance", SIZE)
    masks = masks_by_class(segments)
    for class_id in (0, 1):
        expected = [(classes == class_id + 1) & (instances == number) for number in (1, 2)]
        assert len(masks[class_id]) == 2
        assert all((mask == wanted).all() for mask, wanted in zip(masks[class_id], expected, strict=True))
    assert len(segments) == 4
    assert (segments.void.numpy() == (classes == 255)).all()


def test_channels_for_panoptic_keep_pixels_of_no_instance_as_stuff(channels_row):
    row, classes, instances = channels_row
    segments = ChannelsFormat("annotation").read(row, LABELS, "panoptic", SIZE)
    pairs = {(c, i) for c, i in zip(classes.ravel(), instances.ravel(), strict=True) if c != 255}
    assert len(segments) == len(pairs) == 7
    for class_id, masks in masks_by_class(segments).items():
        expected = [(classes == class_id) & (instances == i) for c, i in sorted(pairs) if c == class_id]
        assert all((mask == wanted).all() for mask, wanted in zip(masks, expected, strict=True))


def test_channels_for_semantic_merge_instances(channels_row):
    row, classes, _ = channels_row
    segments = ChannelsFormat("annotation").read(row, LABELS, "semantic", SIZE)
    assert segments.class_ids.tolist() == [0, 1, 2]
    for class_id, (mask,) in masks_by_class(segments).items():
        assert (mask == (classes == class_id)).all()


def test_colours_are_not_taken_for_channels():
    picture = Image.new("RGB", (7, 9), (10, 20, 30))
    with pytest.raises(DataError, match="blue channel that is not 0"):
        ChannelsFormat("annotation").read({"annotation": picture}, LABELS, "semantic", SIZE)


# Segment ids that need each of the three channels; 70003 is a crowd.
PANOPTIC_INFO = [
    {"id": 5, "category_id": 10, "iscrowd": 0},
    {"id": 300, "category_id": 10, "iscrowd": 0},
    {"id": 70003, "category_id": 10, "iscrowd": 1},
    {"id": 70004, "category_id": 20, "iscrowd": 0},
]
PANOPTIC_LABELS = make_label_set(NamedIds({10: "cat", 20: "grass"}, {10: True, 20: False}))


@pytest.fixture(params=["list", "json", "texts", "dict of lists"])
def panoptic_row(request):
    ids = random_map([0, 5, 300, 70003, 70004])
    picture = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    infos = {
        "list": PANOPTIC_INFO,
        "json": json.dumps(PANOPTIC_INFO),
        "texts": [{key: str(value) for key, value in info.items()} for info in PANOPTIC_INFO],
        "dict of lists": {key: [info[key] for info in PANOPTIC_INFO] for key in PANOPTIC_INFO[0]},
    }[request.param]
    return {"map": Image.fromarray(picture), "segments_info": infos}, ids


def test_coco_panoptic_has_a_segment_per_listed_id(panoptic_row):
    row, ids = panoptic_row
    segments = CocoPanopticFormat("map", "segments_info").read(row, PANOPTIC_LABELS, "panoptic", SIZE)
    assert segments.class_ids.tolist() == [0, 0, 0, 1]
    assert segments.is_crowd.tolist() == [False, False, True, False]
    for mask, info in zip(segments.masks().numpy(), PANOPTIC_INFO, strict=True):
        assert (mask == (ids == info["id"])).all()
    assert (segments.void.numpy() == (ids == 0)).all()


def test_coco_panoptic_serves_semantic_and_instance_segmentation(panoptic_row):
    row, ids = panoptic_row
    semantic = CocoPanopticFormat("map", "segments_info").read(row, PANOPTIC_LABELS, "semantic", SIZE)
    assert semantic.class_ids.tolist() == [0, 1] and not semantic.is_crowd.any()
    assert (semantic.masks()[0].numpy() == np.isin(ids, (5, 300, 70003))).all()
    things = CocoPanopticFormat("map", "segments_info").read(row, PANOPTIC_LABELS.things(), "instance", SIZE)
    assert things.class_ids.tolist() == [0, 0, 0] and things.is_crowd.tolist() == [False, False, True]
    assert (things.ids[0].numpy()[ids == 70004] == 0).all()  # stuff is background, not void
    assert (things.void.numpy() == (ids == 0)).all()


def test_a_segment_id_that_is_not_listed_is_named(panoptic_row):
    row, _ = panoptic_row
    row["segments_info"] = PANOPTIC_INFO[:3]
    with pytest.raises(DataError, match=r"pixels of segment id 70004, which 'segments_info' does not list"):
        CocoPanopticFormat("map", "segments_info").read(row, PANOPTIC_LABELS, "panoptic", SIZE)


@pytest.mark.parametrize(
    ("infos", "words"),
    [
        ([{"id": 5}], "no category_id, only id"),
        ("[{", "is not JSON"),
        ([{"id": 5, "category_id": "cat"}], "category_id 'cat', an integer is expected"),
        ([3], "a list of dicts is expected"),
        ({"id": [5], "category_id": [1, 2]}, "lists of one length"),
    ],
)
def test_a_bad_list_of_segments_is_described(panoptic_row, infos, words):
    row, _ = panoptic_row
    row["segments_info"] = infos
    with pytest.raises(DataError, match=words):
        CocoPanopticFormat("map", "segments_info").read(row, PANOPTIC_LABELS, "panoptic", SIZE)


INSTANCE_LABELS = make_label_set(NamedIds({3: "cat", 8: "dog"}, {3: True, 8: True}))


def rectangle(top, left, bottom, right):
    mask = np.zeros(SIZE, np.uint8)
    mask[top:bottom, left:right] = 1
    return mask


def uncompressed(mask):
    """COCO's run lengths by definition: column by column, zeros first."""
    flat = mask.ravel(order="F")
    counts, value = [], 0
    for pixel in flat:
        if pixel != value or not counts:
            if not counts and pixel != 0:
                counts.append(0)
            counts.append(0)
            value = pixel
        counts[-1] += 1
    return {"size": list(SIZE), "counts": counts}


def compressed(mask):
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": list(SIZE), "counts": encoded["counts"].decode()}


def test_coco_instances_of_every_kind_of_mask_may_overlap():
    masks = [rectangle(1, 1, 5, 4), rectangle(3, 2, 8, 6), rectangle(0, 0, 2, 7), rectangle(8, 0, 9, 7)]
    polygon = [1, 1, 4, 1, 4, 5, 1, 5]  # x, y of the corners of the first
    two_parts = [[0, 0, 7, 0, 7, 1, 0, 1], [0, 1, 7, 1, 7, 2, 0, 2]]  # of the third
    objects = [
        {"category_id": 3, "segmentation": [polygon]},
        {"category_id": 8, "segmentation": compressed(masks[1]), "iscrowd": 0},
        {"category_id": 8, "segmentation": two_parts, "iscrowd": 0},
        {"category_id": 3, "segmentation": uncompressed(masks[3]), "iscrowd": 1},
    ]
    segments = CocoInstanceFormat("objects").read({"objects": objects}, INSTANCE_LABELS, "instance", SIZE)
    assert (segments.masks().numpy() == np.stack(masks).astype(bool)).all()
    assert segments.class_ids.tolist() == [0, 1, 1, 0]
    assert segments.is_crowd.tolist() == [False, False, False, True]
    assert len(segments.ids) == 2  # the second and the third overlap the first, not each other


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 1.0])
def test_compressed_run_lengths_are_those_of_the_definition(share):
    mask = (np.random.default_rng(0).random((150, 300)) < share).astype(np.uint8)
    flat = np.concatenate(([0], mask.ravel(order="F")))
    starts = np.flatnonzero(np.diff(flat))  # the first run is of zeros, and may be empty
    expected = np.diff(np.concatenate(([0], starts, [mask.size])))
    assert decompressed(compressed(mask)["counts"]).tolist() == expected.tolist()


def test_an_image_may_hold_no_object():
    for objects in ([], None, "[]"):
        segments = CocoInstanceFormat("objects").read({"objects": objects}, INSTANCE_LABELS, "instance", SIZE)
        assert len(segments) == 0 and segments.size == SIZE


def test_a_polygon_of_no_area_is_no_object():
    objects = [{"category_id": 3, "segmentation": [[1, 1, 4, 1]]}]
    segments = CocoInstanceFormat("objects").read({"objects": objects}, INSTANCE_LABELS, "instance", SIZE)
    assert len(segments) == 0


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"segmentation": []}, "no category_id or category"),
        ({"category_id": 3, "bbox": [0, 0, 1, 1]}, "no segmentation or .* only category_id, bbox"),
        ({"category_id": 4, "segmentation": []}, "class id 4 is not in the label set"),
        (
            {"category_id": 3, "segmentation": {"size": [2, 2], "counts": [4]}},
            r"size \[2, 2\] but the image is \[9, 7\]",
        ),
        (
            {"category_id": 3, "segmentation": {"size": list(SIZE), "counts": [3, 2]}},
            r"cover 5 pixels.* 63 pixels in all for \[9, 7\]",
        ),
        ({"category_id": 3, "segmentation": {"size": list(SIZE), "counts": [3, -1, 61]}}, "the least of them -1"),
        (
            {
                "category_id": 3,
                "segmentation": {
                    "size": list(SIZE),
                    "counts": coco_mask.encode(np.ones((9, 8), np.uint8, order="F"))["counts"],
                },
            },
            "cover 72 pixels.* 63 pixels in all",
        ),
        ({"category_id": 3, "segmentation": {"size": list(SIZE), "counts": "0o"}}, "not COCO's compressed form"),
        ({"category_id": 3, "segmentation": {"size": list(SIZE), "counts": ""}}, "not COCO's compressed form"),
        (
            {"category_id": 3, "segmentation": {"size": list(SIZE), "counts": "P" * 9 + "0"}},
            "not COCO's compressed form",
        ),
        ({"category_id": 3, "segmentation": [["x"] * 6]}, "neither polygons nor run lengths"),
        ({"category_id": 3, "segmentation": [[1, 1], [4, 1], [4, 5]]}, "written as pairs"),
        ({"category_id": 3, "segmentation": [[[1, 1], [4, 1], [4, 5]]]}, "written as pairs"),
        ({"category_id": 3, "segmentation": [[1, 1, 4, 1, 4, 5, 1]]}, "a polygon has 7 numbers"),
    ],
)
def test_a_bad_object_is_described(item, words):
    with pytest.raises(DataError, match=words):
        CocoInstanceFormat("objects").read({"objects": [item]}, INSTANCE_LABELS, "instance", SIZE)
