"""What the card of a model says about where it comes from."""

import pytest
from datasets import Dataset

from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.data_arguments import DataArguments
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.cards.model_card import RunDescription


def describe(dataset="shapes", **model):
    model = ModelArguments(**(model or {"backbone": "resnet18"}))
    return RunDescription(DataArguments(dataset), model, AugmentationArguments())


@pytest.mark.parametrize(
    ("model", "base_model", "origin"),
    [
        ({"backbone": "resnet50"}, "timm/resnet50.a1_in1k", "a new model on the backbone resnet50 with timm's"),
        (
            {"backbone": "swin-tiny"},
            "timm/swin_tiny_patch4_window7_224.ms_in1k",
            "a new model on the backbone swin-tiny with timm's",
        ),
        ({"backbone": "resnet50", "backbone_weights": "random"}, None, "with random weights"),
        (
            {"backbone": "resnet50", "backbone_weights": "/data/w.safetensors"},
            None,
            "with the weights in w.safetensors",
        ),
        ({"model": "someone/maskformer"}, "someone/maskformer", "fine-tuned from someone/maskformer"),
    ],
)
def test_what_a_model_was_made_from_is_told_and_linked_where_the_hub_has_it(model, base_model, origin):
    assert describe(**model).base_model == base_model
    assert origin in describe(**model).origin


def test_a_local_checkpoint_is_no_base_model(tmp_path):
    described = describe(model=str(tmp_path))
    assert described.base_model is None and described.origin == f"fine-tuned from {tmp_path.name}"


def test_a_dataset_on_disk_goes_by_its_last_name_and_others_by_their_own(tmp_path, monkeypatch):
    assert describe(str(tmp_path)).dataset == tmp_path.name
    monkeypatch.chdir(tmp_path)
    assert describe(".").dataset == tmp_path.name
    assert describe("someone/streets").dataset == "someone/streets"
    assert describe("/gone/streets").dataset == "streets"
    (tmp_path / "shapes").mkdir()
    assert describe("shapes").dataset == "shapes"


@pytest.mark.parametrize("name", ["streets", "someone/streets"])
def test_only_a_dataset_of_the_hub_is_linked(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert describe(name).hub_dataset == name
    (tmp_path / name).mkdir(parents=True)
    assert describe(name).hub_dataset is None


def test_no_path_that_is_gone_and_nothing_generated_or_in_memory_is_linked():
    for dataset in ("/gone/streets", "data/2024/streets", "shapes", Dataset.from_dict({"image": []})):
        assert describe(dataset).hub_dataset is None
