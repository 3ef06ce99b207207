"""Metrics of the three tasks, behind one interface: `update` for each image, then `compute`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .metrics.base import SegmentationMetric
from .metrics.mask_ap import MAX_DETECTIONS, MaskAP
from .metrics.mean_iou import MeanIoU
from .metrics.panoptic_quality import PanopticQuality

if TYPE_CHECKING:
    import evaluate

__all__ = [
    "MAIN_METRIC",
    "MaskAP",
    "MeanIoU",
    "PanopticQuality",
    "SegmentationMetric",
    "load_metric",
    "metric_for_task",
]

# task -> the number it is judged by
MAIN_METRIC = {"semantic": "mean_iou", "instance": "ap", "panoptic": "pq"}

MODULES = Path(__file__).parent / "modules"


def metric_for_task(
    task: str,
    id2label: Mapping[int, str],
    label_ids_to_fuse: Collection[int] | None = None,
    max_detections: int = MAX_DETECTIONS,
) -> SegmentationMetric:
    """The metric of a task: `MeanIoU` for semantic, `MaskAP` for instance, `PanopticQuality` for panoptic.

    Args:
        task: "semantic", "instance" or "panoptic".
        id2label: class id -> name, for ids 0..K-1.
        label_ids_to_fuse: the stuff classes, which only the panoptic metric tells apart.
        max_detections: how many detections of an image and class count in mask AP.
    """
    if task == "semantic":
        return MeanIoU(id2label)
    if task == "instance":
        return MaskAP(id2label, max_detections)
    if task == "panoptic":
        return PanopticQuality(id2label, label_ids_to_fuse or ())
    raise ValueError(f"task must be one of {', '.join(MAIN_METRIC)}, got {task!r}.")


def load_metric(name: str, id2label: Mapping[int, str], **options: Any) -> evaluate.Metric:
    """The `evaluate` module "mean_iou", "mask_ap" or "panoptic_quality" of this package; works offline.

    Args:
        name: one of the three.
        id2label: class id -> name, for ids 0..K-1.
        options: what the module takes besides, such as `ignore_index`, `label_ids_to_fuse` or `max_detections`,
            and what `evaluate.load` takes.
    """
    names = sorted(path.stem for path in MODULES.glob("[!_]*.py"))
    if name not in names:
        raise ValueError(f"There is no metric {name!r}: choose one of {', '.join(names)}.")

    import evaluate  # here, because it takes seconds to import and training does not need it

    return evaluate.load(str(MODULES / f"{name}.py"), id2label=id2label, **options)
