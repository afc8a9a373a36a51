"""An NVIDIA GPU's figures: TensorRT in fp16 and INT8 against torch eager, torch.compile and ONNX Runtime.

Four networks x2 with random weights (nothing here depends on them), static and traced form, uint8 frames in and out.
All contenders of a network are opened first and take turns: tiles one at a time, copies included, then whole pictures
through the upscaler. A share is that of the rate at which this GPU multiplies two large matrices in that precision.
Who cannot take part stays in the table with the reason. Without a GPU the exit code is 1.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --systems convnet-light --tile 96x96 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from gpu_contenders import Contender, Network, contenders, open_contender, write_graphs
from rich.console import Console
from rich.table import Table

from sr_edge.bench.on_device import MeasuresOnDevice
from sr_edge.bench.rows import DeviceFigures
from sr_edge.errors import RuntimeUnavailable, SrEdgeError
from sr_edge.export.metadata import Form
from sr_edge.frames import Frame
from sr_edge.models import model_names
from sr_edge.models.macs import count_macs
from sr_edge.runtimes import Session, Spread, StageTimes, paired_ratio, random_tile, take_turns
from sr_edge.runtimes.cuda import Gpu, find_gpus
from sr_edge.runtimes.gpu_state import GpuState, clock_warning, read_gpu_state
from sr_edge.spec import Latency, Precision, TileSpec
from sr_edge.upscaler import Upscaler

SYSTEMS = ("taylor-swinir-light", "labnet-light", "lcoan-light", "convnet-light")
PICTURES = {"270p": (270, 480), "540p": (540, 960), "1080p": (1080, 1920)}
MATMUL_SIDE = 8192
WARM_UP = 3


@dataclass(frozen=True)
class GpuRow:
    """One contender; where `reason` says why it did not run, everything measured is empty.

    `tile_ms` is a tile's way from the host's memory and back, `of_static` the traced form's time as a multiple of the
    static form's in the same round, `peak_share` the network's multiply-accumulates in `tile_ms` beside those of a
    large matmul, `fps` whole pictures by their names, `on_device` what a session measures by the GPU's own clock.
    """

    system: str
    runtime: str
    precision: str
    form: str
    version: str = ""
    note: str = ""
    tile_ms: Latency | None = None
    of_static: Spread | None = None
    peak_share: float | None = None
    fps: Mapping[str, float] = field(default_factory=dict)
    on_device: DeviceFigures | None = None
    reason: str = ""


@dataclass(frozen=True)
class GpuReport:
    """`matmul_macs_per_s` is by precision; `before` and `after` are the GPU's clocks and power, where readable."""

    device: str
    compute_capability: str
    memory_bytes: int
    before: GpuState | None
    after: GpuState | None
    warning: str
    matmul_macs_per_s: Mapping[str, float]
    tile: str
    rounds: int
    rows: tuple[GpuRow, ...]


@dataclass(frozen=True)
class Plan:
    """What to measure every network with."""

    tile: TileSpec
    rounds: int
    pictures: Mapping[str, tuple[int, int]]
    device: str
    matmul_macs_per_s: Mapping[str, float]


def matmul_rates(device: str, side: int = MATMUL_SIDE) -> dict[str, float]:
    """Multiply-accumulates per second of a large matmul, by precision; empty where torch cannot use the device."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        return {}
    half = torch.randn(2, side, side, device=device).to(torch.float16)
    whole = torch.randint(-127, 128, (2, side, side), device=device, dtype=torch.int8)
    runs: dict[Precision, Callable[[], object]] = {
        Precision.FP16: lambda: half[0] @ half[1],
        Precision.INT8: lambda: torch._int_mm(whole[0], whole[1].t()),
    }
    return {str(precision): side**3 / median_s(run, device) for precision, run in runs.items()}


def median_s(run: Callable[[], object], device: str, repeats: int = 20) -> float:
    """The median time of a run that the device has finished, the first few left out."""
    samples = []
    for _ in range(WARM_UP + repeats):
        started = time.perf_counter()
        run()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        samples.append(time.perf_counter() - started)
    return statistics.median(samples[WARM_UP:])


def measure_system(system: str, entries: Sequence[Contender], plan: Plan) -> list[GpuRow]:
    """Opens all contenders of one network and lets them take turns."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        network = Network(system, plan.tile, Path(folder))
        write_graphs(network)
        opened = {entry: _opened(entry, network, plan.device, stack) for entry in entries}
        sessions = {entry: found for entry, found in opened.items() if not isinstance(found, str)}
        turns = dict(zip(sessions, take_turns(list(sessions.values()), plan.rounds, WARM_UP), strict=True))
        rates = picture_rates(list(sessions.values()), plan)
        fps = dict(zip(sessions, rates, strict=True))
        macs = count_macs(network.load().module, plan.tile.height, plan.tile.width)
        return [
            _unavailable(system, entry, found)
            if isinstance(found, str)
            else _row(system, entry, found, turns, fps[entry], macs, plan)
            for entry, found in opened.items()
        ]


