"""`evaluate` module: panoptic quality, streaming."""

from collections.abc import Collection, Mapping
from typing import Any

import datasets
import evaluate

from modeling_maskformer import evaluation
from modeling_maskformer.evaluation import evaluate_module
from modeling_maskformer.evaluation.metrics import references
from modeling_maskformer.targets import Segments

DESCRIPTION = """
Panoptic, segmentation and recognition quality (PQ, SQ, RQ) over all, thing and stuff classes. Each batch is matched as
it is added; four numbers a class are kept.
"""

INPUTS = """
At load:
    id2label: dict, class id -> name, for ids 0..K-1.
    label_ids_to_fuse: the stuff classes; default none.
Each image:
    predictions: dict with `segmentation`, an (H, W) map of segment ids (array, tensor, PIL image or, slow, nested
        list; -1 or 0 where nothing), and `segments_info`, dicts with `id` and `label_id`: what
        `post_process_panoptic_segmentation` returns for an image.
    references: the same, with `iscrowd` where a segment is a crowd region; a pixel whose id is not listed is void.
Returns:
    pq, sq, rq, each also with _things and _stuff, and per_class: label -> pq, sq and rq. NaN where undefined.
Example:
    >>> metric = evaluate.load("path/to/panoptic_quality.py", id2label={0: "sky"}, label_ids_to_fuse=[0])
    >>> sky = {"segmentation": [[1, 1]], "segments_info": [{"id": 1, "label_id": 0}]}
    >>> metric.add_batch(predictions=[sky], references=[sky])
    >>> metric.compute()["pq"]
    1.0
"""

CITATION = """
@inproceedings{kirillov2019panoptic,
  title={Panoptic Segmentation},
  author={Kirillov, Alexander and He, Kaiming and Girshick, Ross and Rother, Carsten and Doll{\\'a}r, Piotr},
  booktitle={IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year={2019}
}
"""


class PanopticQuality(evaluate_module.StreamingModule):
    """Panoptic quality of id maps."""

    def make_metric(
        self, id2label: Mapping[int, str], label_ids_to_fuse: Collection[int] = ()
    ) -> evaluation.PanopticQuality:
        return evaluation.PanopticQuality(id2label, label_ids_to_fuse)

    def read_reference(self, prediction: Any, reference: Any) -> Segments:
        return references.segments_from_id_map(reference["segmentation"], reference["segments_info"])

    def _info(self) -> evaluate.MetricInfo:
        id_map = datasets.Sequence(datasets.Sequence(datasets.Value("int64")))
        segment = {"id": datasets.Value("int64"), "label_id": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {
                    "predictions": {"segmentation": id_map, "segments_info": [segment]},
                    "references": {
                        "segmentation": id_map,
                        "segments_info": [segment | {"iscrowd": datasets.Value("bool")}],
                    },
                }
            ),
        )
