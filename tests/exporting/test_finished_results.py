"""A graph of `--with` gives what post-processing gives, and the card beside it says how to run it."""

import re
import shutil

import numpy as np
import pytest
import torch
from exports import PACKAGES, export, need, picture
from PIL import ExifTags, Image, ImageOps
from transformers.utils import ModelOutput

from modeling_maskformer.exporting.graphs import PanopticGraph, probabilities
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.predictor import Predictor

pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")

SHARE = 3e-3  # of pixels, where rounding decides between two


# a panoptic graph has all that a semantic one has, but one product
@pytest.fixture(scope="module", params=[("torch", "semantic"), *((form, "panoptic") for form in PACKAGES)], ids=str)
def finished(request, checkpoint, tmp_path_factory):
    """Folder, format and result."""
    form, result = request.param
    return export(checkpoint, tmp_path_factory.mktemp("finished") / form, form, "--with", result), form, result


def run_card(folder, monkeypatch, image, workplace):
    """Runs the Python lines of a folder's card on a picture, and returns their names."""
    card = (folder / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```python\n(.*?)```", card, re.DOTALL).group(1)
    assert 'folder = "."' in code and '"photo.jpg"' in code
    monkeypatch.chdir(workplace)
    image.save("taken.png", exif=image.getexif())
    names = {}
    exec(code.replace('folder = "."', f"folder = {str(folder)!r}").replace("photo.jpg", "taken.png"), names)
    return names


def test_it_is_that_of_post_processing(checkpoint, finished, monkeypatch, tmp_path):
    folder, _, result = finished
    image = picture(70, 90)
    found = run_card(folder, monkeypatch, image, tmp_path)
    processor = load_image_processor(checkpoint)
    with torch.no_grad():
        outputs = load_model(checkpoint)(found["pixels"])
    graph = found["result"]
    size = [tuple(found["pixels"].shape[-2:])]
    if result == "semantic":
        (strips,) = processor.semantic_score_strips(outputs, size)
        scores = torch.cat([part for _, part in strips], dim=1)  # (K, H, W)
        own = scores.gather(0, graph["segmentation"])[0]
        assert (scores.amax(0) - own).max() < 1e-3  # another class only where two are as good
        assert (own < scores.amax(0)).float().mean() < SHARE
        assert found["found"] == {label: f"LABEL_{label}" for label in graph["segmentation"].unique().tolist()}
        assert len(found["found"]) > 1
        return
    (expected,) = processor.post_process_panoptic_segmentation(outputs, threshold=0.8, target_sizes=size)
    assert (graph["segmentation"][0] != expected["segmentation"]).float().mean() < SHARE
    assert {segment: name for segment, (name, _) in found["found"].items()} == {
        part["id"]: f"LABEL_{part['label_id']}" for part in expected["segments_info"]
    }
    for part in expected["segments_info"]:
        assert found["found"][part["id"]][1] == pytest.approx(part["score"], abs=1e-4)
    assert len(found["found"]) > 1


def test_the_card_s_picture_is_the_checkpoint_s_prediction(checkpoint, finished, monkeypatch, tmp_path):
    folder, _, result = finished
    image = picture(90, 64)
    image.getexif()[ExifTags.Base.Orientation] = 6  # seen as 64x90, which the image processor does not resize
    run_card(folder, monkeypatch, image, tmp_path)
    (expected,) = Predictor.from_pretrained(checkpoint, result, device="cpu")([ImageOps.exif_transpose(image)])
    expected = expected if result == "semantic" else expected["segmentation"]
    found = np.asarray(Image.open(tmp_path / "photo.png"))
    assert (found != expected.numpy()).mean() < SHARE


def test_it_is_of_the_image_alone_where_the_checkpoint_s_processor_pads(checkpoint, monkeypatch, tmp_path):
    padding = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    processor = load_image_processor(checkpoint)
    processor.pad_size = {"height": 128, "width": 128}
    processor.save_pretrained(padding)
    image = picture(64, 90)
    run_card(export(padding, tmp_path / "torch", "torch", "--with", "semantic"), monkeypatch, image, tmp_path)
    (expected,) = Predictor.from_pretrained(padding, "semantic", device="cpu")([image])
    assert (np.asarray(Image.open(tmp_path / "photo.png")) != expected.numpy()).mean() < SHARE


def test_onnx_runtime_tells_apart_masks_that_are_all_far_from_a_pixel(tmp_path):
    need(*PACKAGES["onnx"])
    import onnxruntime

    class Masks(torch.nn.Module):
        def forward(self, logits):
            return probabilities(logits)

    logits = torch.linspace(-80, 80, 41)
    torch.onnx.export(Masks().eval(), (logits,), tmp_path / "masks.onnx", dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "masks.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: logits.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), logits.sigmoid(), rtol=1e-4, atol=0)


def test_stuff_that_is_no_class_of_the_model_is_passed_over(checkpoint):
    model, pixels = load_model(checkpoint), torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = PanopticGraph(model, [0, 1, 2])(pixels)
        found = PanopticGraph(model, [0, 1, 2, 80, 81, -1])(pixels)
    assert expected["segment_ids"].any()
    torch.testing.assert_close(found, expected)


def test_a_graph_of_one_size_takes_what_its_image_processor_makes(checkpoint, tmp_path, monkeypatch):
    flags = ["--with", "semantic", "--height", 70, "--width", 90]  # no multiples of 32
    folder = export(checkpoint, tmp_path / "torch", "torch", *flags)
    found = run_card(folder, monkeypatch, picture(100, 64), tmp_path)
    assert found["pixels"].shape[-2:] == (70, 90)
    with torch.no_grad():
        outputs = load_model(checkpoint)(found["pixels"])
    (expected,) = load_image_processor(checkpoint).post_process_semantic_segmentation(outputs, target_sizes=[(70, 90)])
    assert (found["result"]["segmentation"][0] != expected).float().mean() < 1e-3


def test_a_batch_is_as_its_images_alone(finished):
    from transformers.exporters import ExportedModel

    folder, form, _ = finished
    runtime = {"trust_remote_code": form == "torch"}
    if form == "openvino":
        runtime |= {"device": "cpu", "config": {"INFERENCE_PRECISION_HINT": "f32"}}
    graph = ExportedModel.from_pretrained(folder, **runtime)
    pixels = torch.randn(3, 3, 64, 80)
    together = ModelOutput({name: value.clone() for name, value in graph(pixel_values=pixels).items()})
    for number, alone in enumerate(pixels):
        segmentation = graph(pixel_values=alone[None])["segmentation"][0]
        assert (together["segmentation"][number] != segmentation).float().mean() < SHARE


def test_what_reads_logits_does_not_open_it(finished):
    folder, form, result = finished
    with pytest.raises(ValueError, match=f"finished {result} result, not the logits .* README.md there run it"):
        load_model(folder, trust_remote_code=form == "torch")
