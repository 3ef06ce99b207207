"""The benchmark of a device, at tiny sizes on the CPU: its rows, what it counts, and what it says of failures."""

import json

import pytest
import torch

from benchmarks.device.measuring import Meter, count_calls, timed
from benchmarks.device.rivals import RIVALS
from benchmarks.device.rows import DeviceArguments, Rows
from benchmarks.device.table import BEGIN, END, table
from benchmarks.training_programs import Setting, build_ours, make_batch, program
from scripts import benchmark


@pytest.fixture
def measure(tmp_path):
    """Measures programs; their rows by name."""

    def run(programs, **named):
        rows = Rows("training", DeviceArguments("cpu", rounds=3, output=str(tmp_path / "rows.json")))
        rows.measure("work", {name: (lambda program=program: program) for name, program in programs.items()}, **named)
        assert json.loads((tmp_path / "rows.json").read_text()) == json.loads(json.dumps(rows.report))
        return {row["program"]: row for row in rows.report["rows"]}

    return run


def takes(*seconds):
    """A program that says it took the next of these numbers of seconds, after the runs that only warm up."""
    answers = [0.0] * 3 + list(seconds)
    return lambda: {"seconds": answers.pop(0)}


def test_the_training_benchmark_measures_every_row_and_prints_it(tmp_path, capsys):
    path = tmp_path / "training.json"
    benchmark.main(["training", "--device", "cpu", "--quick", "--output", str(path)])
    report = json.loads(path.read_text())
    programs = ["model alone", "points", "dense", "transformers"]
    rows = {(row["work"], row["program"]): row for row in report["rows"]}
    assert list(rows) == [
        *(("step, 2 x 64x64, 2 segments", name) for name in programs),
        *(("step, 2 x 64x64, 5 segments", name) for name in programs),
        *(("step, 2 x 64x64, 3 segments", name) for name in ("points", "transformers", *RIVALS)),
    ]
    for row in report["rows"]:
        assert "error" not in row, row
        parts = sum(phase["median"] for phase in row["phases"].values())
        assert row["seconds"]["median"] == pytest.approx(parts) and parts > 0
    printed = capsys.readouterr().out.strip()
    assert printed == table(report)
    assert len({line.count("|") for line in printed.splitlines()[2:]}) == 1, "every line has all columns"


def test_the_inference_benchmark_measures_the_rows_that_are_asked_for(tmp_path):
    path = tmp_path / "inference.json"
    flags = ["--device", "cpu", "--dtype", "fp32", "--quick", "--output", str(path)]
    benchmark.main(["inference", *flags, "--only", "forward", "panoptic", "pipeline"])
    rows = json.loads(path.read_text())["rows"]
    assert list(dict.fromkeys(row["work"] for row in rows)) == [
        "forward, tiny, 1 x 64x64",
        "forward, tiny, 2 x 64x64",
        *(f"panoptic, {number} x {size}" for size in ("64x64", "48x96") for number in (1, 2)),
        "panoptic pipeline, tiny, a 64x48 picture",
    ]
    for row in rows:
        assert "error" not in row and row["seconds"]["median"] > 0, row
        assert ("times_faster" in row) == (row["program"] == "this package")
    assert float(rows[0]["note"].split()[-1]) < 1e-3, "both models compute the same"
    assert rows[-1]["note"].endswith("segments found") and int(rows[-1]["note"].split()[0]) > 0


def test_times_are_compared_with_those_of_the_same_round(measure):
    programs = {"first": takes(1, 8, 3), "second": takes(2, 8, 12), "third": takes(1, 1, 1)}
    rows = measure(programs, images=2, baseline="first", rival="third")
    assert rows["second"]["seconds"] == {"median": 8, "least": 2, "largest": 12}
    assert rows["second"]["of_baseline"] == {"median": 2, "least": 1, "largest": 4}
    assert rows["first"]["times_faster"] == {"median": 1 / 3, "least": 1 / 8, "largest": 1}
    assert "times_faster" not in rows["third"]


def test_what_fails_says_why_and_the_others_are_measured(measure):
    def too_much():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 80 GiB.")

    def wrong():
        raise RuntimeError("expected scalar type BFloat16 but found Float")

    rows = measure({"much": too_much, "wrong": wrong, "good": takes(1, 2, 3)}, images=1, rival="much")
    assert rows["much"]["error"] == "out of memory"
    assert rows["wrong"]["error"] == "RuntimeError: expected scalar type BFloat16 but found Float"
    assert rows["good"]["seconds"]["median"] == 2 and "times_faster" not in rows["good"]


