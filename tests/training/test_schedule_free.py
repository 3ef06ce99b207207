"""Optimizers with weights of their own to measure, as the schedule-free ones: these are measured, saved and kept."""

from pathlib import Path

import pytest
import torch
from stub_trainer import StubSegmenter, make_trainer
from transformers import TrainerCallback


class TwoWeights(torch.optim.SGD):
    """SGD whose weights to measure are those in training plus 1; the interface is that of schedule-free optimizers."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.param_groups[0]["train_mode"] = False

    def train(self):
        self._switch(True, -1)

    def eval(self):
        self._switch(False, 1)

    def step(self, closure=None):
        assert self.param_groups[0]["train_mode"]
        return super().step(closure)

    @torch.no_grad()
    def _switch(self, train_mode, difference):
        (group,) = self.param_groups
        if group["train_mode"] is not train_mode:
            torch._foreach_add_(group["params"], difference)
            group["train_mode"] = train_mode


class Weights(TrainerCallback):
    """Notes the weights after each step, and those of each batch that is measured."""

    def __init__(self):
        self.in_training, self.measured = [], []

    def on_step_end(self, args, state, control, model, **kwargs):
        self.in_training.append(model.classifier.weight.detach().clone())

    def on_prediction_step(self, args, state, control, model, **kwargs):
        self.measured.append(model.classifier.weight.detach().clone())


def train(folder, resume=None, **arguments):
    weights = Weights()
    trainer = make_trainer(folder, max_steps=4, evaluation=2, callbacks=[weights], **arguments)
    trainer.optimizer = TwoWeights(trainer.model.parameters())
    trainer.train(resume)
    return trainer, weights


def saved_in(folder):
    return StubSegmenter.from_pretrained(folder).classifier.weight


EVERY_STEP = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}


@pytest.mark.parametrize(
    "strategy", [EVERY_STEP, EVERY_STEP | {"eval_strategy": "no"}], ids=["measured", "saved only"]
)
def test_the_weights_to_measure_are_measured_and_saved_and_the_training_goes_on_with_its_own(tmp_path, strategy):
    _, plain = train(tmp_path / "plain")
    trainer, weights = train(tmp_path / "run", **strategy)
    torch.testing.assert_close(weights.in_training, plain.in_training)
    expected = [weight + 1 for weight in plain.in_training]
    if strategy["eval_strategy"] == "steps":
        torch.testing.assert_close(weights.measured, expected)
    torch.testing.assert_close(
        [saved_in(tmp_path / "run" / f"checkpoint-{step}").data for step in (1, 4)], expected[::3]
    )
    torch.testing.assert_close(trainer.model.classifier.weight.data, expected[-1])
    _, resumed = train(tmp_path / "run", str(tmp_path / "run" / "checkpoint-2"), **strategy)
    torch.testing.assert_close(resumed.in_training, plain.in_training[2:])


def test_the_final_model_has_the_weights_to_measure(tmp_path):
    trainer, weights = train(tmp_path)
    expected = weights.in_training[-1] + 1
    torch.testing.assert_close(trainer.model.classifier.weight.data, expected)
    trainer.evaluate()
    torch.testing.assert_close(weights.measured[-1], expected)
    trainer.save_model(tmp_path / "saved")
    torch.testing.assert_close(saved_in(tmp_path / "saved").data, expected)


def test_the_best_checkpoint_is_loaded_and_measured_as_it_was_saved(tmp_path):
    steps = {"save_strategy": "steps", "save_steps": 3, "eval_strategy": "steps", "eval_steps": 3}
    trainer, weights = train(tmp_path, load_best_model_at_end=True, **steps)
    best = saved_in(Path(trainer.state.best_model_checkpoint)).data
    assert trainer.state.best_model_checkpoint.endswith("-3") and len(weights.in_training) == 4
    torch.testing.assert_close(trainer.model.classifier.weight.data, best)
    trainer.evaluate()
    torch.testing.assert_close(weights.measured[-1], best)


def test_an_average_of_the_weights_leaves_the_training_as_it_is(tmp_path):
    _, plain = train(tmp_path / "plain")
    trainer, weights = train(tmp_path / "run", ema_decay=0.9, **EVERY_STEP)
    torch.testing.assert_close(weights.in_training, plain.in_training)
    torch.testing.assert_close(trainer.model.classifier.weight.data, weights.measured[-1])
    torch.testing.assert_close(saved_in(tmp_path / "run" / "checkpoint-4").data, weights.measured[-1])
    assert not torch.allclose(weights.measured[-1], plain.in_training[-1] + 1)
