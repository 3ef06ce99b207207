"""The whole loss against the plain computation of plain_loss.py."""

import numpy as np
import plain_loss
import pytest
import torch
import transformers
from id_maps import with_void
from tiny import tiny_model, untrained

from modeling_maskformer.losses.mask_classification import MaskFormerLoss
from modeling_maskformer.losses.matching import HungarianMatcher
from modeling_maskformer.targets import segments_from_masks

Q, K, H, W = 5, 3, 24, 20


def _loss(**fields) -> MaskFormerLoss:
    return MaskFormerLoss(K, HungarianMatcher(), **fields)


def _logits(layers=1, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randn(layers, batch, Q, K + 1, generator=generator) * 2
    masks = torch.randn(layers, batch, Q, H // 4, W // 4, generator=generator) * 3
    return classes.requires_grad_(), masks.requires_grad_()


def _images(counts=(3, 1), overlap=False, void=True, seed=0):
    random = np.random.default_rng(seed)
    images = []
    for count in counts:
        owner = random.integers(0, count + 1, size=(H // 4, W // 4)).repeat(4, 0).repeat(4, 1)
        owner[0, 0] = 0
        masks = np.stack([owner == k + 1 for k in range(count)]) if count else np.zeros((0, H, W), bool)
        if overlap:
            masks = random.random((count, H, W)) > 0.5
        holes = (random.random((H, W)) > 0.8) & ~masks.any(0) if void else np.zeros((H, W), bool)
        images.append((masks, holes, random.integers(0, K, size=count)))
    return images


def _compact(images):
    segments = [with_void(segments_from_masks(m, labels, size=(H, W)), void) for m, void, labels in images]
    layers = max(len(s.ids) for s in segments)
    ids = torch.zeros(len(images), layers, H, W, dtype=torch.uint8)
    for target, s in zip(ids, segments, strict=True):
        target[: len(s.ids)] = s.ids
    return {"segment_ids": ids, "class_labels": [torch.as_tensor(labels) for *_, labels in images]}


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (7, 2)], ids=str)
@pytest.mark.parametrize("overlap", [False, True])
def test_dense_loss_is_the_paper_s(counts, overlap):
    images = _images(counts, overlap)
    classes, masks = _logits()
    parts = _loss()(classes, masks, **_arguments(images))
    expected = plain_loss.loss(classes[0].detach().double().numpy(), masks[0].detach().double().numpy(), images)
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(expected, rel=1e-5, abs=1e-7)


def _arguments(images):
    compact = _compact(images)
    return {"class_labels": compact["class_labels"], "segment_ids": compact["segment_ids"]}


def test_both_forms_of_targets_give_the_same_loss():
    images = _images(overlap=True, void=False)
    classes, masks = _logits()
    compact = _loss()(classes, masks, **_arguments(images))
    stacks = [torch.as_tensor(m).float() for m, *_ in images]
    dense = _loss()(classes, masks, _arguments(images)["class_labels"], mask_labels=stacks)
    assert dense == compact


def test_every_auxiliary_layer_is_matched_and_scored_alike():
    images = _images()
    classes, masks = _logits(layers=3)
    parts = _loss()(classes, masks, **_arguments(images))
    assert len(parts) == 9
    for layer, suffix in enumerate(("_0", "_1", "")):
        alone = _loss()(classes[layer : layer + 1], masks[layer : layer + 1], **_arguments(images))
        for name, value in alone.items():
            assert parts[name + suffix].item() == pytest.approx(value.item(), rel=1e-6)


def test_what_the_model_says_at_void_changes_nothing():
    arguments = _arguments(_images())
    arguments["segment_ids"][:, 0, :12] = 255  # three rows of stride-4 cells
    classes, masks = _logits()
    moved = masks.detach().clone()
    moved[..., 0, :] += 50  # enlarging spreads this over the first two rows of cells only
    first, second = (_loss()(classes, logits, **arguments) for logits in (masks, moved))
    assert {k: v.item() for k, v in first.items()} == pytest.approx({k: v.item() for k, v in second.items()}, rel=1e-6)
    arguments["segment_ids"][:, 0, :12] = 0
    assert _loss()(classes, masks, **arguments)["loss_mask"].item() != pytest.approx(
        first["loss_mask"].item(), rel=1e-3
    )


@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_gradients_reach_every_part_and_images_without_segments_train_the_classifier(mask_loss):
    model = tiny_model(mask_loss=mask_loss, num_points=64).train()
    ids = torch.full((1, 1, 64, 64), 0, dtype=torch.uint8)
    model(torch.randn(1, 3, 64, 64), segment_ids=ids, class_labels=[torch.zeros(0, dtype=torch.int64)]).loss.backward()
    assert model.class_predictor.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.mask_embedder.parameters())
    ids[:, :, :32] = 1
    model(torch.randn(1, 3, 64, 64), segment_ids=ids, class_labels=[torch.tensor([2])]).loss.backward()
    assert untrained(model) == []


def test_a_class_outside_the_label_set_is_named():
    classes, masks = _logits()
    arguments = _arguments(_images((3, 1)))
    arguments["class_labels"][1] = torch.tensor([9])
    with pytest.raises(ValueError, match=r"class_labels\[1\] holds class id 9, expected ids from 0 to 2"):
        _loss()(classes, masks, **arguments)


def test_masks_and_labels_of_different_number_are_named():
    classes, masks = _logits()
    with pytest.raises(ValueError, match=r"mask_labels\[0\] has shape \(2, 24, 20\), expected \(3,"):
        _loss()(
            classes,
            masks,
            [torch.tensor([0, 1, 2]), torch.tensor([0])],
            mask_labels=[torch.zeros(2, H, W), torch.zeros(1, H, W)],
        )


def test_the_weights_of_the_config_are_those_of_matching_and_loss():
    fields = {"num_queries": 1}  # so that all weights match alike
    batch = {"segment_ids": torch.ones(1, 1, 64, 64, dtype=torch.uint8), "class_labels": [torch.tensor([2])]}
    plain = tiny_model(decoder_config=fields).eval()
    model = tiny_model(decoder_config=fields, cross_entropy_weight=2.0, mask_weight=3.0, dice_weight=5.0).eval()
    model.load_state_dict(plain.state_dict())
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        found, expected = (each(pixels, **batch).loss_dict for each in (model, plain))
    for name, factor in (("loss_cross_entropy", 2.0), ("loss_mask", 3 / 20), ("loss_dice", 5.0)):
        assert found[name].item() == pytest.approx(factor * expected[name].item(), rel=1e-5)
    assert (model.criterion.matcher.mask_weight, model.criterion.matcher.dice_weight) == (3.0, 5.0)


@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
@pytest.mark.parametrize("mask_loss", ["dense", "points"])
def test_loss_is_computed_in_float32_under_autocast(mask_loss, training):
    torch.manual_seed(0)
    model = tiny_model(mask_loss=mask_loss, decoder_config={"dropout": 0.0}).train(training)
    pixels = torch.randn(2, 3, 64, 64)
    ids = torch.randint(0, 3, (2, 1, 64, 64), dtype=torch.uint8)
    targets = {"segment_ids": ids, "class_labels": [torch.tensor([0, 1]), torch.tensor([4, 2])]}
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)  # the same points
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            output = model(pixels, **targets)
        assert all(part.dtype == torch.float32 and part.isfinite() for part in output.loss_dict.values())
        losses.append(output.loss)
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)
    if training:
        losses[1].backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad.isfinite().all() if parameter.requires_grad else parameter.grad is None, name


