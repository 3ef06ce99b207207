"""scripts/predict.py: results of all pictures that can be read, in forms that other tools read."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO
from script_runs import run

from image_processing.results import rgb_to_ids
from modeling_maskformer.commands import predict
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.multi_scale import MultiScalePredictor
from modeling_maskformer.inference.predictor import Predictor, prepare_model
from modeling_maskformer.inference.tiles.tiled_predictor import TiledPredictor

# pycocotools itself has not followed numpy 2 yet
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def photos(street, tmp_path):
    """Two pictures, one of them in a folder below."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    shutil.copy(street / "val" / "images" / "0.png", folder / "first.png")
    shutil.copy(street / "val" / "images" / "1.png", folder / "more" / "second.png")
    return folder


def predictions(checkpoint, task, threshold, files):
    predictor = Predictor(load_model(checkpoint), load_image_processor(checkpoint), task, threshold)
    return [predictor([Image.open(file)])[0] for file in files]


def test_semantic_results_are_images_of_class_ids(trained, photos, tmp_path):
    output = tmp_path / "out"
    run(predict.main, "--model", trained["semantic"], "--inputs", photos, "--output_dir", output, "--use_cpu")
    files = [photos / "first.png", photos / "more" / "second.png"]
    expected = predictions(trained["semantic"], "semantic", 0.0, files)
    for name, class_map in zip(("first", "more/second"), expected, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(output / "class_ids" / f"{name}.png")), class_map)
        assert (output / "overlays" / f"{name}.jpg").is_file()
    assert json.loads((output / "classes.json").read_text()) == {"0": "sky", "1": "road", "2": "car"}


def test_threads_and_batches_change_no_result(trained, photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    for number in range(5):
        shutil.copy(photos / "first.png", photos / f"copy_{number}.png")
    results = []
    for name, flags in (("one", []), ("many", ["--num_threads", 3, "--batch_size", 4])):
        output = tmp_path / name
        shared = ["--inputs", photos, "--output_dir", output, "--threshold", 0, "--use_cpu"]
        with pytest.raises(SystemExit, match="1"):
            run(predict.main, "--model", trained["instance"], *shared, *flags)
        content = json.loads((output / "instances.json").read_text())
        results.append([content["images"], [entry["id"] for entry in content["annotations"]]])
        assert len(list(output.rglob("*.jpg"))) == 7
    assert results[0] == results[1] and len(results[0][0]) == 7 and len(results[0][1]) > 7


def test_mixed_precision_and_compilation_give_results_of_the_usual_kind(trained, photos, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(type(self).__name__))
    shared = ["--inputs", photos, "--use_cpu", "--no_overlays", "--model", trained["semantic"]]
    run(predict.main, *shared, "--output_dir", tmp_path / "half", "--dtype", "bfloat16", "--compile")
    assert compiled == ["MaskFormerForInstanceSegmentation"]
    assert np.asarray(Image.open(tmp_path / "half" / "class_ids" / "first.png")).shape == (40, 48)
    model = load_model(trained["semantic"])
    exact = model(torch.zeros(1, 3, 64, 64)).masks_queries_logits
    rounded = prepare_model(model, "cpu", "bfloat16")(torch.zeros(1, 3, 64, 64)).masks_queries_logits
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, exact)
    # over all masks, because how far single logits are off depends on the kernels that a CPU has
    assert (rounded - exact).norm() < 0.1 * exact.norm()


def test_semantic_results_are_averaged_over_scales_on_request(trained, photos, tmp_path):
    output = tmp_path / "out"
    arguments = ["--tta", "--tta_scales", 0.5, 1.5, "--batch_size", 2, "--use_cpu"]
    run(predict.main, "--model", trained["semantic"], "--inputs", photos, "--output_dir", output, *arguments)
    checkpoint = trained["semantic"]
    predictor = MultiScalePredictor(load_model(checkpoint), load_image_processor(checkpoint), [0.5, 1.5])
    for name in ("first", "more/second"):
        (class_map,) = predictor([Image.open(photos / f"{name}.png")])
        np.testing.assert_array_equal(np.asarray(Image.open(output / "class_ids" / f"{name}.png")), class_map)


def test_pictures_larger_than_a_tile_are_segmented_in_tiles(trained, photos, tmp_path):
    output, checkpoint = tmp_path / "out", trained["semantic"]
    flags = ["--tile", 32, "--overlap", 8, "--batch_size", 3, "--use_cpu"]
    run(predict.main, "--model", checkpoint, "--inputs", photos, "--output_dir", output, *flags)
    plain = Predictor(load_model(checkpoint), load_image_processor(checkpoint), "semantic")
    for name in ("first", "more/second"):
        (class_map,) = TiledPredictor(plain, 32, 8, batch_size=3)([Image.open(photos / f"{name}.png")])
        np.testing.assert_array_equal(np.asarray(Image.open(output / "class_ids" / f"{name}.png")), class_map)


