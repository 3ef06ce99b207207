"""The per-pixel baselines as a user sees them: outputs, loss, initialisation, saving, Auto classes, errors."""

import json
import logging
import math

import numpy as np
import pytest
import torch
import transformers
from padded_batch import SIZES, padded_batch
from PIL import Image
from tiny import BACKBONES, untrained
from torch import nn
from torch.nn import functional as F
from transformers.modeling_outputs import SemanticSegmenterOutput

from image_processing import MaskFormerImageProcessor, PerPixelImageProcessor
from modeling_maskformer import (
    PerPixelBaselineConfig,
    PerPixelBaselineForSemanticSegmentation,
    PerPixelBaselineModel,
    PerPixelBaselinePlusConfig,
    PerPixelBaselinePlusForSemanticSegmentation,
    PerPixelBaselinePlusModel,
)

BASELINES = {
    "per_pixel": (PerPixelBaselineConfig, PerPixelBaselineModel, PerPixelBaselineForSemanticSegmentation),
    "per_pixel_plus": (
        PerPixelBaselinePlusConfig,
        PerPixelBaselinePlusModel,
        PerPixelBaselinePlusForSemanticSegmentation,
    ),
}
both = pytest.mark.parametrize("kind", BASELINES)


def tiny_baseline(kind, backbone="resnet", **fields):
    config_class, _, model_class = BASELINES[kind]
    decoder = {"model_type": "detr", "encoder_attention_heads": 4, "encoder_ffn_dim": 64}
    if kind == "per_pixel_plus":
        decoder |= {"d_model": 32, "decoder_layers": 3, "decoder_attention_heads": 4, "decoder_ffn_dim": 64}
    fields = {"fpn_feature_size": 32, "mask_feature_size": 32, "num_labels": 5} | fields
    return model_class(config_class(backbone_config=dict(BACKBONES[backbone]), decoder_config=decoder, **fields))


def random_targets(size=(64, 64), batch=2):
    ids = torch.randint(0, 4, (batch, 1, *size), dtype=torch.uint8)
    return {"segment_ids": ids.masked_fill(ids == 3, 255), "class_labels": [torch.tensor([0, 3])] * batch}


@both
@pytest.mark.parametrize("size", [(64, 64), (97, 61)], ids=str)
def test_there_is_a_logit_for_each_class_and_stride_4_pixel(kind, size):
    with torch.no_grad():
        outputs = tiny_baseline(kind).eval()(torch.randn(1, 3, *size))
    assert isinstance(outputs, SemanticSegmenterOutput)
    assert outputs.logits.shape == (1, 5, math.ceil(size[0] / 4), math.ceil(size[1] / 4))
    assert outputs.image_sizes.tolist() == [list(size)]
    assert outputs.loss is outputs.loss_dict is outputs.hidden_states is None


def test_the_plain_baseline_classifies_each_embedding():
    model = tiny_baseline("per_pixel").eval()
    pixels = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        embeddings = model.model(pixels).pixel_decoder_last_hidden_state  # (B, C_E, 16, 20)
        weight, bias = model.classifier.weight[:, :, 0, 0], model.classifier.bias
        expected = torch.einsum("kc,bchw->bkhw", weight, embeddings) + bias[:, None, None]
        torch.testing.assert_close(model(pixels).logits, expected, atol=1e-5, rtol=1e-5)


def test_each_query_of_the_plus_is_one_class():
    model = tiny_baseline("per_pixel_plus").eval()
    pixels = torch.randn(2, 3, 64, 80)
    with torch.no_grad():
        parts = model.model(pixels)
        outputs = model(pixels, output_auxiliary_logits=True)
        expected = [
            torch.einsum("bkc,bchw->bkhw", model.mask_embedder(states), parts.pixel_decoder_last_hidden_state)
            for states in parts.intermediate_hidden_states
        ]
        torch.testing.assert_close(model(pixels).logits, expected[-1], atol=1e-5, rtol=1e-4)
    assert len(outputs.auxiliary_logits) == 2  # one for each layer but the last
    for found, value in zip((*outputs.auxiliary_logits, outputs.logits), expected, strict=True):
        torch.testing.assert_close(found, value, atol=1e-5, rtol=1e-4)


