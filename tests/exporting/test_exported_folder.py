"""An exported folder opens like the checkpoint it was made of, and gives the same."""

import importlib.util

import numpy as np
import pytest
import torch
from models import tiny
from PIL import Image
from transformers import pipeline

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.commands.export import main
from modeling_maskformer.exporting import ExportSettings
from modeling_maskformer.exporting.card import record_quality, write_export_card
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.predictor import Predictor, prepare_model

exporters = pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")
PACKAGES = {"torch": [], "onnx": ["onnx", "onnxscript", "onnxruntime"], "openvino": ["openvino"]}


def need(*packages):
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not installed (extra `export`)")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A tiny MaskFormer whose queries differ: each is sure of a class, and has masks of both signs."""
    folder = tmp_path_factory.mktemp("checkpoint")
    model = tiny("maskformer", "resnet", segmentation_task="panoptic").eval()
    torch.manual_seed(3)  # with it there are several classes, and several segments in an image
    with torch.no_grad():
        model.model.transformer_module.queries_embedder.weight.normal_(0, 10)
        model.class_predictor.weight.normal_(0, 1)
        model.class_predictor.bias.zero_()
        model.mask_embedder[2][0].weight.normal_(0, 3)
    model.save_pretrained(folder)
    MaskFormerImageProcessor(
        size={"shortest_edge": 64, "longest_edge": 128}, size_divisor=0, num_labels=5, label_ids_to_fuse=[0, 1, 2]
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=PACKAGES)
def exported(request, checkpoint, tmp_path_factory):
    need(*PACKAGES[request.param])
    folder = tmp_path_factory.mktemp("exported") / request.param
    main([str(checkpoint), str(folder), "--format", request.param])
    return folder


@pytest.fixture(scope="module")
def opened(exported):
    return load_model(exported, trust_remote_code=exported.name == "torch")


def picture(height, width):
    generator = np.random.default_rng(height)
    return Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_logits_are_the_model_s_also_in_a_batch_of_mixed_sizes(checkpoint, exported, opened):
    batch = load_image_processor(exported)(images=[picture(64, 90), picture(100, 64)], return_tensors="pt")
    inputs = {"pixel_values": batch["pixel_values"], "pixel_mask": batch["pixel_mask"]}
    with torch.no_grad():
        expected = load_model(checkpoint)(**inputs)
    found = opened(**inputs)
    for name in ("class_queries_logits", "masks_queries_logits", "image_sizes"):
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-3)


def test_a_predictor_gives_the_model_s_segments(checkpoint, exported, opened):
    images = [picture(64, 90), picture(100, 64)]
    results = []
    for model in (load_model(checkpoint), opened):
        prepare_model(model, "cpu")
        results.append(Predictor(model, load_image_processor(checkpoint), "panoptic", 0.3)(images))
    for expected, found in zip(*results, strict=True):
        assert (expected["segmentation"] != found["segmentation"]).float().mean() < 1e-3
        assert [part["label_id"] for part in expected["segments_info"]] == [
            part["label_id"] for part in found["segments_info"]
        ]


def test_a_pipeline_takes_the_folder_s_model(checkpoint, exported, opened):
    processor = load_image_processor(exported)
    segments = [
        pipeline("image-segmentation", model=model, image_processor=processor)(picture(64, 90), subtask="semantic")
        for model in (load_model(checkpoint), opened)
    ]
    expected, found = ([(part["label"], np.asarray(part["mask"]) > 0) for part in parts] for parts in segments)
    assert [label for label, _ in expected] == [label for label, _ in found]
    for (_, mask), (_, other) in zip(expected, found, strict=True):
        assert (mask != other).mean() < 1e-3


def test_the_folder_says_what_it_is(exported, opened):
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert f"| Format | {exported.name} |" in card
    assert "| Precision it runs in | f32 |" in card
    assert opened.precision == "f32"


def test_a_pickled_folder_is_not_opened_unasked(checkpoint, tmp_path):
    main([str(checkpoint), str(tmp_path / "torch"), "--format", "torch", "--height", "64", "--width", "96"])
    with pytest.raises(ValueError, match="trust_remote_code"):
        load_model(tmp_path / "torch")
    model = load_model(tmp_path / "torch", trust_remote_code=True)
    pixels = torch.randn(3, 3, 60, 70)
    with torch.no_grad():  # smaller images of a graph of one size are padded to it
        whole = load_model(checkpoint)(torch.nn.functional.pad(pixels, (0, 26, 0, 4)))["masks_queries_logits"]
    torch.testing.assert_close(model(pixels)["masks_queries_logits"], whole[..., :15, :18], rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match=r"at most \(64, 96\)"):
        model(torch.randn(1, 3, 64, 97))