@pytest.mark.parametrize("counts", [(3, 1), (0, 2), (0, 0), (7, 2)], ids=str)
def test_normalizers_found_before_matching_are_those_found_after_it(counts):
    loss, arguments = _loss(), _arguments(_images(counts))
    if max(counts) <= Q:  # else it is not known which of the segments are matched
        loss.empty_weight.copy_(torch.tensor([1.0, 2.0, 5.0, 0.1]))
    classes, masks = _logits(layers=2)
    normalizers = loss.normalizers(arguments["class_labels"], num_queries=Q)
    assert normalizers[0] == sum(counts)
    torch.testing.assert_close(
        loss(classes, masks, **arguments, normalizers=normalizers), loss(classes, masks, **arguments)
    )


def test_normalizers_are_the_number_of_masks_and_the_weights_of_all_queries():
    loss = _loss()
    loss.empty_weight.copy_(torch.tensor([3.0, 2.0, 5.0, 0.1]))
    found = loss.normalizers([torch.tensor([0, 1, 1]), torch.tensor([2])], num_queries=Q)
    assert found.tolist() == pytest.approx([4, 3 + 2 + 2 + 5 + 6 * 0.1])


def test_normalizers_of_a_class_outside_the_label_set_leave_it_to_the_loss_to_name_it():
    assert _loss().normalizers([torch.tensor([1, 9, -1])], num_queries=Q).isfinite().all()


def test_losses_of_parts_with_the_mean_normalizers_add_up_to_the_loss_of_all_images():
    images = _images((3, 0, 1))
    classes, masks = _logits(batch=3)
    loss, parts = _loss(), [slice(0, 1), slice(1, 3)]
    of_parts = [_arguments(images[part]) for part in parts]
    mean = sum(loss.normalizers(targets["class_labels"], Q) for targets in of_parts) / 2
    some = [
        sum(loss(classes[:, part], masks[:, part], **targets, normalizers=mean).values())
        for part, targets in zip(parts, of_parts, strict=True)
    ]
    whole = sum(loss(classes, masks, **_arguments(images)).values())
    torch.testing.assert_close(sum(some) / 2, whole)


def test_dense_loss_and_gradient_are_those_of_transformers_without_void():
    images = _images(void=False)
    classes, masks = _logits()
    arguments = _arguments(images)
    stacks = [torch.as_tensor(m).float() for m, *_ in images]
    theirs = transformers.models.maskformer.modeling_maskformer
    matcher = theirs.MaskFormerHungarianMatcher(cost_class=1.0, cost_dice=1.0, cost_mask=20.0)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    criterion = theirs.MaskFormerLoss(K, matcher=matcher, weight_dict=weights, eos_coef=0.1)
    parts = criterion(masks[0], classes[0], stacks, arguments["class_labels"])
    expected = sum(weights[name] * value for name, value in parts.items())
    ours = sum(_loss()(classes, masks, **arguments).values())
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=0)
    for mine, other in zip(
        torch.autograd.grad(ours, (classes, masks)), torch.autograd.grad(expected, (classes, masks)), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-7)
