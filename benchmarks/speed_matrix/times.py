"""Times one row: each runtime chooses its graph as at `sr-edge deploy`, which then runs in turn with the baseline.

python -m speed_matrix.times FOLDER --seconds S   (in the folder benchmarks)

FOLDER has the graphs of `speed_matrix/graphs.py`. The choice and the comparison use different runs, so that noise that
favours a graph in the choice does not favour it in the comparison. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from sr_edge.deploy.pass_choice import timed_run
from sr_edge.deploy.pass_graphs import PassGraphs
from sr_edge.deploy.pass_timing import Decision, Run, decide
from sr_edge.errors import SrEdgeError
from sr_edge.export.graph.metadata import read_metadata
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.speed_passes import SPEED_PASSES
from sr_edge.runtimes import MedianInterval, SessionRequest, open_request, supports
from sr_edge.spec import ActivationType, Precision, TileSpec

BASELINE, PLAIN, SHARED, TWIN_FILE, RECORD = "baseline.onnx", "plain.onnx", "shared.onnx", "twin.onnx", "graphs.json"
"""The files in the folder of a row: of torch and onnxsim, of sr-edge without and with the passes for all targets, of
our own network of the same shape, and what was noted when they were made."""

CELLS = {
    "OpenVINO fp32": ("openvino", Precision.FP32),
    "OpenVINO bf16": ("openvino", Precision.BF16),
    "ONNX Runtime fp32": ("onnxruntime", Precision.FP32),
}
"""bf16 is the best precision of float graphs on processors that compute in it; elsewhere its cells say so."""

CHOICE_S = 10.0
"""Seconds in which a runtime chooses its graph: at `sr-edge deploy`, two runtimes share 20."""

MIN_ROUNDS, MAX_ROUNDS = 8, 100
SLOWEST_FACTOR = 3.0
"""A comparison that has no MIN_ROUNDS after this many times its seconds is given up."""


def measure(folder: Path, seconds: float) -> dict[str, Any]:
    """All cells of a row; the time is divided equally among their comparisons, beside which the choices take theirs."""
    record = json.loads((folder / RECORD).read_text())
    graphs = PassGraphs(folder / SHARED, folder / PLAIN, tuple(record["passes"]), SPEED_PASSES, folder / "passes")
    runnable = [name for name, (runtime, precision) in CELLS.items() if supports(runtime, precision)]
    cells: dict[str, Any] = {}
    chosen: dict[str, Decision] = {}
    for name, (runtime, precision) in CELLS.items():
        if name not in runnable:
            cells[name] = {"skipped": f"this processor does not compute in {precision}"}
            continue
        try:
            if runtime not in chosen:
                chosen[runtime] = _choice(graphs, runtime)
            cells[name] = _cell(folder, graphs, runtime, precision, chosen[runtime], seconds / len(runnable))
        except SrEdgeError as error:
            cells[name] = {"failed": error.problem}
    return cells


def _choice(graphs: PassGraphs, runtime: str) -> Decision:
    """The graph of a runtime, which serves all float precisions."""
    candidates = graphs.candidates
    if len(candidates.first) == 1:
        return Decision(candidates.shared, candidates.plain, MedianInterval(1.0, 1.0, 1.0), 0)
    return decide(candidates, lambda passes: _opened_in_all(graphs.file(passes), runtime), CHOICE_S, time.monotonic)


def _cell(
    folder: Path, graphs: PassGraphs, runtime: str, precision: Precision, decision: Decision, seconds: float
) -> dict[str, Any]:
    """One comparison."""
    files = {"baseline": folder / BASELINE, "ours": graphs.file(decision.passes)}
    if (folder / TWIN_FILE).exists():
        files["twin"] = folder / TWIN_FILE
    times = compare(list(files.values()), runtime, [precision] * len(files), seconds)
    by_name = dict(zip(files, times, strict=True))
    remarks = list(decision.remarks) if precision is Precision.FP32 else []
    cell = {"passes": list(decision.passes), "remarks": remarks}
    cell |= ratio_of_times(by_name["ours"], by_name["baseline"])
    return {**cell, "twin": ratio_of_times(by_name["ours"], by_name["twin"])} if "twin" in by_name else cell


def ratio_of_times(ours: Sequence[float], base: Sequence[float]) -> dict[str, Any]:
    """The median of the ratios of all rounds with its 95 % interval, and both times."""
    interval = MedianInterval.of([ms / base_ms for ms, base_ms in zip(ours, base, strict=True)])
    medians = (MedianInterval.of(times).median for times in (ours, base))
    ours_ms, base_ms = medians
    return {
        "ratio": interval.median,
        "low": interval.low,
        "high": interval.high,
        "rounds": len(ours),
        "ours_ms": ours_ms,
        "base_ms": base_ms,
    }


def compare(files: Sequence[Path], runtime: str, precisions: Sequence[Precision], seconds: float) -> list[list[float]]:
    """Times of every file, round by round; the order of the files is reversed in every second round.

    Raises:
        SrEdgeError: A file cannot be opened, or the rounds take too long.
    """
    with ExitStack() as stack:
        pairs = zip(files, precisions, strict=True)
        runs = [stack.enter_context(opened(file, runtime, precision)) for file, precision in pairs]
        for run in runs:
            run()
        return _rounds(runs, seconds, time.monotonic)


def _rounds(runs: Sequence[Callable[[], float]], seconds: float, clock: Callable[[], float]) -> list[list[float]]:
    times: list[list[float]] = [[] for _ in runs]
    started = clock()
    while len(times[0]) < MAX_ROUNDS:
        spent_s = clock() - started
        if spent_s > seconds and (len(times[0]) >= MIN_ROUNDS or spent_s > SLOWEST_FACTOR * seconds):
            break
        order = range(len(runs)) if len(times[0]) % 2 == 0 else reversed(range(len(runs)))
        taken = {index: runs[index]() for index in order}
        for index, ms in taken.items():
            times[index].append(ms)
    if len(times[0]) < MIN_ROUNDS:
        raise SrEdgeError(f"too slow: {len(times[0])} rounds in {SLOWEST_FACTOR * seconds:.0f} s, {MIN_ROUNDS} needed")
    return times


@contextmanager
def opened(file: Path, runtime: str, precision: Precision) -> Iterator[Callable[[], float]]:
    """A graph in a session; the function runs it and returns the milliseconds of the engine alone."""
    with open_request(runtime, _request(file, precision)) as session:
        run = timed_run([session])
        yield lambda: run()[0]


@contextmanager
def _opened_in_all(file: Path, runtime: str) -> Iterator[Run]:
    """A graph in all float precisions that the runtime computes in, as at `sr-edge deploy`."""
    precisions = [each for each in (Precision.FP32, Precision.BF16) if supports(runtime, each)]
    with ExitStack() as stack:
        requests = [_request(file, precision) for precision in precisions]
        yield timed_run([stack.enter_context(open_request(runtime, request)) for request in requests])


def _request(file: Path, precision: Precision) -> SessionRequest:
    metadata = read_metadata(read_onnx(file))
    activation_type = ActivationType.UINT8 if precision is Precision.INT8 else None
    return SessionRequest(
        file, metadata.card, metadata.tile or TileSpec(64, 64), precision, activation_type=activation_type
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0, help="time for all cells together")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.folder, arguments.seconds)))


if __name__ == "__main__":
    main()