@pytest.mark.parametrize("result", ["semantic", "panoptic"])
def test_a_finished_result_is_that_of_post_processing(checkpoint, tmp_path, result):
    main([str(checkpoint), str(tmp_path / "out"), "--format", "torch", "--with", result])
    graph = exporters.ExportedModel.from_pretrained(tmp_path / "out", trust_remote_code=True)
    processor = load_image_processor(checkpoint)
    pixels = torch.randn(2, 3, 70, 90, generator=torch.Generator().manual_seed(0))
    found = graph(pixel_values=pixels)
    with torch.no_grad():
        outputs = load_model(checkpoint)(pixels)
    sizes = [(70, 90)] * 2
    if result == "semantic":
        expected = torch.stack(processor.post_process_semantic_segmentation(outputs, target_sizes=sizes))
        assert len(expected.unique()) > 1
        assert (found["segmentation"] != expected).float().mean() < 1e-3
    else:
        expected = processor.post_process_panoptic_segmentation(outputs, threshold=0.8, target_sizes=sizes)
        assert any(len(image["segments_info"]) > 1 for image in expected)
        for number, image in enumerate(expected):
            assert (found["segmentation"][number] != image["segmentation"]).float().mean() < 1e-3
            for part in image["segments_info"]:
                queries = found["segment_ids"][number] == part["id"]
                assert queries.any()
                assert set(found["label_ids"][number][queries].tolist()) == {part["label_id"]}
                torch.testing.assert_close(
                    found["scores"][number][queries],
                    torch.full((int(queries.sum()),), part["score"]),
                    atol=1e-4,
                    rtol=0,
                )
    with pytest.raises(ValueError, match=f"finished {result} result"):
        load_model(tmp_path / "out", trust_remote_code=True)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format", "torch", "--int8", "--calibration", "pictures"], "int8 graphs are of format onnx, openvino"),
        (["--format", "onnx", "--dtype", "bf16"], "run in f32, not in bf16"),
        (["--format", "torch", "--height", "64"], "--height and --width go together"),
        (["--format", "openvino", "--int8"], "calibrated on training images"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(checkpoint, tmp_path, flags, sentence):
    with pytest.raises(SystemExit, match=sentence):
        main([str(checkpoint), str(tmp_path / "out"), *flags])


def test_a_folder_that_is_not_empty_is_refused(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(SystemExit, match="is not an empty folder"):
        main([str(checkpoint), str(tmp_path), "--format", "torch"])


def test_a_measured_quality_stands_on_the_card_once_it_is_known(checkpoint, tmp_path):
    settings = ExportSettings("torch")
    write_export_card(tmp_path, load_model(checkpoint), settings, "street")
    card = tmp_path / "README.md"
    assert "| Quality of this folder | not measured yet: see below |" in card.read_text(encoding="utf-8")
    record_quality(tmp_path, "mean_iou 0.5000 on 3 images of street")
    record_quality(tmp_path, "mean_iou 0.6000 on 4 images of street")
    assert "| Quality of this folder | mean_iou 0.6000 on 4 images of street |" in card.read_text(encoding="utf-8")
    card.write_text("mine", encoding="utf-8")
    record_quality(tmp_path, "mean_iou 0.7000 on 5 images of street")
    assert card.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_an_int8_graph_is_near_the_model(checkpoint, tmp_path, format):
    need(*PACKAGES[format], "nncf")
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        picture(64 + number, 96).save(tmp_path / "pictures" / f"{number}.png")
    flags = ["--int8", "--calibration", str(tmp_path / "pictures"), "--height", "64", "--width", "96"]
    main([str(checkpoint), str(tmp_path / "out"), "--format", format, *flags])
    model = load_model(tmp_path / "out")
    assert model.precision == "int8, the rest f32"
    batch = load_image_processor(tmp_path / "out")(images=picture(64, 96), return_tensors="pt")
    with torch.no_grad():
        expected = load_model(checkpoint)(batch["pixel_values"])["masks_queries_logits"]
    found = model(batch["pixel_values"])["masks_queries_logits"]
    assert not torch.equal(found, expected)
    assert torch.nn.functional.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.95
