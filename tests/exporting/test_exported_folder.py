"""An exported folder opens like the checkpoint it was made of, and gives the same."""

import errno
import os
import shutil
from typing import ClassVar

import pytest
import torch
from exports import PACKAGES, need, picture
from PIL import Image

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.commands import export
from modeling_maskformer.commands.evaluate import quality_text
from modeling_maskformer.commands.export import main
from modeling_maskformer.exporting import FORMATS, ExportSettings, export_model
from modeling_maskformer.exporting.card import record_quality, write_export_card
from modeling_maskformer.exporting.export import fix_size, whole_folder
from modeling_maskformer.exporting.quantization import calibration_batches
from modeling_maskformer.inference.inputs import find_pictures
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.predictor import Predictor, prepare_model

pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")


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


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--format", "torch", "--int8", "--calibration", "pictures"], "int8 graphs are of format onnx, openvino"),
        (["--format", "onnx", "--dtype", "bf16"], "run in f32, not in bf16"),
        (["--format", "torch", "--height", "64"], "--height and --width go together"),
        (["--format", "openvino", "--int8"], "calibrated on training images"),
        (["--format", "openvino", "--dataset", "data"], "what --int8 is calibrated on: pass it, too"),
        (["--format", "torch", "--calibration", "pictures"], "what --int8 is calibrated on: pass it, too"),
        (["--format", "openvino", "--calibration_images", "9"], "what --int8 is calibrated on: pass it, too"),
        (["--format", "openvino", "--int8", "--calibration", "a", "--dataset", "b"], "pass one or the other"),
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


def test_a_quality_says_how_it_was_measured():
    report = {"dataset": "someone/street", "num_images": 3, "mean_iou": 0.5}  # of the Hub
    assert quality_text(report, "mean_iou") == "mean_iou 0.5000 on 3 images of someone/street"
    report |= {"shortest_edge": 432, "tta_scales": [1.0, 1.5], "tile": 512}
    assert quality_text(report, "mean_iou").endswith(
        "/street, at a short edge of 432, at scales 1.0, 1.5, in tiles of 512"
    )


def test_a_card_says_which_checkpoint_it_is_of_wherever_that_lies(checkpoint, tmp_path, monkeypatch):
    origins = []
    monkeypatch.setattr(export, "export_model", lambda *parts: origins.append(parts[-1]))
    monkeypatch.chdir(checkpoint)
    main([".", str(tmp_path / "out"), "--format", "torch"])
    assert origins == [checkpoint.name]


def test_a_card_that_cannot_be_written_is_left_and_that_is_said(checkpoint, tmp_path, monkeypatch, caplog):
    write_export_card(tmp_path, load_model(checkpoint), ExportSettings("torch"), "street")
    before = (tmp_path / "README.md").read_bytes()

    def read_only(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "replace", read_only)
    record_quality(tmp_path, "mean_iou 0.5000 on 3 images of street")
    assert "does not say what was measured" in caplog.text and "Read-only file system" in caplog.text
    assert (tmp_path / "README.md").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_int8_is_calibrated_on_the_split_that_a_training_takes(checkpoint, tmp_path, monkeypatch):
    for split in ("training", "val"):
        for kind in ("images", "masks"):
            (tmp_path / "data" / split / kind).mkdir(parents=True)
            picture(32, 32).convert("L").save(tmp_path / "data" / split / kind / "1.png")

    def named(pictures, *_):
        raise ValueError(f"calibrated on {pictures[0].name}")

    monkeypatch.setattr(export, "calibration_batches", named)
    monkeypatch.setattr(export, "ExportSettings", lambda *_: None)  # it wants the runtime to be installed
    flags = ["--format", "openvino", "--int8", "--dataset", str(tmp_path / "data")]
    for split, name in (([], "training_000000"), (["--split", "validation"], "val_000000")):
        with pytest.raises(SystemExit, match=f"calibrated on {name}"):
            main([str(checkpoint), str(tmp_path / "out"), *flags, *split])


@pytest.mark.parametrize("kept", [{"do_resize": False}, {"pad_size": {"height": 128, "width": 128}}], ids=str)
def test_one_size_is_that_of_all_images_whatever_the_processor_did(kept):
    processor = MaskFormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}, **kept)
    fix_size(processor, (64, 96))
    assert processor(images=picture(100, 80), return_tensors="pt")["pixel_values"].shape[-2:] == (64, 96)


def test_a_picture_that_cannot_be_calibrated_on_is_named(checkpoint, tmp_path):
    picture(40, 32).save(tmp_path / "1.png")
    Image.new("I;16", (32, 40)).save(tmp_path / "2.png")
    (tmp_path / "3.png").write_bytes((tmp_path / "1.png").read_bytes()[:-200])
    processor = load_image_processor(checkpoint)
    for name, cause in (("2.png", "more than 8 bits"), ("3.png", "truncated")):
        pictures = find_pictures([tmp_path / "1.png", tmp_path / name])
        with pytest.raises(ValueError, match=f"The picture {name} cannot be calibrated on: .*{cause}"):
            calibration_batches(pictures, processor, 2)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_that_cannot_be_written_is_left_as_it_was(checkpoint, tmp_path, monkeypatch, is_there):
    folder = tmp_path / "out"
    if is_there:
        folder.mkdir()

    class Exported:
        components: ClassVar = {}

        def save_pretrained(self, folder):
            (folder / "staging").mkdir(parents=True)
            (folder / "export.json").write_text("{")
            raise RuntimeError("basic_ios::clear: iostream error")  # OpenVINO's on a full disk

    class Exporter:
        def export(self, *_):
            return Exported()

    monkeypatch.setattr("transformers.exporters.DynamoExporter", Exporter)
    with pytest.raises(SystemExit, match=f"{folder} cannot be written: basic_ios::clear: iostream error."):
        main([str(checkpoint), str(folder), "--format", "torch"])
    assert folder.exists() == is_there and not list(tmp_path.rglob("out/*"))


def test_what_somebody_puts_into_the_folder_while_it_is_exported_stays(tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("of today")
    with pytest.raises(OSError, match="cannot be written: no room"), whole_folder(tmp_path):
        (tmp_path / "export.json").write_text("{")
        raise RuntimeError("no room")
    assert list(tmp_path.iterdir()) == [note]


def test_a_disk_without_room_is_said_before_the_export(checkpoint, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(SystemExit, match=f"the disk of {tmp_path} has 0 MB left: make room"):
        main([str(checkpoint), str(tmp_path / "deep" / "out"), "--format", "torch"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_an_exporter_gets_the_weights_in_float32(checkpoint, tmp_path, monkeypatch, format):
    given = []

    class Exporter:
        def export(self, graph, inputs, config):
            given.append({parameter.dtype for parameter in graph.parameters()})
            raise ValueError("this is all that it does")

    monkeypatch.setattr(f"transformers.exporters.{FORMATS[format].exporter}", Exporter)
    monkeypatch.setattr("modeling_maskformer.exporting.export.check_packages", lambda *_: None)
    model = load_model(checkpoint, dtype=torch.bfloat16)
    with pytest.raises(ValueError, match="this is all"):
        export_model(model, load_image_processor(checkpoint), tmp_path / "out", ExportSettings(format))
    assert given == [{torch.float32}]


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
