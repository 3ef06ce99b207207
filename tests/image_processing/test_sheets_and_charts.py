"""Sheets of pictures, and charts: what stands where, and that long lists stay readable."""

import numpy as np
import pytest
from PIL import Image

from image_processing.drawing import charts
from image_processing.drawing.colors import class_color
from image_processing.drawing.sheets import GAP, TITLE_HEIGHT, Cell, draw_sheet


def plain(height, width, color):
    return Image.new("RGB", (width, height), color)


def test_pictures_stand_in_columns_and_the_legend_below():
    rows = [
        [Cell(plain(30, 40, (255, 0, 0)), "first"), Cell(plain(20, 60, (0, 255, 0)), "second")],
        [Cell(plain(30, 70, (0, 0, 255)), "below the first"), Cell(plain(30, 20, (9, 9, 9)), "below the second")],
    ]
    sheet = np.asarray(draw_sheet(rows, (100, 100), [3], {3: "car"}, note="a note"))

    def place_of(color):
        rows, columns = np.nonzero((sheet == color).all(-1))
        return rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1

    top, second = GAP + TITLE_HEIGHT, 2 * GAP + 70
    assert place_of((255, 0, 0)) == (top, GAP, 30, 40)
    assert place_of((0, 255, 0)) == (top, second, 20, 60)
    below = top + 30 + GAP + TITLE_HEIGHT
    assert place_of((0, 0, 255)) == (below, GAP, 30, 70)
    assert place_of((9, 9, 9)) == (below, second, 30, 20)
    assert place_of(class_color(3))[0] > below + 30


def test_large_pictures_are_made_smaller_and_long_titles_cut():
    rows = [[Cell(plain(300, 900, (1, 2, 3)), "a very long name of a picture" * 9)]]
    sheet = draw_sheet(rows, (50, 60), [], {})
    assert sheet.height < 120
    columns = np.nonzero((np.asarray(sheet) == (1, 2, 3)).all(-1))[1]
    assert columns.max() - columns.min() + 1 == 60
    title = np.asarray(sheet.convert("L"))[: GAP + TITLE_HEIGHT]
    assert np.nonzero(title < 128)[1].max() < GAP + 60


def test_a_legend_of_many_classes_takes_several_lines_and_ends():
    names = {label: f"class number {label}" for label in range(200)}
    short, long = (draw_sheet([[Cell(plain(9, 9, 0), "")]], (9, 9), range(count), names) for count in (3, 60))
    assert long.height > short.height + 200
    assert draw_sheet([[Cell(plain(9, 9, 0), "")]], (9, 9), range(200), names).height <= long.height + 26


@pytest.fixture(params=[3, 200])
def names(request):
    return [f"class number {number}" for number in range(request.param)]


def test_charts_are_pictures_however_many_rows_they_have(tmp_path, names):
    values = {name: float(number) for number, name in enumerate(names)}
    colors = {name: class_color(number) for number, name in enumerate(names)}
    bars = charts.bar_chart(tmp_path / "bars.png", "Classes", values, dict.fromkeys(names, "note"), colors, "percent")
    counts = {name: {"found": 3, "missed": number} for number, name in enumerate(names)}
    kinds = {"found": "green", "missed": "red"}
    stacked = charts.stacked_bars(tmp_path / "new" / "stacked.png", "Kinds", counts, kinds)
    for path in (bars, stacked):
        picture = Image.open(path)
        assert picture.width == 900 and 150 < picture.height <= 4000
    nothing = charts.bar_chart(tmp_path / "none.png", "Classes", {"a": 0.0}, {"a": ""}, {"a": (0, 0, 0)}, "percent")
    assert Image.open(nothing).width == 900


def test_a_matrix_is_dark_where_its_values_are_high(tmp_path):
    values = np.array([[1.0, 0.0], [0.0, np.nan]])
    path = charts.matrix_chart(tmp_path / "matrix.png", "Matrix", values, ["a", "b"], ["a", "b"], ("row", "column"))
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    dark_blue = (pixels[..., 2] > pixels[..., 0] + 60) & (pixels[..., 0] < 60)
    rows, columns = np.nonzero(dark_blue)
    assert 0.1 < dark_blue.mean() < 0.5  # one of four cells
    assert rows.mean() < pixels.shape[0] / 2 and columns.mean() < pixels.shape[1] * 0.6


def test_lines_go_through_their_points(tmp_path):
    panels = {"loss": {"training": ([0, 10], [5.0, 1.0])}, "metric": {"mean_iou": ([5], [0.5])}}
    picture = Image.open(charts.line_charts(tmp_path / "lines.png", panels, "step"))
    assert picture.width == 1040
    assert Image.open(charts.line_charts(tmp_path / "one.png", dict([*panels.items()][:1]), "step")).width == 520
