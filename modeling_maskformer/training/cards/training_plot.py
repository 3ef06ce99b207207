"""A plot of how a training went: its loss and its metric over the steps."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from image_processing.drawing.charts import MISSING, can_draw_charts, line_charts
from image_processing.drawing.signature import is_drawn_here

PLOT_NAME = "training.png"

logger = logging.getLogger(__name__)


def draw_training(folder: Path, log_history: Sequence[Mapping[str, Any]], metric: str | None) -> Path | None:
    """Writes `training.png` into the run's folder: the loss, and the metric if it was measured, over the steps.

    Args:
        folder: of the run.
        log_history: of the trainer's state, resumed parts included.
        metric: the metric's name.

    Returns:
        The file; None where nothing was logged, matplotlib is not installed, or somebody else's file has the name.
    """
    panels = training_curves(log_history, metric)
    if not panels:
        return None
    if not can_draw_charts():
        logger.warning(MISSING)
        return None
    path = folder / PLOT_NAME
    if path.exists() and not is_drawn_here(path):
        logger.warning("%s bears no mark of this package: it stays, and no plot is drawn.", path)
        return None
    return line_charts(path, panels, "step")


def training_curves(
    log_history: Sequence[Mapping[str, Any]], metric: str | None
) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """Title -> line -> (steps, values): the loss in training and evaluation, and the metric, as far as logged."""
    metric = metric and metric.removeprefix("eval_")
    panels = {
        "loss": {"training": "loss", "evaluation": "eval_loss"},
        **({f"{metric} in evaluation": {metric: f"eval_{metric}"}} if metric and metric != "loss" else {}),
    }
    found = {}
    for title, lines in panels.items():
        for line, key in lines.items():
            points: dict[int, float] = {}
            for entry in log_history:  # of two at one step, the second is of the checkpoint that was kept at the end
                if key in entry:
                    points.setdefault(entry["step"], entry[key])
            if points:
                found.setdefault(title, {})[line] = (list(points), list(points.values()))
    return found
