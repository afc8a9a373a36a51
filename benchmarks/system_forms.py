"""The static form of every system against the same network traced as it is written.

96x96 in, twice that out, random weights (nothing here depends on them). Each system, runtime and precision gets a few
fresh processes, since threads that one library leaves behind slow the next; static and traced form take turns in it.
A ratio is taken in every round, its median counts, and of the processes the middle one: a neighbour on a shared
machine slows arithmetic and memory unequally, for as long as a process lasts.

    python benchmarks/system_forms.py
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from sr_edge.bundle.plain import from_plain
from sr_edge.export.export import save_model
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import load_model
from sr_edge.runtimes import SessionRequest, Spread, open_request, ratios_to_first
from sr_edge.spec import Precision, TileSpec

SCALE = 2
SYSTEMS = ("taylor-swinir-light", "labnet-light", "realnet-light", "lcoan-light", "ups-light")
BASELINE = "swinir-light"  # shown, but the mean is the papers' systems'
KINDS = (
    ("onnxruntime", Precision.FP32),
    ("openvino", Precision.FP32),
    ("openvino", Precision.BF16),
)
MEAN_TARGET, LEAST_TARGET = 1.4, 1.0
FORMS = ("static", "traced")


@dataclass(frozen=True)
class SystemForms:
    """One system in one runtime: the traced form's time as a multiple of the static form's."""

    system: str
    tile: str
    runtime: str
    version: str
    precision: str
    threads: int
    processes: int
    rounds: int
    ratio: Spread


@dataclass(frozen=True)
class FormsReport:
    """All of them, with the geometric mean and the least of the papers' medians beside the targets."""

    rows: tuple[SystemForms, ...]
    geometric_mean: float
    mean_target: float
    least: float
    least_target: float

    @classmethod
    def of(cls, rows: Sequence[SystemForms]) -> FormsReport:
        of_papers = [row for row in rows if row.system != BASELINE] or rows
        medians = [row.ratio.median for row in of_papers]
        mean = statistics.geometric_mean(medians)
        return cls(tuple(rows), mean, MEAN_TARGET, min(medians), LEAST_TARGET)


def write_graphs(system: str, tile: TileSpec, folder: Path) -> None:
    """Both forms as simplified ONNX files, from the same weights."""
    network = load_model(system, SCALE, random_weights=True).module
    for form, module in zip(FORMS, (to_static(network, tile.height, tile.width), network), strict=True):
        save_model(simplify(trace(module, tile)).model, graph_path(folder, system, form))


def graph_path(folder: Path, system: str, form: str) -> Path:
    return folder / f"{system}-{form}.onnx"


def measure(system: str, tile: TileSpec, runtime: str, precision: Precision, folder: Path, rounds: int) -> SystemForms:
    """Opens both forms in one runtime and lets them take turns."""
    card = load_model(system, SCALE, random_weights=True).card
    with ExitStack() as stack:
        sessions = [
            stack.enter_context(
                open_request(runtime, SessionRequest(graph_path(folder, system, form), card, tile, precision))
            )
            for form in FORMS
        ]
        _, ratio = ratios_to_first(sessions, rounds, warm_up=2)
        spec = sessions[0].spec
    return SystemForms(system, str(tile), runtime, spec.version, precision.value, spec.threads, 1, rounds, ratio)


def measure_in_fresh_process(
    system: str, tile: TileSpec, runtime: str, precision: Precision, folder: Path, rounds: int
) -> SystemForms:
    only = ["--only", system, runtime, precision.value, str(folder)]
    command = [sys.executable, __file__, *only, "--tile", str(tile), "--rounds", str(rounds)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return from_plain(SystemForms, json.loads(done.stdout.splitlines()[-1]), f"{system} in {runtime}")


def measure_all(systems: Sequence[str], tile: TileSpec, processes: int, rounds: int) -> Iterator[SystemForms]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for system in systems:
            write_graphs(system, tile, folder)
            passes = [
                [measure_in_fresh_process(system, tile, *kind, folder, rounds) for kind in KINDS]
                for _ in range(processes)
            ]
            for rows in zip(*passes, strict=True):
                ratio = Spread.across([row.ratio for row in rows])
                yield replace(rows[0], processes=processes, ratio=ratio)


def table(report: FormsReport) -> Table:
    """For the terminal."""
    grid = Table("system", "runtime", "precision", "traced / static", "quartiles")
    for row in report.rows:
        quartiles = f"{row.ratio.low:.2f} to {row.ratio.high:.2f}"
        grid.add_row(row.system, f"{row.runtime} {row.version}", row.precision, f"{row.ratio.median:.2f}", quartiles)
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=3, help="of every system, runtime and precision")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs of each form, in each process")
    parser.add_argument(
        "--systems", nargs="+", default=(*SYSTEMS, BASELINE), metavar="NAME", help="default: all, light"
    )
    parser.add_argument("--tile", type=TileSpec.parse, default=TileSpec(96, 96))
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    parser.add_argument("--only", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        system, runtime, precision, folder = args.only
        row = measure(system, args.tile, runtime, Precision(precision), Path(folder), args.rounds)
        print(json.dumps(asdict(row)))
        return
    report = FormsReport.of(list(measure_all(args.systems, args.tile, args.processes, args.rounds)))
    Console().print(table(report))
    print(f"geometric mean {report.geometric_mean:.2f} (target {MEAN_TARGET}), ", end="")
    print(f"least {report.least:.2f} (target {LEAST_TARGET}); {args.processes} processes of {args.rounds} rounds")
    if args.json:
        args.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
