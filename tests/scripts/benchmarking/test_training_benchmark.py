"""The training benchmark on a tiny model: that it measures what it says, not how fast anything is."""

import json
from functools import partial

import pytest
import torch
from PIL import Image

from benchmarks import training, training_programs
from benchmarks.measuring import peak_memory, time_in_turn
from benchmarks.plot import Chart, save_charts
from benchmarks.training_programs import Setting, build_ours, build_theirs, make_batch, program


def test_the_quick_benchmark_reports_every_program_and_writes_a_picture(tmp_path, capsys):
    arguments = training.TrainingBenchmarkArguments(quick=True, output_dir=str(tmp_path))
    report = training.run(arguments)
    assert json.loads((tmp_path / "training.json").read_text()) == json.loads(json.dumps(report))
    assert Image.open(tmp_path / "training.png").width > 800
    assert [(row["segments"], row["program"]) for row in report["steps"]] == [
        (segments, name) for segments in (2, 5) for name in training_programs.PROGRAMS
    ]
    for row in report["steps"]:
        assert row["peak_bytes"] > 50e6
        parts = sum(row["phases"][phase]["median"] for phase in training.PHASES if phase != "data")
        assert row["seconds"]["median"] == pytest.approx(parts)
    assert sum(report["profile"]["points"]["shares"].values()) == pytest.approx(1)
    targets = report["preparation"]["target_bytes"]
    assert targets == {"this package": 64 * 64, "transformers": 5 * 4 * 64 * 64}
    printed = capsys.readouterr().out
    for words in ("transformers", "matching+loss/model", "assignment of 300 queries to 200 segments"):
        assert words in printed


def test_both_models_have_the_same_weights_and_the_dense_loss_of_the_last_layer_agrees():
    setting = Setting(image_size=64, batch_size=1, num_queries=10, tiny=True)
    ours, batch = build_ours(setting), make_batch(setting, 4)
    theirs = build_theirs(ours, setting)
    with torch.no_grad():
        targets = {"segment_ids": batch.segment_ids, "class_labels": batch.class_labels}
        mine = ours.model.eval()(batch.pixel_values, **targets)
        other = theirs.model.eval()(
            batch.pixel_values,
            mask_labels=batch.mask_labels(),
            class_labels=batch.class_labels,
            output_hidden_states=True,
        )
    torch.testing.assert_close(mine.masks_queries_logits, other.masks_queries_logits, rtol=1e-3, atol=1e-4)
    last = {name: part for name, part in mine.loss_dict.items() if not name[-1].isdigit()}
    losses = theirs.criterion(
        other.masks_queries_logits, other.class_queries_logits, batch.mask_labels(), batch.class_labels
    )
    for name, part in last.items():
        assert part.item() == pytest.approx(theirs.model.weight_dict[name] * losses[name].item(), rel=1e-3)


def test_every_segment_of_a_batch_has_pixels():
    batch = make_batch(Setting(image_size=128), 60)
    for ids, masks in zip(batch.segment_ids, batch.mask_labels(), strict=True):
        assert ids.unique().tolist() == list(range(1, 61))
        assert torch.equal(masks.sum(0), torch.ones(128, 128))


def test_a_step_tells_where_its_time_went():
    setting = Setting(image_size=64, batch_size=1, num_queries=10, tiny=True)
    trainee, batch = build_ours(setting), make_batch(setting, 3)
    phases = program("points", trainee, batch)()
    assert list(phases) == ["forward", "matching", "loss", "backward", "optimizer"]
    assert all(seconds > 0 for seconds in phases.values())
    alone = program("model alone", trainee, batch)()
    assert alone["matching"] == alone["loss"] == 0


def test_programs_run_in_turn():
    calls = []

    def make(name):
        def step():
            calls.append(name)
            return {"all": float(len(calls))}

        return step

    results = time_in_turn({name: make(name) for name in "ab"}, rounds=2)
    assert calls == ["a", "b", "a", "b"]
    assert results == {"a": {"all": [1.0, 3.0]}, "b": {"all": [2.0, 4.0]}}


def fill(kind, size):
    """What is measured below: making a tensor."""
    return partial(getattr(torch, kind), size)


def test_memory_is_that_of_the_step_in_a_process_of_its_own_and_what_does_not_fit_is_told():
    ballast = torch.ones(30_000_000)  # 120 MB that the other process must not be charged with
    much = peak_memory(fill, "ones", 50_000_000)
    assert much["extra"] == pytest.approx(200e6, rel=0.2)
    assert much["peak"] > much["extra"]
    assert peak_memory(fill, "empty", 50_000_000)["extra"] < 50e6, "what nobody writes takes no memory"
    assert peak_memory(fill, "ones", 1 << 50) == {"peak": None, "extra": None, "error": "not enough memory"}
    assert ballast.sum() > 0


def test_lines_of_one_name_have_one_colour_in_every_chart(tmp_path):
    first = Chart("title", "x", "y", {"first": [(1, 1.0), (10, 4.0)], "second": [(1, 2.0), (10, 2.0)]})
    other = Chart("title", "x", "y", {"second": [(1, 0.1), (2, 30.0)]}, logarithmic=True)
    save_charts([first, other], tmp_path / "charts.png")
    left, right = (
        {color for _, color in half.getcolors(maxcolors=1 << 20)}
        for image in [Image.open(tmp_path / "charts.png").convert("RGB")]
        for half in (image.crop((0, 0, 480, 340)), image.crop((480, 0, 960, 340)))
    )
    blue, orange = (0x1F, 0x5F, 0xA8), (0xD1, 0x62, 0x2B)
    assert {blue, orange} <= left and orange in right and blue not in right