def plain_loss(logits, segment_ids, class_labels):
    """In float64, from whole maps: void (255) and pixels of no segment (0) are ignored."""
    table = torch.cat((torch.tensor([-100]), class_labels[0], torch.full((253,), -100)))
    targets = table[segment_ids[:, 0].long()]
    large = F.interpolate(logits.double(), size=targets.shape[-2:], mode="bilinear", align_corners=False)
    return F.cross_entropy(large, targets).item()


def test_the_loss_of_the_plain_baseline_is_the_cross_entropy_of_labelled_pixels():
    model, targets = tiny_baseline("per_pixel").train(), random_targets()
    outputs = model(torch.randn(2, 3, 64, 64), **targets)
    assert outputs.loss_dict.keys() == {"loss_cross_entropy"}
    assert outputs.loss.item() == pytest.approx(plain_loss(outputs.logits, **targets), rel=1e-5)


def test_the_loss_of_the_plus_has_one_part_for_each_layer():
    model, targets = tiny_baseline("per_pixel_plus").train(), random_targets()
    outputs = model(torch.randn(2, 3, 64, 64), **targets, output_auxiliary_logits=True)
    layers = {f"loss_cross_entropy_{i}": logits for i, logits in enumerate(outputs.auxiliary_logits)}
    layers["loss_cross_entropy"] = outputs.logits
    assert outputs.loss_dict.keys() == layers.keys() and len(layers) == 3
    for name, logits in layers.items():
        assert outputs.loss_dict[name].item() == pytest.approx(plain_loss(logits, **targets), rel=1e-5)
    assert outputs.loss.item() == pytest.approx(sum(part.item() for part in outputs.loss_dict.values()), rel=1e-6)
    model.config.use_auxiliary_loss = False
    assert model(torch.randn(2, 3, 64, 64), **targets).loss_dict.keys() == {"loss_cross_entropy"}


@both
def test_masks_and_compact_targets_give_the_same_loss(kind):
    model, targets = tiny_baseline(kind).eval(), random_targets()
    ids = targets["segment_ids"]
    masks = [torch.stack([image[0] == 1, image[0] == 2]) for image in ids]
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        compact = model(pixels, **targets).loss
        dense = model(pixels, mask_labels=masks, class_labels=targets["class_labels"]).loss
    torch.testing.assert_close(compact, dense)


@both
@pytest.mark.parametrize("layers", [0, 2])
def test_gradients_reach_every_part(kind, layers):
    model = tiny_baseline(kind, pixel_decoder_layers=layers).train()
    model(torch.randn(2, 3, 64, 64), **random_targets()).loss.backward()
    assert untrained(model) == []


@both
def test_a_few_steps_learn_two_halves(kind):
    model = tiny_baseline(kind, num_labels=2).train()
    pixels = torch.zeros(1, 3, 64, 64)
    pixels[..., 32:] = 1
    ids = torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    ids[..., 32:] = 2
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(40):
        outputs = model(pixels, segment_ids=ids, class_labels=[torch.tensor([1, 0])])
        optimizer.zero_grad()
        outputs.loss.backward()
        optimizer.step()
    with torch.no_grad():
        (found,) = PerPixelImageProcessor().post_process_semantic_segmentation(model.eval()(pixels), [(64, 64)])
    expected = (ids[0, 0] == 1).long()
    assert (found == expected).float().mean() > 0.9


@both
def test_an_image_gives_the_same_in_any_batch_and_order(kind):
    model = tiny_baseline(kind).eval()
    images = [torch.randn(3, *size) for size in SIZES]
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        with torch.no_grad():
            together = model(**padded_batch([images[i] for i in order]), output_hidden_states=True)
        assert together.image_sizes.tolist() == [list(SIZES[i]) for i in order]
        for position, i in enumerate(order):
            with torch.no_grad():
                alone = model(images[i][None]).logits[0]
            height, width = alone.shape[-2:]
            found = together.logits[position]
            torch.testing.assert_close(found[:, :height, :width], alone, atol=1e-4, rtol=1e-4)


