"""What a config takes, refuses and keeps."""

import copy
import json
import subprocess
import sys

import pytest
import torch
import transformers
from tiny import tiny_config, tiny_model

import modeling_maskformer
from modeling_maskformer import (
    MaskFormerConfig,
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineConfig,
    PerPixelBaselinePlusConfig,
)

CONFIGS = [MaskFormerConfig, PerPixelBaselineConfig, PerPixelBaselinePlusConfig]
every_config = pytest.mark.parametrize("config_class", CONFIGS)


@every_config
@pytest.mark.parametrize(
    ("typo", "field"),
    [("fpn_featur_size", "fpn_feature_size"), ("lable2id", "label2id"), ("back_bone_config", "backbone_config")],
)
def test_a_keyword_that_no_field_has_is_refused_with_the_nearest(config_class, typo, field):
    with pytest.raises(TypeError, match=rf"{config_class.__name__} has no field '{typo}'\. Did you mean '{field}'"):
        config_class(**{typo: 3})


def test_a_field_of_another_architecture_is_refused():
    with pytest.raises(TypeError, match="has no field 'num_queries'"):
        PerPixelBaselineConfig(num_queries=10)
    with pytest.raises(TypeError, match="has no field 'mask_loss'"):
        PerPixelBaselinePlusConfig(mask_loss="points")


def test_fields_of_other_versions_in_a_file_are_kept(tmp_path):
    config = tiny_config()
    fields = config.to_dict() | {"unheard_of": 7}
    (tmp_path / "config.json").write_text(json.dumps(fields, default=str))
    assert MaskFormerConfig.from_pretrained(tmp_path).unheard_of == 7
    assert MaskFormerConfig(**fields).unheard_of == 7
    assert copy.deepcopy(config).to_dict() == config.to_dict()


@every_config
@pytest.mark.parametrize("name", ["timm/resnet10t.c3_in1k", "resnet10t.c3_in1k", "resnet10t"])
def test_a_timm_backbone_goes_by_the_hub_s_name_too(config_class, name):
    for fields in ({"backbone": name}, {"backbone_config": {"model_type": "timm_backbone", "backbone": name}}):
        backbone = config_class(**fields).backbone_config
        assert (backbone.model_type, backbone.backbone) == ("timm_backbone", name.removeprefix("timm/"))
        assert backbone.out_indices == [1, 2, 3, 4]


def test_the_number_of_queries_may_stand_at_the_top():
    assert MaskFormerConfig(num_queries=7).decoder_config.num_queries == 7
    config = MaskFormerConfig(num_queries=7, decoder_config={"model_type": "detr", "d_model": 32})
    assert (config.decoder_config.num_queries, config.decoder_config.d_model) == (7, 32)
    assert MaskFormerConfig.from_dict(config.to_dict()).decoder_config.num_queries == 7


def test_in_a_file_the_decoders_number_of_queries_counts_as_in_transformers():
    fields = tiny_config().to_dict() | {"num_queries": 7}
    assert transformers.MaskFormerConfig.from_dict(dict(fields)).decoder_config.num_queries == 10
    assert MaskFormerConfig.from_dict(dict(fields)).decoder_config.num_queries == 10


@pytest.mark.parametrize("fields", [{}, {"pixel_decoder_layers": 1}], ids=["plain", "extended"])
def test_the_number_of_queries_is_changed_on_loading(fields, tmp_path):
    tiny_model(**fields).save_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path, num_queries=7)
    assert config.decoder_config.num_queries == 7
    for open_model in (
        MaskFormerForInstanceSegmentation.from_pretrained,
        transformers.AutoModelForUniversalSegmentation.from_pretrained,
    ):
        model = open_model(tmp_path, num_queries=7, ignore_mismatched_sizes=True).eval()
        assert model(torch.randn(1, 3, 32, 32)).class_queries_logits.shape[1] == 7


@pytest.mark.parametrize("name", ["num_queries", "decoder_layers"])
def test_a_decoder_without_queries_or_layers_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MaskFormerConfig(decoder_config={"model_type": "detr", name: 0})


def test_the_package_offers_trainer_and_image_processor_and_stays_light():
    for name in modeling_maskformer.__all__:
        assert getattr(modeling_maskformer, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'MaskFormerTrainr'"):
        _ = modeling_maskformer.MaskFormerTrainr
    program = "import sys, modeling_maskformer; assert not any('maskformer.training' in name for name in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("config_class", [MaskFormerConfig, PerPixelBaselineConfig])
def test_labels_may_stand_under_the_strings_of_json(config_class):
    config = config_class(id2label={"0": "road", "1": "sky"})
    assert config.id2label == {0: "road", 1: "sky"} and config.num_labels == 2


def test_an_activation_that_does_not_exist_is_named_before_the_model_is_built():
    with pytest.raises(ValueError, match=r"activation_function must be one of .*relu.*, got 'dense'"):
        tiny_config(decoder_config={"activation_function": "dense"})


@pytest.mark.parametrize("name", ["dropout", "attention_dropout", "activation_dropout"])
@pytest.mark.parametrize("value", [-1.0, 1.5, float("nan")])
def test_a_dropout_that_is_no_probability_is_named(name, value):
    with pytest.raises(ValueError, match=rf"{name} must lie in \[0, 1\], got"):
        tiny_config(decoder_config={name: value})


@pytest.mark.parametrize("value", [0, -1, 2.5, True, 2**31])
def test_what_is_no_number_of_classes_is_refused_before_their_names_are_made(value):
    with pytest.raises(ValueError, match=r"num_labels must be a whole number, 1 to 1,000,000, got"):
        tiny_config(num_labels=value)
