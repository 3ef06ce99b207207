"""scripts/recipes/*.yaml are the paper's recipes: each file against a table of its numbers, as train.py reads it.

finetune_small.yaml is train.py's own.

The numbers are those of the paper's appendix and of the original's configurations (facebookresearch/MaskFormer).
"""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path

import pytest
import torch
import yaml
from script_runs import SMALL, run

from modeling_maskformer import (
    MaskFormerForInstanceSegmentation,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselinePlusForSemanticSegmentation,
)
from modeling_maskformer.commands import train
from modeling_maskformer.data.views.augmentation import AugmentationConfig
from modeling_maskformer.training.arguments.model_arguments import ARCHITECTURE, LOSS_WEIGHTS, MASK_LOSS
from modeling_maskformer.training.model_building import build_model, normalization_of
from modeling_maskformer.training.trainer import MaskFormerTrainer

FOLDER = Path(__file__).parents[3] / "scripts" / "recipes"
DETR_EDGES = (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
RESNET = {"lr": 1e-4, "decay": 1e-4, "factor": 0.1}
SWIN = {"lr": 6e-5, "decay": 0.01, "factor": 1.0, "warmup": 1500, "warmup_start": 1e-6}


@dataclass
class Recipe:
    """A row of the table for one backbone.

    Edges are lengths of the short edge in training: the lowest and the highest, in steps of a tenth of `edge_unit`.
    """

    classes: int
    crop: tuple[int, int] | None
    batch: int
    steps: int
    lr: float
    decay: float
    factor: float
    test_size: tuple[int, int]
    edges: tuple[int, int] = (0, 0)
    edge_unit: int = 0
    max_long_edge: int = 0
    warmup: int = 0
    warmup_start: float = 1.0
    step_at: int | None = None
    encoder_layers: int = 0
    task: str = "semantic"
    architecture: str = "maskformer"
    ignore: int = 255
    reduce: bool = False
    threshold: float = 0.8


def semantic(classes, crop, batch, steps, base, top=2.0, unit=None, **numbers):
    unit = unit or min(crop)
    sizes = {"edges": (unit // 2, round(top * unit)), "edge_unit": unit, "max_long_edge": 4 * unit}
    return Recipe(classes, crop, batch, steps, **(sizes | {"test_size": (unit, 4 * unit)} | base | numbers))


def ade20k(base, size=512):
    return semantic(150, (size, size), 16, 160_000, base, reduce=True)


def ade20k_full():
    return semantic(847, (512, 512), 16, 200_000, RESNET, ignore=65535)


def coco_stuff():
    return semantic(171, (640, 640), 32, 60_000, RESNET, top=1.5)


def with_baselines(data, recipe):
    """The recipe with ResNet-50 and those of the per-pixel baselines, which differ in the architecture only."""
    baselines = ("per_pixel", "per_pixel_plus")
    return {f"{data}_r50": recipe} | {f"{data}_{name}_r50": replace(recipe, architecture=name) for name in baselines}


def cityscapes():
    return semantic(19, (512, 1024), 16, 90_000, RESNET, unit=1024, test_size=(1024, 2048))


def coco(base, **numbers):
    fixed = {"edges": (480, 800), "max_long_edge": 1333, "step_at": 369_600, "task": "panoptic"}
    return Recipe(133, None, 64, 554_400, test_size=(800, 1333), **(fixed | base | numbers))


def ade20k_panoptic():
    return semantic(150, (640, 640), 16, 720_000, RESNET, task="panoptic", threshold=0.7, encoder_layers=6)


COCO_RESNET = RESNET | {"warmup": 10, "encoder_layers": 6}
RECIPES = {
    **with_baselines("ade20k_semantic", ade20k(RESNET)),
    "ade20k_semantic_r101": ade20k(RESNET),
    "ade20k_semantic_r101c": ade20k(RESNET),
    "ade20k_semantic_swin_tiny": ade20k(SWIN),
    "ade20k_semantic_swin_small": ade20k(SWIN),
    "ade20k_semantic_swin_base": ade20k(SWIN, 640),
    "ade20k_semantic_swin_large": ade20k(SWIN, 640),
    **with_baselines("ade20k_full_semantic", ade20k_full()),
    "ade20k_full_semantic_r101": ade20k_full(),
    "ade20k_full_semantic_r101c": ade20k_full(),
    **with_baselines("coco_stuff_10k_semantic", coco_stuff()),
    "coco_stuff_10k_semantic_r101": coco_stuff(),
    "coco_stuff_10k_semantic_r101c": coco_stuff(),
    "cityscapes_semantic_r101": cityscapes(),
    "cityscapes_semantic_r101c": cityscapes(),
    "mapillary_vistas_semantic_r50": semantic(
        65, (1280, 1280), 16, 300_000, RESNET, unit=2048, test_size=(2048, 2048), ignore=65
    ),
    "coco_panoptic_r50_6enc": coco(COCO_RESNET),
    "coco_panoptic_r101_6enc": coco(COCO_RESNET),
    "coco_panoptic_swin_tiny": coco(SWIN),
    "coco_panoptic_swin_small": coco(SWIN),
    "coco_panoptic_swin_base": coco(SWIN),
    "coco_panoptic_swin_large": coco(SWIN, max_long_edge=1000),
    "ade20k_panoptic_r50_6enc": ade20k_panoptic(),
    "ade20k_panoptic_r101_6enc": ade20k_panoptic(),
}

MODELS = {
    "maskformer": MaskFormerForInstanceSegmentation,
    "per_pixel": PerPixelBaselineForSemanticSegmentation,
    "per_pixel_plus": PerPixelBaselinePlusForSemanticSegmentation,
}

# embed_dim, depths, heads, window, and the size of the images of the pretraining
SWINS = {
    "tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24], 7, 224),
    "small": (96, [2, 2, 18, 2], [3, 6, 12, 24], 7, 224),
    "base": (128, [2, 2, 18, 2], [4, 8, 16, 32], 12, 384),
    "large": (192, [2, 2, 18, 2], [6, 12, 24, 48], 12, 384),
}


@pytest.fixture(scope="module")
def parser():
    return train.make_parser()


@pytest.fixture
def load(parser, tmp_path):
    """What train.py reads: data, model, augmentation and run of a file, with flags after it."""

    def parse(name, *flags):
        return parser.parse([str(FOLDER / f"{name}.yaml"), "--output_dir", str(tmp_path), "--use_cpu", *flags])

    return parse


def test_there_is_a_file_for_each_row_and_backbone_and_no_other():
    assert {file.stem for file in FOLDER.iterdir()} == {*RECIPES, "finetune_small"}
    assert all(file.suffix == ".yaml" for file in FOLDER.iterdir())


@pytest.mark.parametrize("name", RECIPES)
def test_data_and_augmentation_are_those_of_the_paper(load, name):
    expected = RECIPES[name]
    data, _, augmentation, run = load(name)
    assert (data.task, data.ignore_index, data.reduce_labels) == (expected.task, expected.ignore, expected.reduce)
    assert (augmentation.shortest_edge, augmentation.longest_edge) == expected.test_size
    assert run.panoptic_threshold == expected.threshold
    config = augmentation.config()
    assert config.crop_size == expected.crop
    assert config.max_long_edge == expected.max_long_edge
    assert config.horizontal_flip == 0.5 and config.single_category_max_area == 1.0
    assert (config.early_crop_probability > 0) == (expected.crop is None)
    colours = (config.brightness, config.contrast, config.saturation, config.hue)
    if expected.crop is None:
        assert config.short_edges == DETR_EDGES and colours == (0, 0, 0, 0)
        assert (config.early_crop_short_edges, config.early_crop_range) == ((400, 500, 600), (384, 600))
        assert config.early_crop_probability == 0.5
        return
    assert colours == (32, 0.5, 0.5, 36)  # 36 degrees are SSD's 18 of OpenCV's half degrees
    edges = config.short_edges or scaled_edges(config)
    tenths = range(5, round(10 * expected.edges[1] / expected.edge_unit) + 1)
    assert edges == pytest.approx([tenth * expected.edge_unit / 10 for tenth in tenths], abs=1)
    assert (edges[0], edges[-1]) == expected.edges


def scaled_edges(config):
    low, high = config.scale_range
    count = round((high - low) / config.scale_step)
    return [min(config.crop_size) * (low + number * config.scale_step) for number in range(count + 1)]


def test_cocos_augmentation_is_detrs(load):
    assert load("coco_panoptic_r50_6enc")[2].config() == AugmentationConfig(
        crop_size=None,
        short_edges=tuple(range(480, 801, 32)),
        max_long_edge=1333,
        early_crop_probability=0.5,
        **dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0.0),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_batch_is_the_papers_on_any_number_of_devices(load, name):
    run = load(name)[3]
    assert run.total_batch_size == RECIPES[name].batch
    assert run.per_device_train_batch_size * run.gradient_accumulation_steps == RECIPES[name].batch
    run = load(name, "--per_device_train_batch_size", "16")[3]
    assert run.per_device_train_batch_size * run.gradient_accumulation_steps == RECIPES[name].batch


@pytest.mark.parametrize("name", RECIPES)
def test_model_optimizer_and_schedule_are_those_of_the_paper(load, name):
    expected = RECIPES[name]
    data, arguments, _, run = load(name, "--backbone_weights", "random")
    with torch.device("meta"):
        model = build_model(arguments, {number: f"class_{number}" for number in range(expected.classes)}, data.task)
    check_model(model, name, expected)

    trainer = object.__new__(MaskFormerTrainer)  # without what needs the weights
    trainer.args, trainer.model, trainer.optimizer, trainer.lr_scheduler = run, model, None, None
    optimizer, schedule = trainer.create_optimizer(), trainer.create_scheduler(run.max_steps)
    assert type(optimizer) is torch.optim.AdamW
    check_groups(optimizer, model, expected)
    assert run.max_grad_norm == 0.01
    assert run.max_steps == expected.steps
    for multiplier in schedule.lr_lambdas:
        for step in (0, 1, 5, 10, 750, 1500, 30_000, 369_599, 369_600, 500_000):
            if step < expected.steps:
                assert multiplier(step) == pytest.approx(rate(expected, step)), step


def rate(recipe, step):
    """The part of the learning rate at a step."""
    part = recipe.warmup_start + (1 - recipe.warmup_start) * step / recipe.warmup if step < recipe.warmup else 1.0
    if recipe.step_at is None:
        return part * (1 - step / recipe.steps) ** 0.9
    return part * (0.1 if step >= recipe.step_at else 1.0)


def check_model(model, name, expected):
    config = model.config
    assert config.segmentation_task == expected.task and config.num_labels == expected.classes
    assert type(model) is MODELS[expected.architecture]
    assert (config.fpn_feature_size, config.mask_feature_size) == (256, 256)
    if expected.architecture != "per_pixel":
        queries = 100 if expected.architecture == "maskformer" else expected.classes
        decoder = config.decoder_config
        assert config.use_auxiliary_loss
        assert (decoder.d_model, decoder.num_queries, decoder.decoder_layers) == (256, queries, 6)
        assert (decoder.decoder_attention_heads, decoder.decoder_ffn_dim, decoder.dropout) == (8, 2048, 0.1)
        assert (decoder.encoder_attention_heads, decoder.encoder_ffn_dim) == (8, 2048)
    if expected.architecture == "maskformer":
        assert config.mask_loss == "dense"
        assert (config.no_object_weight, config.mask_weight, config.dice_weight) == (0.1, 20, 1)
    layers = getattr(model.model.pixel_level_module.decoder, "encoder", None)
    assert (0 if layers is None else len(layers.layers)) == expected.encoder_layers
    backbone = model.get_backbone()
    if "swin" in name:
        swin = backbone.config
        shape = (swin.embed_dim, list(swin.depths), list(swin.num_heads), swin.window_size, swin.image_size)
        assert shape == SWINS[name.rpartition("_")[2]]
        assert backbone.channels == [swin.embed_dim * factor for factor in (1, 2, 4, 8)]
        assert max(getattr(module, "drop_prob", 0) or 0 for module in backbone.modules()) == pytest.approx(0.3)
        return
    resnet = backbone._backbone
    assert [len(getattr(resnet, f"layer{stage}")) for stage in (1, 2, 3, 4)] == [3, 4, 6 if "_r50" in name else 23, 3]
    assert len([*resnet.conv1.children()]) == (7 if "r101c" in name else 0)  # three convolutions, two norms and ReLUs
    dilations = [block.conv2.dilation[0] for block in resnet.layer4]
    assert dilations == ([1, 2, 4] if "r101c" in name else [1, 1, 1])
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and not any(parameter.requires_grad for norm in norms for parameter in norm.parameters())


def check_groups(optimizer, model, expected):
    groups = {group["name"]: group for group in optimizer.param_groups}
    for name, group in groups.items():
        factor = expected.factor if name.startswith("backbone") else 1.0
        assert group["initial_lr"] == pytest.approx(expected.lr * factor)
        assert group["weight_decay"] == (0.0 if name.endswith("no_decay") else expected.decay)
    names = {parameter: name for name, parameter in model.named_parameters()}
    undecayed = {
        names[parameter] for group in groups.values() if group["weight_decay"] == 0 for parameter in group["params"]
    }
    assert ("model.transformer_module.queries_embedder.weight" in undecayed) == (expected.architecture != "per_pixel")
    tables = [name for name in names.values() if "relative_position_bias_table" in name]
    assert set(tables) <= undecayed and bool(tables) == (expected.factor == 1.0)
    for name in names.values():
        if "norm" in name.lower() and "model.pixel_level_module" not in name:
            assert name in undecayed


def test_a_recipe_trains_and_flags_override_it(street_objects, tmp_path):
    flags = ["--max_steps", 2, "--total_batch_size", 4, "--short_edges", 32, 48, "--early_crop_short_edges", 40]
    flags += ["--early_crop_range", 24, 40, "--shortest_edge", 40, "--dataloader_num_workers", 0, "--num_pictures", 0]
    recipe = FOLDER / "coco_panoptic_r50_6enc.yaml"
    output = ["--output_dir", tmp_path / "run", "--use_cpu", "--logging_steps", 1]
    run(train.main, recipe, "--dataset", street_objects, *SMALL, "--encoder_layers", 1, *flags, *output)
    state = json.loads((tmp_path / "run" / "trainer_state.json").read_text())
    assert state["global_step"] == 2
    assert state["log_history"][0]["epoch"] == pytest.approx(4 / 6, abs=1e-3)  # 4 of 6 images in the first step
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["pixel_decoder_layers"], config["mask_loss"]) == (1, "dense")
    assert config["decoder_config"]["num_queries"] == 8
    assert "pq" in json.loads((tmp_path / "run" / "eval_results.json").read_text())


def test_swin_pixels_are_normalised_as_its_weights_expect(load):
    for name in ("ade20k_semantic_swin_tiny", "ade20k_semantic_swin_large", "ade20k_semantic_r50"):
        mean, std = normalization_of(load(name)[1].backbone)
        assert [255 * value for value in (*mean, *std)] == pytest.approx(
            [123.675, 116.28, 103.53, 58.395, 57.12, 57.375]
        )


def test_the_recipe_for_few_images_is_what_train_py_does_by_default(parser, tmp_path):
    needed = ["--dataset", "data/street", "--task", "semantic", "--output_dir", str(tmp_path), "--use_cpu"]
    path = FOLDER / "finetune_small.yaml"
    for by_recipe, by_default in zip(parser.parse([str(path), *needed]), parser.parse(needed), strict=True):
        for setting in fields(by_default):
            expected = getattr(by_default, setting.name)
            if expected is None:  # what the model is built with then
                expected = (MASK_LOSS | LOSS_WEIGHTS).get(setting.name)
            assert getattr(by_recipe, setting.name) == expected, setting.name
    assert yaml.safe_load(path.read_text()).keys() >= {*ARCHITECTURE, *MASK_LOSS, *LOSS_WEIGHTS} - {"num_queries"}
