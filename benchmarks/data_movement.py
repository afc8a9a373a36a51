"""Where TaylorSwinIR's static form spends its time in OpenVINO bf16, beside its traced form and an earlier version's.

96x96 in, x2, the bundled weights of taylor-swinir-light (random ones with --random-weights: their zero biases let
OpenVINO fuse what trained ones do not). The graphs take turns in several fresh processes, and the middle process
counts. Then a census of the static form says what each of its operators took, and how long the multiplications
alone would take at the rate of a large matmul.

--before takes the static form's ONNX file as another version of this repository exported it:

    git worktree add ../before COMMIT
    (cd ../before && python -m sr_edge deploy taylor-swinir-light --tile 96x96 --precisions fp32 -o before.sredge)
    python benchmarks/data_movement.py --before ../before/before.sredge/model.onnx
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from arithmetic import matmul_runs, peak_rate
from attention_forms import TAYLOR, TILE, needed_giga_macs
from rich.console import Console
from rich.table import Table

from sr_edge.bench import census
from sr_edge.bundle.plain import from_plain
from sr_edge.export.export import save_model
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.registry import to_static
from sr_edge.models import load_model
from sr_edge.runtimes import SessionRequest, Spread, measure_interleaved, open_request, paired_ratio
from sr_edge.runtimes.openvino.runtime import shared_core
from sr_edge.spec import ModelCard, Precision

STATIC, TRACED, BEFORE = "static", "traced", "before"
TARGETS = {TRACED: 0.40, BEFORE: 0.85}  # the static form's time as a share of theirs
PROFILED_RUNS = 30


@dataclass(frozen=True)
class Movement:
    """The static form's time as a share of the other forms', and what it consists of."""

    shares: dict[str, Spread]
    targets: dict[str, float]
    largest_differences: dict[str, float]
    operators: list[dict[str, object]]
    arithmetic_share: float
    giga_macs: float
    processes: int
    rounds: int
    threads: int
    random_weights: bool


def write_graphs(folder: Path, random_weights: bool) -> dict[str, Path]:
    network = load_model(TAYLOR, 2, random_weights=random_weights).module
    forms = {STATIC: to_static(network, TILE.height, TILE.width), TRACED: network}
    paths = {name: folder / f"{name}.onnx" for name in forms}
    for name, form in forms.items():
        save_model(simplify(trace(form, TILE)).model, paths[name])
    return paths


def shares_of_time(graphs: Mapping[str, Path], rounds: int) -> dict[str, Spread]:
    """The static form's time over each other graph's, all in turn."""
    card = ModelCard(name=TAYLOR, scale=2, parameters=0, random_weights=True)
    with ExitStack() as stack:
        requests = [SessionRequest(path, card, TILE, Precision.BF16) for path in graphs.values()]
        sessions = [stack.enter_context(open_request("openvino", request)) for request in requests]
        turns = dict(zip(graphs, measure_interleaved(sessions, rounds, warm_up=2), strict=True))
    return {name: paired_ratio(turns[STATIC], turns[name]) for name in graphs if name != STATIC}


def shares_in_fresh_process(graphs: Mapping[str, Path], rounds: int) -> dict[str, Spread]:
    named = [f"{name}={path}" for name, path in graphs.items()]
    command = [sys.executable, __file__, "--rounds", str(rounds), "--turns", *named]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    shares = json.loads(done.stdout.splitlines()[-1])
    return {name: from_plain(Spread, share, name) for name, share in shares.items()}


def largest_differences(graphs: Mapping[str, Path]) -> dict[str, float]:
    """Between the outputs of the static form and of each other graph, in f32, for one random picture."""
    picture = np.random.default_rng(0).random((1, 3, TILE.height, TILE.width), np.float32)
    wanted = {"INFERENCE_PRECISION_HINT": "f32"}
    outputs = {name: shared_core().compile_model(path, "CPU", wanted)([picture])[0] for name, path in graphs.items()}
    return {name: float(abs(outputs[STATIC] - outputs[name]).max()) for name in graphs if name != STATIC}


def measure(graphs: Mapping[str, Path], processes: int, rounds: int, random_weights: bool) -> Movement:
    passes = [shares_in_fresh_process(graphs, rounds) for _ in range(processes)]
    times = census(graphs[STATIC], "openvino", Precision.BF16, runs=PROFILED_RUNS)
    operators = [{"kind": time.operator, "nodes": time.layers, "share": time.share} for time in times.operators]
    arithmetic_ms = 1e12 * needed_giga_macs() / peak_rate(matmul_runs()[Precision.BF16])
    return Movement(
        shares={name: Spread.across([found[name] for found in passes]) for name in passes[0]},
        targets={name: TARGETS[name] for name in passes[0]},
        largest_differences=largest_differences(graphs),
        operators=operators,
        arithmetic_share=arithmetic_ms / times.total_ms,
        giga_macs=needed_giga_macs(),
        processes=processes,
        rounds=rounds,
        threads=times.threads,
        random_weights=random_weights,
    )


def show(found: Movement) -> None:
    console = Console(width=100)
    for name, share in found.shares.items():
        difference, target = found.largest_differences[name], found.targets[name]
        console.print(
            f"static / {name}: {share.median:.2f} ({share.low:.2f} to {share.high:.2f}, target {target:.2f}); "
            f"outputs differ by at most {difference:.1e} in f32"
        )
    grid = Table("operator", "nodes", "share of the static form's time")
    for row in found.operators:
        grid.add_row(str(row["kind"]), str(row["nodes"]), f"{row['share']:.1%}")
    console.print(grid)
    console.print(f"multiplications alone, {found.giga_macs:.1f} GMAC at a matmul's rate: {found.arithmetic_share:.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, metavar="FILE.onnx", help="static form exported by an earlier version")
    parser.add_argument("--random-weights", action="store_true")
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=9, help="timed runs of every graph in each process")
    parser.add_argument("--json", type=Path, help="also write the measurements to this JSON file")
    parser.add_argument("--turns", nargs="*", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.turns:
        graphs = {name: Path(path) for name, path in (turn.split("=", 1) for turn in args.turns)}
        shares = shares_of_time(graphs, args.rounds)
        print(json.dumps({name: asdict(share) for name, share in shares.items()}))
        return
    with tempfile.TemporaryDirectory() as name:
        graphs = write_graphs(Path(name), args.random_weights)
        if args.before:
            graphs[BEFORE] = args.before.resolve()
        found = measure(graphs, args.processes, args.rounds, args.random_weights)
    show(found)
    if args.json:
        args.json.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