def with_one_query(checkpoint, folder):
    """A copy of a barely trained checkpoint that surely finds a segment: its one query is a car of some pixels."""
    model = load_model(checkpoint)
    transformer, last = model.model.transformer_module, model.mask_embedder[2][0]
    transformer.queries_embedder = torch.nn.Embedding(1, transformer.queries_embedder.embedding_dim)
    model.config.decoder_config.num_queries = 1
    with torch.no_grad():
        model.class_predictor.weight.zero_()
        model.class_predictor.bias.copy_(torch.tensor([0.0, 0.0, 9.0, 0.0]))
        last.weight.zero_()
        last.bias.copy_(torch.eye(len(last.bias))[0])  # the mask is the first channel of the pixel embeddings
    model.save_pretrained(folder)
    load_image_processor(checkpoint).save_pretrained(folder)
    return folder


def test_panoptic_results_are_those_of_coco(trained, photos, tmp_path):
    output, checkpoint = tmp_path / "out", with_one_query(trained["panoptic"], tmp_path / "model")
    arguments = ["--threshold", 0, "--batch_size", 2, "--use_cpu"]
    run(predict.main, "--model", checkpoint, "--inputs", photos, "--output_dir", output, *arguments)
    content = json.loads((output / "panoptic.json").read_text())
    assert content["categories"] == [
        {"id": 0, "name": "background", "isthing": 0},
        {"id": 1, "name": "road", "isthing": 0},
        {"id": 2, "name": "car", "isthing": 1},
    ]
    assert [image["id"] for image in content["images"]] == [entry["image_id"] for entry in content["annotations"]]
    assert [[info["category_id"] for info in entry["segments_info"]] for entry in content["annotations"]] == [[2], [2]]
    assert [(image["width"], image["height"]) for image in content["images"]] == [(48, 40)] * 2
    for entry in content["annotations"]:
        ids = rgb_to_ids(Image.open(output / "panoptic" / entry["file_name"]))
        areas = {segment["id"]: segment["area"] for segment in entry["segments_info"]}
        assert {number: int((ids == number).sum()) for number in np.unique(ids) if number > 0} == areas


def test_instance_results_are_read_by_pycocotools(trained, photos, tmp_path):
    output = tmp_path / "out"
    arguments = ["--threshold", 0, "--use_cpu"]
    run(predict.main, "--model", trained["instance"], "--inputs", photos, "--output_dir", output, *arguments)
    coco = COCO(str(output / "instances.json"))
    (first, _) = predictions(trained["instance"], "instance", 0.0, [photos / "first.png", photos / "first.png"])
    entries = coco.loadAnns(coco.getAnnIds(imgIds=[0]))
    assert len(entries) == len(first["segments_info"]) > 0
    for entry, rle in zip(entries, first["segmentation"], strict=True):
        assert coco.annToMask(entry).sum() == entry["area"] > 0
        assert entry["segmentation"] == rle
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == ["road", "car"]


def test_a_dataset_needs_no_annotations(trained, street, tmp_path):
    output = tmp_path / "out"
    arguments = ["--split", "val", "--no_overlays", "--use_cpu"]
    run(predict.main, "--model", trained["semantic"], "--dataset", street, "--output_dir", output, *arguments)
    names = sorted(path.name for path in (output / "class_ids").iterdir())
    assert names == ["val_000000.png", "val_000001.png", "val_000002.png"]
    assert not (output / "overlays").exists()


def test_unreadable_pictures_are_named_and_the_others_done(trained, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"no picture")
    Image.new("I;16", (48, 40)).save(photos / "deep.png")
    with pytest.raises(SystemExit) as stop:
        run(
            predict.main,
            *("--model", trained["semantic"], "--inputs", photos, "--output_dir", tmp_path / "out"),
            *("--batch_size", 3, "--use_cpu"),
        )
    captured = capsys.readouterr()
    assert stop.value.code == 1
    assert "2 of 4 pictures segmented" in captured.out
    assert "\n  broken: " in captured.err and "\n  deep: it has more than 8 bits" in captured.err
    assert (tmp_path / "out" / "class_ids" / "more" / "second.png").is_file()
    assert not (tmp_path / "out" / "class_ids" / "broken.png").exists()


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_pictures_of_any_shape_end_no_run(trained, photos, tmp_path, task):
    sizes = {"long": (4000, 3), "band": (4000, 20), "line": (2000, 1), "column": (1, 300), "dot": (1, 1)}
    for name, size in sizes.items():
        Image.new("RGB", size, (120, 180, 230)).save(photos / f"{name}.png")
    flags = ["--inputs", photos, "--output_dir", tmp_path / "out", "--use_cpu", "--batch_size", 3]
    run(predict.main, "--model", trained[task], *flags)
    assert len(list((tmp_path / "out" / "overlays").rglob("*.jpg"))) == 7
    assert not (tmp_path / "out" / "failures.json").exists()
    failing = [*flags, "--overwrite", "--max_pixels", 10_000]
    with pytest.raises(SystemExit, match="1"):
        run(predict.main, "--model", trained[task], *failing)
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [failure["name"] for failure in failures] == ["band", "long"]


