"""A prediction drawn over its picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PIL import Image

from image_processing.drawing.visualization import draw_instances, draw_semantic


def draw_prediction(task: str, image: Image.Image, prediction: Any, id2label: Mapping[int, str]) -> Image.Image:
    """The picture with what `post_process` returned for it."""
    if task == "semantic":
        return draw_semantic(image, prediction.cpu(), id2label)
    return draw_instances(image, prediction, id2label)
