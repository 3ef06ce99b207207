"""What an ErrorAnalysis has found, as pictures and a JSON file in one folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from image_processing.drawing.charts import MISSING, can_draw_charts, matrix_chart, stacked_bars

from ..inference.pictures import draw_rows
from .error_analysis import ErrorAnalysis
from .metrics.base import unique_labels
from .metrics.error_kinds import INVENTED
from .results import write_results

ERRORS_NAME = "errors.json"
WORST_NAME = "worst"
MAX_CLASSES = 40  # in a confusion matrix; of more those with the most wrong pixels
NO_CLASS = "(no class)"
KIND_COLORS = {
    "found": "#2c8a4b",
    "wrong class": "#7a3fa0",
    "merged": "#1f5fa8",
    "split": "#58a6d8",
    "inexact": "#e0b13a",
    "missed": "#c33c2e",
    INVENTED: "#8a8a8a",
}


def write_error_report(folder: Path, analysis: ErrorAnalysis, samples: Sequence[Any]) -> list[str]:
    """Writes into `folder` the worst images, a confusion matrix or the kinds of errors as a chart, and all as JSON.

    `worst/01_<name>.png` and so on, the very worst first: picture, annotation and prediction. `errors.json` has the
    numbers behind the chart and the score of each of these images. Pictures of an earlier report are removed.

    Args:
        analysis: of all images.
        samples: what its indices point into; items have `image`, `segments` and `name`.

    Returns:
        Lines of text that say what is where.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"task": analysis.task, "num_images": analysis.counts.num_images}
    if analysis.task == "semantic":
        labels = [*unique_labels(analysis.id2label), NO_CLASS]
        report |= {"labels": labels, "confusion": analysis.confusion().tolist()}
        chart = folder / "confusion_matrix.png"
    else:
        per_class = analysis.counts.compute()["per_class"]
        totals = {kind: sum(row[kind] for row in per_class.values()) for kind in KIND_COLORS}
        report |= {"kinds": totals, "per_class": per_class}
        chart = folder / "error_kinds.png"
    report["worst"] = _draw_worst(folder, analysis, samples)
    write_results(folder / ERRORS_NAME, report)
    count = len(report["worst"])
    worst = "worst image" if count == 1 else f"{count} worst images"
    lines = [f"{folder}: the {worst} in {WORST_NAME}/, all counts in {ERRORS_NAME}."]
    if can_draw_charts():
        _draw_chart(chart, analysis)
        return [*lines, f"Where it goes wrong: {chart}."]
    return [*lines, MISSING]


def _draw_worst(folder: Path, analysis: ErrorAnalysis, samples: Sequence[Any]) -> list[dict[str, Any]]:
    """Draws the worst images; for each its `name`, `index` in the dataset, `score`, and `file` within the folder."""
    rows = (
        (samples[image.index], image.prediction, f"{analysis.score_name} {image.score:.2f}")
        for image in analysis.worst
    )
    drawn = draw_rows(folder / WORST_NAME, analysis.task, analysis.id2label, rows)
    return [
        {"name": name, "index": image.index, "score": image.score, "file": file.relative_to(folder).as_posix()}
        for image, (file, name) in zip(analysis.worst, drawn.items(), strict=True)
    ]


def _draw_chart(path: Path, analysis: ErrorAnalysis) -> None:
    if analysis.task == "semantic":
        labels = [*unique_labels(analysis.id2label), NO_CLASS]
        shares, shown, title = shown_confusion(analysis.confusion())
        rows = [place for place in shown if np.isfinite(shares[place]).any()]
        names = [[labels[place] for place in places] for places in (rows, shown)]
        matrix_chart(path, title, shares[np.ix_(rows, shown)], *names, ("annotation", "prediction"))
        return
    counts = {label: row for label, row in analysis.counts.compute()["per_class"].items() if sum(row.values())}
    counts = dict(sorted(counts.items(), key=lambda item: -sum(item[1].values())))
    title = "What became of the annotated segments, and what was invented besides"
    stacked_bars(path, title, counts, KIND_COLORS)


def shown_confusion(confusion: np.ndarray) -> tuple[np.ndarray, list[int], str]:
    """What a picture shows of a `(K+1, K+1)` matrix of pixels: shares of each row, which classes, and a title.

    "No class", the last, is shown where a pixel has none; of more than 40 classes those with the most wrong pixels.
    """
    sums = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, sums, out=np.full(confusion.shape, np.nan), where=sums > 0)
    present = np.flatnonzero((confusion.sum(1) > 0) | (confusion.sum(0) > 0))
    wrong = confusion.sum(1) + confusion.sum(0) - 2 * confusion.diagonal()
    shown = sorted(sorted(present.tolist(), key=lambda place: -wrong[place])[:MAX_CLASSES])
    part = f" ({MAX_CLASSES} of {len(present)} classes, most wrong)" if len(present) > MAX_CLASSES else ""
    return shares, shown, f"Of each class's pixels, percent that are taken for ...{part}"
