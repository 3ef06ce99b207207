"""Early stopping: after so many evaluations that are not better, also across a resumed run."""

import pytest
from stub_trainer import ScriptedEvaluator, make_trainer
from transformers import TrainerState

from modeling_maskformer.training.arguments.run_arguments import RunArguments
from modeling_maskformer.training.early_stopping import EarlyStopping, was_ended_early

STEPS = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}


def trainer_with_scores(folder, scores, patience=2, max_steps=8):
    """A trainer that measures these scores, one after each step."""
    callbacks = [EarlyStopping(patience)]
    trainer = make_trainer(folder, max_steps=max_steps, load_best_model_at_end=True, callbacks=callbacks, **STEPS)
    trainer.evaluator = ScriptedEvaluator(scores, trainer.processing_class)
    return trainer


def test_a_run_ends_after_as_many_evaluations_that_are_not_better(tmp_path):
    trainer = trainer_with_scores(tmp_path, [0.2, 0.5, 0.4, 0.6, 0.6, 0.5, 0.9, 0.9])
    trainer.train()
    assert (trainer.state.global_step, trainer.state.best_global_step) == (6, 4)
    assert was_ended_early(tmp_path / "checkpoint-6", 2) and not was_ended_early(tmp_path / "checkpoint-5", 2)
    assert not was_ended_early(tmp_path / "checkpoint-6", 3) and not was_ended_early(tmp_path / "checkpoint-6", None)


@pytest.mark.parametrize("killed_after", [3, 5])
def test_a_resumed_run_goes_on_counting(tmp_path, killed_after):
    scores = [0.2, 0.5, 0.4, 0.6, 0.6, 0.5, 0.9, 0.9]
    trainer_with_scores(tmp_path, scores, max_steps=killed_after).train()
    resumed = trainer_with_scores(tmp_path, scores[killed_after:])
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{killed_after}"))
    assert (resumed.state.global_step, resumed.state.best_global_step) == (6, 4)


def test_a_run_that_had_ended_early_makes_no_step_more_but_with_more_patience_goes_on(tmp_path):
    trainer_with_scores(tmp_path, [0.5, 0.4, 0.3]).train()
    checkpoint = str(tmp_path / "checkpoint-3")
    again = trainer_with_scores(tmp_path, [])
    again.train(resume_from_checkpoint=checkpoint)
    assert (again.state.global_step, again.state.best_global_step) == (3, 1)
    patient = trainer_with_scores(tmp_path, [0.4, 0.3], patience=4)
    patient.train(resume_from_checkpoint=checkpoint)
    assert patient.state.global_step == 5


def test_a_run_saved_at_its_last_step_makes_no_other_when_it_is_resumed(tmp_path):
    trainer = make_trainer(tmp_path, max_steps=3, save_strategy="steps", save_steps=3)
    trainer.train()
    again = make_trainer(tmp_path, max_steps=3, save_strategy="steps", save_steps=3)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert again.state.global_step == 3
    assert (again.model.classifier.weight == trainer.model.classifier.weight).all()


def test_a_best_checkpoint_that_is_the_last_is_known_by_its_final_name(tmp_path):
    trainer = trainer_with_scores(tmp_path, [0.2, 0.9], max_steps=2)
    trainer.train()
    for state in (trainer.state, TrainerState.load_from_json(str(tmp_path / "checkpoint-2" / "trainer_state.json"))):
        assert state.best_model_checkpoint == str(tmp_path / "checkpoint-2")


def test_a_run_whose_folder_was_moved_ends_with_its_best_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = trainer_with_scores("before", [0.2, 0.9, 0.4], max_steps=3)
    first.train()
    assert first.state.best_model_checkpoint == "before/checkpoint-2"
    (tmp_path / "before").rename("after")
    again = trainer_with_scores("after", [], max_steps=3)
    again.train(resume_from_checkpoint="after/checkpoint-3")
    assert again.state.best_model_checkpoint == "after/checkpoint-2"
    assert (again.model.classifier.weight == first.model.classifier.weight).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"early_stopping_patience": 0}, "early_stopping_patience must be at least 1"),
        (
            {"early_stopping_patience": 3, "eval_strategy": "no", "load_best_model_at_end": False},
            "it needs eval_strategy epoch or steps",
        ),
    ],
)
def test_a_patience_that_cannot_work_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RunArguments(output_dir="unused", use_cpu=True, **settings)
