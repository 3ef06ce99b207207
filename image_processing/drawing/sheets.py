"""Pictures on one sheet: rows of cells with titles, and a legend of classes below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from .colors import class_color

GAP = 10
TITLE_HEIGHT = 26
FONT_SIZE = 16
MAX_LEGEND = 60  # classes named in the legend


@dataclass(frozen=True)
class Cell:
    """A picture and its title."""

    picture: Image.Image
    title: str


def draw_sheet(
    rows: Sequence[Sequence[Cell]],
    cell_size: tuple[int, int],
    labels: Sequence[int],
    id2label: Mapping[int, str],
    note: str = "",
) -> Image.Image:
    """The sheet: pictures under their titles, and below all of them the classes with their colours, and a note.

    Args:
        rows: of cells, in columns as wide as their widest; shorter rows leave their end empty.
        cell_size: (height, width) that no picture exceeds on the sheet; larger ones are made smaller.
        labels: classes of the legend, of more than 60 the first ones.
        id2label: their names.
        note: last in the legend.
    """
    font = ImageFont.load_default(FONT_SIZE)
    pictures = [[_fitted(cell.picture, cell_size) for cell in row] for row in rows]
    places = range(max(map(len, pictures)))
    widths = [max(row[place].width for row in pictures if place < len(row)) for place in places]
    width = max(sum(widths) + GAP * (len(widths) + 1), 480)
    heights = [max(picture.height for picture in row) + TITLE_HEIGHT + GAP for row in pictures]
    lines = _legend_lines(labels, id2label, note, font, width - 2 * GAP)
    sheet = Image.new("RGB", (width, sum(heights) + GAP + 26 * len(lines) + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    top = GAP
    for row, row_pictures, height in zip(rows, pictures, heights, strict=True):
        left = GAP
        for cell, picture, column in zip(row, row_pictures, widths, strict=False):
            title = _shortened(cell.title, font, picture.width)
            draw.text((left, top + TITLE_HEIGHT // 2), title, fill="black", font=font, anchor="lm")
            sheet.paste(picture, (left, top + TITLE_HEIGHT))
            left += column + GAP
        top += height
    for line in lines:
        left = GAP
        for text, color in line:
            if color is not None:
                draw.rectangle((left, top + 4, left + 17, top + 21), fill=color, outline="black")
                left += 24
            draw.text((left, top + 13), text, fill="black", font=font, anchor="lm")
            left += round(font.getlength(text)) + 20
        top += 26
    return sheet


def _fitted(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    scale = min(1.0, size[0] / picture.height, size[1] / picture.width)
    fitted = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture.convert("RGB") if scale == 1 else picture.convert("RGB").resize(fitted, Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, its end cut off where it is wider than so many pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _legend_lines(
    labels: Sequence[int], id2label: Mapping[int, str], note: str, font: ImageFont.FreeTypeFont, width: int
) -> list[list[tuple[str, tuple[int, int, int] | None]]]:
    """Entries (text, colour or None) on as many lines as they take at this width."""
    entries = [(str(id2label.get(label, label)), class_color(label)) for label in labels[:MAX_LEGEND]]
    if len(labels) > MAX_LEGEND:
        entries.append((f"and {len(labels) - MAX_LEGEND} more", None))
    if note:
        entries.append((note, None))
    lines, left = [[]], 0
    for text, color in entries:
        needed = font.getlength(text) + 20 + (24 if color is not None else 0)
        if lines[-1] and left + needed > width:
            lines.append([])
            left = 0
        lines[-1].append((text, color))
        left += needed
    return lines
