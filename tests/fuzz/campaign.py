"""Tries inputs of all kinds in processes of their own, which may hang, crash or grow.

python -m tests.fuzz.campaign [INPUTS_PER_KIND] [FIRST_SEED] [RESULTS.json]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.kinds import KINDS

LIMIT_S = 60.0
"""An input that takes longer hangs."""
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BadInput:
    """An input that was handled badly; `python -m tests.fuzz.worker KIND SEED 1 RESULTS FOLDER` tries it again."""

    kind: str
    seed: int
    problem: str


def tried(kind: str, inputs: int, first_seed: int, folder: Path, limit_s: float = LIMIT_S) -> list[BadInput]:
    """Tries so many inputs of a kind; a process that hangs or crashes is replaced by one that goes on after it."""
    bad: list[BadInput] = []
    seed, end = first_seed, first_seed + inputs
    while seed < end:
        results = folder / f"{kind}-{seed}.jsonl"
        last, problem = _run_worker(kind, seed, end - seed, results, folder / kind, limit_s)
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        bad += [BadInput(kind, line["seed"], line["problem"]) for line in lines if line.get("problem")]
        if problem:
            bad.append(BadInput(kind, last, problem))
        seed = last + 1
    return bad


def _run_worker(kind: str, seed: int, inputs: int, results: Path, folder: Path, limit_s: float) -> tuple[int, str]:
    """Runs a process; the last seed that it tried, and how it ended if that was badly."""
    folder.mkdir(parents=True, exist_ok=True)
    results.touch()
    command = [sys.executable, "-m", "tests.fuzz.worker", kind, str(seed), str(inputs), str(results), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    with (folder / "stderr").open("wb") as stderr:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr, env=environment
        )
        size, changed_s = 0, time.monotonic()
        while worker.poll() is None:
            time.sleep(0.02)
            if (now := results.stat().st_size) != size:
                size, changed_s = now, time.monotonic()
            elif time.monotonic() - changed_s > limit_s:
                worker.kill()
                worker.wait()
                return _last_seed(results, seed), f"a hang: no end after {limit_s:g} s"
    if worker.returncode:
        said = (folder / "stderr").read_text(errors="replace")[-1500:]
        return _last_seed(results, seed), f"a crash: exit code {worker.returncode}: {said}"
    return seed + inputs - 1, ""


def _last_seed(results: Path, first: int) -> int:
    lines = results.read_text().splitlines()
    return int(json.loads(lines[-1])["seed"]) if lines else first


def main(inputs: int = 250, first_seed: int = 0, results: str = "") -> int:
    """Tries inputs of every kind, prints the figures, and writes them to `results`; 1 if any was handled badly."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            bad = tried(kind, inputs, first_seed, Path(folder))
            rows.append({"kind": kind, "tried": inputs, "handled_badly": len(bad)})
            sys.stdout.write(f"{kind}: {inputs} tried, {len(bad)} handled badly\n")
            sys.stdout.write("".join(f"  seed {item.seed}: {item.problem}\n" for item in bad))
            sys.stdout.flush()
    if results:
        Path(results).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return 1 if any(row["handled_badly"] for row in rows) else 0


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(main(int(given[0]) if given else 250, int(given[1]) if len(given) > 1 else 0, "".join(given[2:3])))
