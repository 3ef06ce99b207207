"""`evaluate` module: mean IoU of semantic segmentation, streaming."""

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate
import numpy as np

from modeling_maskformer import evaluation
from modeling_maskformer.evaluation import evaluate_module
from modeling_maskformer.evaluation.metrics.base import integer_map
from modeling_maskformer.targets import Segments, segments_from_class_map

DESCRIPTION = """
Mean intersection over union, pixel accuracy and mean accuracy of semantic segmentation, over the pixels of all images
together. Each batch is counted into a confusion matrix as it is added; no map is kept.
"""

INPUTS = """
At load:
    id2label: dict, class id -> name, for ids 0..K-1.
    ignore_index (default 255): reference pixels of this value count nowhere, predicted ones are no class.
Each image:
    predictions: (H, W) map of class ids: array, tensor, PIL image or nested list (slow).
    references: the same, of the same size.
Returns:
    mean_iou, pixel_accuracy, mean_accuracy, and per_class: label -> iou and accuracy. NaN where undefined.
Example:
    >>> metric = evaluate.load("path/to/mean_iou.py", id2label={0: "road", 1: "sky"})
    >>> metric.add_batch(predictions=[[[0, 1]]], references=[[[0, 255]]])
    >>> metric.compute()["mean_iou"]
    1.0
"""

CITATION = """
@article{everingham2010pascal,
  title={The Pascal Visual Object Classes (VOC) Challenge},
  author={Everingham, Mark and Van Gool, Luc and Williams, Christopher K. I. and Winn, John and Zisserman, Andrew},
  journal={International Journal of Computer Vision},
  volume={88},
  pages={303--338},
  year={2010}
}
"""


class MeanIou(evaluate_module.StreamingModule):
    """Mean IoU of class maps."""

    def make_metric(self, id2label: Mapping[int, str], ignore_index: int = 255) -> evaluation.MeanIoU:
        return evaluation.MeanIoU(id2label, ignore_index)

    def read_reference(self, prediction: Any, reference: Any) -> Segments:
        class_map = np.require(integer_map(reference, "the reference"), requirements="W")  # torch warns of others
        return segments_from_class_map(class_map, self.metric.ignore_index)

    def _info(self) -> evaluate.MetricInfo:
        class_map = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": class_map, "references": class_map}),
        )
