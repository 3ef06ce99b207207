"""What an exported folder cannot do is refused by every door, in a sentence that says what to do instead."""

import importlib.util
import json
import re
import shutil
import sys

import pytest
import torch
from exports import export, picture
from transformers import AutoModel, AutoModelForUniversalSegmentation, pipeline

from modeling_maskformer import Predictor
from modeling_maskformer.commands import evaluate, predict, train
from modeling_maskformer.commands import export as export_command
from modeling_maskformer.commands.service_arguments import load_checkpoint, service_parser
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.prediction_run.run import digest_of

pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")
pytestmark = pytest.mark.filterwarnings("ignore:.treespec.children_specs:FutureWarning")  # of transformers' own


@pytest.fixture(scope="module")
def folder(checkpoint, tmp_path_factory):
    """A graph of one size, in the format that needs no package of the extra."""
    return export(checkpoint, tmp_path_factory.mktemp("one_size") / "torch", "torch", "--height", 64, "--width", 96)


@pytest.fixture
def refused(capsys):
    """The sentence with which a command ends."""

    def sentence(main, *argv):
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in argv])
        error = capsys.readouterr().err + (stop.value.code if isinstance(stop.value.code, str) else "")
        assert "Traceback" not in error
        return error

    return sentence


FLAGS = [
    (["--dtype", "bfloat16"], "--dtype bfloat16 has no meaning for .*, here f32. Leave it out, or export again"),
    (["--dtype", "float16"], "--dtype float16 has no meaning for"),
    (["--compile"], "--compile has no meaning for .*: an exported graph is compiled already. Leave it out"),
]
RESIZING = "changes the size of images, and the graph in .* was exported for one size, 64x96: leave it out, or export"


@pytest.mark.parametrize(("flags", "sentence"), [*FLAGS, (["--tta"], f"--tta {RESIZING}")])
def test_predict_refuses_flags_without_meaning_and_writes_nothing(folder, tmp_path, refused, flags, sentence):
    picture(40, 60).save(tmp_path / "photo.png")
    output = tmp_path / "out"
    command = ["--model", folder, "--inputs", tmp_path / "photo.png", "--output_dir", output, "--trust_remote_code"]
    error = refused(predict.main, *command, "--task", "semantic", "--use_cpu", *flags)
    assert re.search(sentence, error), error
    assert not output.exists()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        *FLAGS,
        (["--tta"], f"--tta {RESIZING}"),
        (["--shortest_edge", "32"], f"--shortest_edge {RESIZING}"),
        (["--sweep", "--tta"], f"--tta and --sweep {RESIZING}"),
    ],
)
def test_evaluate_refuses_flags_without_meaning(folder, tmp_path, refused, flags, sentence):
    command = ["--model", folder, "--dataset", tmp_path, "--task", "semantic", "--trust_remote_code", "--use_cpu"]
    assert re.search(sentence, refused(evaluate.main, *command, *flags))


@pytest.mark.parametrize("command", ["app", "serve"])
@pytest.mark.parametrize(("flags", "sentence"), FLAGS)
def test_page_and_service_refuse_flags_without_meaning(folder, command, flags, sentence):
    arguments = service_parser(command, "", 1).parse_args(["--trust_remote_code", "--use_cpu", *flags])
    with pytest.raises(ValueError, match=sentence):
        load_checkpoint(str(folder), arguments)


def test_a_graph_of_any_size_takes_flags_that_resize(torch_folder, tmp_path):
    picture(40, 60).save(tmp_path / "photo.png")
    command = ["--model", torch_folder, "--inputs", tmp_path / "photo.png", "--output_dir", tmp_path / "out"]
    flags = ["--trust_remote_code", "--task", "semantic", "--use_cpu", "--tta", "--tta_scales", "1", "1.5"]
    predict.main([str(argument) for argument in [*command, *flags]])
    assert (tmp_path / "out" / "class_ids" / "photo.png").is_file()
    with pytest.raises(ValueError, match=r"takes no images of 32x96 pixels, .* sides of more than 32 pixels"):
        load_model(torch_folder, trust_remote_code=True)(torch.randn(1, 3, 30, 70))


PICKLED = "is of format torch, which holds pickled code: pass trust_remote_code if you trust who made it"


def test_pickled_code_is_opened_by_no_door_unasked(torch_folder):
    arguments = service_parser("serve", "", 1).parse_args([])
    for opened in (
        lambda: load_model(torch_folder),
        lambda: AutoModelForUniversalSegmentation.from_pretrained(torch_folder),
        lambda: pipeline("image-segmentation", model=str(torch_folder)),
        lambda: Predictor.from_pretrained(torch_folder),
        lambda: load_checkpoint(str(torch_folder), arguments),
    ):
        with pytest.raises(ValueError, match=PICKLED):
            opened()


