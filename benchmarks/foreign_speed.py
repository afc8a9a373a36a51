"""The speed of networks that sr-edge never saw, against their plain export: docs/networks.md, "Speed".

Every row is a network at one size. First all graphs are made (--prepare does only that), each in its own process; this
may happen on a busy machine. Then the rows are timed one after the other, the small size first, on a machine that does
nothing else. Rows that exist in OUT/rows are kept unless --again is given, so that an interrupted run goes on where it
stopped, and what was measured so far can be published.

    python benchmarks/foreign_speed.py --prepare
    python benchmarks/foreign_speed.py --minutes 20 --publish
    python benchmarks/foreign_speed.py --quick
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from networks import PAGE, RESULTS, SPEED_RESULTS, published
from speed_matrix.page import headline, targets
from speed_matrix.subjects import SIDES_PX, Subject, subjects
from speed_matrix.times import RECORD

from sr_edge.bench import describe_environment, write_text

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
HEADLINE_START = "<!-- foreign-speed: written by benchmarks/foreign_speed.py -->"
HEADLINE_END = "<!-- end of foreign-speed -->"
QUICK = ("compact_few", "bsrn_like", "span")
INT8_NETWORK = "bsrn_like"
"""The network whose INT8 graphs with and without passes are compared: its products become convolutions."""

MAKING_LIMIT_S = 600.0
OPENING_S = 16.0
"""Seconds that a row takes beside its comparisons: a process that starts, opens the graphs and chooses among them."""

LEAST_SECONDS, MOST_SECONDS = 6.0, 45.0
SLOW_MS = 1500.0
"""A network whose baseline takes longer than this in OpenVINO at the smaller size is not timed at the larger one."""


@dataclass(frozen=True)
class Place:
    """A row and its files."""

    subject: Subject
    side_px: int
    out: Path

    @property
    def name(self) -> str:
        return f"{self.subject.name}-{self.side_px}"

    @property
    def graphs(self) -> Path:
        return self.out / "graphs" / self.name

    @property
    def row(self) -> Path:
        return self.out / "rows" / f"{self.name}.json"


def places(chosen: Sequence[Subject], out: Path, sides_px: Sequence[int] = SIDES_PX) -> list[Place]:
    """All rows, those of the smaller size first, so that a run that is cut short has every network at one size."""
    return [Place(subject, side_px, out) for side_px in sides_px for subject in chosen]


def prepare(place: Place) -> Mapping[str, Any]:
    """The record of a row's graphs, which are made if there are none."""
    file = place.graphs / RECORD
    if not file.exists():
        failed = _run_module("graphs", MAKING_LIMIT_S, place.subject.name, str(place.side_px), str(place.graphs))[1]
        if failed:
            write_text(file, json.dumps({"failed": failed}) + "\n")
    record: Mapping[str, Any] = json.loads(file.read_text())
    return record


def measure(place: Place, seconds: float, base: Mapping[str, Any] | None) -> dict[str, Any]:
    """The row: its cells, or why it has none.

    Args:
        place: The row.
        seconds: How long it is timed.
        base: The row of the same network at the smaller size; None for that size itself.
    """
    row = {"name": place.subject.name, "family": place.subject.family, "side_px": place.side_px}
    record = prepare(place)
    row |= {key: record[key] for key in ("failed", "error", "rewrites", "remarks") if key in record}
    if "failed" in record:
        return row
    slow_ms = (base or {}).get("cells", {}).get("OpenVINO fp32", {}).get("base_ms", 0.0)
    if slow_ms > SLOW_MS:
        return {**row, "skipped": f"takes {slow_ms:.0f} ms at the smaller size, above {SLOW_MS:.0f} ms"}
    printed, failed = _run_module("times", 4 * seconds + 120, str(place.graphs), "--seconds", str(seconds))
    return {**row, "failed": failed} if failed else {**row, "cells": json.loads(printed)}


def _run_module(name: str, limit_s: float, *arguments: str) -> tuple[str, str]:
    """What a module of speed_matrix prints, and why it failed."""
    command = [sys.executable, "-W", "ignore", "-m", f"speed_matrix.{name}", *arguments]
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH", ""))))
    environment = {**os.environ, "PYTHONPATH": path}
    try:
        done = subprocess.run(command, timeout=limit_s, capture_output=True, text=True, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return "", f"took longer than {limit_s:.0f} s"
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    failed = "" if done.returncode == 0 else (said or [f"ended with {done.returncode}"])[-1]
    return done.stdout, failed[:300]


def measure_all(chosen: Sequence[Place], minutes: float, again: bool) -> None:
    """Times the rows that are missing; each gets an equal share of the time that is left."""
    for place in chosen:
        prepare(place)
    deadline = time.monotonic() + 60 * minutes
    missing = [place for place in chosen if again or not place.row.exists()]
    for index, place in enumerate(missing):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            print(f"the time is over; {len(missing) - index} rows are left for another run")
            return
        share = left_s / (len(missing) - index) - OPENING_S
        seconds = min(max(share, LEAST_SECONDS), MOST_SECONDS)
        smaller = place.out / "rows" / f"{place.subject.name}-{SIDES_PX[0]}.json"
        base = json.loads(smaller.read_text()) if place.side_px != SIDES_PX[0] and smaller.exists() else None
        row = measure(place, seconds, base)
        place.row.parent.mkdir(parents=True, exist_ok=True)
        write_text(place.row, json.dumps(row, indent=1) + "\n")
        print(f"{place.name}: {_summary(row)}", flush=True)


def measure_int8(out: Path, again: bool) -> None:
    """Compares INT8 with and without passes, unless that was done before."""
    file = out / "int8" / f"{INT8_NETWORK}.json"
    if file.exists() and not again:
        return
    printed, failed = _run_module("int8", MAKING_LIMIT_S, INT8_NETWORK)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, printed if not failed else json.dumps({"name": INT8_NETWORK, "failed": failed}) + "\n")
    print(f"{INT8_NETWORK} in INT8: {failed or 'measured'}")


