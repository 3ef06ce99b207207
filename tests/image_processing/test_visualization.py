"""Pictures of results: every segment in its colour, with its contour, and a name that can be read."""

import numpy as np
import pytest
import torch
from PIL import Image

from image_processing import draw_annotation, draw_instances, draw_semantic, side_by_side
from image_processing.drawing.colors import class_color, segment_color, text_color
from image_processing.drawing.label_placement import LabelPlacer
from image_processing.drawing.segments import contour
from image_processing.results import encode_mask

# pycocotools' own, when it decodes under numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = {0: "sky", 1: "person", 2: "tree"}


def gray(height, width):
    return Image.fromarray(np.full((height, width, 3), 128, dtype=np.uint8))


def panoptic_result():
    ids = torch.zeros(400, 500, dtype=torch.int32)
    ids[:200], ids[220:380, 20:200], ids[220:380, 260:480] = 1, 2, 3
    entries = [(1, 0, 0.9), (2, 1, 0.8), (3, 1, 0.7)]
    return {
        "segmentation": ids,
        "segments_info": [
            {"id": number, "label_id": label, "was_fused": False, "score": score} for number, label, score in entries
        ],
    }


def test_classes_have_colors_far_apart():
    colors = np.array([class_color(label) for label in range(150)], dtype=float)
    distance = np.linalg.norm(colors[:, None] - colors, axis=-1) + 999 * np.eye(150)
    assert distance.min() > 30
    assert distance[:20, :20].min() > 60


def test_things_of_a_class_have_shades_of_its_color():
    shades = [segment_color(3, nth) for nth in range(7)]
    assert shades[0] == class_color(3) and len(set(shades)) == 7


def test_text_contrasts_with_its_background():
    assert text_color((255, 255, 0)) == (0, 0, 0) and text_color((90, 0, 160)) == (255, 255, 255)


def test_a_segment_is_blended_with_its_color_and_void_stays_as_it_is():
    picture = np.asarray(draw_instances(gray(400, 500), panoptic_result(), NAMES, alpha=0.5))
    assert picture.shape == (400, 500, 3)
    for point, number, nth in (((10, 10), 0, 0), ((230, 30), 1, 0), ((230, 270), 1, 1)):
        expected = (128 + np.array(segment_color(number, nth))) / 2
        assert np.abs(picture[point] - expected).max() <= 1
    assert (picture[390, 10] == 128).all() and (picture[210, 250] == 128).all()


