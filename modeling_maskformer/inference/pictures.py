"""Dataset samples drawn with their annotations and the model's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from image_processing.drawing.visualization import draw_annotation, side_by_side

from .draw_prediction import draw_prediction
from .predictor import Predictor


def draw_samples(predictor: Predictor, samples: Sequence[Any], folder: Path, titles: Sequence[str] = ()) -> list[Path]:
    """Writes each sample as PNG: picture, annotation and prediction in a row. Those of an earlier call are removed.

    Args:
        predictor: makes the predictions.
        samples: items with `image`, `segments` and `name`.
        folder: where to; made if needed. Files are `01_<name>.png` and so on.
        titles: what stands behind the name of each image.

    Returns:
        The files.
    """
    for earlier in folder.glob("[0-9][0-9]_*.png"):
        earlier.unlink()
    if not samples:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    titles = titles or [""] * len(samples)
    for number, (sample, title) in enumerate(zip(tqdm(samples, desc="Drawing", leave=False), titles, strict=True), 1):
        (prediction,) = predictor([sample.image])
        files.append(folder / f"{number:02d}_{Path(sample.name).name}.png")
        draw_sample(predictor.task, sample, prediction, predictor.model.config.id2label, title).save(files[-1])
    return files


def draw_sample(task: str, sample: Any, prediction: Any, id2label: Mapping[int, str], title: str = "") -> Image.Image:
    """Picture, annotation and prediction of a sample in a row; over the first its name and `title`."""
    name = Path(sample.name).name
    return side_by_side(
        [
            sample.image,
            draw_annotation(sample.image, sample.segments.ids, sample.segments.class_ids, id2label),
            draw_prediction(task, sample.image, prediction, id2label),
        ],
        [f"{name}: {title}" if title else name, "annotation", "prediction"],
    )
