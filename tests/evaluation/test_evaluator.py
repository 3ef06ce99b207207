"""Which predictions the evaluator takes for found: all detections are ranked, panoptic segments must be sure."""

from types import SimpleNamespace

import pytest
import torch

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.targets import Segments


@pytest.mark.parametrize(
    ("task", "options", "probability", "score"),
    [
        ("instance", {}, 0.1, 1.0),
        ("panoptic", {}, 0.7, 0.0),
        ("panoptic", {}, 0.9, 1.0),
        ("panoptic", {"panoptic_threshold": 0.6}, 0.7, 1.0),
    ],
)
def test_unsure_detections_count_and_unsure_panoptic_segments_do_not(task, options, probability, score):
    evaluator = Evaluator(task, MaskFormerImageProcessor(label_ids_to_fuse=[]), {0: "sky"}, **options)
    class_logits = torch.tensor([[[probability, 1 - probability]]]).log()
    outputs = SimpleNamespace(class_queries_logits=class_logits, masks_queries_logits=torch.full((1, 1, 8, 8), 10.0))
    evaluator.update(outputs, [Segments(torch.ones(32, 32, dtype=torch.uint8), [0])])
    assert evaluator.compute()[evaluator.main_metric] == pytest.approx(score, abs=1e-3)
