"""The card that scripts/train.py leaves with a model: the Hub can read it, and every number in it was measured."""

import json
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from PIL import Image
from script_runs import BRIEF, SMALL, run

from modeling_maskformer.commands import train
from modeling_maskformer.data.datasets import open_dataset
from modeling_maskformer.data.statistics import percent
from modeling_maskformer.evaluation.metrics.mean_iou import MeanIoU
from modeling_maskformer.inference.predictor import Predictor
from modeling_maskformer.training import run as training_run
from modeling_maskformer.training.cards.card_text import is_signed
from modeling_maskformer.training.trainer import MaskFormerTrainer

MAIN_METRIC = {"semantic": "mean_iou", "instance": "ap", "panoptic": "pq"}
DATASET = {"semantic": "street", "instance": "street_objects", "panoptic": "street_objects"}
TASKS = list(MAIN_METRIC)
SPLITS = ("train", "val")


def card_in(folder):
    return ModelCard.load(folder / "README.md")


def rows_of_tables(text):
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]


@pytest.mark.parametrize("task", TASKS)
def test_the_front_matter_is_what_the_hub_asks_for(trained, task, request):
    fields = card_in(trained[task]).data.to_dict()
    dataset = request.getfixturevalue(DATASET[task]).name
    assert fields["library_name"] == "transformers" and fields["pipeline_tag"] == "image-segmentation"
    assert f"{task}-segmentation" in fields["tags"] and "maskformer" in fields["tags"]
    assert MAIN_METRIC[task] in fields["metrics"]
    assert "datasets" not in fields and "base_model" not in fields  # it was not made from anything on the Hub
    (model,) = fields["model-index"]
    (result,) = model["results"]
    assert model["name"] == task and result["task"]["type"] == "image-segmentation"
    assert result["dataset"] == {"name": dataset, "type": "unknown", "split": "val"}


@pytest.mark.parametrize("task", TASKS)
def test_results_are_those_of_the_evaluation_to_the_last_digit(trained, task):
    results = json.loads((trained[task] / "eval_results.json").read_text())
    card = card_in(trained[task])
    measured = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert measured == {name: value for name, value in results.items() if isinstance(value, float)}

    def shown(value):
        return "-" if value is None else f"{value:.4f}"

    rows = rows_of_tables(card.text)
    for name, value in results.items():
        if name != "per_class":
            assert [name, shown(value)] in rows
    for label, numbers in results["per_class"].items():
        row = [label, *map(shown, numbers.values())]
        assert row in rows if any(number is not None for number in numbers.values()) else row not in rows


@pytest.mark.parametrize("task", TASKS)
def test_the_best_and_the_worst_image_and_the_plot_of_the_training_are_there(trained, task):
    text = card_in(trained[task]).text
    best, worst, plot = re.findall(r"!\[.*\]\((.*)\)", text)
    for picture in (best, worst):
        assert Image.open(trained[task] / picture).width > 2 * 48
    assert plot == "training.png" and Image.open(trained[task] / plot).width > 400
    captions = dict(re.findall(r"The (best|worst) of 3 images by their own score: [\w ]+ ([\d.]+)\.", text))
    assert 0 <= float(captions["worst"]) <= float(captions["best"]) <= 1


def test_pictures_are_ordered_by_the_score_of_each_image_measured_alone(street, tmp_path):
    """Against the metric of each validation image by itself, with the model that was saved."""
    flags = ["--max_steps", 20, "--learning_rate", 3e-3, "--num_pictures", 3]
    out = ["--output_dir", tmp_path / "run", "--use_cpu", "--per_device_train_batch_size", 2, "--crop_size", 32]
    run(train.main, "--dataset", street, "--task", "semantic", *out, *SMALL, *flags, "--eval_strategy", "no")
    predictor = Predictor.from_pretrained(tmp_path / "run", device="cpu")
    scores = {}
    for sample in open_dataset(str(street), "semantic").splits["val"]:
        metric = MeanIoU(predictor.model.config.id2label)
        metric.update(predictor([sample.image])[0], sample.segments)
        scores[sample.name] = metric.compute()["mean_iou"]
    assert len(set(scores.values())) == 3
    best_first = sorted(scores, key=lambda name: -scores[name])
    files = sorted((tmp_path / "run" / "pictures").iterdir())
    assert [file.stem for file in files] == [f"{place:02d}_{name}" for place, name in enumerate(best_first, 1)]
    text = card_in(tmp_path / "run").text
    for which, name, file in zip(("best", "median", "worst"), best_first, files, strict=True):
        caption = f"The {which} of 3 images by their own score: mean IoU {scores[name]:.2f}."
        assert f"(pictures/{file.name})\n\n{caption}" in text


@pytest.mark.parametrize(("task", "threshold"), [("panoptic", 0.7), ("instance", 0.5)])
def test_pictures_show_the_segments_that_count_for_the_score(street_objects, tmp_path, monkeypatch, task, threshold):
    """Average precision ranks all instances, but one of a score below 0.5 neither counts nor is drawn."""
    drawn_with = []
    monkeypatch.setattr(training_run, "draw_samples", lambda predictor, *_: drawn_with.append(predictor) or [])
    flags = ["--dataset", street_objects, "--task", task, "--output_dir", tmp_path, "--panoptic_threshold", 0.7]
    run(train.main, *flags, "--max_detections", 300, "--eval_strategy", "no", *SMALL, *BRIEF)
    assert [predictor.threshold for predictor in drawn_with] == [threshold]
    assert ("ar300" in json.loads((tmp_path / "eval_results.json").read_text())) is (task == "instance")


