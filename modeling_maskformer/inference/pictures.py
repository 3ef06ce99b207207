"""Dataset samples drawn with their annotations and the model's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from image_processing.drawing.signature import is_drawn_here, save_signed
from image_processing.drawing.visualization import draw_annotation, side_by_side

from ..whole_file import unused
from .draw_prediction import draw_prediction
from .predictor import Predictor


def draw_samples(predictor: Predictor, samples: Sequence[Any], folder: Path, titles: Sequence[str] = ()) -> list[Path]:
    """Writes each sample as PNG: picture, annotation and prediction in a row.

    Those of an earlier call are removed. Pictures of anybody else stay: where one has the name, another is taken.

    Args:
        predictor: makes the predictions.
        samples: items with `image`, `segments` and `name`.
        folder: where to; made if needed. Files are `01_<name>.png` and so on, or `01_<name>-2.png`.
        titles: what stands behind the name of each image.

    Returns:
        The files.
    """
    for earlier in drawn_in(folder):
        earlier.unlink()
    if not samples:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    titles = titles or [""] * len(samples)
    for number, (sample, title) in enumerate(zip(tqdm(samples, desc="Drawing", leave=False), titles, strict=True), 1):
        (prediction,) = predictor([sample.image])
        files.append(unused(folder / f"{number:02d}_{Path(sample.name).name}.png"))
        drawn = draw_sample(predictor.task, sample, prediction, predictor.model.config.id2label, title)
        save_signed(drawn, files[-1])
    return files


def drawn_in(folder: Path) -> list[Path]:
    """The pictures in a folder that this package has drawn and numbered, sorted by name."""
    return sorted(path for path in folder.glob("[0-9][0-9]*_*.png") if is_drawn_here(path))


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
