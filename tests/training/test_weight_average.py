"""EMA: the average equals one computed by hand, is what is measured and saved, and goes on where a run is resumed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from stub_trainer import StubSegmenter, make_trainer
from torch import nn
from transformers import TrainerCallback

from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.training.saving.checkpoint_folders import problem_of
from modeling_maskformer.training.saving.weight_average import (
    IN_TRAINING_NAME,
    WeightAverage,
    save_weights_in_training,
)


class Weights(TrainerCallback):
    """Notes the weights after each step, and ends the run after some."""

    def __init__(self, stop=None):
        self.seen, self.stop = [], stop

    def on_step_end(self, args, state, control, model, **kwargs):
        self.seen.append({name: weight.detach().clone() for name, weight in model.state_dict().items()})
        control.should_training_stop |= state.global_step == self.stop
        return control


def average_of(first, seen, decay):
    """The average in float64, term by term."""
    average = {name: weight.double() for name, weight in first.items()}
    for step, weights in enumerate(seen, start=1):
        kept = min(decay, (1 + step) / (10 + step))
        average = {name: kept * average[name] + (1 - kept) * weights[name].double() for name in average}
    return {name: weight.float() for name, weight in average.items()}


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_final_model_is_the_average_of_all_steps(tmp_path, decay):
    weights = Weights()
    trainer = make_trainer(tmp_path, max_steps=6, ema_decay=decay, callbacks=[weights])
    first = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    expected = average_of(first, weights.seen, decay)
    torch.testing.assert_close(trainer.model.state_dict(), expected)
    assert not torch.allclose(weights.seen[-1]["classifier.weight"], expected["classifier.weight"], rtol=1e-3)
    trainer.save_model(tmp_path / "saved")
    assert not (tmp_path / "saved" / IN_TRAINING_NAME).exists()
    torch.testing.assert_close(StubSegmenter.from_pretrained(tmp_path / "saved").state_dict(), expected)


def test_the_average_changes_nothing_in_the_training(tmp_path):
    seen = []
    for settings in ({}, {"ema_decay": 0.9, "eval_strategy": "steps", "eval_steps": 2}):
        weights = Weights()
        trainer = make_trainer(tmp_path, max_steps=5, callbacks=[weights], **settings)
        trainer.train()
        seen.append(weights.seen)
    torch.testing.assert_close(*seen, rtol=0, atol=0)


def test_evaluation_and_best_checkpoint_are_of_the_average(tmp_path):
    measured = []

    class Recorder(Evaluator):
        def update(self, *args):
            measured.append({name: weight.clone() for name, weight in trainer.model.state_dict().items()})
            super().update(*args)

    weights = Weights()
    steps = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    trainer = make_trainer(
        tmp_path, max_steps=4, evaluation=2, ema_decay=0.9, load_best_model_at_end=True, callbacks=[weights], **steps
    )
    trainer.evaluator = Recorder("semantic", trainer.processing_class, {0: "dark", 1: "bright"})
    first = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    for number, step in enumerate((2, 4)):
        expected = average_of(first, weights.seen[:step], 0.9)
        torch.testing.assert_close(measured[number], expected)
        saved = StubSegmenter.from_pretrained(tmp_path / f"checkpoint-{step}").state_dict()
        torch.testing.assert_close(saved, measured[number], rtol=0, atol=0)
    best = StubSegmenter.from_pretrained(Path(trainer.state.best_model_checkpoint)).state_dict()
    torch.testing.assert_close(trainer.model.state_dict(), best, rtol=0, atol=0)


@pytest.mark.parametrize("stop", [2, 4], ids=["within an epoch", "after an epoch"])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_last_bit(tmp_path, stop):
    settings = {"max_steps": 7, "save_strategy": "steps", "save_steps": 1, "ema_decay": 0.9}
    whole, before, after = Weights(), Weights(stop), Weights()
    expected = make_trainer(tmp_path / "whole", callbacks=[whole], **settings)
    expected.train()
    make_trainer(tmp_path / "parts", callbacks=[before], **settings).train()
    resumed = make_trainer(tmp_path / "parts", callbacks=[after], **settings)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / f"checkpoint-{stop}"))
    torch.testing.assert_close(before.seen + after.seen, whole.seen, rtol=0, atol=0)
    torch.testing.assert_close(resumed.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)
    for name in ("model.safetensors", IN_TRAINING_NAME):
        saved = [load_file(tmp_path / run / "checkpoint-7" / name) for run in ("parts", "whole")]
        torch.testing.assert_close(*saved, rtol=0, atol=0)


def test_a_checkpoint_of_the_model_alone_holds_the_average_alone(tmp_path):
    settings = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "save_only_model": True}
    make_trainer(tmp_path, ema_decay=0.9, **settings).train()
    assert [path.name for path in (tmp_path / "checkpoint-1").glob("*.safetensors")] == ["model.safetensors"]


def test_a_model_that_is_saved_in_between_is_the_average_alone(tmp_path):
    class Save(Weights):
        def on_step_end(self, *args, **kwargs):
            trainer.save_model(tmp_path / "own")
            return super().on_step_end(*args, **kwargs)

    weights = Save()
    trainer = make_trainer(tmp_path, max_steps=3, ema_decay=0.9, callbacks=[weights])
    first = {name: weight.clone() for name, weight in trainer.model.state_dict().items()}
    trainer.train()
    saved = StubSegmenter.from_pretrained(tmp_path / "own").state_dict()
    torch.testing.assert_close(saved, average_of(first, weights.seen[:2], 0.9))  # before the third is taken in
    assert not (tmp_path / "own" / IN_TRAINING_NAME).exists()


def test_weights_of_another_model_are_refused(tmp_path):
    save_weights_in_training({"weight": torch.zeros(1, 1)}, tmp_path)
    with pytest.raises(ValueError, match="is of another model: bias is in one of the two only"):
        WeightAverage(nn.Linear(1, 1), 0.9).go_on_from(tmp_path)


def test_a_run_is_not_resumed_with_an_average_that_is_not_there_nor_without_one_that_is(tmp_path):
    settings = {"max_steps": 2, "save_strategy": "steps", "save_steps": 2}
    make_trainer(tmp_path / "with", ema_decay=0.9, **settings).train()
    make_trainer(tmp_path / "without", **settings).train()
    with pytest.raises(ValueError, match="checkpoint-2 was written with ema_decay: pass it again"):
        make_trainer(tmp_path, **settings).train(resume_from_checkpoint=str(tmp_path / "with" / "checkpoint-2"))
    with pytest.raises(ValueError, match="checkpoint-2 was written without ema_decay: there is no average"):
        trainer = make_trainer(tmp_path, ema_decay=0.9, **settings)
        trainer.train(resume_from_checkpoint=str(tmp_path / "without" / "checkpoint-2"))
    checkpoint = tmp_path / "with" / "checkpoint-2"
    assert problem_of(checkpoint) is None
    (checkpoint / "model.safetensors").unlink()
    assert problem_of(checkpoint) == "no model.safetensors"


def test_running_statistics_are_averaged_frozen_weights_and_counters_are_the_models_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    model[0].bias.requires_grad_(False)
    average = WeightAverage(model, 0.5)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 4):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight) * weight.requires_grad)
        model.train()(torch.randn(5, 3, 2, 2) + step)
        average.update(step)
        kept = min(0.5, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = kept * expected[name] + (1 - kept) * value
            else:
                expected[name] = value.clone()
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.in_the_model() as in_training:
        torch.testing.assert_close(model.state_dict(), expected)
        assert in_training.keys() == own.keys() - {"0.bias", "1.num_batches_tracked"}
    torch.testing.assert_close(model.state_dict(), own, rtol=0, atol=0)


def test_weights_of_16_bits_are_averaged_in_32():
    model = nn.Linear(1, 1, bias=False).to(torch.bfloat16)
    nn.init.constant_(model.weight, 1.0)
    average = WeightAverage(model, 0.999)
    nn.init.constant_(model.weight, 2.0)
    for step in range(100_000, 100_003):
        average.update(step)  # three thousandths, less than what bfloat16 can add to 1
    assert average._averages[0].item() == pytest.approx(2 - 0.999**3, rel=1e-6)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_a_decay_out_of_range_is_refused(tmp_path, decay):
    with pytest.raises(ValueError, match="ema_decay must lie between 0 and 1"):
        make_trainer(tmp_path, ema_decay=decay)
