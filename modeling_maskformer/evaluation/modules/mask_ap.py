"""`evaluate` module: COCO mask average precision of instance segmentation, streaming."""

from collections.abc import Mapping
from typing import Any

import datasets
import evaluate

from modeling_maskformer import evaluation
from modeling_maskformer.evaluation import evaluate_module
from modeling_maskformer.evaluation.metrics import references
from modeling_maskformer.targets import Segments

DESCRIPTION = """
COCO mask AP and AR of instance segmentation, computed by pycocotools. Run-length encodings are kept, no pixels.
"""

INPUTS = """
At load:
    id2label: dict, class id -> name, for ids 0..K-1.
    max_detections (default 100, as in COCO): how many detections of an image and class count, the surest.
Each image:
    predictions: dict with `segmentation`, a list of COCO run-length encodings ({"size": [H, W], "counts": bytes, text
        or list of runs}), and `segments_info`, as many dicts with `label_id` and `score`: what
        `post_process_instance_segmentation(..., return_coco_annotation=True)` returns for an image.
    references: the same, with `iscrowd` instead of `score` where a region is a crowd.
Returns:
    ap, ap50, ap75, ap_small, ap_medium, ap_large, ar1, ar10, ar100, ar_small, ar_medium, ar_large, and per_class:
    label -> ap and ap50. NaN where undefined. With another max_detections ar100 is called by it, as in ar400.
Example:
    >>> metric = evaluate.load("path/to/mask_ap.py", id2label={0: "cat"})
    >>> rle = {"size": [2, 2], "counts": [0, 4]}
    >>> prediction = {"segmentation": [rle], "segments_info": [{"label_id": 0, "score": 0.9}]}
    >>> reference = {"segmentation": [rle], "segments_info": [{"label_id": 0}]}
    >>> metric.add_batch(predictions=[prediction], references=[reference])
    >>> round(metric.compute()["ap50"], 3)
    1.0
"""

CITATION = """
@inproceedings{lin2014microsoft,
  title={Microsoft {COCO}: Common Objects in Context},
  author={Lin, Tsung-Yi and Maire, Michael and Belongie, Serge and Hays, James and Perona, Pietro and Ramanan, Deva
    and Doll{\\'a}r, Piotr and Zitnick, C. Lawrence},
  booktitle={European Conference on Computer Vision},
  year={2014}
}
"""


class MaskAp(evaluate_module.StreamingModule):
    """COCO mask AP of run-length encoded masks."""

    def make_metric(self, id2label: Mapping[int, str], max_detections: int = 100) -> evaluation.MaskAP:
        return evaluation.MaskAP(id2label, max_detections)

    def read_reference(self, prediction: Any, reference: Any) -> Segments:
        # without any mask the size is unknown and of no consequence; where transformers finds none it gives an id map
        predicted = prediction["segmentation"] if prediction["segments_info"] else []
        rles = [*reference["segmentation"], *predicted, {"size": (1, 1)}]
        return references.segments_from_rles(
            reference["segmentation"], reference["segments_info"], tuple(rles[0]["size"])
        )

    def _info(self) -> evaluate.MetricInfo:
        rle = {"size": datasets.Sequence(datasets.Value("int64")), "counts": datasets.Value("string")}
        label = {"label_id": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": {
                        "segmentation": [rle],
                        "segments_info": [label | {"score": datasets.Value("float64")}],
                    },
                    "references": {
                        "segmentation": [rle],
                        "segments_info": [label | {"iscrowd": datasets.Value("bool")}],
                    },
                }
            ),
        )
