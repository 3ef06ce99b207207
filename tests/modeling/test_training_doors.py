"""Training as transformers' users do it: several processes, checkpointing, a compiled step, DataParallel."""

import numpy as np
import pytest
import torch
import torch._dynamo.testing
from device_waits import DeviceWaits
from models import ARCHITECTURES, KINDS, batch_of, tiny
from tiny import tiny_model
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.debug_utils import DebugUnderflowOverflow

from modeling_maskformer import MaskFormerForInstanceSegmentation


@pytest.mark.parametrize(("kind", "backbone"), [*KINDS, ("encoder", "resnet"), ("encoder", "swin")])
def test_every_trainable_weight_has_a_gradient(kind, backbone, tmp_path):
    """Plain DistributedDataParallel ends in its second step where one has none."""
    fields = {"pixel_decoder_layers": 1} if kind == "encoder" else {}
    fresh = tiny("maskformer" if kind == "encoder" else kind, backbone, **fields)
    fresh.save_pretrained(tmp_path)
    for model in (fresh, type(fresh).from_pretrained(tmp_path).train()):
        model(**batch_of()).loss.backward()
        assert not [name for name, w in model.named_parameters() if w.requires_grad and w.grad is None]
        assert sum(weight.requires_grad for weight in model.parameters()) > 30


@pytest.mark.parametrize(("kind", "backbone"), [kind for kind in KINDS if kind[0] != "per_pixel"])
def test_checkpointing_computes_layers_twice_and_changes_no_gradient(kind, backbone):
    model = tiny(kind, backbone)
    parts = [m for m in model.modules() if type(m).__name__ in ("TransformerDecoderLayer", "MaskFormerSwinStage")]
    layers = [part.fc1 if hasattr(part, "fc1") else part.blocks[0].intermediate for part in parts]
    calls, gradients = [], []
    for layer in layers:
        layer.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(2):
        model.zero_grad()
        calls.clear()
        model(**batch_of()).loss.backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad})
        assert len(calls) == len(layers) * len(gradients)
        model.gradient_checkpointing_enable()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_the_search_for_overflows_of_transformers_runs(kind, backbone):
    """It looks at the absolute values of what modules get by position, which masks do not have."""
    model = tiny(kind, backbone)
    DebugUnderflowOverflow(model)
    batch = batch_of()
    mask = torch.ones(len(batch["pixel_values"]), *batch["pixel_values"].shape[-2:], dtype=torch.bool)
    assert model(**batch | {"pixel_mask": mask}).loss.isfinite()


def two_steps(folder, **more):
    """What transformers' Trainer needs to know of a training of one image a batch."""
    return TrainingArguments(
        folder,
        use_cpu=True,
        report_to=[],
        max_steps=2,
        per_device_train_batch_size=1,
        remove_unused_columns=False,
        save_strategy="no",
        **more,
    )


def test_a_trainer_checkpoints_swin(tmp_path):
    batch = batch_of(batch_size=1)
    arguments = two_steps(tmp_path, gradient_checkpointing=True)
    model = tiny("maskformer", "swin")
    before = model.get_backbone().model.encoder.layers[0].blocks[0].attention.self.query.weight.clone()
    Trainer(model, arguments, train_dataset=[batch] * 2, data_collator=lambda rows: rows[0]).train()
    after = model.get_backbone().model.encoder.layers[0].blocks[0].attention.self.query.weight
    assert not torch.equal(after, before)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_class_labels_may_be_lists_arrays_or_a_tensor(kind):
    model, batch = tiny(kind).eval(), batch_of()
    labels = [labels.tolist() for labels in batch.pop("class_labels")]
    with torch.no_grad():
        expected = model(**batch, class_labels=[torch.tensor(some) for some in labels]).loss
        for same in (
            labels,
            [np.array(some) for some in labels],
            [np.array(some, np.uint8) for some in labels],
            np.array(labels),
            torch.tensor(labels),
        ):
            assert torch.equal(model(**batch, class_labels=same).loss, expected)
        none = model(batch["pixel_values"], [torch.zeros(0, 64, 96)] * 2, [[], []]).loss
    assert none.isfinite()


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("plain", [False, True])
def test_an_image_without_masks_may_have_one_class_as_in_the_tutorials(kind, plain, request):
    """They write so what has no object; transformers' model takes it, and refuses several."""
    if plain:
        request.getfixturevalue("plain_path")
    model, batch = tiny(kind), batch_of()
    masks, labels = [batch["mask_labels"][0], torch.zeros(0, 64, 96)], batch["class_labels"][:1]
    batch["mask_labels"] = masks
    none, one, two = (batch | {"class_labels": [*labels, torch.zeros(count).long()]} for count in range(3))
    assert torch.equal(model(**one).loss, model(**none).loss)
    normalizers = [model.loss_normalizers(each["class_labels"], mask_labels=masks) for each in (none, one)]
    assert torch.equal(*normalizers)
    with pytest.raises(ValueError, match=r"mask_labels\[1\] has shape .* each of the 2 entries of class_labels\[1\]"):
        model(**two)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_masks_may_be_lists_or_arrays(kind):
    model, batch = tiny(kind).eval(), batch_of()
    masks = batch.pop("mask_labels")
    with torch.no_grad():
        expected = model(**batch, mask_labels=masks).loss
        for same in ([of.numpy() for of in masks], [of.tolist() for of in masks], torch.stack(masks)):
            assert torch.equal(model(**batch, mask_labels=same).loss, expected)


