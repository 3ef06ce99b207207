"""Captured for inference: one graph for all batch sizes and image sizes, with the model's own numbers."""

import pytest
import torch
import torch._dynamo.testing
from models import logits_of, tiny

# (batch, height, width): more batch sizes than PyTorch compiles graphs, multiples of 32 and not
# of few pixels all: beyond some thousands PyTorch takes other convolutions, and another graph
SHAPES = [(2, 64, 96), (3, 96, 64), (4, 72, 88), (5, 97, 61), *((batch, 64, 64) for batch in range(6, 12))]
KINDS = [
    ("maskformer", "timm"),
    ("maskformer", "resnet"),
    ("maskformer", "swin"),
    ("per_pixel", "resnet"),
    ("per_pixel_plus", "resnet"),
]


def inputs(batch_size, height, width):
    """What the image processor gives: the last image is smaller than the batch."""
    mask = torch.ones(batch_size, height, width, dtype=torch.int64)
    mask[-1, :, width - 9 :] = 0
    return {"pixel_values": torch.randn(batch_size, 3, height, width), "pixel_mask": mask}


def check(found, model, batch):
    model = model.eval()
    with torch.no_grad():
        # a graph keeps the batch together: images are computed with the padding of the largest
        pixels = batch["pixel_values"] * batch["pixel_mask"][:, None]
        torch.testing.assert_close(found, logits_of(model(pixels)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_one_compiled_graph_serves_all_batches(kind, backbone):
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")  # the graph as captured: fast to make
    model = tiny(kind, backbone).eval()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for shape in SHAPES:
            batch = inputs(*shape)
            check(logits_of(compiled(**batch)), model, batch)
    assert counter.frame_count == 1


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_one_exported_graph_serves_all_batches(kind, backbone):
    model = tiny(kind, backbone).eval()
    free = torch.export.Dim.DYNAMIC
    shapes = {"pixel_values": {0: free, 2: free, 3: free}, "pixel_mask": {0: free, 1: free, 2: free}}
    exported = torch.export.export(model, (), inputs(2, 97, 61), dynamic_shapes=shapes).module()
    with torch.no_grad():
        for shape in [(1, 64, 96), *SHAPES[1:5]]:
            batch = inputs(*shape)
            check(logits_of(exported(**batch)), model, batch)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_a_trace_gives_the_model_s_numbers(kind, backbone):
    model = tiny(kind, backbone).eval()
    pixels = torch.randn(2, 3, 96, 160)
    traced = torch.jit.trace(model, (pixels,), strict=False)
    torch.testing.assert_close(logits_of(traced(pixels)), logits_of(model(pixels)), rtol=1e-3, atol=1e-3)
