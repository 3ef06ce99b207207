"""The metric of several runs against training time and against steps, in one plot and a table.

    python scripts/benchmark.py curves --runs outputs/points_seed0 outputs/points_seed1 outputs/dense_seed0

Reads trainer_state.json of each run's folder, of this package or of transformers' Trainer. Runs whose folders differ
in a last _seed0, _seed1, ... are one line: their mean, and the range from the least to the largest.

Training time is that of the whole run without its evaluations, shared out evenly over its steps; what a run that was
resumed took before that is not known to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path

import numpy as np

from image_processing.drawing.charts import MISSING, can_draw_charts
from modeling_maskformer.evaluation import MAIN_METRIC
from modeling_maskformer.training.hardware import duration

from .plot import COLORS

STATE_NAME = "trainer_state.json"
_SEED = re.compile(r"[-_.]?seed[-_]?\d+$")


@dataclass
class CurvesArguments:
    _argument_group_name = "curves"

    runs: list[str] = field(metadata={"help": f"Folders of runs, each with its {STATE_NAME}."})
    metric: str | None = field(
        default=None, metadata={"help": "The number to compare, as mean_iou. Default: that of the first run's task."}
    )
    output_dir: str = field(default="outputs/curves", metadata={"help": "Folder for curves.png and curves.md."})


@dataclass(frozen=True)
class Curve:
    """What one run measured.

    Attributes:
        steps, seconds, values: `(E,)` of its evaluations: optimizer steps, training time so far, the metric.
    """

    steps: np.ndarray
    seconds: np.ndarray
    values: np.ndarray

    def at(self, axis: str, place: float) -> float:
        """The value after so many "steps" or "seconds", between two evaluations on the straight line."""
        return float(np.interp(place, getattr(self, axis), self.values))


def run(arguments: CurvesArguments) -> None:
    """Reads, draws, prints and writes."""
    states = {}
    for folder in arguments.runs:
        path = Path(folder) / STATE_NAME
        if not path.is_file():
            raise SystemExit(f"There is no {STATE_NAME} in {folder}: the folder of a run that has ended is expected.")
        states[folder] = json.loads(path.read_text(encoding="utf-8"))
    metric = arguments.metric or main_metric(states.values())
    named: dict[str, list[Curve]] = {}
    for folder, state in states.items():
        named.setdefault(name_of(folder), []).append(read_curve(folder, state, metric))
    output = Path(arguments.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    draw(named, metric, output / "curves.png")
    (output / "curves.md").write_text((text := table(named, metric)) + "\n", encoding="utf-8")
    print(text)


def name_of(folder: str) -> str:
    """The name of a run: its folder's, without a seed at the end."""
    name = Path(folder).resolve().name
    return _SEED.sub("", name) or name


def main_metric(states: Iterable[Mapping]) -> str:
    """The metric that a task is judged by, of the first history that has one."""
    for state in states:
        for metric in MAIN_METRIC.values():
            if any(f"eval_{metric}" in entry for entry in state["log_history"]):
                return metric
    raise SystemExit(f"No run has measured {', '.join(MAIN_METRIC.values())}: pass --metric.")


def read_curve(folder: str, state: Mapping, metric: str) -> Curve:
    """The evaluations of a run, without that of the kept checkpoint at its end."""
    history = state["log_history"]
    ends = [entry for entry in history if "train_runtime" in entry]
    if not ends:
        raise SystemExit(f"{folder} does not say how long its training took: only runs that have ended are compared.")
    measured = {entry["step"]: entry for entry in reversed(history) if f"eval_{metric}" in entry}  # of two the first
    if not measured:
        raise SystemExit(f"{folder} has never measured {metric}.")
    during = takewhile(lambda entry: entry is not ends[-1], history)
    seconds = ends[-1]["train_runtime"] - sum(entry.get("eval_runtime", 0.0) for entry in during)
    steps = np.array(sorted(measured))
    values = np.array([measured[step][f"eval_{metric}"] for step in steps.tolist()], dtype=float)
    return Curve(steps, steps * seconds / ends[-1]["step"], values)


def joined(curves: Sequence[Curve]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`(E,)` steps and seconds, and `(S, E)` values of S runs, at each of their evaluations.

    Where some have more of these than others, at the steps of the first up to the last of each.
    """
    if len({len(curve.steps) for curve in curves}) == 1:
        means = (np.mean([getattr(curve, axis) for curve in curves], axis=0) for axis in ("steps", "seconds"))
        return *means, np.stack([curve.values for curve in curves])
    last = min(curve.steps[-1] for curve in curves)
    steps = curves[0].steps[curves[0].steps <= last]
    seconds = np.mean([np.interp(steps, curve.steps, curve.seconds) for curve in curves], axis=0)
    return steps, seconds, np.stack([np.interp(steps, curve.steps, curve.values) for curve in curves])


def table(named: Mapping[str, Sequence[Curve]], metric: str) -> str:
    """Markdown: how each name ended, and where it was when the first of all had ended, by time and by steps."""
    curves = [curve for group in named.values() for curve in group]
    seconds, steps = min(curve.seconds[-1] for curve in curves), min(curve.steps[-1] for curve in curves)
    lines = [
        f"| run | seeds | steps | training time | {metric}, last | best | after {duration(seconds)} | "
        f"after {steps:,} steps |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, group in named.items():
        cells = [
            str(len(group)),
            f"{np.mean([curve.steps[-1] for curve in group]):,.0f}",
            duration(float(np.mean([curve.seconds[-1] for curve in group]))),
            mean_and_spread([curve.values[-1] for curve in group]),
            mean_and_spread([curve.values.max() for curve in group]),
            mean_and_spread([curve.at("seconds", seconds) for curve in group]),
            mean_and_spread([curve.at("steps", steps) for curve in group]),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    note = (
        "Of several seeds the mean and the standard deviation. Between evaluations values are interpolated; a run "
        "that goes on after that has not ended its schedule there."
    )
    return "\n".join([*lines, "", note])


def mean_and_spread(values: Sequence[float]) -> str:
    """ "0.7250", or of several seeds "0.7250 ± 0.0031"."""
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def draw(named: Mapping[str, Sequence[Curve]], metric: str, path: Path) -> None:
    """Writes the plot: lines over minutes of training at the left, over steps at the right.

    Without matplotlib it is said that there is none.
    """
    if not can_draw_charts():
        print(MISSING)
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 4.2), dpi=100, layout="constrained")
    by_time, by_steps = figure.subplots(1, 2, sharey=True)
    for number, (name, curves) in enumerate(named.items()):
        steps, seconds, values = joined(curves)
        color, label = COLORS[number % len(COLORS)], name if len(curves) == 1 else f"{name} ({len(curves)} seeds)"
        style = ("-", "--", ":", "-.")[number // len(COLORS) % 4]
        for axis, places in ((by_time, seconds / 60), (by_steps, steps)):
            axis.plot(places, values.mean(0), style, color=color, label=label, marker=".", markersize=4)
            axis.fill_between(places, values.min(0), values.max(0), color=color, alpha=0.15, linewidth=0)
    by_time.set(xlabel="minutes of training, without evaluations", ylabel=metric)
    by_steps.set(xlabel="steps")
    for axis in (by_time, by_steps):
        axis.set_xlim(left=0)
        axis.grid(alpha=0.3)
    figure.legend(*by_time.get_legend_handles_labels(), loc="outside lower center", ncols=min(len(named), 4))
    figure.savefig(path)
