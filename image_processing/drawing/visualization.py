"""Results and annotations -> pictures: coloured segments over the image, with contours and names.

PIL only. Colours depend on the class alone (colors.py), so pictures of different images can be compared. No side of a
picture is longer than 4096 pixels, so that memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..boxed_masks import BoxedMask, masks_of, masks_of_ids
from .colors import Color, class_color, shades_of, text_color
from .label_placement import Box, LabelPlacer
from .segments import DrawnSegment, paint

ALPHA = 0.55  # opacity of the colours over the image
MIN_SIDE = 360  # smaller images are enlarged, so that names are readable
MAX_SIDE = 4096  # larger ones are drawn smaller, and none is enlarged beyond it


def draw_semantic(
    image: Image.Image,
    class_map: Tensor | np.ndarray,
    id2label: Mapping[int, str] | None = None,
    alpha: float = ALPHA,
) -> Image.Image:
    """The image with each class in its colour, and its name.

    Args:
        image: any mode, of the size of the map.
        class_map: `(H, W)` integer class ids; where they are negative the image stays as it is.
        id2label: names; without them the numbers are shown.
        alpha: opacity of the colours, in [0, 1].
    """
    image, drawn = _at_most_max_side(image)
    class_map = drawn(np.asarray(class_map))
    labels = [int(label) for label in np.unique(class_map) if label >= 0]
    colors = map(class_color, labels)
    segments = map(DrawnSegment, masks_of_ids(class_map, labels), labels, [None] * len(labels), colors)
    return draw_segments(image, segments, id2label, alpha)


def draw_instances(
    image: Image.Image, result: Mapping, id2label: Mapping[int, str] | None = None, alpha: float = ALPHA
) -> Image.Image:
    """The image with each segment in a shade of its class's colour, its name and its score; void stays as it is.

    Args:
        image: any mode, of the size of the result.
        result: an image's entry of `post_process_instance_segmentation` or `post_process_panoptic_segmentation`, in
            any of its forms (id map, binary maps, RLE).
        id2label, alpha: as for `draw_semantic`.
    """
    image, drawn = _at_most_max_side(image)
    infos = result["segments_info"]
    labels = [int(entry["label_id"]) for entry in infos]
    masks = map(drawn, masks_of(result["segmentation"], [entry["id"] for entry in infos]))
    scores = [entry["score"] for entry in infos]
    segments = map(DrawnSegment, masks, labels, scores, shades_of(labels))
    return draw_segments(image, segments, id2label, alpha)


def draw_annotation(
    image: Image.Image,
    ids: Tensor,
    class_ids: Sequence[int] | Tensor,
    id2label: Mapping[int, str] | None = None,
    alpha: float = ALPHA,
) -> Image.Image:
    """The image with its annotated segments.

    Args:
        image: any mode, of the size of the ids.
        ids: `(H, W)` or `(L, H, W)` integers; k in 1..S marks segment k, anything else no segment.
        class_ids: the S classes.
        id2label, alpha: as for `draw_semantic`.
    """
    image, drawn = _at_most_max_side(image)
    labels = torch.as_tensor(class_ids).tolist()
    masks = masks_of_ids(drawn(ids.numpy()), range(1, len(labels) + 1))
    segments = map(DrawnSegment, masks, labels, [None] * len(labels), shades_of(labels))
    return draw_segments(image, segments, id2label, alpha)


def draw_segments(
    image: Image.Image,
    segments: Iterable[DrawnSegment],
    id2label: Mapping[int, str] | None = None,
    alpha: float = ALPHA,
) -> Image.Image:
    """The RGB picture all others are made of: colours, then contours, then names, the largest segment first.

    Images with a side below 360 pixels are enlarged by a whole number, as far as the longer side allows. Segments are
    taken one at a time, and painted strip by strip: of all masks together there are an eighth of their bytes.
    """
    factor = max(1, min(-(-MIN_SIDE // min(image.size)), MAX_SIDE // max(image.size)))
    size = (image.width * factor, image.height * factor)
    canvas = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)).copy()
    drawn: list[DrawnSegment] = []
    for segment in segments:
        if (segment.height, segment.width) != (image.height, image.width):
            raise ValueError(
                f"A segment of class {segment.label_id} is {segment.height}x{segment.width}, the image "
                f"{image.height}x{image.width} (height x width)."
            )
        drawn.append(segment)
    drawn.sort(key=lambda segment: -segment.area)
    paint(canvas, drawn, factor, alpha)
    picture = Image.fromarray(canvas)
    placer = LabelPlacer(size)
    font = ImageFont.load_default(font_size(size))
    draw = ImageDraw.Draw(picture)
    for segment in drawn:
        text = label_text(segment.label_id, segment.score, id2label)
        box = placer.place(segment.every(placer.step, factor), *text_size(text, font))
        if box is not None:
            _write(draw, box, text, font, segment.color)
    return picture


def _at_most_max_side(image: Image.Image) -> tuple[Image.Image, Callable[[Any], Any]]:
    """The image, made smaller if it is large, and what makes `(..., H, W)` arrays and masks of its size smaller."""
    height, width = image.height, image.width
    if max(height, width) <= MAX_SIDE:
        return image, lambda result: result
    scale = MAX_SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    rows, columns = np.arange(size[1]) * height // size[1], np.arange(size[0]) * width // size[0]

    def drawn(result: np.ndarray | BoxedMask) -> np.ndarray | BoxedMask:
        is_mask = isinstance(result, BoxedMask)
        found = result.size if is_mask else result.shape[-2:]
        if found != (height, width):
            raise ValueError(f"A result is {found[0]}x{found[1]}, the image {height}x{width} (height x width).")
        return result.sampled(rows, columns) if is_mask else result[..., rows[:, None], columns]

    return image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), drawn


def side_by_side(pictures: Sequence[Image.Image], titles: Sequence[str]) -> Image.Image:
    """The pictures in a row, each under its title, scaled to the height of the highest."""
    if len(pictures) != len(titles) or not pictures:
        raise ValueError(
            f"Expected one title for each of one or more pictures, got {len(pictures)} and {len(titles)}."
        )
    height = max(picture.height for picture in pictures)
    pictures = [
        picture.convert("RGB").resize((round(picture.width * height / picture.height), height)) for picture in pictures
    ]
    font = ImageFont.load_default(font_size((height, height)) + 2)
    gap, bar = max(4, height // 80), round(1.9 * font.size)
    row = Image.new("RGB", (sum(picture.width + gap for picture in pictures) - gap, height + bar), "white")
    draw = ImageDraw.Draw(row)
    left = 0
    for picture, title in zip(pictures, titles, strict=True):
        draw.text((left + picture.width // 2, bar // 2), title, fill="black", font=font, anchor="mm")
        row.paste(picture, (left, bar))
        left += picture.width + gap
    return row


def label_text(label_id: int, score: float | None, id2label: Mapping[int, str] | None) -> str:
    """A class's name, and the score in percent where there is one."""
    names = id2label or {}
    name = str(names.get(label_id, names.get(str(label_id), label_id)))  # in JSON, keys are strings
    return name if score is None else f"{name} {round(100 * score)}%"


def font_size(size: tuple[int, int]) -> int:
    """Pixels of a font that is readable in a picture of this size."""
    return max(12, round(min(size) / 36))


def text_size(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> tuple[int, int]:
    """(width, height) of the text with its background."""
    left, _, right, _ = font.getbbox(text)
    return round(right - left) + round(0.5 * font.size), round(1.35 * font.size)


def _write(draw: ImageDraw.ImageDraw, box: Box, text: str, font: ImageFont.FreeTypeFont, color: Color) -> None:
    draw.rounded_rectangle(box, radius=font.size // 4, fill=color, outline=text_color(color))
    center = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
    draw.text(center, text, fill=text_color(color), font=font, anchor="mm")
