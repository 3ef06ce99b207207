"""Generates input of every kind and tells what is neither a result nor the project's own error.

    python -m tests.fuzz --cases 10000
    python -m tests.fuzz --only models files --seed 7
    python -m tests.fuzz --again fuzz_findings/models-0-12.pickle

Areas are datasets (COCO, YOLO, maps, label files), the image processor, models and their configurations,
post-processing, and files (run lengths, pickles, pictures). Cases run in processes of their own with limited memory
and time: one that crashes, hangs or takes too much is a finding like any other error from deep inside. The input of
each finding is kept. The exit code is 1 where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

SILENT_FOR = 600  # seconds without a new case, after which a worker hangs where no signal reaches it
REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> None:
    from .worker import AREAS, area_of, outcome_of

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000, help="of all areas together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=AREAS, default=list(AREAS), help="areas")
    parser.add_argument("--output_dir", type=Path, default=Path("fuzz_findings"), help="for the inputs of findings")
    parser.add_argument("--again", type=Path, help="run this kept input alone")
    arguments = parser.parse_args()
    if arguments.again is not None:
        outcome, error = outcome_of(
            area_of(arguments.again.name.split("-")[0]).run, pickle.loads(arguments.again.read_bytes())
        )
        print(outcome)
        if error is not None:
            raise error
        return
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    found = False
    for area in arguments.only:
        start = time.perf_counter()
        counts = fuzz(area, arguments.seed, arguments.cases // len(arguments.only), arguments.output_dir)
        others = sum(counts.values()) - counts["result"] - counts["refused"]
        found |= others > 0
        print(
            f"{area}: {sum(counts.values())} cases in {time.perf_counter() - start:.0f} s: {counts['result']} "
            f"results, {counts['refused']} refused with a sentence, {others} others",
            flush=True,
        )
        for kind, count in counts.most_common():
            if kind not in ("result", "refused"):
                print(f"  {count} x {kind}", flush=True)
    sys.exit(found)


def fuzz(area: str, seed: int, cases: int, folder: Path) -> Counter[str]:
    """How often each thing came out. A worker that dies is followed by another, with the next seed."""
    counts: Counter[str] = Counter()
    batch = 1000  # hypothesis keeps what it has generated: workers are renewed
    while (left := cases - sum(counts.values())) > 0:
        new, died = _run_worker(area, seed, min(batch, left), folder)
        counts.update(new)
        if died and not new and not (folder / "current.pickle").exists():
            raise RuntimeError(f"The worker of area {area} ended before its first case, see {folder}: {died}.")
        if died:
            kept = folder / f"{area}-{seed}-died.pickle"
            (folder / "current.pickle").replace(kept)
            print(f"  {died}: {kept}", flush=True)
            counts[died] += 1
        elif not new:
            raise RuntimeError(f"The worker of area {area} ran no case.")
        seed += 1
    return counts


def _run_worker(area: str, seed: int, cases: int, folder: Path) -> tuple[Counter[str], str]:
    """What it counted, and how it died, if it did."""
    command = [sys.executable, "-m", "tests.fuzz.worker", area, str(seed), str(cases), str(folder.resolve())]
    current, log = folder / "current.pickle", folder / f"{area}-{seed}.log"
    with log.open("w") as stream:
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
        worker = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, cwd=REPOSITORY, env=environment)
        started, hangs = time.time(), False
        while worker.poll() is None:
            time.sleep(0.2)
            newest = current.stat().st_mtime if current.exists() else started
            if time.time() - max(newest, started) > SILENT_FOR:
                hangs = True
                worker.kill()
    counts: Counter[str] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith('{"counts"'):
            counts.update(json.loads(line)["counts"])
        elif line.startswith('{"finding"'):
            print(f"  {line}", flush=True)
    if worker.returncode == 0:
        log.unlink()
        return counts, ""
    return counts, "hang" if hangs else f"process ended with code {worker.returncode}"


if __name__ == "__main__":
    main()
