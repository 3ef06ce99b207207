"""Kills training runs (kill -9), resumes each until it is finished, and tells whether all end with the same weights.

    python -m tests.kills --at_random 20 --while_saving 20 --processes 1 2

Runs are those of tests/scripts/killed/test_ended_runs.py; a line for each says where it was killed and how it ended.
They are forked from this process, which has imported everything, so that a kill meets the run and not its imports.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

SCRIPTS = Path(__file__).parent / "scripts"
sys.path += [str(SCRIPTS), str(SCRIPTS / "killed")]

import killed_run  # noqa: E402
from killed_run_flags import FLAGS  # noqa: E402

from modeling_maskformer.commands import train  # noqa: E402, F401  imported before it is forked
from tests.launched import environments  # noqa: E402

FORK = multiprocessing.get_context("fork")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at_random", type=int, default=20, help="kills at a random time")
    parser.add_argument("--while_saving", type=int, default=20, help="kills at a random step of writing a checkpoint")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        dataset = write_street(Path(folder) / "street")
        for processes in arguments.processes:
            expected, seconds, writes = uninterrupted(dataset, Path(folder) / f"whole-{processes}", processes)
            print(f"{processes} processes, uninterrupted: {seconds:.1f} s, {writes} steps of writing", flush=True)
            for number in range(arguments.at_random + arguments.while_saving):
                output = Path(folder) / f"killed-{processes}-{number}"
                if number < arguments.at_random:
                    after = rng.uniform(0, 0.8 * seconds)
                    ended = run_and_kill(dataset, output, processes, after=after)
                    where = f"after {after:.1f} s"
                else:
                    die_at = rng.randint(1, writes)
                    ended = run_and_kill(dataset, output, processes, die_at=die_at)
                    where = f"at writing step {die_at}"
                found, resumed = resume_until_finished(dataset, output, processes)
                same = found == expected
                failures += not same
                print(f"  killed {where} (code {ended}), went on {resumed}: {'same' if same else found}", flush=True)
                shutil.rmtree(output)
    print("all ended alike" if not failures else f"{failures} ended differently")
    sys.exit(bool(failures))


def write_street(folder: Path) -> Path:
    """The dataset of the tests of the scripts."""
    import conftest  # of tests/scripts

    return conftest.write_dataset(folder, channels=False)


def start(dataset: Path, output: Path, processes: int, die_at: int = 0, *flags: str) -> list[BaseProcess]:
    """The processes of a run; with `die_at`, the first one kills itself at that step of writing."""
    argv = [str(word) for word in ("--dataset", dataset, "--output_dir", output, *FLAGS, *flags)]
    started = []
    for rank, own in enumerate(environments(processes) if processes > 1 else [{}]):
        environment = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | own
        arguments = (argv, die_at if rank == 0 else 0, log_of(output, rank), environment)
        started.append(FORK.Process(target=run_logged, args=arguments))
        started[-1].start()
    return started


def run_logged(argv: list[str], die_at: int, log: Path, environment: dict[str, str]) -> None:
    """The run, in this process; what it says goes to the log."""
    os.environ |= environment
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    killed_run.main(die_at, argv)


def log_of(output: Path, rank: int = 0) -> Path:
    return output.with_name(f"{output.name}-{rank}.log")


def finish(started: list[BaseProcess]) -> list[int]:
    """The codes of processes that end by themselves; where one dies, so do the others."""
    while any(process.exitcode is None for process in started):
        if any(process.exitcode not in (None, 0) for process in started):
            kill(started)
        time.sleep(0.05)
    return [process.exitcode for process in started]


def kill(started: list[BaseProcess]) -> None:
    for process in started:
        if process.exitcode is None:
            process.kill()


def uninterrupted(dataset: Path, output: Path, processes: int) -> tuple[dict, float, int]:
    before = time.perf_counter()
    codes = finish(start(dataset, output, processes))
    seconds = time.perf_counter() - before
    said = log_of(output).read_text()
    if any(codes):
        raise RuntimeError(f"The uninterrupted run ended with {codes}: {said[-2000:]}")
    return outcome(output), seconds, int(said.rsplit("steps ", 1)[1].split()[0])


def run_and_kill(dataset: Path, output: Path, processes: int, die_at: int = 0, after: float | None = None) -> int:
    started = start(dataset, output, processes, die_at)
    if after is not None:
        time.sleep(after)
        kill(started)
    return finish(started)[0]


def resume_until_finished(dataset: Path, output: Path, processes: int) -> tuple[dict, str]:
    """What the run has come to, and from which checkpoint it went on."""
    codes = finish(start(dataset, output, processes, 0, "--resume_from_checkpoint", "last"))
    how = "from a checkpoint"
    if 2 in codes and "no checkpoint to resume from" in log_of(output).read_text():  # killed before the first
        codes = finish(start(dataset, output, processes, 0, "--overwrite_output_dir"))
        how = "from the start"
    if any(codes):
        return {"codes": codes, "said": log_of(output).read_text()[-2000:]}, how
    return outcome(output), how


def outcome(output: Path) -> dict:
    """Steps and weights at the end."""
    state = json.loads((output / "trainer_state.json").read_text())
    weights = hashlib.sha256((output / "model.safetensors").read_bytes()).hexdigest()
    return {"steps": state["global_step"], "weights": weights, "best": state["best_global_step"]}


if __name__ == "__main__":
    main()