def test_a_command_names_the_flag_that_opens_pickled_code(torch_folder, tmp_path, refused):
    picture(40, 60).save(tmp_path / "photo.png")
    command = ["--model", torch_folder, "--inputs", tmp_path / "photo.png", "--output_dir", tmp_path / "out"]
    assert "code: pass --trust_remote_code if you trust who made it." in refused(predict.main, *command)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"id2label": {0: "road"}}, "takes no id2label"),
        ({"num_labels": 7, "use_auxiliary_loss": True}, "takes no num_labels, use_auxiliary_loss"),
        ({"dtype": torch.bfloat16}, "takes no dtype: it computes as it was exported. Export again"),
        ({"device_map": "auto"}, "takes no device_map"),
        ({"attn_implementation": "eager"}, "takes no attn_implementation"),
    ],
)
def test_loading_changes_nothing(torch_folder, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        load_model(torch_folder, trust_remote_code=True, **settings)


def test_loading_by_an_auto_class_changes_nothing(torch_folder):
    with pytest.raises(ValueError, match="takes no id2label"):
        AutoModelForUniversalSegmentation.from_pretrained(torch_folder, trust_remote_code=True, id2label={0: "road"})
    with pytest.raises(ValueError, match="takes no dtype"):
        AutoModelForUniversalSegmentation.from_pretrained(torch_folder, trust_remote_code=True, dtype=torch.float16)


def test_a_graph_of_another_kind_is_refused(torch_folder, tmp_path):
    folder = shutil.copytree(torch_folder, tmp_path / "other")
    manifest = folder / "export.json"
    manifest.write_text(manifest.read_text().replace('"export_format": "dynamo"', '"export_format": "executorch"'))
    with pytest.raises(
        ValueError, match="holds 1 graphs of format executorch, expected one of onnx, openvino, dynamo"
    ):
        load_model(folder)


def test_a_graph_that_takes_more_than_pixels_is_refused(torch_folder, tmp_path):
    folder = shutil.copytree(torch_folder, tmp_path / "masked")
    manifest = json.loads((folder / "export.json").read_text())
    manifest["components"]["model"]["metadata"]["kwargs"]["pixel_mask"] = {"rank": 3}
    (folder / "export.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="takes pixel_values, pixel_mask, expected one that takes pixel_values alone"):
        load_model(folder, trust_remote_code=True)


def test_files_that_are_not_whole_are_said(exported, tmp_path):
    folder = tmp_path / exported.name
    shutil.copytree(exported, folder)
    weights = max(folder.iterdir(), key=lambda file: file.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"its files are not whole or of another version: .*[a-z]"):
        load_model(folder, trust_remote_code=True)


def test_a_runtime_that_is_missing_is_named(torch_folder, tmp_path, monkeypatch):
    folder = shutil.copytree(torch_folder, tmp_path / "onnx")
    manifest = folder / "export.json"
    manifest.write_text(manifest.read_text().replace('"export_format": "dynamo"', '"export_format": "onnx"'))
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find_spec(name))
    with pytest.raises(ValueError, match=r"onnxruntime, which is not installed: in the repository, pip install -e"):
        load_model(folder)


def test_a_model_without_logits_is_none_of_its(torch_folder):
    with pytest.raises(ValueError, match="graph of MaskFormerForInstanceSegmentation, which MaskFormerModel does not"):
        AutoModel.from_pretrained(torch_folder, trust_remote_code=True)


def test_a_graph_computes_in_its_own_precision(torch_folder):
    model = load_model(torch_folder, trust_remote_code=True)
    assert model.to(torch.float32) is model.to("cpu", torch.float32) is model
    with pytest.raises(ValueError, match=r"computes in f32, not in torch\.bfloat16"):
        model.to(torch.bfloat16)


def test_a_device_that_its_runtime_has_not_is_said(torch_folder, monkeypatch, caplog):
    monkeypatch.setattr("modeling_maskformer.inference.exported_model.can_run_on", lambda *_: False)
    with pytest.raises(ValueError, match="runs on cpu alone, not on cuda: leave the device out"):
        Predictor.from_pretrained(torch_folder, device="cuda", trust_remote_code=True)
    assert "stays on the cpu: it cannot run on cuda" in caplog.text


def test_it_is_neither_trained_nor_exported_again(torch_folder, tmp_path, refused, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])
    error = refused(export_command.main, torch_folder, tmp_path / "again", "--format", "torch")
    assert "holds an exported graph, which cannot be exported once more: name its checkpoint instead" in error
    for kind in ("images", "masks"):
        (tmp_path / "data" / "train" / kind).mkdir(parents=True)
        for number in range(2):
            image = picture(40 + number, 48)
            (image if kind == "images" else image.convert("L").point(lambda value: value % 2)).save(
                tmp_path / "data" / "train" / kind / f"{number}.png"
            )
    command = ["--dataset", tmp_path / "data", "--task", "semantic", "--model", torch_folder, "--use_cpu"]
    error = refused(train.main, *command, "--output_dir", tmp_path / "run")
    assert "holds an exported graph, which cannot be trained: name its checkpoint instead" in error


def test_a_run_of_one_graph_is_not_gone_on_with_by_another(checkpoint, torch_folder, folder, tmp_path):
    rounded = shutil.copytree(torch_folder, tmp_path / "rounded")  # as OpenVINO's graphs of two precisions differ
    manifest = (rounded / "export.json").read_text(encoding="utf-8")
    assert '"precision": "f32"' in manifest
    (rounded / "export.json").write_text(manifest.replace('"precision": "f32"', '"precision": "bf16"'), "utf-8")
    processor = load_image_processor(checkpoint)
    models = [load_model(each, trust_remote_code=True) for each in (torch_folder, folder, rounded)]
    assert len({digest_of(model, processor) for model in models}) == 3
