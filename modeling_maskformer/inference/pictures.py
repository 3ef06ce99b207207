"""Dataset samples drawn with their annotations and the model's predictions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from tqdm.auto import tqdm

from image_processing.drawing.signature import is_drawn_here, save_signed
from image_processing.drawing.visualization import draw_annotation, side_by_side

from ..files.whole_file import unused
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
    titles = titles or [""] * len(samples)
    rows = (
        (sample, *predictor([sample.image]), title)
        for sample, title in zip(tqdm(samples, desc="Drawing", leave=False), titles, strict=True)
    )
    return list(draw_rows(folder, predictor.task, predictor.model.config.id2label, rows))


def draw_rows(
    folder: Path, task: str, id2label: Mapping[int, str], rows: Iterable[tuple[Any, Any, str]]
) -> dict[Path, str]:
    """The files of samples drawn as by `draw_samples`, in their order, each with the sample's name.

    Args:
        folder, task, id2label: where to, and what is drawn.
        rows: sample, prediction and title of each, taken one at a time.
    """
    for earlier in drawn_in(folder):
        earlier.unlink()
    names = {}
    for number, (sample, prediction, title) in enumerate(rows, start=1):
        folder.mkdir(parents=True, exist_ok=True)
        name = Path(sample.name).name
        file = unused(folder / f"{number:02d}_{name}.png")
        save_signed(draw_sample(task, sample, prediction, id2label, title), file)
        names[file] = name
    return names


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
