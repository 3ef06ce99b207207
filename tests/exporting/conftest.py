"""A tiny checkpoint, and what it was exported to."""

import pytest
import torch
from exports import PACKAGES, export
from models import tiny

from image_processing import MaskFormerImageProcessor
from modeling_maskformer.inference.loading import load_model


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session", params=PACKAGES)
def exported(request, checkpoint, tmp_path_factory):
    """A folder of each format, called as its format."""
    if request.param == "torch":
        return request.getfixturevalue("torch_folder")
    return export(checkpoint, tmp_path_factory.mktemp("exported") / request.param, request.param)


@pytest.fixture(scope="session")
def opened(exported):
    return load_model(exported, trust_remote_code=exported.name == "torch")


@pytest.fixture(scope="session")
def torch_folder(checkpoint, tmp_path_factory):
    """A folder that needs no package of the extra."""
    return export(checkpoint, tmp_path_factory.mktemp("exported") / "torch", "torch")


@pytest.fixture(scope="session")
def opened_torch(torch_folder):
    return load_model(torch_folder, trust_remote_code=True)