def test_no_round_begins_after_the_budget(tmp_path):
    arguments = DeviceArguments("cpu", rounds=50, seconds_per_row=0.0, output=str(tmp_path / "rows.json"))
    rows = Rows("inference", arguments)
    rows.measure("work", {"a": lambda: takes(1), "b": lambda: takes(2)}, images=1)
    assert [row["rounds"] for row in rows.report["rows"]] == [1, 1]


def test_calls_are_told_by_their_names():
    names = [
        *("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx", "cudaGraphLaunch", "cudaLaunchHostFunc"),
        *("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaMemcpyAsync", "Memcpy DtoH (Device -> Pageable)"),
        *("Memcpy HtoD (Pageable -> Device)", "void at::native::elementwise_kernel"),
    ]
    assert count_calls(names) == {"launches": 4, "waits": 2, "copies_to_host": 1}


def test_calls_of_measuring_itself_are_not_counted(monkeypatch):
    """A stand-in for the profile of a device on which each run of a program shows its number of launches."""
    meter = Meter("cpu")
    meter.is_cuda = True
    own, program = ["cudaDeviceSynchronize"] * 3, lambda: None
    profiles = {program: ["cudaLaunchKernel"] * 7 + ["cudaStreamSynchronize", *own]}
    monkeypatch.setattr(meter, "nothing", lambda: None)
    monkeypatch.setattr(meter, "_profile", lambda profiled: profiles.get(profiled, own))
    assert meter.calls(program) == {"launches": 7, "waits": 1, "copies_to_host": 0}


def test_a_timed_program_has_no_gradients():
    modes = []
    assert timed(Meter(), lambda: modes.append(torch.is_grad_enabled()))()["seconds"] > 0
    assert modes == [False]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--device", "cuda:64"], "--device cuda:64 asks for a GPU that is not here"),
        (["--device", "gpu"], "--device must be cuda, cuda:<number> or cpu, got gpu"),
        (["--device", "cpu", "--only", "forwards"], "--only must be of forward, instead, semantic"),
        (
            ["--device", "cpu", "--result_sizes", "640"],
            "--result_sizes must be heights and widths as 640x640, got 640",
        ),
        (["--device", "cpu", "--rounds", "0"], "--rounds must be at least 1, got 0"),
        (["--device", "cpu", "--without_growth"], "There is no argument --without_growth"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(flags, sentence, refused):
    assert sentence in refused(benchmark.main, "inference", *flags)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_loss_outside_the_compiled_model_is_the_loss_inside(monkeypatch, precision):
    """Compiling, which takes minutes, is left out: the network runs as it is."""
    monkeypatch.setattr(torch, "compile", lambda model, **_: model)
    setting = Setting(image_size=64, batch_size=1, num_queries=10, tiny=True, precision=precision)
    batch, gradients = make_batch(setting, 3), []
    targets = {"segment_ids": batch.segment_ids, "class_labels": batch.class_labels}
    for method in ("step", "step_with_compiled_model"):
        trainee = build_ours(setting)  # always with the same weights
        torch.manual_seed(0)
        getattr(trainee, method)(pixel_values=batch.pixel_values, **targets)
        gradients.append([parameter.grad for parameter in trainee.model.parameters() if parameter.grad is not None])
    inside, outside = gradients
    assert sum(gradient.abs().sum() for gradient in inside) > 0
    torch.testing.assert_close(inside, outside)


@pytest.mark.parametrize("name", ["model alone", "points", "dense"])
def test_steps_in_fp16_leave_finite_weights(name):
    setting = Setting(image_size=64, batch_size=1, num_queries=10, tiny=True, precision="fp16")
    trainee = build_ours(setting)
    step = program(name, trainee, make_batch(setting, 3))
    for _ in range(3):
        step()
    assert all(parameter.isfinite().all() for parameter in trainee.model.parameters())


def test_tables_go_into_their_place_in_a_readme(measure, tmp_path):
    measure({"good": takes(1, 2, 3)}, images=4)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    benchmark.main(["table", "--results", str(tmp_path / "rows.json"), "--readme", str(readme)])
    text = readme.read_text()
    assert text.startswith(f"before\n{BEGIN}\n**`python scripts/benchmark.py training --device cpu")
    assert "| work | good | 2000 (1000 to 3000) | - | - | 2 | - | - | - |  |" in text
    assert text.endswith(f"{END}\nafter\n") and "old" not in text
    readme.write_text("no place")
    with pytest.raises(ValueError, match="must have the lines"):
        benchmark.main(["table", "--results", str(tmp_path / "rows.json"), "--readme", str(readme)])