def _summary(row: Mapping[str, Any]) -> str:
    reason = row.get("failed") or row.get("skipped")
    if reason:
        return str(reason)
    return ", ".join(
        f"{name} {cell['ratio']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"
        for name, cell in row["cells"].items()
        if "ratio" in cell
    )


def document(every: Sequence[Place], command: str, out: Path) -> dict[str, Any]:
    """What is published: all rows that there are, the names of those that are missing, and INT8 if it was measured."""
    rows = [json.loads(place.row.read_text()) for place in every if place.row.exists()]
    pending = [place.name for place in every if not place.row.exists()]
    found = describe_environment()
    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    environment = f"{found.machine.cpu}, {found.machine.usable_cores} cores; {versions}; {found.started}"
    int8 = [json.loads(file.read_text()) for file in sorted((out / "int8").glob("*.json"))]
    return {"command": command, "environment": environment, "rows": rows, "pending": pending, "int8": int8}


def with_headline(readme: str, kept: Mapping[str, Any]) -> str:
    """The README with the headline between its marks."""
    before, _, rest = readme.partition(HEADLINE_START)
    _, _, after = rest.partition(HEADLINE_END)
    sentence = headline(kept)
    return f"{before}{HEADLINE_START}\n{sentence}\n{HEADLINE_END}{after}" if rest else readme


def publish(kept: Mapping[str, Any]) -> None:
    """Writes the results, the section of docs/networks.md and the headline of the README."""
    write_text(SPEED_RESULTS, json.dumps(kept, indent=1) + "\n")
    write_text(PAGE, published(json.loads(RESULTS.read_text())))
    write_text(README, with_headline(README.read_text(encoding="utf-8"), kept))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for timing all rows that are missing")
    parser.add_argument("--only", metavar="NAME,...", help="these networks only, separated by commas")
    parser.add_argument("--quick", action="store_true", help=f"a trial: {', '.join(QUICK)} at one size, one minute")
    parser.add_argument("--prepare", action="store_true", help="only make the graphs, which takes some minutes")
    parser.add_argument("--int8", action="store_true", help=f"also measure INT8 graphs of {INT8_NETWORK}")
    parser.add_argument("--again", action="store_true", help="repeat rows that exist")
    parser.add_argument("--out", type=Path, default=Path("build/foreign_speed"), metavar="FOLDER")
    parser.add_argument("--publish", action="store_true", help="write the results, docs/networks.md and the README")
    arguments = parser.parse_args()
    if arguments.quick and arguments.publish:
        parser.error("--quick is a trial and cannot be published")
    return arguments


def main() -> None:
    arguments = parse_arguments()
    every = subjects()
    names = QUICK if arguments.quick else [subject.name for subject in every]
    names = arguments.only.split(",") if arguments.only else names
    unknown = sorted(set(names) - {subject.name for subject in every})
    if unknown:
        sys.exit(f"no network {', '.join(unknown)}; there are {', '.join(subject.name for subject in every)}")
    out = (arguments.out / "quick" if arguments.quick else arguments.out).resolve()
    sides_px = SIDES_PX[:1] if arguments.quick else SIDES_PX
    chosen = places([subject for subject in every if subject.name in names], out, sides_px)
    if arguments.prepare:
        for place in chosen:
            print(f"{place.name}: {prepare(place).get('failed') or 'ready'}", flush=True)
        return
    measure_all(chosen, 1.0 if arguments.quick else arguments.minutes, arguments.again)
    if arguments.int8:
        measure_int8(out, arguments.again)
    int8 = " --int8" if arguments.int8 else ""
    command = f"python benchmarks/foreign_speed.py --minutes {arguments.minutes:g}{int8} --publish"
    kept = document(places(every, out), command, out)
    for target in targets(kept["rows"]):
        print(f"{target.name}: {'-' if target.measured is None else f'{target.measured:.3f}'} ({target.verdict})")
    if arguments.publish:
        publish(kept)


if __name__ == "__main__":
    main()
