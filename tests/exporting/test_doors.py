"""Every door that opens a checkpoint opens an exported folder, of each format, with the same result."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from exports import export, picture, trust
from models import batch_of, tiny
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoModelForUniversalSegmentation, pipeline

from image_processing import MaskFormerImageProcessor
from modeling_maskformer import MaskFormerForInstanceSegmentation, MaskFormerModel
from modeling_maskformer.commands import evaluate, predict
from modeling_maskformer.inference.checkpoint import Checkpoint
from modeling_maskformer.inference.exported_folder import check_not_exported
from modeling_maskformer.inference.exported_model import ExportedSegmentationModel
from modeling_maskformer.inference.loading import load_image_processor, load_model
from modeling_maskformer.inference.predictor import Predictor

pytest.importorskip("transformers.exporters", reason="transformers has no exporters before 5.24")
pytestmark = pytest.mark.filterwarnings("ignore:.treespec.children_specs:FutureWarning")  # of transformers' own


def trusted(folder):
    return {"trust_remote_code": True} if trust(folder) else {}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A dataset of two pictures with class maps."""
    folder = tmp_path_factory.mktemp("photos")
    for kind in ("images", "masks"):
        (folder / "val" / kind).mkdir(parents=True)
    for number, size in enumerate([(64, 90), (100, 64)]):
        picture(*size).save(folder / "val" / "images" / f"{number}.png")
        classes = np.random.default_rng(number).integers(0, 5, size, dtype=np.uint8)
        Image.fromarray(classes).save(folder / "val" / "masks" / f"{number}.png")
    (folder / "labels.json").write_text(json.dumps([f"LABEL_{label}" for label in range(5)]))
    return folder


def test_a_pipeline_opens_it_by_name(checkpoint, exported):
    expected = pipeline("image-segmentation", model=str(checkpoint))(picture(50, 90), threshold=0.3)
    segment = pipeline("image-segmentation", model=str(exported), **trusted(exported))
    assert isinstance(segment.model, ExportedSegmentationModel)
    found = segment(picture(50, 90), threshold=0.3)
    assert [part["label"] for part in found] == [part["label"] for part in expected] and len(found) > 1
    for part, other in zip(found, expected, strict=True):
        assert part["score"] == pytest.approx(other["score"], abs=1e-4)
        assert (np.asarray(part["mask"]) != np.asarray(other["mask"])).mean() < 3e-3
    assert len(segment([picture(50, 90), picture(100, 64)], batch_size=2, threshold=0.3)) == 2


def test_a_pipeline_takes_its_model_and_image_processor(exported, opened):
    by_name = pipeline("image-segmentation", model=str(exported), **trusted(exported))(picture(64, 90))
    apart = pipeline("image-segmentation", model=opened, image_processor=load_image_processor(exported))
    for part, other in zip(apart(picture(64, 90)), by_name, strict=True):
        assert (part["label"], part["score"]) == (other["label"], other["score"])


def test_the_auto_classes_open_it(exported):
    for opener in (AutoModelForUniversalSegmentation, MaskFormerForInstanceSegmentation):
        assert isinstance(opener.from_pretrained(exported, **trusted(exported)), ExportedSegmentationModel)
    assert type(AutoImageProcessor.from_pretrained(exported)) is MaskFormerImageProcessor


def opened_by_transformers(name, **settings):
    return [
        opener.from_pretrained(name, trust_remote_code=True, **settings)
        for opener in (AutoModelForUniversalSegmentation, MaskFormerForInstanceSegmentation)
    ]


def test_a_graph_in_a_subfolder_is_opened(torch_folder):
    for model in opened_by_transformers(torch_folder.parent, subfolder=torch_folder.name):
        assert model.folder == torch_folder


