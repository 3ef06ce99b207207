"""Numbers -> charts, as PNG files: bars, stacked bars, a matrix, lines.

Matplotlib draws them where it is installed (`pip install matplotlib`); where it is not, no chart is written, and
`can_draw_charts` says so. No global state of matplotlib is touched.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .signature import SOFTWARE

MISSING = "No charts are drawn: they need matplotlib (pip install matplotlib)."
MAX_ROWS = 60  # bars that a chart has at most
MAX_CELLS = 24  # rows of a matrix whose cells are labelled
DPI = 100
LINE_COLORS = ("#1f5fa8", "#c8511b", "#2c8a4b", "#7a3fa0")


def can_draw_charts() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def bar_chart(
    path: Path,
    title: str,
    values: Mapping[str, float],
    notes: Mapping[str, str],
    colors: Mapping[str, Sequence[int]],
    unit: str,
) -> Path:
    """Writes horizontal bars, one a name, in the order given; of more than 60 the first ones.

    Args:
        values: name -> length of its bar.
        notes: name -> text behind its bar.
        colors: name -> (red, green, blue) in 0..255.
        unit: what the lengths are, under their axis.
    """
    names = list(values)[:MAX_ROWS]
    more = f" (the first {MAX_ROWS} of {len(values)})" if len(values) > MAX_ROWS else ""
    figure, axes = _figure(9, 1.2 + 0.28 * len(names))
    axes.barh(
        names,
        [values[name] for name in names],
        color=[[part / 255 for part in colors[name]] for name in names],
        edgecolor="black",
        linewidth=0.4,
    )
    for row, name in enumerate(names):
        axes.text(values[name], row, f"  {notes[name]}", va="center", fontsize=8)
    axes.set_xlim(0, 1.45 * max([values[name] for name in names], default=1) or 1)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first on top
    axes.set_xlabel(unit)
    axes.set_title(title + more, fontsize=11, loc="left")
    return _save(figure, path)


def stacked_bars(path: Path, title: str, counts: Mapping[str, Mapping[str, int]], colors: Mapping[str, str]) -> Path:
    """Writes for each row a bar of full length, parted by its counts, which stand in the parts; the sum at its end.

    Args:
        counts: row -> part -> count; the parts in the order in which they are drawn.
        colors: part -> matplotlib's colour.
    """
    rows = list(counts)[:MAX_ROWS]
    more = f" (the first {MAX_ROWS} of {len(counts)})" if len(counts) > MAX_ROWS else ""
    figure, axes = _figure(9, 1.7 + 0.3 * len(rows))
    table = np.array([[counts[row][part] for part in colors] for row in rows], dtype=float).reshape(-1, len(colors))
    sums = table.sum(1)
    shares = table / np.maximum(sums, 1)[:, None]
    starts = np.cumsum(shares, 1) - shares
    for column, (part, color) in enumerate(colors.items()):
        axes.barh(rows, shares[:, column], left=starts[:, column], color=color, label=part, height=0.8)
        for row in np.flatnonzero(shares[:, column] > 0.035):
            place = starts[row, column] + shares[row, column] / 2
            text = f"{int(table[row, column])}"
            axes.text(place, row, text, ha="center", va="center", fontsize=8, color=_readable_on(color))
    for row, total in enumerate(sums):
        axes.text(1.01, row, f"{int(total)}", va="center", fontsize=8)
    axes.set_xlim(0, 1.07)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_title(title + more, fontsize=11, loc="left")
    figure.legend(ncols=len(colors), loc="outside lower center", fontsize=8)
    return _save(figure, path)


def matrix_chart(
    path: Path, title: str, values: np.ndarray, rows: Sequence[str], columns: Sequence[str], axis_names: Sequence[str]
) -> Path:
    """Writes a matrix of shares in [0, 1] as shades of blue, labelled in percent where there is room.

    Args:
        values: `(len(rows), len(columns))`; NaN is left white.
        axis_names: what rows and columns are.
    """
    size = 2.2 + max(0.3 * len(rows), 2)
    figure, axes = _figure(size + 1, size)
    axes.imshow(np.ma.masked_invalid(values), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize=8)
    axes.set_yticks(range(len(rows)), rows, fontsize=8)
    axes.set_ylabel(axis_names[0])
    axes.set_xlabel(axis_names[1])
    axes.set_title(title, fontsize=11, loc="left")
    if len(rows) <= MAX_CELLS:
        for row, column in np.argwhere(np.nan_to_num(values) >= 0.005):
            color = "white" if values[row, column] > 0.5 else "black"
            text = f"{100 * values[row, column]:.0f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
    return _save(figure, path)


def line_charts(
    path: Path, panels: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float]]]], x: str
) -> Path:
    """Writes charts side by side, each under its title, of lines through points.

    Args:
        panels: title -> name of a line -> (places along x, values). A line of few points has them marked.
        x: what x is.
    """
    figure, all_axes = _figure(5.2 * len(panels), 3.6, columns=len(panels))
    for axes, (title, lines) in zip(np.atleast_1d(all_axes), panels.items(), strict=True):
        for (name, (places, values)), color in zip(lines.items(), LINE_COLORS * 9, strict=False):
            axes.plot(places, values, label=name, color=color, marker="o" if len(places) <= 40 else None, markersize=3)
        axes.set_xlim(0, 1.03 * max(max(places) for places, _ in lines.values()) or 1)
        axes.set_title(title, fontsize=11, loc="left")
        axes.set_xlabel(x)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize=8)
    return _save(figure, path)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """An empty figure of (width, height) inches and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, min(height, 40)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns)


def _readable_on(color: str) -> str:
    from matplotlib.colors import to_rgb

    red, green, blue = to_rgb(color)
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 0.55 else "white"


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI, facecolor="white", metadata={"Software": SOFTWARE})
    return path
