"""Our models through transformers' exporters as they are: one graph for all batches, with the model's own logits."""

import importlib.util

import pytest
import torch
from models import logits_of, tiny

exporters = pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")

KINDS = [
    ("maskformer", "timm", {}),
    ("maskformer", "timm, SAME", {}),
    ("maskformer", "resnet", {"pixel_decoder_layers": 1}),
    ("maskformer", "swin", {}),
    ("per_pixel", "resnet", {}),
    ("per_pixel_plus", "resnet", {}),
]
# what no example has: one image, other sides of a multiple of 32, a strip
SHAPES = [(1, 64, 96), (3, 97, 61), (1, 40, 200), (2, 129, 130)]
FORMATS = {"onnx": ("Onnx", ["onnx", "onnxscript", "onnxruntime"]), "openvino": ("OpenVINO", ["openvino"])}


def inputs(shape, masked):
    """Pixels, and where masked what the image processor says of them: the last image is smaller than the batch."""
    batch_size, height, width = shape
    batch = {"pixel_values": torch.randn(batch_size, 3, height, width)}
    if masked:
        batch["pixel_mask"] = torch.ones(batch_size, height, width, dtype=torch.int64)
        batch["pixel_mask"][-1, :, width - 9 :] = 0
    return batch


def check_all_shapes(exported, model, masked):
    for shape in SHAPES:
        batch = inputs(shape, masked)
        # a graph keeps the batch together: images are computed with the padding of the largest
        pixels = batch["pixel_values"] * (batch["pixel_mask"][:, None] if masked else 1)
        with torch.no_grad():
            expected = logits_of(model(pixels))
        torch.testing.assert_close(logits_of(exported(**batch)), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("kind", "backbone", "fields"), KINDS)
def test_a_captured_graph_serves_every_batch_and_size(kind, backbone, fields, masked):
    model = tiny(kind, backbone, **fields).eval()
    config = exporters.DynamoConfig(dynamic=True)
    exported = exporters.DynamoExporter().export(model, inputs((2, 64, 96), masked), config)
    check_all_shapes(exported, model, masked)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("backbone", ["timm, SAME", "swin"])
def test_a_converted_graph_serves_every_batch_and_size(backbone, format):
    name, packages = FORMATS[format]
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (extra `export`)")
    model = tiny("maskformer", backbone).eval()
    config = getattr(exporters, f"{name}Config")(dynamic=True)
    exported = getattr(exporters, f"{name}Exporter")().export(model, inputs((2, 64, 96), masked=True), config)
    # a CPU that has bfloat16 computes in it, unless OpenVINO is told not to
    exported.to("cpu", **({"config": {"INFERENCE_PRECISION_HINT": "f32"}} if format == "openvino" else {}))
    check_all_shapes(exported, model, masked=True)
