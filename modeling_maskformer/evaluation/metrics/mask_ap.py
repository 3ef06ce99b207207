"""COCO mask average precision, the metric of instance segmentation."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from transformers.utils import logging

from ...targets import Segments
from .base import SegmentationMetric, check_result, mean_of_defined
from .rle import predicted_rles, reference_rles

logger = logging.get_logger(__name__)

MAX_DETECTIONS = 100  # COCO's
AREAS = ("", "_small", "_medium", "_large")  # the order of COCOeval's ranges of areas


class MaskAP(SegmentationMetric):
    """COCO's mask AP and AR, computed by pycocotools.

    A crowd region of the reference is no object to find, and a detection inside one of its class is not counted. The
    same holds for void pixels of the reference, for any class. Small, medium and large (under 32**2, 96**2, over)
    are told by a mask's number of pixels. Of each image and class only the surest detections count, in COCO 100: of
    more objects some are missed, which is warned of once.

    Memory: run-length encoded masks, no pixels.

    Args:
        id2label: class id -> name, for ids 0..K-1.
        max_detections: how many detections of an image and class count, the surest; at least 1.
    """

    def __init__(self, id2label: Mapping[int, str], max_detections: int = MAX_DETECTIONS) -> None:
        if max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {max_detections}.")
        super().__init__(id2label)
        self.max_detections = max_detections
        self._has_warned = False

    def compute(self) -> dict[str, float | dict[str, dict[str, float]]]:
        """COCO's twelve numbers (`ap` is the mean over IoU 0.50:0.05:0.95), and `per_class` `ap` and `ap50`.

        `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`, `ap_large`; `ar1`, `ar10`, `ar100` (recall with that many
        detections an image), `ar_small`, `ar_medium`, `ar_large`. What no reference object defines is NaN. With
        another `max_detections` `ar100` is called by it, as in `ar400`, and all but `ar1` and `ar10` are of that many.
        """
        evaluation = self._evaluate()
        # (IoUs, recalls, K, areas, limits of detections) and (IoUs, K, areas, limits), undefined: -1
        precision, recall = (
            np.where(values > -1, values, np.nan)
            for values in (evaluation.eval["precision"], evaluation.eval["recall"])
        )
        limits = evaluation.params.maxDets
        whole = precision[..., 0, -1]  # (IoUs, recalls, K), all areas
        totals = {"ap": whole, "ap50": whole[0], "ap75": whole[5]}
        totals |= {f"ap{area}": precision[..., place, -1] for place, area in enumerate(AREAS) if area}
        totals |= {f"ar{limit}": recall[..., 0, place] for place, limit in enumerate(limits)}
        totals |= {f"ar{area}": recall[..., place, -1] for place, area in enumerate(AREAS) if area}
        return {name: mean_of_defined(values) for name, values in totals.items()} | {
            "per_class": self._per_class(
                ap=np.array([mean_of_defined(values) for values in np.moveaxis(whole, 2, 0)]),
                ap50=np.array([mean_of_defined(values) for values in whole[0].T]),
            )
        }

    def _empty_state(self) -> dict[str, list]:
        return {"images": []}  # an image: its size, its objects and its detections

    def _update(self, prediction: Mapping[str, Any], reference: Segments) -> None:
        """`prediction`: `segmentation`, N COCO RLEs, and `segments_info`, N dicts with `label_id` and `score`."""
        detections = self._read_prediction(prediction, reference.size)
        self._warn_of_many(reference)
        objects = [
            {"category_id": int(class_id), "segmentation": rle, "iscrowd": int(crowd)}
            for class_id, crowd, rle in zip(
                reference.class_ids, reference.is_crowd, reference_rles(reference), strict=True
            )
        ]
        if reference.void.any():
            void = mask_utils.encode(np.asfortranarray(reference.void.cpu().numpy(), dtype=np.uint8))
            objects += [
                {"category_id": class_id, "segmentation": void, "iscrowd": 1}
                for class_id in sorted({detection["category_id"] for detection in detections})
            ]
        self._state["images"].append({"size": reference.size, "objects": objects, "detections": detections})

    def _warn_of_many(self, reference: Segments) -> None:
        counts = np.bincount(reference.class_ids[~reference.is_crowd].cpu().numpy(), minlength=1)
        if self._has_warned or counts.max() <= self.max_detections:
            return
        self._has_warned = True
        logger.warning(
            f"Image number {self.num_images}, counted from 0, has {counts.max()} objects of class "
            f"'{self.labels[counts.argmax()]}', but the {self.max_detections} surest detections of an image and class "
            "count in average precision, as in COCO: the other objects are missed. Pass a larger max_detections to "
            "count them."
        )

    def _read_prediction(self, prediction: Mapping[str, Any], size: tuple[int, int]) -> list[dict[str, Any]]:
        check_result(prediction)
        rles = predicted_rles(prediction, size)
        segments = prediction["segments_info"]
        self._check_class_ids("prediction", [segment["label_id"] for segment in segments])
        return [
            {"category_id": int(segment["label_id"]), "segmentation": rle, "score": float(segment["score"])}
            for segment, rle in zip(segments, rles, strict=True)
        ]

    def _evaluate(self) -> COCOeval:
        """COCO's evaluation, accumulated; what it prints is swallowed."""
        sizes, objects, detections = [], [], []
        for image_id, image in enumerate(self._state["images"]):
            height, width = image["size"]
            sizes.append({"id": image_id, "height": height, "width": width})
            for source, target in ((image["objects"], objects), (image["detections"], detections)):
                for entry in source:
                    # ids start at 1: pycocotools takes a match with id 0 for none
                    target.append(entry | {"id": len(target) + 1, "image_id": image_id})
                    target[-1]["area"] = float(mask_utils.area(entry["segmentation"]))
        categories = [{"id": class_id} for class_id in range(self.num_labels)]
        # an evaluation without any image or class fails in pycocotools; an image without segments changes no value
        sizes = sizes or [{"id": 0, "height": 1, "width": 1}]
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = COCOeval(_index(sizes, categories, objects), _index(sizes, categories, detections), "segm")
            evaluation.params.maxDets = sorted({1, min(10, self.max_detections), self.max_detections})
            evaluation.evaluate()
            evaluation.accumulate()
        return evaluation


def _index(images: list[dict], categories: list[dict], annotations: list[dict]) -> COCO:
    coco = COCO()
    coco.dataset = {"images": images, "categories": categories, "annotations": annotations}
    coco.createIndex()
    return coco
