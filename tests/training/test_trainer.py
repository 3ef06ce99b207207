"""The trainer around a small stub model: what it optimizes, logs, measures, saves and resumes."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import ModelCard
from stub_trainer import ID2LABEL, ScriptedEvaluator, Squares, StubSegmenter, collate, make_trainer
from torch import nn
from torch._dynamo import OptimizedModule
from transformers.trainer_callback import TrainerCallback

from modeling_maskformer.data.views.collate import SegmentationDataset
from modeling_maskformer.data.views.view_sampler import ViewSampler
from modeling_maskformer.evaluation.evaluator import Evaluator
from modeling_maskformer.evaluation.in_turn import InTurn
from modeling_maskformer.targets import Segments
from modeling_maskformer.training import evaluating
from modeling_maskformer.training.arguments.arguments import MaskFormerTrainingArguments
from modeling_maskformer.training.trainer import MaskFormerTrainer


def test_a_full_evaluation_in_half_precision_casts_the_weights_but_not_while_they_are_trained(tmp_path):
    trainer = make_trainer(tmp_path, bf16_full_eval=True, num_train_epochs=1, eval_strategy="epoch")
    trainer.train()
    assert trainer.model.dtype == torch.float32
    in_training = trainer.state.log_history[-2]["eval_pixel_accuracy"]
    metrics = trainer.evaluate()
    assert trainer.model.dtype == torch.bfloat16
    assert metrics["eval_pixel_accuracy"] == pytest.approx(in_training, abs=0.1)


def test_training_learns_and_evaluation_measures_it(tmp_path):
    trainer = make_trainer(tmp_path, num_train_epochs=15)
    before = trainer.evaluate()["eval_mean_iou"]
    trainer.train()
    metrics = trainer.evaluate()
    assert metrics["eval_mean_iou"] == 1.0 > before
    assert "eval_loss" not in metrics
    assert trainer.evaluator.results["per_class"]["bright"]["iou"] == 1.0


def test_evaluation_measures_every_image_once_and_keeps_none(tmp_path):
    seen = []

    class Recorder(Evaluator):
        def update(self, outputs, references, count=None):
            seen.append(len(references[:count]))
            super().update(outputs, references, count)

    trainer = make_trainer(tmp_path, evaluation=5, dataloader_drop_last=True)
    trainer.evaluator = Recorder("semantic", trainer.processing_class, ID2LABEL)
    output = trainer.evaluation_loop(trainer.get_eval_dataloader(), "Evaluation")
    assert seen == [2, 2, 1]
    assert output.num_samples == trainer.evaluator.num_images == 5
    assert output.predictions is None and output.label_ids is None
    assert trainer.args.dataloader_drop_last and trainer.data_collator is collate


def test_metrics_equal_those_of_one_batch(tmp_path):
    by_two = make_trainer(tmp_path, evaluation=7)
    at_once = make_trainer(tmp_path, evaluation=7, per_device_eval_batch_size=7)
    assert by_two.evaluate()["eval_mean_iou"] == at_once.evaluate()["eval_mean_iou"]


def test_measuring_in_the_background_measures_the_same(tmp_path, monkeypatch):
    here = make_trainer(tmp_path, evaluation=7)
    behind = make_trainer(tmp_path, evaluation=7)
    monkeypatch.setattr(evaluating, "InTurn", lambda in_background: InTurn(in_background=True))
    assert behind.evaluate()["eval_mean_iou"] == here.evaluate()["eval_mean_iou"]
    assert behind.evaluator.num_images == 7

    def fail(*_):
        raise RuntimeError("a metric failed")

    behind.evaluator.measure = fail
    with pytest.raises(RuntimeError, match="a metric failed"):
        behind.evaluate()


@pytest.mark.parametrize("mode", ["reduce-overhead", "max-autotune"])
def test_outputs_that_the_next_batch_writes_over_are_measured_first(tmp_path, monkeypatch, mode):
    """As those of CUDA graphs are, here by a model that has one place for all its outputs."""
    expected = make_trainer(tmp_path, evaluation=7, per_device_eval_batch_size=1).evaluate()
    trainer = make_trainer(tmp_path, evaluation=7, per_device_eval_batch_size=1)
    place = torch.zeros(1, 2, 4, 4)

    def write(module, arguments, outputs):
        outputs["masks_queries_logits"] = place.copy_(outputs["masks_queries_logits"])

    trainer.model.register_forward_hook(write)
    monkeypatch.setattr(evaluating, "_computes_beside_the_host", lambda device: True)
    monkeypatch.setattr(evaluating, "InTurn", OneBehind)
    assert trainer.evaluate()["eval_pixel_accuracy"] != expected["eval_pixel_accuracy"]
    monkeypatch.setattr(trainer.accelerator.state.dynamo_plugin, "mode", mode)
    assert trainer.evaluate()["eval_pixel_accuracy"] == expected["eval_pixel_accuracy"]


class OneBehind(InTurn):
    """Makes each call in the background as late as it may be made: when the next one is given."""

    def __init__(self, in_background):
        super().__init__(in_background=False)
        self.late, self.waiting = in_background, []

    def do(self, *call):
        self.finish()
        self.waiting = [call]
        if not self.late:
            self.finish()

    def finish(self):
        for call in self.waiting:
            super().do(*call)
        self.waiting = []

    def __exit__(self, *error):
        self.finish()


def test_a_predictor_of_its_own_gets_the_images_and_its_predictions_are_measured(tmp_path):
    def make_predictor(model):
        assert not model.training
        return lambda images: [(image[0] > 0.5).long() for image in images]

    trainer = make_trainer(tmp_path, evaluation=5, make_predictor=make_predictor)
    trainer.eval_data_collator = lambda rows: {
        "images": [image for image, _ in rows],
        "references": [segments for _, segments in rows],
    }
    assert trainer.evaluate()["eval_mean_iou"] == 1.0
    assert trainer.evaluator.num_images == 5
    with pytest.raises(ValueError, match="eval_loss is the loss of one forward pass"):
        make_trainer(tmp_path, make_predictor=make_predictor, eval_loss=True)


def test_evaluation_gives_the_mean_loss_on_request(tmp_path):
    trainer = make_trainer(tmp_path, evaluation=3, eval_loss=True)
    rows = [trainer.eval_dataset[i] for i in range(3)]
    rows[2] = 5 * rows[2][0], rows[2][1]  # alone in its batch, with a loss unlike the others'
    trainer.eval_dataset = rows
    losses = [trainer.model(**collate([row])).loss.item() for row in rows]
    assert trainer.evaluate()["eval_loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_a_set_of_its_own_is_measured_by_predict_as_by_evaluate(tmp_path):
    trainer = make_trainer(tmp_path, evaluation=3, dataloader_drop_last=True)
    evaluated = trainer.evaluate(Squares(5))
    output = trainer.predict(Squares(5))
    assert output.predictions is None and output.label_ids is None
    for name in ("mean_iou", "pixel_accuracy"):
        assert output.metrics[f"test_{name}"] == evaluated[f"eval_{name}"]
    assert trainer.evaluator.num_images == 5
    assert "held_mean_iou" in trainer.predict(Squares(2), metric_key_prefix="held").metrics


@pytest.mark.parametrize("metric", ["mean_iou", "eval_mean_iou", "pixel_accuracy", "loss", "eval_loss"])
def test_the_best_checkpoint_is_found_by_anything_that_is_measured(tmp_path, metric):
    trainer = make_trainer(
        tmp_path, metric_for_best_model=metric, eval_loss=True, max_steps=1, eval_strategy="steps", eval_steps=1
    )
    trainer.train()
    assert trainer.state.best_metric is not None


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("miou", "must be one of mean_iou, .*, got miou"),
        ("eval_miou", "must be one of mean_iou, .*, got eval_miou"),
        ("per_class", "must be one of mean_iou, .*, got per_class"),
        ("loss", "is not measured without eval_loss"),
        ("eval_loss", "is not measured without eval_loss"),
    ],
)
def test_what_no_evaluation_gives_cannot_choose_the_best_checkpoint(tmp_path, metric, message):
    with pytest.raises(ValueError, match=f"metric_for_best_model .*{message}"):
        make_trainer(tmp_path, metric_for_best_model=metric)


def test_each_log_holds_the_mean_of_each_loss_part_since_the_last(tmp_path):
    losses = []

    class Spy(MaskFormerTrainer):
        def compute_loss(self, *args, **kwargs):
            loss = super().compute_loss(*args, **kwargs)
            losses.append(loss.item())
            return loss

    trainer = make_trainer(tmp_path, max_steps=4, logging_strategy="steps", logging_steps=2)
    trainer.__class__ = Spy
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert len(logs) == 2
    for entry, total in zip(logs, (sum(losses[:2]) / 2, sum(losses[2:]) / 2), strict=True):
        assert entry["loss"] == pytest.approx(total, rel=1e-5)
        assert entry["loss_cross_entropy"] == pytest.approx(total / 6, rel=1e-5)
        assert entry["loss_cross_entropy_auxiliary"] == pytest.approx(total * 5 / 6, rel=1e-5)
        assert entry["images_per_second"] > 0 and 0 < entry["waiting_for_data"] < 1


def test_a_compiled_model_is_trained_evaluated_and_saved_as_itself(tmp_path):
    plain = make_trainer(tmp_path, max_steps=2)
    plain.train()
    score = plain.evaluate()["eval_mean_iou"]
    compiled = make_trainer(tmp_path, max_steps=2, torch_compile=True, torch_compile_backend="eager")
    compiled.train()
    assert isinstance(compiled.model_wrapped, OptimizedModule)
    assert not isinstance(plain.model_wrapped, OptimizedModule)
    torch.testing.assert_close(compiled.model.state_dict(), plain.model.state_dict())
    assert compiled.evaluate()["eval_mean_iou"] == score
    compiled.save_model(tmp_path / "saved")
    saved = StubSegmenter.from_pretrained(tmp_path / "saved").state_dict()
    torch.testing.assert_close(saved, plain.model.state_dict())


def test_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    rates = []

    class Recorder(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    trainer = make_trainer(tmp_path, max_steps=5, warmup_steps=2, warmup_factor=0.5, callbacks=[Recorder()])
    trainer.train()
    expected = [0.1 * min(1, 0.5 + step / 4) * (1 - step / 5) ** 0.9 for step in range(5)]
    assert rates == pytest.approx(expected)
    assert trainer.lr_scheduler.get_last_lr()[0] == 0


def test_the_rate_that_is_logged_is_that_of_the_head(tmp_path):
    trainer = make_trainer(tmp_path)
    weights = list(trainer.model.parameters())
    rates = {"backbone": 0.01, "head": 0.1}
    groups = [{"params": [each], "lr": rates[name], "name": name} for each, name in zip(weights, rates, strict=True)]
    trainer.optimizer = torch.optim.SGD(groups)
    assert trainer._get_learning_rate() == 0.1


@pytest.mark.parametrize(("settings", "seed"), [({"seed": 3}, 3), ({"seed": 3, "data_seed": 0}, 0)])
def test_views_follow_epoch_and_seed_of_the_data(tmp_path, settings, seed):
    trainer = make_trainer(tmp_path, **settings)
    trainer.state.epoch = 2.0
    dataset = SegmentationDataset([None] * 5)  # none is read
    assert list(trainer._get_train_sampler(dataset)) == list(ViewSampler(5, seed, lambda: 2))
    trainer.args.train_sampling_strategy = "sequential"
    assert list(trainer._get_train_sampler(dataset)) == list(ViewSampler(5, seed, lambda: 2, shuffle=False))


def test_step_schedule_takes_milestones_as_parts_of_the_training(tmp_path):
    arguments = {"lr_scheduler_type": "constant_with_warmup", "lr_milestones": [0.5, 3]}
    trainer = make_trainer(tmp_path, max_steps=4, **arguments)
    trainer.train()
    assert trainer.lr_scheduler.get_last_lr()[0] == pytest.approx(0.1 * 0.1 * 0.1)


@pytest.mark.parametrize("schedule", ["reduce_lr_on_plateau", "greedy"])
@pytest.mark.parametrize(
    ("metric", "settings", "falls"),
    [
        (None, {}, False),
        (None, {"mode": "min"}, True),
        ("eval_pixel_accuracy", {}, False),
        ("loss", {}, True),
        ("loss", {"mode": "max"}, False),
    ],
)
def test_a_schedule_that_follows_the_metric_lowers_the_rate_where_it_gets_worse(
    tmp_path, schedule, metric, settings, falls
):
    settings = {"patience": 0, "factor": 0.5, "min_lr": 0.0, **settings}
    trainer = make_trainer(
        tmp_path,
        lr_scheduler_type=schedule,
        lr_scheduler_kwargs=settings,
        metric_for_best_model=metric,
        eval_loss=True,
        eval_strategy="epoch",
    )
    scheduler = trainer.create_scheduler(10, trainer.create_optimizer())
    for rising in (0.1, 0.2, 0.3):
        scheduler.step(rising)
    assert (scheduler.get_last_lr()[0] < 0.1) is falls


def test_gradient_accumulation_equals_the_larger_batch(tmp_path):
    weights = []
    for arguments in ({"per_device_train_batch_size": 4}, {"gradient_accumulation_steps": 2}):
        trainer = make_trainer(tmp_path, max_steps=2, train_sampling_strategy="sequential", **arguments)
        nn.init.zeros_(trainer.model.classifier.weight)
        nn.init.zeros_(trainer.model.classifier.bias)
        trainer.train()
        weights.append(trainer.model.classifier.weight.detach())
    torch.testing.assert_close(*weights)


@pytest.mark.parametrize(
    ("stop", "noise"),
    [(4, 0.5), (2, 0.0)],  # within an epoch transformers has drawn the augmentation of a batch ahead
    ids=["after an epoch, with augmentation", "within an epoch"],
)
def test_resuming_gives_the_weights_of_an_uninterrupted_run(tmp_path, stop, noise):
    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step >= stop
            return control

    arguments = {"max_steps": 7, "save_strategy": "steps", "save_steps": stop, "noise": noise}
    whole = make_trainer(tmp_path / "whole", **arguments)
    whole.train()
    interrupted = make_trainer(tmp_path / "parts", callbacks=[Stop()], **arguments)
    interrupted.train()
    resumed = make_trainer(tmp_path / "parts", **arguments)
    resumed.train(resume_from_checkpoint=True)
    assert interrupted.state.global_step == stop and resumed.state.global_step == 7
    assert not torch.equal(whole.model.classifier.weight, interrupted.model.classifier.weight)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert resumed.lr_scheduler.get_last_lr() == whole.lr_scheduler.get_last_lr()


def test_the_checkpoint_with_the_best_task_metric_is_kept_and_loaded(tmp_path):
    trainer = make_trainer(
        tmp_path,
        max_steps=3,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        save_total_limit=1,
        load_best_model_at_end=True,
    )
    trainer.evaluator = ScriptedEvaluator([0.2, 0.9, 0.4], trainer.processing_class)
    trainer.train()
    assert trainer.args.metric_for_best_model == "mean_iou" and trainer.args.greater_is_better
    assert trainer.state.best_metric == 0.9
    best = Path(trainer.state.best_model_checkpoint)
    assert best.name == "checkpoint-2"
    saved = StubSegmenter.from_pretrained(best).state_dict()
    torch.testing.assert_close(trainer.model.state_dict(), saved, rtol=0, atol=0)
    assert (best / "preprocessor_config.json").is_file()


def test_images_that_fill_up_the_last_round_of_batches_do_not_count(tmp_path):
    # 7 images, 2 processes with batches of 2: the last round holds 3 new images and the first one again
    end = SimpleNamespace(end_of_dataloader=True, remainder=3)
    middle = SimpleNamespace(end_of_dataloader=False, remainder=3)
    trainer = make_trainer(tmp_path)

    def num_unseen(process_index, gradient_state):
        trainer.accelerator = SimpleNamespace(process_index=process_index, gradient_state=gradient_state)
        return trainer._num_unseen(batch_size=2)

    assert [num_unseen(0, end), num_unseen(1, end)] == [2, 1]
    assert [num_unseen(0, middle), num_unseen(1, middle)] == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr_milestones": [0.5]}, "lr_scheduler_type=constant_with_warmup, got polynomial"),
        ({"lr_scheduler_kwargs": {"power": 2.0}}, r"no effect with lr_scheduler_type=polynomial.*poly_power.*'power'"),
        ({"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"gamma": 0.5}}, "no effect with .*=constant: got"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, "=cosine_with_min_lr needs other .* than none: One of min_lr"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, "needs other .* than none: .*'num_decay_steps'"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}}, "than {'cycles': 2}: .*'cycles'"),
        (
            {"lr_scheduler_type": "constant_with_warmup", "lr_scheduler_kwargs": '{"gamma": 0.5}'},
            "no effect with lr_scheduler_type=constant_with_warmup.*lr_milestones and lr_gamma",
        ),
        ({"warmup_factor": 2.0}, "warmup_factor must lie in"),
        ({"poly_power": 0.0}, "poly_power must be above 0"),
        ({"backbone_lr_factor": -1.0}, "backbone_lr_factor must be at least 0"),
        ({"remove_unused_columns": True}, "remove_unused_columns must be False"),
        ({"logging_nan_inf_filter": True}, "logging_nan_inf_filter has no effect"),
        ({"data_seed": -1}, r"data_seed must lie between 0 and 2\*\*32 - 1, got -1"),
        ({"seed": 2**32}, "^seed must lie between"),
        ({"accelerator_config": {"even_batches": False}}, "accelerator_config must leave .* even_batches on"),
        ({"accelerator_config": {"dispatch_batches": True}}, "accelerator_config must leave dispatch_batches off"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        MaskFormerTrainingArguments(output_dir=str(tmp_path), report_to="none", **arguments)


def test_the_compact_targets_of_the_tests_are_what_they_should_be():
    image, segments = Squares(1)[0]
    assert isinstance(segments, Segments) and segments.class_ids.tolist() == [0, 1]
    assert torch.equal(segments.masks()[1], image[0] > 0.5)


def test_a_trainer_without_a_description_of_its_run_writes_a_card_of_what_it_knows(tmp_path):
    trainer = make_trainer(tmp_path / "stub", max_steps=2)
    trainer.create_model_card()
    assert "has not been evaluated" in (tmp_path / "stub" / "README.md").read_text()
    trainer.train()
    trainer.evaluate()
    trainer.create_model_card(license="mit", tags="squares", model_name="bright")
    card = ModelCard.load(tmp_path / "stub" / "README.md")
    assert card.data.license == "mit" and "squares" in card.data.tags
    assert card.data.eval_results[0].metric_value == trainer.evaluator.results["mean_iou"]
    assert card.text.lstrip().startswith("# bright\n") and "5 images" in card.text
    with pytest.raises(TypeError, match="finetuned"):
        trainer.create_model_card(finetuned="unknown")
