"""Parameter groups and schedules against the recipes, worked out by hand."""

import pytest
import timm
import torch
from models import tiny
from torch import nn

from modeling_maskformer.training.optimizer import _is_norm, parameter_groups, poly_schedule, step_schedule


class RmsNormOfALibrary(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)
        self.own_norm = RmsNormOfALibrary()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.frozen = nn.Parameter(torch.zeros(1), requires_grad=False)


class PixelLevelModule(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.decoder = nn.Sequential(nn.Conv2d(4, 4, 1), nn.GroupNorm(2, 4))


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.pixel_level_module = PixelLevelModule()
        self.queries = nn.Embedding(5, 4)


class Segmenter(nn.Module):
    """The model's outline: what matters to the groups are names and layer types."""

    def __init__(self):
        super().__init__()
        self.model = Inner()
        self.classifier = nn.Linear(4, 3)
        self.second_classifier = nn.Linear(4, 3, bias=False)
        self.second_classifier.weight = self.classifier.weight  # shared: counts once


def names_by_group(model, groups):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {group["name"]: {names[parameter] for parameter in group["params"]} for group in groups}


def test_norms_embeddings_and_position_tables_are_not_decayed():
    model = Segmenter()
    groups = parameter_groups(model, learning_rate=1e-4, weight_decay=0.01, backbone_lr_factor=0.1)
    encoder, decoder = "model.pixel_level_module.encoder.", "model.pixel_level_module.decoder."
    assert names_by_group(model, groups) == {
        "backbone": {encoder + "conv.weight", encoder + "conv.bias"},
        "backbone_no_decay": {
            encoder + "bn.weight",
            encoder + "bn.bias",
            encoder + "own_norm.weight",
            encoder + "relative_position_bias_table",
        },
        "head": {decoder + "0.weight", decoder + "0.bias", "classifier.weight", "classifier.bias"},
        "head_no_decay": {decoder + "1.weight", decoder + "1.bias", "model.queries.weight"},
    }
    settings = {group["name"]: (group["lr"], group["weight_decay"]) for group in groups}
    assert settings == {
        "backbone": (pytest.approx(1e-5), 0.01),
        "backbone_no_decay": (pytest.approx(1e-5), 0.0),
        "head": (1e-4, 0.01),
        "head_no_decay": (1e-4, 0.0),
    }


class OnBackbone(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    def get_backbone(self):
        return self.backbone


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("tiny_vit_5m_224", 10),
        ("efficientformerv2_s0", 5),
        ("efficientformer_l1", 1),
        ("levit_128s", 11),
        ("swinv2_tiny_window8_256", 48),
        ("twins_svt_small", 8),
        ("resnet50", 0),
    ],
)
def test_what_timm_does_not_decay_is_not_decayed_in_backbones_either(name, count):
    with torch.device("meta"):
        shapes = {p.shape for p in _undecayed_by_timm(timm.create_model(name))}
        model = OnBackbone(timm.create_model(name, features_only=True))
    alone = {p for group in parameter_groups(model, 1e-3, 0.01) if group["weight_decay"] == 0 for p in group["params"]}
    norms = {p for m in model.modules() if _is_norm(m) for p in m.parameters(recurse=False)}
    assert len(alone - norms) == count
    assert {p.shape for p in alone - norms} == shapes


def _undecayed_by_timm(model):
    names = getattr(model, "no_weight_decay", set)()
    return {parameter for name, parameter in model.named_parameters() if name in names}


def with_adapters(model):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["query", "value", "q_proj", "v_proj"]))


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of peft
@pytest.mark.parametrize("wrap", [with_adapters, torch.compile])
def test_the_backbone_of_a_wrapped_model_has_its_own_rate(wrap):
    wrapped = wrap(tiny("maskformer", "swin"))
    rates = {p: group["lr"] for group in parameter_groups(wrapped, 1e-3, 0.01, 0.1) for p in group["params"]}
    trained = {name: p for name, p in wrapped.named_parameters() if p.requires_grad}
    assert rates.keys() == set(trained.values())
    expected = {name: 1e-4 if "pixel_level_module.encoder." in name else 1e-3 for name in trained}
    assert {name: pytest.approx(rates[p]) for name, p in trained.items()} == expected
    assert len(set(expected.values())) == 2


def test_each_trainable_parameter_is_in_exactly_one_group():
    model = Segmenter()
    in_groups = [p for group in parameter_groups(model, 1e-4, 0.01) for p in group["params"]]
    assert len(in_groups) == len(set(in_groups))
    assert set(in_groups) == {p for p in model.parameters() if p.requires_grad}


def test_everything_is_decayed_on_request():
    groups = parameter_groups(Segmenter(), 1e-4, 0.01, decay_norms_and_embeddings=True)
    assert {group["name"]: group["weight_decay"] for group in groups} == {"backbone": 0.01, "head": 0.01}


def rates(optimizer, schedule, steps):
    """The learning rates of each group at every step."""
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return torch.tensor(found, dtype=torch.float64)


def two_groups():
    head, backbone = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    return torch.optim.AdamW([{"params": [head], "lr": 1.0}, {"params": [backbone], "lr": 0.1}])


def test_poly_schedule_falls_to_zero_and_keeps_the_factor_of_the_backbone():
    optimizer = two_groups()
    found = rates(optimizer, poly_schedule(optimizer, num_training_steps=10), 11)
    expected = torch.tensor([((10 - step) / 10) ** 0.9 for step in range(11)], dtype=torch.float64)
    torch.testing.assert_close(found[:, 0], expected)
    torch.testing.assert_close(found[:, 1], expected * 0.1)
    assert found[10, 0] == 0 and found[9, 0] > 0


def test_warmup_rises_linearly_from_its_factor_and_then_follows_the_poly_curve():
    optimizer = two_groups()
    found = rates(optimizer, poly_schedule(optimizer, 100, power=1.0, warmup_steps=4, warmup_factor=0.2), 6)[:, 0]
    poly = torch.tensor([1.0, 0.99, 0.98, 0.97, 0.96, 0.95], dtype=torch.float64)
    torch.testing.assert_close(found / poly, torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0, 1.0], dtype=torch.float64))


def test_step_schedule_multiplies_at_each_milestone():
    optimizer = two_groups()
    found = rates(optimizer, step_schedule(optimizer, milestones=[3, 5], gamma=0.1, warmup_steps=1), 7)[:, 0]
    expected = torch.tensor([1e-6, 1, 1, 0.1, 0.1, 0.01, 0.01], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