@pytest.mark.parametrize("kind", ARCHITECTURES)
@pytest.mark.parametrize("plain", [False, True])
@torch.no_grad()
def test_masks_with_soft_borders_end_in_the_middle_of_them(kind, plain, request):
    """Bilinear resizing makes them: each mask was wider by its whole border."""
    if plain:
        request.getfixturevalue("plain_path")
    model, batch = tiny(kind).eval(), batch_of()
    ids = torch.arange(96).expand(64, 96) // 48
    hard = torch.stack([ids == 0, ids == 1]).float()
    soft = torch.nn.functional.avg_pool1d(hard.flatten(1), 9, 1, 4, count_include_pad=False).view_as(hard)
    assert (soft > 0).sum() > hard.sum() and torch.equal(soft >= 0.5, hard.bool())
    batch["class_labels"] = [torch.tensor([1, 2])] * len(batch["pixel_values"])
    losses = [model(**batch | {"mask_labels": [masks] * len(batch["pixel_values"])}).loss for masks in (hard, soft)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_what_else_a_collator_adds_to_a_batch_reaches_no_loss(kind, tmp_path):
    """Such as names for the metrics: with `remove_unused_columns=False` transformers' Trainer passes everything on."""
    batch = batch_of(batch_size=1)
    arguments = two_steps(tmp_path, gradient_accumulation_steps=2)
    losses = []
    for more in ({}, {"image_id": ["a"], "extra": torch.zeros(1)}):
        trainer = Trainer(
            tiny(kind), arguments, train_dataset=[batch | more] * 4, data_collator=lambda rows: dict(rows[0])
        )
        losses.append(trainer.train().training_loss)
    assert losses[0] == losses[1] > 0  # nor is the number of items taken for what the loss was divided by


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_one_class_for_each_image_is_no_class_for_each_segment(kind):
    with pytest.raises(ValueError, match=r"class_labels\[0\] has shape \(\), expected \(segments,\)"):
        tiny(kind)(**batch_of() | {"class_labels": [0, 1]})


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_data_parallel_is_refused_with_what_to_do_instead(kind):
    replica = tiny(kind)._replicate_for_data_parallel()  # as nn.DataParallel makes one for each GPU
    for name, module in replica.named_children():
        setattr(replica, name, module)
    with pytest.raises(RuntimeError, match=r"nn\.DataParallel.*accelerate launch"):
        replica(**batch_of())


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_compiled_training_step_is_one_graph_up_to_the_loss(kind):
    model, batch = tiny(kind), batch_of()
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("eager")
    expected = model(**batch).loss
    compiled = torch.compile(model, backend=counter)
    found = compiled(**batch).loss
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    found.backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    assert counter.frame_count <= 2  # the model, and the sum of the loss's parts


def test_a_model_that_was_frozen_by_its_config_is_so_when_it_is_loaded(tmp_path):
    tiny("maskformer", "timm").save_pretrained(tmp_path)
    model = MaskFormerForInstanceSegmentation.from_pretrained(tmp_path)
    norms = [module for module in model.get_backbone().modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and not any(weight.requires_grad for norm in norms for weight in norm.parameters())


def test_targets_are_checked_before_the_forward_pass(plain_path):
    model, waits = tiny_model().train(), []
    pixels, ids = torch.randn(1, 3, 64, 64), torch.ones(1, 1, 64, 64, dtype=torch.uint8)
    with DeviceWaits() as counted:
        model.model.register_forward_pre_hook(lambda *_: waits.append(sum(counted.waits.values())))
        model(pixels, segment_ids=ids, class_labels=[torch.tensor([2])])
        assert waits == [1]  # once, with nothing queued before it
        with pytest.raises(ValueError, match=r"class_labels\[0\] holds class id 9"):
            model(pixels, segment_ids=ids, class_labels=[torch.tensor([9])])
    assert len(waits) == 1
