"""scripts/benchmark.py accuracy: that each model learns from its own loss on the same data, not how well."""

import json

import pytest
import torch
import transformers
import yaml
from script_runs import BRIEF, SMALL

from modeling_maskformer.targets import VOID
from scripts import benchmark
from scripts.benchmarks.accuracy import AccuracyArguments, learn_as_transformers, make_trainer, time_taken


@pytest.fixture
def recipe(tmp_path):
    """The flags of a small and brief run on streets as a file of settings."""
    settings, name = {"dataset": "elsewhere"}, ""
    for word in (*SMALL, *BRIEF):
        if str(word).startswith("--"):
            name = word[2:]
            settings[name] = True
        else:
            settings[name] = word
    del settings["max_steps"]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(settings | {"num_points": 256}))
    return path


def test_every_model_is_trained_once_and_compared(recipe, street, tmp_path, capsys):
    output = tmp_path / "runs"
    flags = ["--recipe", recipe, "--minutes", 0.005, "--evaluations", 2, "--seeds", 1, "--output_dir", output]
    flags += ["--dataset", street]
    benchmark.main(["accuracy", *map(str, flags)])
    models = ("maskformer", "per_pixel", "per_pixel_plus", "transformers", "transformers_equal_steps")
    states = {model: json.loads((output / f"{model}_seed1" / "trainer_state.json").read_text()) for model in models}
    for state in states.values():
        assert sum("eval_mean_iou" in entry for entry in state["log_history"]) == 2
    steps = states["maskformer"]["global_step"]
    assert states["transformers_equal_steps"]["global_step"] == steps and steps % 2 == 0
    rows = [line.split("|")[1] for line in (output / "curves.md").read_text().splitlines() if line[:1] == "|"][2:]
    assert tuple(map(str.strip, rows)) == models
    assert (output / "curves.png").is_file()
    capsys.readouterr()
    written = {path: path.stat().st_mtime_ns for path in output.glob("*_seed*/trainer_state.json")}
    benchmark.main(["accuracy", *map(str, flags)])
    assert capsys.readouterr().out.count("is there already") == 5
    assert {path: path.stat().st_mtime_ns for path in written} == written


@pytest.mark.parametrize(("seconds", "is_far_off"), [(666, False), (786, False), (400, True), (900, True)])
def test_a_run_that_took_another_time_than_it_was_to_take_is_said_so(tmp_path, seconds, is_far_off):
    measured = {"step": 4, "eval_mean_iou": 0.5, "eval_runtime": 6.0}
    state = {"log_history": [measured, {"step": 4, "train_runtime": seconds + 6.0}]}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    text = time_taken(tmp_path, minutes=12)
    assert f"trained for {seconds / 60:.2f} minutes" in text and ("was to take 12:" in text) == is_far_off


def test_without_maskformer_there_are_no_steps_to_be_equal_to(recipe, tmp_path):
    flags = ["--recipe", recipe, "--models", "transformers_equal_steps", "--output_dir", tmp_path / "runs"]
    with pytest.raises(SystemExit, match=r"takes as many steps as .*maskformer_seed0 took, which is not there"):
        benchmark.main(["accuracy", *map(str, flags)])


@pytest.mark.parametrize("flags", [["--models", "fcn"], ["--minutes", "0"], ["--evaluations", "0"]])
def test_what_cannot_be_compared_is_refused(recipe, capsys, flags):
    with pytest.raises(SystemExit):
        benchmark.main(["accuracy", "--recipe", str(recipe), *flags])
    assert flags[0] in capsys.readouterr().err


def test_transformers_learns_the_weights_of_ours_by_its_own_loss(recipe, street, tmp_path):
    """A step of our optimizer on their loss, against a whole copy of their model that takes the same step."""
    arguments = AccuracyArguments(recipe=str(recipe), dataset=str(street))
    model = make_trainer(arguments, "maskformer", 0, tmp_path / "run", max_steps=1).model
    model.save_pretrained(tmp_path / "model")
    alone = transformers.MaskFormerForInstanceSegmentation.from_pretrained(
        tmp_path / "model", use_auxiliary_loss=True
    ).train()
    theirs = learn_as_transformers(model.train())
    pixels = torch.randn(2, 3, 64, 64)
    ids = torch.full((2, 1, 64, 64), VOID, dtype=torch.uint8)
    ids[:, :, :30], ids[:, :, 40:], ids[1, :, 50:] = 1, 2, 3
    labels = [torch.tensor([0, 2]), torch.tensor([0, 2, 1])]
    masks = [(ids[image, 0] == torch.arange(1, len(labels[image]) + 1)[:, None, None]).float() for image in (0, 1)]
    for each in (theirs, alone):
        for module in each.modules():
            if isinstance(module, torch.nn.Dropout) or hasattr(module, "dropout"):
                module.dropout = module.p = 0.0
    losses = []
    for each, inputs in (
        (model, {"segment_ids": ids, "class_labels": labels}),
        (alone, {"mask_labels": masks, "class_labels": labels, "output_hidden_states": True}),
    ):
        optimizer = torch.optim.SGD(each.parameters(), lr=1e-3)
        for _ in range(2):
            loss = each(pixel_values=pixels, **inputs).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:2] == pytest.approx(losses[2:], rel=1e-4) and losses[1] != losses[0]
    torch.testing.assert_close(
        model.eval()(pixels).masks_queries_logits,
        alone.eval()(pixels, output_hidden_states=True).masks_queries_logits,
        rtol=1e-3,
        atol=1e-3,
    )
