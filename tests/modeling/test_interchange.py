"""Checkpoints of this package and of transformers load in each other and give the same numbers."""

import json
import subprocess
import sys

import pytest
import torch
import transformers
from models import tiny
from tiny import BACKBONES, tiny_config, tiny_model

import modeling_maskformer
from modeling_maskformer import MaskFormerConfig, MaskFormerForInstanceSegmentation

PIXELS = (2, 3, 96, 160)  # multiples of 32: others are padded here, as by the original, but not there


def _spread_weights(model):
    """Every weight random, norms and statistics too: a mixed-up pair would show."""
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif tensor.is_floating_point() and "empty_weight" not in name:
                tensor.add_(torch.randn_like(tensor) * 0.05)
    return model


def _assert_nothing_left(info):
    assert not any(info.values()), info


def _targets(size):
    masks = [(torch.rand(3, *size) > 0.6).float(), (torch.rand(1, *size) > 0.5).float()]
    return {"mask_labels": masks, "class_labels": [torch.tensor([0, 1, 1]), torch.tensor([4])]}


def _assert_same_numbers(ours, theirs):
    pixels = torch.randn(*PIXELS)
    targets = _targets(PIXELS[-2:])
    ours.config.use_auxiliary_loss = False
    with torch.no_grad():
        mine, other = ours(pixels, **targets), theirs(pixels, **targets)
    for name in ("class_queries_logits", "masks_queries_logits"):
        scale = float(other[name].abs().max())
        torch.testing.assert_close(mine[name], other[name], atol=1e-4 * scale, rtol=0)
    torch.testing.assert_close(mine.loss, other.loss, rtol=1e-4, atol=0)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_transformers_loads_our_checkpoint(backbone, tmp_path):
    ours = _spread_weights(tiny_model(backbone)).eval()
    ours.save_pretrained(tmp_path)
    theirs, info = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    _assert_nothing_left(info)
    _assert_same_numbers(ours, theirs.eval())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_we_load_the_checkpoint_of_transformers(backbone, tmp_path):
    fields = tiny_config(backbone).to_dict()
    theirs = _spread_weights(
        transformers.MaskFormerForInstanceSegmentation(transformers.MaskFormerConfig.from_dict(fields))
    ).eval()
    theirs.save_pretrained(tmp_path)
    ours, info = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    _assert_nothing_left(info)
    assert ours.config.mask_loss == "dense"
    _assert_same_numbers(ours.eval(), theirs)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_our_own_round_trip_keeps_every_weight_and_field(backbone, tmp_path):
    ours = _spread_weights(tiny_model(backbone, mask_loss="points", num_points=77, freeze_backbone_batch_norm=False))
    ours.save_pretrained(tmp_path)
    again, info = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    _assert_nothing_left(info)
    assert again.config.use_auxiliary_loss is True
    assert (again.config.mask_loss, again.config.num_points) == ("points", 77)
    assert again.config.freeze_backbone_batch_norm is False
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


OWN_PARTS = {
    "encoder layers": ("maskformer", {"pixel_decoder_layers": 1}),
    "projection": ("maskformer", {"enforce_input_projection": True, "decoder_config": {"d_model": 64}}),
    "dilations": (
        "maskformer",
        {
            "backbone_config": {"model_type": "timm_backbone", "backbone": "resnet26"},
            "last_stage_dilations": [1, 2],
        },
    ),
    "pyramid": ("maskformer", {"backbone_config": {"model_type": "timm_backbone", "backbone": "test_vit"}}),
    "baseline": ("per_pixel", {}),
    "baseline with queries": ("per_pixel_plus", {}),
}

# the process knows transformers alone
LOADING = """
import json, sys, transformers
loaded = []
for folder in json.loads(sys.argv[1]):
    for name in ("MaskFormerForInstanceSegmentation", "MaskFormerModel", "AutoModelForUniversalSegmentation",
                 "AutoModel", "MaskFormerConfig", "AutoConfig"):
        try:
            getattr(transformers, name).from_pretrained(folder)
            loaded.append([folder, name])
        except ValueError as error:
            assert "maskformer-" in str(error), error
assert not any("modeling_maskformer" == name.split(".")[0] for name in sys.modules)
print(json.dumps(loaded))
"""