def test_results_are_not_overwritten_unasked(trained, photos, tmp_path, refused):
    arguments = ["--model", trained["semantic"], "--output_dir", tmp_path / "out", "--use_cpu"]
    run(predict.main, *arguments, "--inputs", photos / "first.png")
    overlay = tmp_path / "out" / "overlays" / "first.jpg"
    overlay.write_bytes(b"mine")
    assert "holds results of an earlier run" in refused(predict.main, *arguments, "--inputs", photos)
    shutil.rmtree(tmp_path / "out" / "records")
    assert "3 of the results are already there" in refused(predict.main, *arguments, "--inputs", photos)
    assert overlay.read_bytes() == b"mine"
    run(predict.main, *arguments, "--inputs", photos, "--overwrite")
    assert overlay.read_bytes() != b"mine"


def test_a_run_goes_on_with_the_pictures_that_are_there_now_and_in_the_same_precision(
    trained, photos, tmp_path, refused, capsys
):
    output = tmp_path / "out"
    arguments = ["--model", trained["semantic"], "--output_dir", output, "--use_cpu", "--inputs"]
    run(predict.main, *arguments, photos)
    assert " a second), results in" in capsys.readouterr().out
    other = tmp_path / "other" / "first.png"
    other.parent.mkdir()
    Image.new("RGB", (30, 20)).save(other)
    message = refused(predict.main, *arguments, photos, "--resume", "--dtype", "bfloat16")
    assert "a run with another dtype" in message
    capsys.readouterr()
    run(predict.main, *arguments, other.parent, "--resume")
    assert "1 of 1 pictures segmented" in capsys.readouterr().out
    run(predict.main, *arguments, other.parent, "--resume")
    assert "1 of 1 pictures segmented, results in" in capsys.readouterr().out  # no speed where nothing was done
    assert Image.open(output / "class_ids" / "first.png").size == (30, 20)


def test_what_cannot_be_predicted_is_refused(trained, photos, street, tmp_path, refused):
    model = ["--model", trained["semantic"], "--output_dir", tmp_path / "out"]
    (tmp_path / "empty").mkdir()
    shutil.copy(photos / "first.png", tmp_path / "first.png")
    cases = [
        ([*model], "Pass either --inputs"),
        ([*model, "--inputs", photos, "--dataset", street], "Pass either --inputs"),
        ([*model, "--inputs", tmp_path / "nowhere.jpg"], "no file or folder"),
        ([*model, "--inputs", tmp_path / "empty"], "holds no picture"),
        (
            [*model, "--inputs", photos / "first.png", tmp_path / "first.png"],
            "another picture's, first.png: predict them",
        ),
        ([*model, "--inputs", photos, "--threshold", 2], "must lie in [0, 1]"),
        ([*model, "--inputs", photos, "--threshold", 0.5], "no meaning for semantic"),
        (
            [*model, "--inputs", photos, "--task", "panoptic", "--tta"],
            "only semantic segmentation has: the task is pan",
        ),
        ([*model, "--inputs", photos, "--tta", "--tta_scales", 0], "must be numbers above 0"),
        ([*model, "--inputs", photos, "--no_tta_flip"], "go with --tta"),
        ([*model, "--inputs", photos, "--tile", 64, "--overlap", 64], "must overlap"),
        ([*model, "--inputs", photos, "--overlap", 64], "goes with --tile"),
        ([*model, "--dataset", street], "has the splits train, val, but no split was named"),
        ([*model, "--dataset", street, "--split", "test"], "There is no split 'test': the dataset has train, val"),
        (["--model", photos, "--output_dir", tmp_path / "out", "--inputs", photos], "has no config.json"),
    ]
    for argv, message in cases:
        assert message in refused(predict.main, *argv), argv
    assert not (tmp_path / "out").exists()