def test_a_fresh_classifier_starts_as_the_original_s():
    model = tiny_baseline("per_pixel", mask_feature_size=256, num_labels=150)
    # Kaiming-normal for ReLU, by the 150 outputs
    assert model.classifier.weight.std().item() == pytest.approx(math.sqrt(2 / 150), rel=0.02)
    assert not model.classifier.bias.any()


def test_a_fresh_plus_starts_as_maskformer_does():
    model = tiny_baseline("per_pixel_plus", num_labels=200)
    assert model.config.decoder_config.num_queries == 200
    embeddings = model.model.transformer_module.queries_embedder.weight
    assert embeddings.shape == (200, 32) and embeddings.std().item() == pytest.approx(1.0, rel=0.05)


@both
def test_batch_norm_of_the_backbone_is_frozen_unless_asked(kind):
    for frozen in (True, False):
        model = tiny_baseline(kind, "timm", freeze_backbone_batch_norm=frozen)
        norm = next(module for module in model.get_backbone().modules() if isinstance(module, nn.BatchNorm2d))
        assert norm.weight.requires_grad is not frozen  # from the first, as an optimizer is built before train()
        before = norm.running_mean.clone()
        model.train()(torch.randn(2, 3, 64, 64))
        assert bool((norm.running_mean == before).all()) is frozen
        assert norm.weight.requires_grad is not frozen


@both
def test_hidden_states_come_on_request(kind):
    model, pixels = tiny_baseline(kind).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model(pixels, output_hidden_states=True)
        embeddings = model.model(pixels)
    torch.testing.assert_close(embeddings.encoder_last_hidden_state, outputs.hidden_states[3])
    assert embeddings.pixel_decoder_last_hidden_state.shape == (1, 32, 16, 16)
    assert embeddings.hidden_states is None
    strides = [tuple(state.shape[-2:]) for state in outputs.hidden_states[:7]]
    assert strides == [(16, 16), (8, 8), (4, 4), (2, 2), (4, 4), (8, 8), (16, 16)]
    assert len(outputs.hidden_states) == {"per_pixel": 7, "per_pixel_plus": 7 + 4}[kind]


def test_attention_weights_and_plain_tuples_come_on_request():
    model, pixels = tiny_baseline("per_pixel_plus").eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        outputs = model(pixels, output_attentions=True)
        assert [weights.shape for weights in outputs.attentions] == [(1, 4, 5, 5)] * 3
        torch.testing.assert_close(model(pixels, return_dict=False)[0], model(pixels).logits)


@both
@pytest.mark.parametrize("fields", [{}, {"pixel_decoder_layers": 1}], ids=str)
def test_a_saved_model_comes_back_under_a_type_of_its_own(kind, fields, tmp_path):
    config_class, base_class, model_class = BASELINES[kind]
    model = tiny_baseline(kind, **fields).eval()
    model.save_pretrained(tmp_path)
    model_type = json.loads((tmp_path / "config.json").read_text())["model_type"]
    assert model_type == {"per_pixel": "maskformer-per-pixel", "per_pixel_plus": "maskformer-per-pixel-plus"}[kind]
    # without the import of this package, no class of transformers answers this model type
    assert model_type not in transformers.models.auto.configuration_auto.CONFIG_MAPPING_NAMES
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is config_class
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is base_class
    pixels = torch.randn(1, 3, 64, 64)
    for load in (model_class.from_pretrained, transformers.AutoModelForSemanticSegmentation.from_pretrained):
        again, info = load(tmp_path, output_loading_info=True)
        assert type(again) is model_class and not any(info.values())
        with torch.no_grad():
            torch.testing.assert_close(again.eval()(pixels).logits, model(pixels).logits, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("kind", "replaced"),
    [
        ("per_pixel", {"classifier.weight", "classifier.bias"}),
        ("per_pixel_plus", {"model.transformer_module.queries_embedder.weight"}),
    ],
)
def test_another_label_set_replaces_only_what_stands_for_classes(kind, replaced, tmp_path):
    tiny_baseline(kind).save_pretrained(tmp_path)
    again, info = BASELINES[kind][2].from_pretrained(
        tmp_path, num_labels=9, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key[0] for key in info["mismatched_keys"]} == replaced
    with torch.no_grad():
        assert again.eval()(torch.randn(1, 3, 64, 64)).logits.shape == (1, 9, 16, 16)
    if kind == "per_pixel":
        assert again.classifier.weight.any() and not again.classifier.bias.any()
    else:
        assert again.config.decoder_config.num_queries == 9
        assert 0.8 < again.model.transformer_module.queries_embedder.weight.std() < 1.2