def _own_model(part):
    kind, fields = OWN_PARTS[part]
    if kind == "maskformer":
        return tiny_model("resnet", **fields).eval()
    return tiny(kind, **fields).eval()


def test_no_class_of_transformers_opens_what_it_would_compute_otherwise(tmp_path):
    for part in OWN_PARTS:
        _own_model(part).save_pretrained(tmp_path / part)
    folders = json.dumps([str(tmp_path / part) for part in OWN_PARTS])
    result = subprocess.run([sys.executable, "-c", LOADING, folders], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("part", OWN_PARTS)
@pytest.mark.parametrize("earlier", [False, True], ids=["now", "earlier"])
def test_what_transformers_refuses_opens_here(part, earlier, tmp_path):
    model = _own_model(part)
    model.save_pretrained(tmp_path)
    if earlier:  # as versions wrote it that did not mark the decoder
        file = tmp_path / "config.json"
        fields = json.loads(file.read_text())
        fields["decoder_config"]["model_type"] = "detr"
        file.write_text(json.dumps(fields))
    again, info = type(model).from_pretrained(tmp_path, output_loading_info=True)
    _assert_nothing_left(info)
    assert again.config.decoder_config.model_type == "detr"
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert type(config) is type(model.config) and config.decoder_config.model_type == "detr"
    with torch.no_grad():
        pixels = torch.randn(1, 3, 64, 64)
        torch.testing.assert_close(again.eval()(pixels)[0], model(pixels)[0], rtol=0, atol=0)


def test_deep_supervision_switched_off_stays_off(tmp_path):
    tiny_model(use_auxiliary_loss=False).save_pretrained(tmp_path)
    assert MaskFormerConfig.from_pretrained(tmp_path).use_auxiliary_loss is False


@pytest.mark.parametrize("here", [True, False])
def test_deep_supervision_switched_on_in_transformers_is_on_here(here, tmp_path):
    tiny_model(use_auxiliary_loss=here).save_pretrained(tmp_path)
    theirs = transformers.MaskFormerForInstanceSegmentation.from_pretrained(tmp_path, use_auxiliary_loss=True)
    theirs.save_pretrained(tmp_path / "theirs")
    assert MaskFormerConfig.from_pretrained(tmp_path / "theirs").use_auxiliary_loss is True
    assert MaskFormerConfig(deep_supervision=False).use_auxiliary_loss is False


@pytest.mark.parametrize("with_info", [True, False])
def test_the_weight_of_no_object_is_that_asked_for_on_loading(with_info, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    for model_class in (MaskFormerForInstanceSegmentation, transformers.AutoModelForUniversalSegmentation):
        model = model_class.from_pretrained(tmp_path, no_object_weight=0.5, output_loading_info=with_info)
        model = model[0] if with_info else model
        assert model.config.no_object_weight == 0.5
        assert model.criterion.empty_weight.tolist() == [1.0] * 5 + [0.5]


def test_auto_classes_give_this_package(tmp_path):
    tiny_model().save_pretrained(tmp_path)
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is MaskFormerConfig
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is modeling_maskformer.MaskFormerModel
    for auto_class in (
        transformers.AutoModelForInstanceSegmentation,
        transformers.AutoModelForUniversalSegmentation,
        transformers.AutoModelForImageSegmentation,
    ):
        assert type(auto_class.from_pretrained(tmp_path)) is MaskFormerForInstanceSegmentation


def test_another_label_set_replaces_only_the_classifier(tmp_path):
    ours = tiny_model(num_labels=5)
    ours.save_pretrained(tmp_path)
    again, info = MaskFormerForInstanceSegmentation.from_pretrained(
        tmp_path, num_labels=9, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert again.class_predictor.weight.shape == (10, 32)
    changed = {key[0] for key in info["mismatched_keys"]}
    assert changed == {"class_predictor.weight", "class_predictor.bias", "criterion.empty_weight"}
    assert again.criterion.empty_weight.tolist() == pytest.approx([1.0] * 9 + [0.1])
    # the new classifier starts as a fresh one does
    assert 0 < again.class_predictor.weight.abs().max() <= 1 / 32**0.5
