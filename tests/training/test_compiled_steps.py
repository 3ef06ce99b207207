"""A compiled model is compiled once, whatever the number of segments of each image."""

import pytest
import torch
import torch._dynamo.utils
from models import tiny
from stub_trainer import make_trainer

from modeling_maskformer.training.batches import OutOfGraph, out_of_graph


def batch_with(*counts):
    """Two images with so many segments, some pixels of the second one padded."""
    mask = torch.ones(2, 32, 64, dtype=torch.int64)
    mask[1, :, 55:] = 0
    return {
        "pixel_values": torch.randn(2, 3, 32, 64),
        "pixel_mask": mask,
        "mask_labels": [torch.rand(count, 32, 64) > 0.5 for count in counts],
        "class_labels": [torch.zeros(count, dtype=torch.int64) for count in counts],
    }


@pytest.mark.parametrize(("kind", "training"), [("maskformer", True), ("maskformer", False), ("per_pixel", True)])
def test_numbers_of_segments_compile_nothing_anew(kind, training, plain_path):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny(kind, mask_loss="dense") if kind == "maskformer" else tiny(kind)
    compiled = torch.compile(model.train(training), backend="eager")
    captured = []  # frames, also those of which no graph is made
    for counts in ((2, 3), (1, 1), (0, 1), (5, 2)):
        batch = batch_with(*counts)
        with torch.set_grad_enabled(training):
            found = compiled(**out_of_graph(batch)).loss
        assert found.isfinite()
        captured.append(torch._dynamo.utils.counters["frames"]["total"])
    assert captured == captured[:1] * 4


@pytest.mark.parametrize("compiles", [True, False])
def test_a_trainer_that_compiles_keeps_targets_out_of_graphs(compiles, tmp_path):
    trainer = make_trainer(tmp_path, torch_compile=compiles, torch_compile_backend="eager" if compiles else None)
    batch, given = next(iter(trainer.get_train_dataloader())), []
    trainer.model.register_forward_pre_hook(lambda _, args, named: given.append(named), with_kwargs=True)
    trainer.compute_loss(trainer.model, dict(batch))
    trainer.args.eval_loss = True
    given.append(trainer._evaluation_inputs(batch))
    assert [isinstance(inputs["class_labels"], OutOfGraph) for inputs in given] == [compiles] * 2