def _opened(entry: Contender, network: Network, device: str, stack: ExitStack) -> Session | str:
    """A session that has run a tile, or why there is none."""
    print(f"{network.name}: {entry.runtime} {entry.precision} {entry.form} ...", flush=True)
    try:
        session = stack.enter_context(open_contender(entry, network, device))
        session.run(random_tile(session.spec.tile, session.spec.io))
    except SrEdgeError as error:
        return str(error)
    return session


def _unavailable(system: str, entry: Contender, reason: str) -> GpuRow:
    return GpuRow(system, entry.runtime, str(entry.precision), str(entry.form), reason=reason)


def _row(
    system: str,
    entry: Contender,
    session: Session,
    turns: Mapping[Contender, list[StageTimes]],
    fps: Mapping[str, float],
    macs: int,
    plan: Plan,
) -> GpuRow:
    samples = turns[entry]
    static = turns.get(Contender(entry.runtime, entry.precision, Form.STATIC))
    tile_ms = Latency.from_samples([sample.pre_ms + sample.compute_ms + sample.post_ms for sample in samples])
    peak = plan.matmul_macs_per_s.get(str(entry.precision))
    return GpuRow(
        system,
        entry.runtime,
        str(entry.precision),
        str(entry.form),
        version=session.spec.version,
        note=session.spec.note,
        tile_ms=tile_ms,
        of_static=paired_ratio(samples, static) if static and entry.form is Form.TRACED else None,
        peak_share=macs / (tile_ms.p50_ms / 1e3) / peak if peak else None,
        fps=fps,
        on_device=_on_device(session, plan.rounds),
    )


def _on_device(session: Session, rounds: int) -> DeviceFigures | None:
    if not isinstance(session, MeasuresOnDevice):
        return None
    return DeviceFigures(session.measure_on_device(rounds, WARM_UP), session.device_memory)


def picture_rates(sessions: Sequence[Session], plan: Plan) -> list[dict[str, float]]:
    """Pictures per second through the upscaler, tiles in flight, by session; the sessions take turns."""
    rates: list[dict[str, float]] = [{} for _ in sessions]
    for name, (height, width) in plan.pictures.items():
        frame: Frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        samples = [[_upscaling_s(session, frame) for session in sessions] for _ in range(1 + plan.rounds)][1:]
        for rate, taken in zip(rates, zip(*samples, strict=True), strict=True):
            rate[name] = 1 / statistics.median(taken)
    return rates


def _upscaling_s(session: Session, frame: Frame) -> float:
    started = time.perf_counter()
    Upscaler(session).upscale(frame)
    return time.perf_counter() - started


def measure_all(systems: Sequence[str], plan: Plan) -> Iterator[GpuRow]:
    entries = contenders()
    for system in systems:
        yield from measure_system(system, entries, plan)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def report_on(gpu: Gpu, systems: Sequence[str], tile: TileSpec, rounds: int) -> GpuReport:
    before = read_gpu_state(gpu.index)
    plan = Plan(tile, rounds, PICTURES, "cuda", matmul_rates("cuda"))
    rows = tuple(measure_all(systems, plan))
    after = read_gpu_state(gpu.index)
    return GpuReport(
        gpu.name,
        gpu.compute_capability,
        gpu.total_bytes,
        before,
        after,
        clock_warning(before, after) or "",
        plan.matmul_macs_per_s,
        str(tile),
        rounds,
        rows,
    )


def table(report: GpuReport) -> Table:
    """For the terminal."""
    grid = Table("system", "runtime", "precision", "form", "tile ms", "x static", "share", *PICTURES)
    for row in report.rows:
        names = (row.system, row.runtime, row.precision, row.form)
        if row.tile_ms is None:
            grid.add_row(*names, f"not run: {row.reason}")
            continue
        ratio = f"{row.of_static.median:.2f}" if row.of_static else ""
        share = f"{row.peak_share:.0%}" if row.peak_share else ""
        grid.add_row(*names, f"{row.tile_ms.p50_ms:.2f}", ratio, share, *(f"{row.fps[name]:.1f}" for name in PICTURES))
    return grid


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--systems", nargs="+", default=SYSTEMS, choices=model_names(), metavar="NAME", help=f"{', '.join(SYSTEMS)}"
    )
    parser.add_argument("--tile", type=TileSpec.parse, default=TileSpec(192, 192))
    parser.add_argument("--rounds", type=int, default=20, help="timed turns of each contender")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"cannot measure {args.rounds} rounds; pass 1 or more")
    try:
        gpu = find_gpus()[0]
    except RuntimeUnavailable as error:
        raise SystemExit(f"these figures need an NVIDIA GPU: {error}") from None
    try:
        report = report_on(gpu, args.systems, args.tile, args.rounds)
    except SrEdgeError as error:
        raise SystemExit(f"nothing was written: {error}") from None
    Console().print(table(report))
    if args.json:
        args.json.write_text(json.dumps(asdict(report), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