def test_pictures_are_the_same_every_time():
    first, second = (np.asarray(draw_instances(gray(400, 500), panoptic_result(), NAMES)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_names_are_written_inside_their_segments():
    result = panoptic_result()
    named = np.asarray(draw_instances(gray(400, 500), result, NAMES, alpha=0))
    unnamed = np.asarray(draw_instances(gray(400, 500), {**result, "segments_info": []}, NAMES, alpha=0))
    inner = np.zeros((400, 500), dtype=bool)  # without the contours
    for top, bottom, left, right in ((0, 190, 0, 500), (230, 370, 30, 190), (230, 370, 270, 470)):
        changed = (named != unnamed).any(-1)[top:bottom, left:right]
        assert changed.any()
        inner[top:bottom, left:right] = True
    boundary = np.zeros((400, 500), dtype=bool)
    for number in (1, 2, 3):
        boundary |= contour((result["segmentation"] == number).numpy(), 1)
    assert not ((named != unnamed).any(-1) & ~inner & ~boundary).any()


def test_all_forms_of_a_result_give_the_same_picture():
    result = panoptic_result()
    masks = torch.stack([result["segmentation"] == number for number in (1, 2, 3)])
    expected = np.asarray(draw_instances(gray(400, 500), result, NAMES))
    for form in (masks, [encode_mask(mask) for mask in masks]):
        actual = np.asarray(draw_instances(gray(400, 500), {**result, "segmentation": form}, NAMES))
        np.testing.assert_array_equal(actual, expected)


def test_an_annotation_is_drawn_as_the_result_that_equals_it():
    result = panoptic_result()
    for info in result["segments_info"]:
        info["score"] = None
    expected = np.asarray(draw_instances(gray(400, 500), result, NAMES))
    layers = torch.stack([result["segmentation"] * (result["segmentation"] < 3), result["segmentation"] // 3 * 3])
    for ids in (result["segmentation"], layers):
        actual = draw_annotation(gray(400, 500), ids, [0, 1, 1], NAMES)
        np.testing.assert_array_equal(np.asarray(actual), expected)


def test_a_semantic_picture_leaves_negative_ids_as_they_are():
    class_map = torch.zeros(360, 480, dtype=torch.int64)
    class_map[:, 200:], class_map[300:] = 2, -1
    picture = draw_semantic(gray(360, 480), class_map, NAMES, alpha=1.0)
    assert picture.getpixel((3, 3)) == class_color(0) and picture.getpixel((470, 3)) == class_color(2)
    assert picture.getpixel((3, 350)) == (128, 128, 128)


def test_names_may_have_the_string_keys_of_json():
    class_map = torch.zeros(400, 500, dtype=torch.int64)
    expected = draw_semantic(gray(400, 500), class_map, NAMES)
    found = draw_semantic(gray(400, 500), class_map, {str(label): name for label, name in NAMES.items()})
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


def test_small_images_are_enlarged_by_whole_numbers():
    class_map = torch.zeros(64, 96, dtype=torch.int64)
    assert draw_semantic(gray(64, 96), class_map).size == (6 * 96, 6 * 64)
    assert draw_semantic(gray(360, 400), class_map.new_zeros(360, 400)).size == (400, 360)


def test_a_picture_without_segments_is_the_image():
    result = {"segmentation": torch.zeros(400, 500, dtype=torch.int32), "segments_info": []}
    assert (np.asarray(draw_instances(gray(400, 500), result)) == 128).all()


def test_a_result_of_another_size_is_refused():
    with pytest.raises(ValueError, match="class 0 is 400x500, the image 500x400"):
        draw_instances(gray(500, 400), panoptic_result())


def test_names_lie_in_the_largest_part_and_over_no_other_name():
    mask = np.zeros((200, 300), dtype=bool)
    mask[10:40, 10:60] = mask[60:190, 100:290] = True
    placer = LabelPlacer((300, 200))
    boxes = [placer.place(mask, 60, 16) for _ in range(4)]
    for place, box in enumerate(boxes):
        left, top, right, bottom = box
        assert mask[(top + bottom) // 2, (left + right) // 2] and left >= 100 and top >= 50
        assert (right - left, bottom - top) == (60, 16)
        for other in boxes[:place]:
            assert left >= other[2] or other[0] >= right or top >= other[3] or other[1] >= bottom


def test_a_name_that_has_no_place_is_left_out():
    mask = np.zeros((200, 300), dtype=bool)
    mask[100:104, 100:104] = True
    placer = LabelPlacer((300, 200))
    assert placer.place(mask, 60, 16) is not None
    assert placer.place(mask, 60, 16) is None
    assert placer.place(np.zeros((200, 300), dtype=bool), 60, 16) is None


def test_contours_are_the_outer_pixels():
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:7, 2:9] = True
    edge = contour(mask, 1)
    expected = mask.copy()
    expected[3:6, 3:9] = False  # the border of the image is no edge
    np.testing.assert_array_equal(edge, expected)


def test_pictures_stand_side_by_side_under_their_titles():
    row = side_by_side([gray(400, 500), gray(200, 100)], ["result", "ground truth"])
    assert row.width >= 500 + 200 and row.height > 400
    assert (np.asarray(row)[: row.height - 400] < 128).any()  # the titles
    with pytest.raises(ValueError, match="one title for each"):
        side_by_side([gray(40, 50)], [])


@pytest.mark.parametrize("size", [(4000, 3), (4000, 20), (2000, 1), (1, 2000), (1, 1), (9000, 40), (70000, 2)])
def test_a_drawing_is_bounded_whatever_the_shape_of_the_picture(size):
    width, height = size
    ids = torch.zeros(height, width, dtype=torch.int32)
    ids[:, width // 2 :] = 1
    result = {"segmentation": ids, "segments_info": [{"id": 1, "label_id": 2, "score": 0.9}]}
    for drawn in (
        draw_semantic(Image.new("RGB", size), ids, {0: "sky", 1: "tree"}),
        draw_instances(Image.new("RGB", size), result, {2: "car"}),
        draw_annotation(Image.new("RGB", size), ids, [2], {2: "car"}),
    ):
        assert max(drawn.size) <= 4096 and min(drawn.size) >= 1
        scale = max(drawn.size) / max(size)
        assert abs(min(drawn.size) - scale * min(size)) <= 0.5 or min(drawn.size) == 1


def test_a_large_picture_is_drawn_smaller_at_the_same_places():
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 3, (5, 9)))
    large = coarse.repeat_interleave(1000, 0).repeat_interleave(1000, 1)  # 5000 x 9000
    drawn = draw_semantic(Image.new("RGB", (9000, 5000), "white"), large, alpha=1.0)
    assert drawn.size == (4096, 2276)
    expected = draw_semantic(Image.new("RGB", (9, 5), "white"), coarse, alpha=1.0)
    step = expected.width // 9
    for row in range(5):  # near corners of the squares, where no name is
        for column in range(9):
            found = drawn.getpixel((round((column + 0.1) * 4096 / 9), round((row + 0.1) * 2276 / 5)))
            assert found == expected.getpixel((column * step + step // 8, row * step + step // 8))


def test_a_result_of_another_size_is_refused_for_large_pictures_too():
    with pytest.raises(ValueError, match="A result is 10x10, the image 1x5000"):
        draw_semantic(Image.new("RGB", (5000, 1)), torch.zeros(10, 10, dtype=torch.int64))
