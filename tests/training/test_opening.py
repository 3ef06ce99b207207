"""What a run says before and shortly after it starts."""

from types import SimpleNamespace

import pytest
import torch
from tiny import tiny_model
from transformers import TrainerControl, TrainerState

from modeling_maskformer import half_precision
from modeling_maskformer.data.statistics import DataStatistics
from modeling_maskformer.training.arguments.augmentation_arguments import AugmentationArguments
from modeling_maskformer.training.arguments.device_defaults import Machine
from modeling_maskformer.training.arguments.model_arguments import ModelArguments
from modeling_maskformer.training.arguments.run_arguments import RunArguments
from modeling_maskformer.training.model_building import build_model
from modeling_maskformer.training.opening import TimeEstimate, chosen_text

NEW = {"backbone": "resnet10t", "backbone_weights": "random"}
NEW |= {"fpn_feature_size": 32, "mask_feature_size": 32, "num_queries": 9}


def text_for(num_images=400, num_segments=5, augmentation=None, model=None, **settings):
    model_arguments = ModelArguments(**NEW) if model is None else ModelArguments(model=str(model))
    augmentation = AugmentationArguments(**(augmentation or {}))
    run = RunArguments(output_dir="unused", use_cpu=True, **settings)
    found = DataStatistics(num_images, sizes=[(360, 480)], num_segments=[num_segments])
    augmentation.choose_for(found.short_edge)
    run.choose_for(num_images, Machine(has_gpu=False))
    model = build_model(model_arguments, {0: "sky"}, "instance")
    return chosen_text(found, model, model_arguments, augmentation, run)


def test_the_paragraph_says_what_will_be_trained_and_how_long():
    text = text_for()
    assert "a new model on the backbone resnet10t with random weights" in text
    assert "Crops of 352x352 at short edges of 176 to 704 in training, whole images at 440 in evaluation." in text
    assert "2,400 steps of 4 images, 24 epochs, learning rate 0.0005 after 120 steps of warm-up" in text
    assert "measured after each epoch. float32 on CPU" in text and "queries" not in text


def test_the_paragraph_says_what_was_asked_for_besides():
    text = text_for(
        18, augmentation={"crop": False, "short_edges": [300, 400]}, ema_decay=0.99, early_stopping_patience=3
    )
    assert "Whole images at short edges of 300 to 400" in text
    assert "measured every 50 steps, ended early after 3 evaluations without a better one" in text
    assert "averaged over steps (decay 0.99)" in text


def test_the_paragraph_counts_one_of_a_thing_as_one():
    sizes = {"crop": False, "short_edges": [300]}
    run = {"num_train_epochs": 1, "per_device_train_batch_size": 1, "warmup_steps": 1, "dataloader_num_workers": 1}
    text = text_for(1, augmentation=sizes, early_stopping_patience=1, **run)
    assert "Whole images at a short edge of 300 in training" in text
    assert "1 step of 1 image, 1 epoch, learning rate" in text and "after 1 step of warm-up" in text
    assert "after 1 evaluation without" in text and "read by another process" in text


def test_the_paragraph_says_onto_which_part_of_the_images_things_are_pasted():
    pasting = text_for(augmentation={"copy_paste_probability": 0.25})
    assert "at short edges of 176 to 704 (things of others pasted onto 25 % of them) in training" in pasting


@pytest.mark.parametrize("is_fast", [False, True])
def test_half_precision_on_a_cpu_without_it_is_pointed_out(monkeypatch, is_fast):
    monkeypatch.setattr(half_precision, "cpu_computes", lambda dtype: is_fast or dtype == torch.float32)
    assert ("This CPU has no instructions for bfloat16" in text_for(bf16=True)) != is_fast
    assert "no instructions" not in text_for()


@pytest.mark.parametrize(("classes", "is_said"), [(3, True), (1, False)])
def test_replaced_classes_of_a_checkpoint_are_pointed_out(tmp_path, classes, is_said):
    tiny_model(num_labels=classes).save_pretrained(tmp_path)
    assert ("The weights that tell classes apart are new: 1 here, 3 there." in text_for(model=tmp_path)) == is_said


def test_more_segments_than_queries_are_pointed_out():
    assert "An image has 12 segments but the model 9 queries" in text_for(num_segments=12)


class Run:
    """Steps and evaluations of a training, as its callback sees them, on a clock that is set by hand."""

    def __init__(self, max_steps, epochs=None, eval_steps=None):
        self.now, self.said = 0.0, []
        self.estimate = TimeEstimate(clock=lambda: self.now, say=self.said.append)
        strategy = "no" if epochs is None and eval_steps is None else "epoch" if eval_steps is None else "steps"
        self.args = SimpleNamespace(eval_strategy=strategy, resume_from_checkpoint=None)
        self.state = TrainerState(max_steps=max_steps, num_train_epochs=epochs or 1, eval_steps=eval_steps or 500)
        self.state.is_world_process_zero = True

    def steps(self, count, seconds):
        for _ in range(count):
            self.estimate.on_step_begin(self.args, self.state, TrainerControl())
            self.now += seconds
            self.state.global_step += 1
            self.estimate.on_step_end(self.args, self.state, TrainerControl())

    def evaluate(self, seconds):
        self.now += seconds
        self.estimate.on_evaluate(self.args, self.state, TrainerControl())
        self.now += 1000  # saving
        self.estimate.on_save(self.args, self.state, TrainerControl())


def test_after_ten_steps_it_is_said_how_long_the_others_take_and_the_first_two_do_not_count():
    run = Run(110)
    run.steps(2, 60)
    run.steps(7, 3)
    assert run.said == []
    run.steps(1, 3)
    assert run.said == ["Some 5.0 minutes to go for 110 steps."]
    run.steps(100, 3)
    assert len(run.said) == 1


@pytest.mark.parametrize("how", [{"epochs": 5}, {"eval_steps": 20}])
def test_the_first_evaluation_adds_those_to_come(how):
    run = Run(100, **how)
    run.steps(20, 3)
    assert run.said == ["Some 4.5 minutes to go for 100 steps, and evaluations besides."]
    run.evaluate(30)
    assert run.said[1:] == ["An evaluation takes 30.0 seconds: with those to come, some 6.0 minutes to go."]
    run.steps(20, 3)
    run.evaluate(30)
    assert len(run.said) == 2


def test_an_evaluation_before_ten_steps_does_not_count_as_a_step():
    run = Run(100, eval_steps=5)
    run.steps(5, 1)
    run.evaluate(7)
    run.steps(5, 1)
    assert run.said[-1] == "Some 1.5 minutes to go for 100 steps, and evaluations besides."


def test_a_resumed_run_says_from_where_and_a_new_one_nothing():
    run = Run(3000)
    run.estimate.on_train_begin(run.args, run.state, TrainerControl())
    assert run.said == []
    run.args.resume_from_checkpoint, run.state.global_step = "out/checkpoint-1200", 1200
    run.estimate.on_train_begin(run.args, run.state, TrainerControl())
    assert run.said == ["Going on from out/checkpoint-1200, after step 1,200 of 3,000."]


def test_other_processes_say_nothing():
    run = Run(100)
    run.state.is_world_process_zero = False
    run.state.global_step = 5
    run.estimate.on_train_begin(run.args, run.state, TrainerControl())
    run.steps(20, 1)
    assert run.said == []
