"""The process in which inputs are tried: python -m tests.fuzz.worker KIND FIRST_SEED INPUTS RESULTS FOLDER.

Appends one JSON line to RESULTS before and one after each input, so that the parent knows which input made it hang or
crash.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import sys
import traceback
from pathlib import Path

from sr_edge.errors import SrEdgeError
from sr_edge.printable import printable
from tests.fuzz.kinds import CANARY, EVERY_KIND, KINDS, Bench
from tests.fuzz.known_faults import KNOWN_FAULTS

_ALL_KINDS = {**KINDS, **KNOWN_FAULTS}

MAX_GROWTH_BYTES = 1 << 30
_SAID_BY_A_FAULT = ("Traceback", "this is a bug in sr-edge", "exception being dropped")


def main() -> None:
    kind, first, count, results, folder = sys.argv[1:]
    bench = Bench(Path(folder) / "work", Path(folder) / "valid")
    bench.valid.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    with Path(results).open("a", encoding="utf-8") as log:
        for seed in range(int(first), int(first) + int(count)):
            print(json.dumps({"seed": seed}), file=log, flush=True)
            chosen = list(KINDS)[seed % len(KINDS)] if kind == EVERY_KIND else kind
            problem = _problem(chosen, seed, bench)
            print(json.dumps({"seed": seed, "problem": problem}), file=log, flush=True)


def _problem(kind: str, seed: int, bench: Bench) -> str:
    """What was handled badly; empty if nothing was."""
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.folder.mkdir()
    Path(CANARY).unlink(missing_ok=True)
    before = _peak_bytes(reset=True)
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            _ALL_KINDS[kind](bench, random.Random(f"{kind} {seed}"))
        error = ""
    except SrEdgeError as expected:
        error = "several lines" if "\n" in str(expected) else ""
    except Exception:
        error = traceback.format_exc()
    text = said.getvalue()
    problems = {
        "a traceback": error or next((text for mark in _SAID_BY_A_FAULT if mark in text), ""),
        "several errors": text if sum(line.startswith("sr-edge: ") for line in text.splitlines()) > 1 else "",
        "characters that act on a terminal": ascii(text) if printable(text) != text else "",
        "code was run": CANARY if Path(CANARY).exists() else "",
        "a half-written file": _half_written(bench.folder, text),
        "memory": str(_peak_bytes() - before) if _peak_bytes() - before > MAX_GROWTH_BYTES else "",
    }
    return "; ".join(f"{name}: {details[-1500:]}" for name, details in problems.items() if details)


def _half_written(folder: Path, said: str) -> str:
    has_failed = any(line.startswith("sr-edge: ") for line in said.splitlines())
    names = [path.name for path in folder.iterdir()]
    results = [name for name in names if name.startswith("out.") and not name.endswith(".segments")]
    return ", ".join([*(name for name in names if name.endswith(".part")), *(results if has_failed else [])])


def _peak_bytes(reset: bool = False) -> int:
    if reset:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