@pytest.fixture
def hub(torch_folder, tmp_path, monkeypatch):
    """A cache that holds me/street with a graph, and me/streets with one in a subfolder."""
    for name, place in (("street", "."), ("streets", "torch")):
        repository = tmp_path / f"models--me--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0" * 40)
        shutil.copytree(torch_folder, repository / "snapshots" / ("0" * 40) / place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path


def test_a_graph_of_the_hub_is_opened(hub, opened_torch):
    pixels = torch.randn(1, 3, 64, 96)
    models = [
        load_model("me/street", trust_remote_code=True),
        pipeline("image-segmentation", model="me/street", trust_remote_code=True).model,
        *opened_by_transformers("me/street"),
        *opened_by_transformers("me/streets", subfolder="torch", revision="main", cache_dir=hub),
    ]
    for model in models:
        assert isinstance(model, ExportedSegmentationModel) and model.folder.is_relative_to(hub)
        assert torch.equal(model(pixels).masks_queries_logits, opened_torch(pixels).masks_queries_logits)
    with pytest.raises(ValueError, match="holds an exported graph, which cannot be trained"):
        check_not_exported("me/street", "trained")


def test_weights_beside_a_graph_have_precedence(checkpoint, torch_folder, tmp_path):
    both = shutil.copytree(torch_folder, tmp_path / "both")
    shutil.copytree(checkpoint, both, dirs_exist_ok=True)
    expected = load_model(checkpoint).state_dict()
    for trust_remote_code in (False, True):
        for model in (
            load_model(both, trust_remote_code),
            MaskFormerForInstanceSegmentation.from_pretrained(both, trust_remote_code=trust_remote_code),
            AutoModelForUniversalSegmentation.from_pretrained(both, trust_remote_code=trust_remote_code),
        ):
            assert type(model) is MaskFormerForInstanceSegmentation
            torch.testing.assert_close(model.state_dict(), expected)
    assert type(AutoModel.from_pretrained(both)) is MaskFormerModel
    check_not_exported(both, "trained")


def test_it_takes_a_batch_of_training_and_gives_tuples(opened_torch):
    batch = batch_of()
    outputs = opened_torch(**batch, segment_ids=None, output_hidden_states=False)
    assert outputs.loss is None
    found = opened_torch(**batch, return_dict=False)
    for one, other in zip(found, (outputs.class_queries_logits, outputs.masks_queries_logits), strict=True):
        torch.testing.assert_close(one, other)
    with pytest.raises(ValueError, match="has no output_hidden_states, output_attentions: it gives logits alone"):
        opened_torch(batch["pixel_values"], output_hidden_states=True, output_attentions=True)


def test_predict_writes_what_it_writes_of_the_checkpoint(checkpoint, exported, photos, tmp_path):
    results = []
    for folder in (checkpoint, exported):
        output = tmp_path / folder.name
        flags = ["--model", folder, "--inputs", photos / "val" / "images", "--output_dir", output, "--threshold", 0.3]
        predict.main([*map(str, flags), *trust(folder), "--use_cpu"])
        results.append(output)
    files = [sorted(path.relative_to(output) for path in output.rglob("*") if path.is_file()) for output in results]
    assert files[0] == files[1]
    expected, found = (json.loads((output / "panoptic.json").read_text()) for output in results)
    for one, other in zip(expected["annotations"], found["annotations"], strict=True):
        assert [part["category_id"] for part in one["segments_info"]] == [
            part["category_id"] for part in other["segments_info"]
        ]
        masks = [np.asarray(Image.open(output / "panoptic" / one["file_name"])) for output in results]
        assert (masks[0] != masks[1]).any(-1).mean() < 3e-3


def test_evaluate_measures_what_it_measures_of_the_checkpoint(checkpoint, exported, photos, tmp_path):
    results = []
    for folder in (checkpoint, exported):
        output = tmp_path / f"{folder.name}.json"
        flags = ["--model", folder, "--dataset", photos, "--id2label", photos / "labels.json", "--task", "semantic"]
        evaluate.main([*map(str, flags), *trust(folder), "--output_file", str(output), "--use_cpu"])
        results.append(json.loads(output.read_text()))
    assert results[1]["mean_iou"] == pytest.approx(results[0]["mean_iou"], abs=1e-3)
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert f"mean_iou {results[1]['mean_iou']:.4f} on 2 images" in card


def test_a_service_or_page_segments_with_it(checkpoint, exported):
    opened = Checkpoint.load(exported, trust_remote_code=exported.name == "torch")
    expected = Checkpoint.load(checkpoint)
    assert (opened.tasks, opened.task, opened.id2label, opened.stuff) == (
        expected.tasks,
        expected.task,
        expected.id2label,
        expected.stuff,
    )
    results = [
        each.segment([each.request(picture(height, 90), threshold=0.3) for height in (64, 100)])
        for each in (expected, opened)
    ]
    for one, other in zip(*results, strict=True):
        assert (one["segmentation"] != other["segmentation"]).float().mean() < 3e-3


def test_several_threads_call_it_at_once(exported, opened):
    predictor = Predictor(opened, load_image_processor(exported), "semantic")
    images = [picture(64, 90), picture(100, 64)] * 8
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: predictor([image])[0], images))
    for found, expected in zip(together, [predictor([image])[0] for image in images], strict=True):
        assert torch.equal(found, expected)


def test_a_first_image_of_a_single_position_leaves_later_ones_right(tmp_path):
    model = tiny("maskformer", "swin").eval()
    model.save_pretrained(tmp_path / "swin")
    MaskFormerImageProcessor().save_pretrained(tmp_path / "swin")
    opened = load_model(export(tmp_path / "swin", tmp_path / "openvino", "openvino"))
    for side in (32, 160):
        pixels = torch.randn(1, 3, side, side)
        with torch.no_grad():
            expected = model(pixels).masks_queries_logits
        torch.testing.assert_close(opened(pixels).masks_queries_logits, expected, rtol=0, atol=1e-3)


def test_what_is_saved_of_it_opens_again(exported, opened, tmp_path):
    pipeline("image-segmentation", model=opened, image_processor=load_image_processor(exported)).save_pretrained(
        tmp_path
    )
    again = load_model(tmp_path, **trusted(exported))
    pixels = torch.randn(1, 3, 64, 96)
    torch.testing.assert_close(again(pixels).masks_queries_logits, opened(pixels).masks_queries_logits)
