"""Predictions drawn beside picture and annotation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from image_processing.drawing.visualization import draw_annotation, side_by_side

from .predictor import Predictor


def draw_samples(predictor: Predictor, samples: Sequence[Any], count: int, folder: Path) -> list[Path]:
    """Writes `count` samples, evenly spread, as PNG: picture, annotation and prediction in a row.

    Args:
        predictor: makes the predictions.
        samples: items with `image`, `segments` and `name`.
        count: how many, at most all.
        folder: where to; made if needed.

    Returns:
        The files.
    """
    count = min(count, len(samples))
    if count == 0:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    id2label = predictor.model.config.id2label
    files = []
    for number in tqdm(range(count), desc="Drawing", leave=False):
        sample = samples[number * len(samples) // count]
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
