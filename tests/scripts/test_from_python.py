"""What README shows from Python: fine-tuning with this trainer and with transformers' own, predicting and drawing."""

import json
import re
from pathlib import Path

import datasets
import numpy as np
import pytest
import transformers
from datasets import Dataset, DatasetDict
from huggingface_hub import ModelCard
from PIL import Image
from script_runs import SMALL, run

from modeling_maskformer import (
    AugmentationArguments,
    DataArguments,
    MaskFormerForInstanceSegmentation,
    ModelArguments,
    Predictor,
    RunArguments,
    prepare_training,
    run_training,
)
from modeling_maskformer.commands import train

README = Path(__file__).resolve().parents[2] / "README.md"
NAMES = ["sky", "road", "car"]


def table_of(folder):
    """The pictures and masks of a split as a `Dataset`, with a column that names the classes."""
    files = {kind: sorted((folder / kind).glob("*.png")) for kind in ("images", "masks")}
    columns = {"image": [str(path) for path in files["images"]], "annotation": [str(path) for path in files["masks"]]}
    rows = (
        Dataset.from_dict(columns).cast_column("image", datasets.Image()).cast_column("annotation", datasets.Image())
    )
    return rows.add_column("id2label", [json.dumps(dict(enumerate(NAMES)))] * len(rows))


@pytest.fixture(scope="module")
def tables(street):
    return DatasetDict({"train": table_of(street / "train"), "validation": table_of(street / "val")})


SMALL_MODEL = dict(zip([str(word).removeprefix("--") for word in SMALL[::2]], SMALL[1::2], strict=True))


def trainer_on(dataset, output_dir, **settings):
    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "num_pictures": 1, "use_cpu": True} | settings
    return prepare_training(
        DataArguments(dataset=dataset, task="semantic"),
        ModelArguments(**SMALL_MODEL),
        AugmentationArguments(crop_size=[32]),
        RunArguments(output_dir=str(output_dir), warmup_steps=0, **settings),
    )


def test_a_loaded_dataset_trains_as_its_folder_does(tables, street, tmp_path):
    trainer = trainer_on(tables, tmp_path / "python", seed=3)
    run_training(trainer)
    flags = ["--max_steps", 2, "--per_device_train_batch_size", 2, "--crop_size", 32, "--num_pictures", 1, "--use_cpu"]
    run(
        train.main,
        *("--dataset", street, "--task", "semantic", "--output_dir", tmp_path / "command"),
        *("--seed", 3, "--warmup_steps", 0, *flags, *SMALL),
    )
    found, expected = (
        json.loads((tmp_path / name / "eval_results.json").read_text()) for name in ("python", "command")
    )
    assert found == expected and list(found["per_class"]) == NAMES


def test_evaluation_pictures_and_card_are_included(tables, tmp_path):
    given = tables["train"]
    given.info.dataset_name = "street"
    trainer = trainer_on(given, tmp_path)  # no split to measure on: a part is set aside
    run_training(trainer)
    assert trainer.evaluator.num_images == 1 and 0 <= trainer.evaluator.results["mean_iou"] <= 1
    assert len(list((tmp_path / "pictures").iterdir())) == 1
    card = ModelCard.load(tmp_path / "README.md")
    assert card.data.datasets is None and "mean_iou" in card.data.metrics  # whose it is on the Hub, nobody knows
    assert "trained on street: a new model on the backbone resnet10t" in card.text
    assert "set aside from the training images" in card.text


def test_the_trainer_can_be_used_as_that_of_transformers(tables, tmp_path):
    trainer = trainer_on(tables, tmp_path, eval_strategy="no", save_strategy="no")
    assert isinstance(trainer, transformers.Trainer)
    assert trainer.train().global_step == 2
    assert 0 <= trainer.evaluate()["eval_mean_iou"] <= 1
    trainer.save_model()
    trainer.create_model_card()
    assert (tmp_path / "model.safetensors").is_file() and "mean_iou" in (tmp_path / "README.md").read_text()


def test_streams_are_trained_on_where_there_is_one_to_validate_on(tables, tmp_path):
    streams = {"train": tables["train"].to_iterable_dataset(), "validation": tables["train"].to_iterable_dataset()}
    arguments = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    trainer = trainer_on(streams, tmp_path, **arguments)
    assert trainer.train().global_step == 2
    assert 0 <= trainer.evaluate()["eval_mean_iou"] <= 1
    with pytest.raises(ValueError, match="A stream cannot be parted into training and validation images"):
        trainer_on(streams["train"], tmp_path / "other", **arguments)


@pytest.fixture
def in_a_workplace(trained, street, tables, tmp_path, monkeypatch):
    """What the lines of README name: a dataset of the Hub, a model of the Hub, a trained model and a picture."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "street").symlink_to(trained["semantic"])
    Image.open(street / "val" / "images" / "0.png").save("photo.jpg")
    monkeypatch.setattr(datasets, "load_dataset", {"me/street": tables}.__getitem__)
    return tmp_path


def python_blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def block_with(text):
    (block,) = [block for block in python_blocks() if text in block]
    return block


def test_the_lines_of_readme_fine_tune(in_a_workplace):
    lines = block_with("prepare_training(").replace("outputs/street", "outputs/new")
    assert len([line for line in lines.splitlines() if line.strip()]) <= 12
    small = ", ".join(f"{name}={value!r}" for name, value in SMALL_MODEL.items())
    brief = ", max_steps=2, per_device_train_batch_size=2, num_pictures=0, use_cpu=True)"
    lines = lines.replace('ModelArguments(backbone="resnet50")', f"ModelArguments({small})")
    lines = re.sub(r"(RunArguments\([^)]*)\)", rf"\1{brief}", lines).replace("[512]", "[32]")
    exec(compile(lines, "README", "exec"), space := {})
    assert space["trainer"].state.global_step == 2
    assert (in_a_workplace / "outputs" / "new" / "README.md").is_file()


def test_the_lines_of_readme_train_with_transformers_own_trainer(in_a_workplace, trained):
    lines = block_with("Trainer(model").replace("facebook/maskformer-swin-tiny-ade", str(trained["semantic"]))
    lines = re.sub(r"(TrainingArguments\([^)]*)\)", r'\1, max_steps=2, use_cpu=True, report_to="none")', lines)
    exec(compile(lines, "README", "exec"), space := {})
    trainer = space["trainer"]
    assert type(trainer) is transformers.Trainer and trainer.state.global_step == 2
    assert type(trainer.model) is MaskFormerForInstanceSegmentation
    assert trainer.model.config.id2label == dict(enumerate(NAMES))
    saved = Predictor.from_pretrained("outputs/plain", task="semantic").model.config
    assert saved.label2id == {name: number for number, name in enumerate(NAMES)}


def test_the_lines_of_readme_predict_and_draw(in_a_workplace):
    exec(compile(block_with("predictor.draw"), "README", "exec"), space := {})
    assert space["prediction"].shape == (40, 48)
    assert np.asarray(Image.open("photo_seen.png")).shape == (360, 432, 3)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft
def test_the_lines_of_readme_put_adapters_on_the_decoder_of_a_timm_model(in_a_workplace):
    pytest.importorskip("peft")
    exec(compile(block_with("LoraConfig"), "README", "exec"), space := {})
    adapters = [name for name, _ in space["model"].named_modules() if name.endswith("lora_A")]
    assert adapters and all("transformer_module.decoder" in name for name in adapters)
