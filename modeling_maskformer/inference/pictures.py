"""Predictions drawn beside picture and annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from image_processing.drawing.visualization import draw_annotation, side_by_side

from .predictor import Predictor


def draw_samples(predictor: Predictor, samples: Sequence[Any], folder: Path) -> list[Path]:
    """Writes each sample as PNG: picture, annotation and prediction in a row.

    Args:
        predictor: makes the predictions.
        samples: items with `image`, `segments` and `name`.
        folder: where to; made if needed.

    Returns:
        The files.
    """
    if not samples:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    id2label = predictor.model.config.id2label
    files = []
    for sample in tqdm(samples, desc="Drawing", leave=False):
        (prediction,) = predictor([sample.image])
        row = side_by_side(
            [
                sample.image,
                draw_annotation(sample.image, sample.segments.ids, sample.segments.class_ids, id2label),
                predictor.draw(sample.image, prediction),
            ],
            ["image", "annotation", "prediction"],
        )
        files.append(folder / f"{Path(sample.name).name}.png")
        row.save(files[-1])
    return files
