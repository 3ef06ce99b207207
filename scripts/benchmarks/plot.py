"""Line charts of what the benchmarks measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image_processing.drawing.charts import MISSING, can_draw_charts

COLORS = ("#1f5fa8", "#d1622b", "#3d8f4e", "#8a4fa3")


@dataclass
class Chart:
    """One chart: a line of (x, y) points for each name; the x axis has equal steps from one value to the next."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False


def save_charts(charts: Sequence[Chart], path: Path, columns: int = 2) -> None:
    """Writes a picture of the charts in rows over one legend; lines of one name have one colour.

    Without matplotlib it is said that there is none.
    """
    if not can_draw_charts():
        print(MISSING)
        return
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(name for chart in charts for name in chart.lines))
    rows = -(-len(charts) // columns)
    figure = Figure(figsize=(4.8 * columns, 3.4 * rows + 0.4), dpi=100, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, chart in zip(axes, charts, strict=False):
        steps = sorted({x for points in chart.lines.values() for x, _ in points})
        for name, points in chart.lines.items():
            color = COLORS[names.index(name) % len(COLORS)]
            axis.plot([steps.index(x) for x, _ in points], [y for _, y in points], "o-", color=color, label=name)
        axis.set(title=chart.title, xlabel=chart.x_label, ylabel=chart.y_label)
        axis.set_xticks(range(len(steps)), [f"{step:g}" for step in steps])
        axis.grid(axis="y", alpha=0.4)
        if chart.logarithmic:
            axis.set_yscale("log")
        else:
            axis.set_ylim(bottom=0)
    for axis in axes[len(charts) :]:
        axis.remove()
    lines = {line.get_label(): line for axis in axes[: len(charts)] for line in axis.get_lines()}
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=len(lines))
    figure.savefig(path)