@both
def test_the_pipeline_segments_semantically_without_being_told(kind, tmp_path, caplog):
    names = ["person", "sky", "car", "dog", "tree"]
    model = tiny_baseline(kind, id2label=dict(enumerate(names)))
    model.save_pretrained(tmp_path)
    PerPixelImageProcessor(size={"shortest_edge": 64, "longest_edge": 128}).save_pretrained(tmp_path)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90, 3), dtype=np.uint8))
    with caplog.at_level(logging.ERROR, logger="transformers"):
        segment = transformers.pipeline("image-segmentation", model=str(tmp_path))
    assert not caplog.records
    assert type(segment.model) is type(model) and type(segment.image_processor) is PerPixelImageProcessor
    inputs = segment.image_processor(images=[image], return_tensors="pt")
    with torch.no_grad():
        outputs = segment.model(**inputs)
    (expected,) = segment.image_processor.post_process_semantic_segmentation(outputs, target_sizes=[(70, 90)])
    for results in (segment(image), segment(image, subtask="semantic")):
        assert len(results) == len(expected.unique())
        for result in results:
            inside = expected == names.index(result["label"])
            np.testing.assert_array_equal(np.asarray(result["mask"]) > 0, inside.numpy())
    with pytest.raises(ValueError, match="Subtask panoptic is not supported"):
        segment(image, subtask="panoptic")


@both
def test_the_processor_is_found_by_itself_and_maskformers_says_what_it_cannot(kind, tmp_path):
    tiny_baseline(kind).save_pretrained(tmp_path)
    PerPixelImageProcessor().save_pretrained(tmp_path)
    assert type(transformers.AutoImageProcessor.from_pretrained(tmp_path)) is PerPixelImageProcessor
    with torch.no_grad():
        outputs = tiny_baseline(kind).eval()(torch.randn(1, 3, 64, 64))
    for name in ("instance", "panoptic"):
        with pytest.raises(ValueError, match="no queries, so no object can be told from another"):
            getattr(MaskFormerImageProcessor(), f"post_process_{name}_segmentation")(outputs)


@both
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fpn_feature_size": 48}, "fpn_feature_size must be a multiple of 32"),
        ({"pixel_decoder_layers": -1}, "pixel_decoder_layers must not be negative, got -1"),
    ],
)
def test_a_wrong_field_fails_at_construction(kind, fields, message):
    with pytest.raises(ValueError, match=message):
        tiny_baseline(kind, **fields)


@both
def test_wrong_inputs_are_named(kind):
    model = tiny_baseline(kind)
    pixels, ids = torch.zeros(1, 3, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"pixel_values has shape \(3, 64, 64\)"):
        model(torch.zeros(3, 64, 64))
    with pytest.raises(ValueError, match="without class_labels"):
        model(pixels, segment_ids=ids)
    with pytest.raises(ValueError, match=r"class_labels\[0\] holds class id 5, expected ids from 0 to 4"):
        model(pixels, segment_ids=ids, class_labels=[torch.tensor([5])])
    with pytest.raises(ValueError, match=r"segment_ids\[0\] holds id 1, expected 0"):
        model(pixels, segment_ids=ids, class_labels=[torch.zeros(0)])


@both
@pytest.mark.parametrize("wrong", [9, -7])
def test_an_id_beyond_the_class_labels_is_left_to_the_loss_which_names_it_where_pixels_are_counted_first(kind, wrong):
    model = tiny_baseline(kind)
    targets = random_targets()
    ids = targets["segment_ids"].to(torch.int16).masked_fill(targets["segment_ids"] == 255, 0)
    targets["segment_ids"] = ids.masked_fill(ids == 2, wrong)
    normalizers = model.loss_normalizers(**targets)
    assert normalizers.isfinite()
    with pytest.raises(ValueError, match=f"{wrong}"):
        model(torch.randn(2, 3, 64, 64), **targets, loss_normalizers=normalizers)
