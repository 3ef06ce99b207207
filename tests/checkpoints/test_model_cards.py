"""The cards of the zoo: what the table says, and the table: what the package and the scripts can do."""

import json
import math
import re
import shlex
import shutil

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from original_models import ZOO_BACKBONES, OriginalModel, zoo_names
from PIL import Image

from modeling_maskformer.checkpoints import (
    find_preset,
    infer_architecture,
)
from modeling_maskformer.commands import convert
from scripts import make_model_cards
from scripts.make_model_cards import FOLDER, make_cards, outdated_cards, read_zoo

ZOO = read_zoo()
RECIPES = FOLDER.parent / "scripts" / "recipes"

# the tables of the paper and the model zoo page, in the order of zoo.yaml: written down a second time
PUBLISHED = """
39.2 40.9, 41.9 42.9, 44.5 46.7, 45.5 47.2, 46.0 48.1, 46.7 48.8, 49.8 51.0, 52.7 53.9, 54.1 55.6,
12.4, 13.9, 16.0, 16.8, 17.4,
32.4 34.4, 34.2 35.8, 37.1 38.9, 38.1 39.8, 38.0 39.3,
78.5 80.3, 79.7 81.4, 53.1 55.4,
46.5, 47.6, 47.7, 49.7, 51.8, 52.7, 34.7, 35.7
"""


def architecture_of(model):
    """What a checkpoint as the row describes it is recognised as; stand-ins without numbers."""
    fields = {"num_classes": ZOO["data"][model["data"]]["classes"]}
    if model["encoder_layers"]:
        fields["encoder_layers"] = model["encoder_layers"]
    if model["architecture"] != "maskformer":
        fields["kind"] = model["architecture"]
    with torch.device("meta"):
        return infer_architecture(zoo_names(OriginalModel(ZOO_BACKBONES[model["backbone"]](), **fields).state_dict()))


def test_the_files_are_what_the_generator_makes_of_the_table():
    assert outdated_cards(make_cards(ZOO)) == [], "run python scripts/make_model_cards.py"


