"""What is loaded of a checkpoint, and what its config says of the classes."""

import json

import pytest
import torch
from models import tiny
from transformers import AutoModelForUniversalSegmentation

from modeling_maskformer import MaskFormerForInstanceSegmentation
from modeling_maskformer.inference import exported_folder
from modeling_maskformer.inference.loading import category_ids_of, load_model
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.model_building import build_model


def dtypes_of(model):
    return {parameter.dtype for parameter in model.parameters()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_checkpoint_in_half_precision_is_loaded_and_trained_in_float32(tmp_path, dtype):
    saved = tiny().to(dtype)
    saved.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    trained = build_model(ModelArguments(model=str(tmp_path)), {0: "sky", 1: "road"}, "semantic")
    assert dtypes_of(loaded) == dtypes_of(trained) == {torch.float32}
    torch.testing.assert_close(loaded.class_predictor.weight, saved.class_predictor.weight.float())
    assert dtypes_of(load_model(tmp_path, dtype="auto")) == {dtype}  # whoever asks for it


def test_it_is_asked_once_whether_a_checkpoint_is_an_export(tmp_path, monkeypatch):
    tiny().save_pretrained(tmp_path)
    asked, find = [], exported_folder.cached_file
    monkeypatch.setattr(
        exported_folder, "cached_file", lambda *place, **settings: asked.append(place) or find(*place, **settings)
    )
    load_model(tmp_path)
    assert asked == [(tmp_path, exported_folder.MANIFEST)]  # on the Hub each is a request


def test_names_out_of_json_have_the_ids_of_their_classes(tmp_path):
    ids, names = list(range(100, 112)), {label: f"name {label}" for label in range(12)}
    tiny(num_labels=12, id2label=names, category_ids=ids).save_pretrained(tmp_path)
    for opener in (MaskFormerForInstanceSegmentation, AutoModelForUniversalSegmentation):
        config = opener.from_pretrained(tmp_path, id2label=json.loads(json.dumps(names))).config
        assert config.id2label == names
        assert category_ids_of(config) == dict(enumerate(ids))


def test_other_names_do_not_have_the_category_ids_of_those_before(tmp_path):
    tiny(num_labels=2, id2label={0: "cat", 1: "dog"}, category_ids=[17, 18]).save_pretrained(tmp_path)
    for opener in (MaskFormerForInstanceSegmentation, AutoModelForUniversalSegmentation):
        assert category_ids_of(opener.from_pretrained(tmp_path).config) == {0: 17, 1: 18}
        assert category_ids_of(opener.from_pretrained(tmp_path, id2label={0: "car", 1: "bus"}).config) == {0: 0, 1: 1}
        given = opener.from_pretrained(tmp_path, id2label={0: "car", 1: "bus"}, category_ids=[3, 6]).config
        assert category_ids_of(given) == {0: 3, 1: 6}
