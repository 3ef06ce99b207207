"""Outputs have transformers' fields, in its order: by name, by index and as a plain tuple."""

import itertools

import pytest
import torch
import transformers
from models import KINDS, batch_of, logits_of, tiny
from tiny import BACKBONES
from transformers import Trainer, TrainingArguments


def theirs_of(ours, tmp_path):
    """transformers' model with the weights of ours."""
    ours.save_pretrained(tmp_path)
    model_class = transformers.MaskFormerForInstanceSegmentation
    return model_class.from_pretrained(tmp_path, attn_implementation="eager").eval()  # which has attentions


def flat(values):
    """The tensors of a nested tuple, with the place of each."""
    for index, value in enumerate(values):
        if isinstance(value, tuple | list):
            yield from ((f"{index}.{place}", tensor) for place, tensor in flat(value))
        else:
            yield str(index), value


@pytest.mark.parametrize("backbone", BACKBONES)
@torch.no_grad()
def test_the_plain_tuple_is_that_of_transformers(backbone, tmp_path):
    ours = tiny(backbone=backbone, use_auxiliary_loss=False).eval()
    theirs, batch = theirs_of(ours, tmp_path), batch_of()
    for targets, states, attentions in itertools.product((False, True), repeat=3):
        inputs = batch if targets else {"pixel_values": batch["pixel_values"]}
        wanted = {"output_hidden_states": states, "output_attentions": attentions, "return_dict": False}
        mine, other = ours(**inputs, **wanted), theirs(**inputs, **wanted | {"return_dict": True}).to_tuple()
        assert isinstance(mine, tuple)
        mine, other = dict(flat(mine)), dict(flat(other))
        assert mine.keys() == other.keys()
        for place, tensor in mine.items():
            torch.testing.assert_close(tensor, other[place], atol=1e-4, rtol=1e-3)


@torch.no_grad()
def test_the_plain_tuple_of_the_base_model_is_that_of_transformers(tmp_path):
    ours = tiny("maskformer", "swin", use_auxiliary_loss=False).eval()
    pixels, theirs = batch_of()["pixel_values"], theirs_of(ours, tmp_path).model
    for states in (False, True):
        mine = ours.model(pixels, output_hidden_states=states, return_dict=False)
        other = theirs(pixels, output_hidden_states=states)
        assert [place for place, _ in flat(mine)] == [place for place, _ in flat(other.to_tuple())]
        assert list(ours.model(pixels, output_hidden_states=states))[: len(mine)] == list(other)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_the_loss_comes_first_and_trains_from_a_plain_tuple(kind, backbone):
    model, batch = tiny(kind, backbone), batch_of()
    output, plain = model(**batch), model(**batch, return_dict=False)
    assert next(iter(output)) == "loss" and output[0] is output.loss
    torch.testing.assert_close(plain[0], output.loss)
    plain[0].backward()
    assert all(weight.grad is not None for weight in model.parameters() if weight.requires_grad)
    model.config.return_dict = False
    torch.testing.assert_close(model(**batch)[0], output.loss)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
def test_what_nobody_asked_for_is_absent(kind, backbone):
    model, batch = tiny(kind, backbone), batch_of()
    asked = {"output_auxiliary_logits": True} if kind != "per_pixel" else {}
    assert "auxiliary_logits" not in model(**batch)
    assert ("auxiliary_logits" in model(**batch, **asked)) == bool(asked)
    assert all(value is not None for value in model(pixel_values=batch["pixel_values"]).values())


@torch.no_grad()
def test_a_plain_forward_has_the_pixel_embeddings(tmp_path):
    ours = tiny().eval()
    pixels = batch_of()["pixel_values"]
    theirs = theirs_of(ours, tmp_path)
    torch.testing.assert_close(
        ours(pixels).pixel_decoder_last_hidden_state,
        theirs(pixels).pixel_decoder_last_hidden_state,
        atol=1e-4,
        rtol=1e-4,
    )


@pytest.mark.parametrize("kind", ["maskformer", "per_pixel", "per_pixel_plus"])
def test_a_trainer_s_evaluation_collects_the_logits_and_the_sizes_only(kind, tmp_path):
    batch = batch_of(batch_size=1)
    rows = [{name: values[0] for name, values in batch.items()}] * 2

    def collate(rows):
        return {
            "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
            **{name: [row[name] for row in rows] for name in ("mask_labels", "class_labels")},
        }

    arguments = TrainingArguments(tmp_path, use_cpu=True, report_to=[], per_device_eval_batch_size=1)
    trainer = Trainer(tiny(kind), arguments, data_collator=collate, eval_dataset=rows)
    predictions = trainer.predict(rows).predictions
    names = ["logits"] if kind != "maskformer" else ["class_queries_logits", "masks_queries_logits"]
    with torch.no_grad():
        expected = trainer.model.eval()(**batch)
    assert len(predictions) == len(names) + 1
    for name, found in zip([*names, "image_sizes"], predictions, strict=True):
        torch.testing.assert_close(torch.tensor(found[:1]), expected[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("kind", "backbone"), KINDS)
@torch.no_grad()
def test_pixels_of_another_precision_are_cast_to_the_model_s(kind, backbone):
    pixels = batch_of()["pixel_values"]
    half = tiny(kind, backbone).eval().to(torch.bfloat16)
    output = half(pixels)
    assert logits_of(output).dtype == torch.bfloat16
    torch.testing.assert_close(logits_of(output), logits_of(half(pixels.bfloat16())))
    torch.testing.assert_close(
        logits_of(tiny(kind, backbone).eval()(pixels.double())), logits_of(tiny(kind, backbone).eval()(pixels))
    )


@pytest.mark.parametrize("kind", ["maskformer", "per_pixel_plus"])
@torch.no_grad()
def test_attentions_may_be_switched_on_in_the_config_of_a_built_model(kind, tmp_path):
    model, pixels = tiny(kind).eval(), batch_of()["pixel_values"]
    expected = model(pixels, output_attentions=True).attentions
    assert len(expected) == 3 and model(pixels).attentions is None
    model.config.output_attentions = True
    assert all(map(torch.equal, model(pixels).attentions, expected))
    model.save_pretrained(tmp_path)
    assert len(type(model).from_pretrained(tmp_path).eval()(pixels).attentions) == 3