def test_a_file_that_differs_is_missing_or_is_too_many_is_named_and_put_right_and_an_own_card_stays(
    tmp_path, monkeypatch
):
    shutil.copytree(FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(make_model_cards, "FOLDER", tmp_path)
    make_model_cards.main(["--check"])
    changed, missing = "maskformer-swin-tiny-ade20k.md", "maskformer-resnet50-ade20k.md"
    (tmp_path / changed).write_text((tmp_path / changed).read_text().replace("46.7", "47.7"))
    (tmp_path / missing).unlink()
    (tmp_path / "stray.md").write_text((tmp_path / changed).read_text())  # of a model that was renamed
    (tmp_path / "own.md").write_text("mine")
    with pytest.raises(SystemExit, match=f"{missing}, {changed}, stray.md"):
        make_model_cards.main(["--check"])
    make_model_cards.main([])
    make_model_cards.main(["--check"])
    assert not (tmp_path / "stray.md").exists() and (tmp_path / "own.md").read_text() == "mine"


def test_scores_are_the_published_ones():
    scores = [(model["single"], *([model["multi"]] if "multi" in model else [])) for model in ZOO["models"].values()]
    assert scores == [tuple(map(float, entry.split())) for entry in PUBLISHED.split(",")]


@pytest.mark.parametrize("name", ZOO["models"])
def test_the_front_matter_is_the_hubs_and_names_the_source_of_each_score(name):
    card = ModelCard.load(FOLDER / f"{name}.md")
    model, fields = ZOO["models"][name], card.data.to_dict()
    assert fields["library_name"] == "transformers" and fields["pipeline_tag"] == "image-segmentation"
    assert fields["license"] == "cc-by-nc-4.0" and fields["datasets"] and fields["metrics"]
    assert [result.metric_value for result in card.data.eval_results] == [
        model[score] for score in ("single", "multi") if score in model
    ]
    assert all(result.source_url == ZOO["sources"]["model_zoo"] for result in card.data.eval_results)
    assert all("published by the authors" in result.metric_name for result in card.data.eval_results)
    assert "not measured here" in card.text


@pytest.mark.parametrize("name", ZOO["models"])
def test_the_table_agrees_with_the_presets_of_the_conversion(name):
    model = ZOO["models"][name]
    data = ZOO["data"][model["data"]]
    architecture = architecture_of(model)
    preset = find_preset(architecture)
    assert (preset.dataset, preset.task, preset.num_labels) == (data["preset"], data["task"], data["classes"])
    assert [preset.shortest_edge, preset.longest_edge] == model.get("sides", data["sides"])
    if "--ignore_index" in data["options"]:
        assert data["options"] == f"--ignore_index {preset.ignore_index}"
    assert ("--reduce_labels" in data["options"]) == preset.reduce_labels
    queries = None if architecture.decoder is None else architecture.decoder.num_queries
    assert model["queries"] == (queries if model["architecture"] != "per_pixel_plus" else data["classes"])


@pytest.mark.parametrize("name", ZOO["models"])
def test_the_recipe_that_a_card_names_is_there_and_has_its_settings(name):
    model = ZOO["models"][name]
    data, training = ZOO["data"][model["data"]], ZOO["training"][model["training"]]
    recipe = yaml.safe_load((RECIPES / model["recipe"]).read_text())
    assert (recipe["task"], recipe["dataset"]) == (data["task"], data["place"])
    assert (recipe["total_batch_size"], recipe["max_steps"]) == (training["batch"], training["iterations"])
    assert float(recipe["learning_rate"]) == training["learning_rate"]
    assert float(recipe["weight_decay"]) == float(training["weight_decay"].split(",")[0])
    assert float(recipe["backbone_lr_factor"]) == training["backbone_factor"]
    warmup = 0 if training["warmup"] == "none" else int(training["warmup"].split()[0])
    assert recipe["warmup_steps"] == warmup
    assert [recipe["shortest_edge"], recipe["longest_edge"]] == model.get("sides", data["sides"])
    if model["architecture"] == "maskformer":
        assert (recipe["num_queries"], recipe["encoder_layers"]) == (model["queries"], model["encoder_layers"])
    if recipe.get("crop", True):
        assert "{} x {}".format(*recipe["crop_size"]) == training["crop"]
    options = ["--reduce_labels"] if recipe.get("reduce_labels") else []
    for flag, default in (("ignore_index", 255), ("panoptic_threshold", 0.8)):
        if recipe.get(flag, default) != default:
            options += [f"--{flag}", str(recipe[flag])]
    assert data["options"].split() == options


def test_iterations_and_batches_are_those_in_the_names_of_the_configurations():
    for name, model in ZOO["models"].items():
        training = ZOO["training"][model["training"]]
        batch, thousands = re.search(r"_bs(\d+)_(\d+)k", model["folder"]).groups()
        assert (training["batch"], training["iterations"] // 1000) == (int(batch), int(thousands)), name
        assert math.isclose(training["learning_rate"], 6e-5 if "Swin" in model["backbone"] else 1e-4), name


def test_the_conversion_command_is_one_the_script_takes(tmp_path):
    text = (FOLDER / "maskformer-swin-tiny-ade20k.md").read_text()
    command = shlex.split(next(line for line in text.splitlines() if "convert_checkpoint.py" in line))
    arguments = convert.parse_arguments(command[2:])
    assert (str(arguments.checkpoint), str(arguments.output)) == (
        "model_final_8657a5.pkl",
        "maskformer-swin-tiny-ade20k",
    )


def test_evaluation_commands_have_only_flags_that_the_script_has():
    from modeling_maskformer.commands.evaluation_arguments import EvaluationArguments
    from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser
    from modeling_maskformer.training.arguments.data_arguments import DatasetArguments

    parser = ScriptArgumentParser((EvaluationArguments, DatasetArguments))
    for name, model in ZOO["models"].items():
        text = (FOLDER / f"{name}.md").read_text().replace("\\\n", "")
        command = shlex.split(next(line for line in text.splitlines() if "scripts/evaluate.py" in line))
        evaluation, data = parser.parse(command[2:])
        assert evaluation.model == name and data.task == ZOO["data"][model["data"]]["task"]


@pytest.fixture
def ade20k_full(tmp_path, monkeypatch):
    """A folder to work in, with a picture of 847 classes where the cards expect them, and their names."""
    ids = np.resize(np.arange(847, dtype=np.uint16), (32, 32))
    for split in ("training", "validation"):
        for kind, picture in (("images", Image.new("RGB", (32, 32))), ("annotations", Image.fromarray(ids))):
            (folder := tmp_path / "data" / "ade20k_full" / kind / split).mkdir(parents=True)
            picture.save(folder / "1.png")
    (tmp_path / "labels.json").write_text(json.dumps({number: f"name {number}" for number in range(847)}))
    (tmp_path / "scripts").symlink_to(RECIPES.parent)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", [name for name, model in ZOO["models"].items() if "ade20k_full" in model["data"]])
def test_the_commands_of_ade20k_full_open_its_847_classes(name, ade20k_full):
    from modeling_maskformer.commands.evaluation_arguments import EvaluationArguments
    from modeling_maskformer.commands.train import make_parser
    from modeling_maskformer.training.arguments.argument_parser import ScriptArgumentParser
    from modeling_maskformer.training.arguments.data_arguments import DataArguments

    card = (FOLDER / f"{name}.md").read_text().replace("\\\n", "")
    header = (RECIPES / ZOO["models"][name]["recipe"]).read_text().replace("\\\n#", "").replace("#  ", "")
    header = header.replace("/where/it/is", "data/ade20k_full")
    parsers = {"evaluate": ScriptArgumentParser((EvaluationArguments, DataArguments)), "train": make_parser()}
    commands = [line for text in (card, header) for line in text.splitlines() if line.lstrip().startswith("python")]
    commands = [shlex.split(command) for command in commands if "convert_checkpoint.py" not in command]
    assert [command[1] for command in commands] == ["scripts/evaluate.py", "scripts/train.py", "scripts/train.py"]
    for _, script, *flags in commands:
        parsed = parsers[script.removeprefix("scripts/").removesuffix(".py")].parse(flags)
        (arguments,) = (group for group in parsed if isinstance(group, DataArguments))
        assert len(arguments.open(arguments.task).labels) == 847
