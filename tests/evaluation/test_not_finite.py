"""Outputs that are not finite have no metric, on whatever device they are."""

from types import SimpleNamespace

import pytest
import torch

from image_processing import MaskFormerImageProcessor, tiling
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.targets import Segments


@pytest.mark.parametrize("on_a_device", [False, True], ids=["CPU", "device"])
@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
@pytest.mark.parametrize("name", ["class_queries_logits", "masks_queries_logits"])
def test_outputs_that_are_not_finite_are_refused(name, task, on_a_device, monkeypatch):
    if on_a_device:
        monkeypatch.setattr(tiling, "use_tiles", lambda maps: False)
    evaluator = Evaluator(task, MaskFormerImageProcessor(label_ids_to_fuse=[]), {0: "sky", 1: "road"})
    outputs = SimpleNamespace(class_queries_logits=torch.randn(2, 4, 3), masks_queries_logits=torch.randn(2, 4, 8, 8))
    references = [Segments(torch.ones(32, 32, dtype=torch.uint8), torch.tensor([0]))] * 2
    evaluator.update(outputs, references)
    getattr(outputs, name)[1, 0] = torch.nan
    with pytest.raises(ValueError, match=rf"`outputs.{name}\[1\]` have \d+ values that are NaN or infinite"):
        evaluator.update(outputs, references)
