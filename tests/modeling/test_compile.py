"""`torch.compile(model, fullgraph=True)` for inference: one graph, with the model's own numbers."""

import pytest
import torch
import torch._dynamo.testing
from tiny import tiny_model

# of few pixels all: beyond some thousands PyTorch takes other convolutions, and another graph
SIZES = ((64, 96), (96, 64), (72, 88))
# more than one window in the coarsest map, and multiples of a patch, as the image processor gives
SWIN_SIZES = ((160, 192), (192, 160), (168, 196))


def check(model, dynamic, sizes):
    """Compares compiled and plain outputs at all sizes; the number of graphs."""
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")  # the graph as captured: fast to make
    compiled = torch.compile(model.eval(), fullgraph=True, dynamic=dynamic, backend=counter)
    with torch.inference_mode():
        for size in sizes:
            pixels = torch.randn(1, 3, *size)
            expected, outputs = model(pixels), compiled(pixels)
            for name in ("class_queries_logits", "masks_queries_logits"):
                torch.testing.assert_close(outputs[name], expected[name], rtol=1e-4, atol=1e-4)
    return counter.frame_count


@pytest.mark.parametrize(("backbone", "sizes"), [("resnet", SIZES), ("swin", SWIN_SIZES), ("timm", SIZES)])
def test_one_graph_serves_all_sizes(backbone, sizes):
    assert check(tiny_model(backbone), dynamic=True, sizes=sizes) == 1
