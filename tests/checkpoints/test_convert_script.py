"""scripts/convert_checkpoint.py writes a folder that from_pretrained loads, or says why not and writes nothing."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from original_backbones import Swin
from original_models import OriginalModel, randomize, write_checkpoint, zoo_names
from transformers import (
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    AutoModelForUniversalSegmentation,
    pipeline,
)

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor
from modeling_maskformer import MaskFormerForInstanceSegmentation
from modeling_maskformer.commands.convert import main
from modeling_maskformer.inference.checkpoint import Checkpoint
from modeling_maskformer.inference.loading import category_ids_of, choose_task, load_config

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"num_queries": 7, "channels": 64, "mask_channels": 32, "hidden": 48, "decoder_layers": 2}


def write_original(folder, **fields):
    """A checkpoint of a tiny model and the model itself."""
    original = randomize(OriginalModel(Swin(32, (1, 1, 1, 1), (2, 2, 2, 2), window=3), **SMALL | fields))
    return write_checkpoint(folder / "model_final.pkl", zoo_names(original.state_dict())), original


def test_a_cityscapes_checkpoint_becomes_a_folder_that_from_pretrained_loads(tmp_path):
    checkpoint, original = write_original(tmp_path, num_classes=19)
    names = tmp_path / "labels.json"
    names.write_text(json.dumps({str(number): f"name {number}" for number in range(19)}))
    main([str(checkpoint), str(tmp_path / "out"), "--id2label", str(names)])

    model = AutoModelForUniversalSegmentation.from_pretrained(tmp_path / "out")
    assert isinstance(model, MaskFormerForInstanceSegmentation)
    assert model.config.id2label[18] == "name 18" and model.config.category_ids is None
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        masks = model(pixels).masks_queries_logits
    torch.testing.assert_close(masks, original(pixels)[1], atol=1e-4, rtol=0)

    processor = MaskFormerImageProcessor.from_pretrained(tmp_path / "out")
    assert (processor.size["shortest_edge"], processor.size["longest_edge"]) == (1024, 2048)
    assert processor.ignore_index == 255
    assert not processor.do_reduce_labels
    assert processor.label_ids_to_fuse is None


@pytest.mark.parametrize("kind", ["per_pixel", "per_pixel_plus"])
def test_a_baseline_becomes_a_folder_that_segments_semantically(tmp_path, kind):
    checkpoint, original = write_original(tmp_path, num_classes=150, kind=kind)
    main([str(checkpoint), str(tmp_path / "out")])
    model = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "out")
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(pixels).logits, original(pixels)[1], atol=1e-4, rtol=0)
    processor = AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert type(processor) is PerPixelImageProcessor
    assert processor.size["shortest_edge"] == 512 and processor.do_reduce_labels


def test_the_processor_gives_the_pixels_that_the_original_saw(tmp_path):
    checkpoint, _ = write_original(tmp_path, num_classes=150)
    main([str(checkpoint), str(tmp_path / "out")])
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.do_reduce_labels
    image = torch.tensor([200, 100, 50], dtype=torch.uint8)[:, None, None].expand(3, 512, 683)
    pixels = processor(image, return_tensors="pt").pixel_values
    assert pixels.shape == (1, 3, 512, 683)  # not stretched to a multiple of 32: the model pads to it
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])  # of red, green, blue
    torch.testing.assert_close(pixels[0, :, 0, 0], (torch.tensor([200.0, 100.0, 50.0]) - mean) / std)


def test_a_panoptic_checkpoint_remembers_its_stuff(tmp_path):
    checkpoint, _ = write_original(tmp_path, num_classes=133)
    main([str(checkpoint), str(tmp_path / "out")])
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.label_ids_to_fuse == list(range(80, 133))
    assert processor.size["shortest_edge"] == 800


@pytest.mark.parametrize(
    ("fields", "arguments", "task"),
    [
        ({"num_classes": 19}, [], "semantic"),
        ({"num_classes": 133}, [], "panoptic"),
        ({"num_classes": 150}, [], "semantic"),
        ({"num_classes": 150, "encoder_layers": 2}, [], "panoptic"),
        ({"num_classes": 150}, ["--task", "panoptic"], "panoptic"),
        ({"num_classes": 150, "kind": "per_pixel_plus"}, [], "semantic"),
    ],
)
def test_the_folder_says_what_the_checkpoint_was_trained_for(tmp_path, fields, arguments, task):
    checkpoint, _ = write_original(tmp_path, **fields)
    main([str(checkpoint), str(tmp_path / "out"), *arguments])
    config = load_config(tmp_path / "out")
    assert config.segmentation_task == choose_task(config, None) == task
    assert Checkpoint.load(str(tmp_path / "out"), "cpu").task == task
    pipe = pipeline("image-segmentation", model=str(tmp_path / "out"), device="cpu")
    assert pipe.default_subtask() == task


def test_cocos_own_category_file_names_classes_and_stuff_and_says_their_ids(tmp_path):
    checkpoint, _ = write_original(tmp_path, num_classes=133)
    categories = [{"id": 2 * k + 1, "name": f"c{k}", "isthing": int(k % 2)} for k in range(133)]
    (tmp_path / "categories.json").write_text(json.dumps(categories))
    main([str(checkpoint), str(tmp_path / "out"), "--id2label", str(tmp_path / "categories.json")])
    model = AutoModelForUniversalSegmentation.from_pretrained(tmp_path / "out")
    assert model.config.id2label[132] == "c132"
    assert category_ids_of(model.config) == {k: 2 * k + 1 for k in range(133)}
    assert MaskFormerImageProcessor.from_pretrained(tmp_path / "out").label_ids_to_fuse == list(range(0, 133, 2))


@pytest.mark.parametrize(
    ("fields", "arguments", "reason"),
    [
        ({"num_classes": 4}, [], "has 4 classes"),
        ({"num_classes": 150}, ["--dataset", "coco"], "150 classes, but coco has 133"),
        (
            {"num_classes": 19},
            ["--id2label", "two.json"],
            "There are 2 label names, but the checkpoint has 19 classes",
        ),
        ({"num_classes": 133, "kind": "per_pixel"}, [], "133 classes, dataset not given, task semantic"),
        (
            {"num_classes": 150, "kind": "per_pixel_plus"},
            ["--task", "panoptic"],
            r"is a PerPixelBaseline\+, made for semantic segmentation",
        ),
    ],
)
def test_what_cannot_be_converted_is_said_and_nothing_is_written(tmp_path, monkeypatch, fields, arguments, reason):
    monkeypatch.chdir(tmp_path)
    Path("two.json").write_text('["a", "b"]')
    checkpoint, _ = write_original(tmp_path, **fields)
    with pytest.raises(SystemExit, match=reason):
        main([str(checkpoint), str(tmp_path / "out"), *arguments])
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    checkpoint, _ = write_original(tmp_path, num_classes=19)
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text("{}")
    with pytest.raises(SystemExit, match="not an empty folder"):
        main([str(checkpoint), str(out)])
    assert [path.name for path in out.iterdir()] == ["config.json"]


def test_on_the_command_line_an_error_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("hostile.pkl").write_bytes(b"cos\nsystem\n(S'echo executed > executed'\ntR.")
    monkeypatch.setattr(sys, "argv", ["convert_checkpoint.py", "hostile.pkl", "out"])
    with pytest.raises(SystemExit) as exit_of_script:
        runpy.run_path(str(REPOSITORY / "scripts" / "convert_checkpoint.py"), run_name="__main__")
    message = exit_of_script.value.code  # Python prints it and ends with status 1
    assert "convert_checkpoint.py: hostile.pkl was refused" in message
    assert "os.system" in message
    assert "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["hostile.pkl"]