def test_the_images_are_counted_by_class(trained, street):
    masks = {split: [np.asarray(Image.open(file)) for file in street.glob(f"{split}/masks/*.png")] for split in SPLITS}
    text = card_in(trained["semantic"]).text
    assert "- 6 training images, all of 40x48 pixels" in text and "- 3 evaluation images, all of 40x48" in text
    for label, name in enumerate(("sky", "road", "car")):
        in_images, in_evaluation = (sum((mask == label).any() for mask in masks[split]) for split in SPLITS)
        share = np.mean([mask == label for mask in masks["train"]])
        assert [name, str(in_images), str(in_images), percent(share), str(in_evaluation)] in rows_of_tables(text)


@pytest.mark.parametrize("task", TASKS)
def test_no_folder_of_the_machine_is_told(trained, task, tmp_path):
    text = (trained[task] / "README.md").read_text()
    assert str(trained[task].parents[1]) not in text and str(tmp_path.parents[1]) not in text
    assert not re.search(r"(?<![\w.:/<])/\w+/\w+", text), "an absolute path"


def test_the_command_runs_again_and_settings_are_those_of_the_run(trained, street):
    text = card_in(trained["semantic"]).text
    (block,) = re.findall(r"```\n(maskformer .*?)```", text, re.DOTALL)
    command = shlex.split(block.replace("\\\n", ""))
    assert command[:2] == ["maskformer", "train"]
    flags = ["--dataset", street.name, "--task", "semantic", "--output_dir", "semantic", *SMALL, *BRIEF]
    assert command[2:] == [str(word) for word in flags]
    settings = dict(row for row in rows_of_tables(text) if len(row) == 2)
    assert settings["training images"] == "6" and settings["steps"] == "3" and settings["images per step"] == "2"
    assert settings["crop size"] == "32, 32" and settings["mask loss"] == "at 64 points per mask"
    assert settings["weights of cross-entropy, focal and dice loss"] == "1, 10, 2.5"
    assert settings["training time"].endswith(" seconds") and settings["hardware"].startswith("CPU")
    for library in (torch, transformers):
        assert f"{library.__name__} {library.__version__.split('+')[0]}" in text


def test_the_lines_to_use_it_run(trained, street, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", card_in(trained["semantic"]).text, re.DOTALL)
    monkeypatch.chdir(trained["semantic"].parent)
    code = block.replace("photo.jpg", str(street / "val" / "images" / "0.png"))
    exec(compile(code, "card", "exec"), {})
    assert len(block.strip().splitlines()) == 6


@pytest.fixture
def copy_of_a_run(trained, tmp_path):
    return shutil.copytree(trained["semantic"], tmp_path / "run")


def train_again(folder, street, *flags):
    run(train.main, "--dataset", street, "--task", "semantic", "--output_dir", folder, *flags, *SMALL, *BRIEF)


def test_a_new_run_replaces_its_own_card(copy_of_a_run, street):
    before = (copy_of_a_run / "README.md").read_text()
    train_again(copy_of_a_run, street, "--overwrite_output_dir", "--seed", 7)
    after = (copy_of_a_run / "README.md").read_text()
    assert "| seed | 7 |" in after and "| seed | 7 |" not in before
    assert is_signed(copy_of_a_run / "README.md")


def test_what_somebody_wrote_or_edited_stays_and_is_said(copy_of_a_run, street, caplog):
    path = copy_of_a_run / "README.md"
    path.write_text(edited := path.read_text().replace("## Use", "My notes.\n\n## Use"))
    train_again(copy_of_a_run, street, "--overwrite_output_dir")
    assert path.read_text() == edited
    assert "it stays, and no model card is written" in caplog.text
    assert (copy_of_a_run / "eval_results.json").exists()


def test_a_checkpoint_on_disk_is_no_base_model_and_named_without_its_folder(trained, street, tmp_path, monkeypatch):
    pushed = []
    monkeypatch.setattr(MaskFormerTrainer, "push_to_hub", lambda self, **_: pushed.append(card_in(tmp_path / "out")))
    monkeypatch.setattr(MaskFormerTrainer, "save_model", lambda self, *_, **__: None)
    monkeypatch.setattr(MaskFormerTrainer, "init_hf_repo", lambda self, **_: None)
    run(
        train.main,
        *("--dataset", street, "--task", "semantic", "--model", trained["semantic"]),
        *("--output_dir", tmp_path / "out", "--push_to_hub", "--hub_token", "secret", "--hub_model_id", "me/street"),
        *("--save_strategy", "no", "--no_load_best_model_at_end", *BRIEF, "--num_pictures", 0),
    )
    (card,) = pushed  # what goes to the Hub has the final results
    assert card.data.eval_results and "fine-tuned from semantic" in card.text
    assert card.data.base_model is None and "secret" not in card.text
    assert 'model="me/street"' in card.text and "![From left" not in card.text
