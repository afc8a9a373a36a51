"""An NVIDIA GPU's figures: TensorRT in fp16 and INT8 against torch eager, torch.compile and ONNX Runtime.

Networks x2 with random weights (nothing here depends on them), static and traced form, uint8 frames in and out. All
contenders of a network are opened first and take turns: tiles one at a time, copies included, then whole pictures
through the upscaler. Who cannot take part stays in the table with the reason.

`bench_gpu.py` runs this, one network a process: `make bench-gpu`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
from gpu_contenders import Contender, Network, open_contender
from gpu_rates import DeviceRates
from gpu_roofline import graph_costs, roofline_ms

from sr_edge.bench.on_device import MeasuresOnDevice
from sr_edge.bench.rows import DeviceFigures
from sr_edge.errors import EngineError, SrEdgeError
from sr_edge.export.graph.metadata import Form
from sr_edge.frames import Frame
from sr_edge.runtimes import Session, Spread, StageTimes, measure_interleaved, paired_ratio, random_tile
from sr_edge.runtimes.session import Latency
from sr_edge.spec import Precision
from sr_edge.upscaler import Upscaler

PICTURES = {"270p": (270, 480), "540p": (540, 960), "1080p": (1080, 1920)}
WARM_UP = 3


@dataclass(frozen=True)
class GpuRow:
    """One contender; where `reason` says why it did not run, everything measured is empty.

    Attributes:
        tile_ms: a tile's way from the host's memory and back.
        of_static: the traced form's time as a multiple of the static form's in the same round.
        peak_share: the network's multiply-accumulates in `tile_ms` beside those of a large matmul.
        roofline_share: the time at this GPU's roofline (`gpu_roofline`) as a share of `tile_ms`.
        fps: whole pictures per second by their names.
        on_device: what a session measures by the GPU's own clock.
    """

    system: str
    runtime: str
    precision: str
    form: str
    tile: str
    version: str = ""
    note: str = ""
    tile_ms: Latency | None = None
    of_static: Spread | None = None
    peak_share: float | None = None
    roofline_share: float | None = None
    fps: Mapping[str, float] = field(default_factory=dict)
    on_device: DeviceFigures | None = None
    reason: str = ""


@dataclass(frozen=True)
class Plan:
    """What to measure a network with; a size of picture is repeated for at most `picture_s`, but runs once at least."""

    rounds: int
    pictures: Mapping[str, tuple[int, int]]
    device: str
    rates: DeviceRates
    picture_s: float = 4.0


OnRows = Callable[[list[GpuRow]], None]
"""Told all rows of the network each time that something has been added to them."""


def measure_system(
    network: Network, entries: Sequence[Contender], plan: Plan, on_rows: OnRows = lambda rows: None
) -> list[GpuRow]:
    """Opens all contenders of one network and lets them take turns.

    Args:
        network: with the graphs of those contenders that read graphs.
        on_rows: hears the rows with the tiles' times first, then again with each size of picture.
    """
    with ExitStack() as stack:
        opened = {entry: _opened(entry, network, plan.device, stack) for entry in entries}
        sessions = {entry: session for entry, session in opened.items() if not isinstance(session, str)}
        if not sessions:
            return [_unavailable(network, entry, str(reason)) for entry, reason in opened.items()]
        turns = dict(zip(sessions, measure_interleaved(list(sessions.values()), plan.rounds, WARM_UP), strict=True))
        work = _Work(network, plan.rates)
        rows = [
            _unavailable(network, entry, session)
            if isinstance(session, str)
            else _row(entry, session, turns, work, plan)
            for entry, session in opened.items()
        ]
        on_rows(rows)
        for name, size in plan.pictures.items():
            rates = dict(zip(sessions, picture_rates(list(sessions.values()), size, plan), strict=True))
            rows = [
                replace(row, fps={**row.fps, name: rates[entry]}) if entry in rates else row
                for entry, row in zip(opened, rows, strict=True)
            ]
            on_rows(rows)
    return rows


def _opened(entry: Contender, network: Network, device: str, stack: ExitStack) -> Session | str:
    """A session that has run a tile, or why there is none."""
    print(f"{network.name}: {entry.runtime} {entry.precision} {entry.form} ...", flush=True)
    try:
        session = stack.enter_context(open_contender(entry, network, device))
        session.run(random_tile(session.spec.tile, session.spec.io))
    except SrEdgeError as error:
        return str(error)
    return session


class _Work:
    """What a network has to compute on a tile, as far as it can be known here, and how long that takes at best."""

    def __init__(self, network: Network, rates: DeviceRates) -> None:
        self.system, self.tile = network.name, str(network.tile)
        self._rates = rates
        graph = network.graph(Precision.FP16, Form.STATIC)
        self._costs = graph_costs(graph) if graph.is_file() else ()
        try:
            self._macs = network.count_macs()
        except ImportError:
            self._macs = 0

    def peak_share(self, precision: Precision, tile_ms: float) -> float | None:
        peak = self._rates.matmul_macs_per_s.get(str(precision))
        return self._macs / (tile_ms / 1e3) / peak if peak and self._macs else None

    def roofline_share(self, precision: Precision, tile_ms: float) -> float | None:
        shortest_ms = roofline_ms(self._costs, precision, self._rates)
        return shortest_ms / tile_ms if shortest_ms else None


def _unavailable(network: Network, entry: Contender, reason: str) -> GpuRow:
    names = (network.name, entry.runtime, str(entry.precision), str(entry.form), str(network.tile))
    return GpuRow(*names, reason=reason)


def _row(
    entry: Contender, session: Session, turns: Mapping[Contender, list[StageTimes]], work: _Work, plan: Plan
) -> GpuRow:
    samples = turns[entry]
    static = turns.get(Contender(entry.runtime, entry.precision, Form.STATIC))
    tile_ms = Latency.from_samples([sample.pre_ms + sample.compute_ms + sample.post_ms for sample in samples])
    on_device, obstacle = _on_device(session, plan.rounds)
    return GpuRow(
        work.system,
        entry.runtime,
        str(entry.precision),
        str(entry.form),
        work.tile,
        version=session.spec.version,
        note="; ".join(filter(None, (session.spec.note, obstacle))),
        tile_ms=tile_ms,
        of_static=paired_ratio(samples, static) if static and entry.form is Form.TRACED else None,
        peak_share=work.peak_share(entry.precision, tile_ms.p50_ms),
        roofline_share=work.roofline_share(entry.precision, tile_ms.p50_ms),
        on_device=on_device,
    )


def _on_device(session: Session, rounds: int) -> tuple[DeviceFigures | None, str]:
    """Times by the device's own clock, or why there are none."""
    if not isinstance(session, MeasuresOnDevice):
        return None, ""
    try:
        return DeviceFigures(session.measure_on_device(rounds, WARM_UP), session.device_memory), ""
    except EngineError as error:
        return None, str(error)


def picture_rates(sessions: Sequence[Session], size: tuple[int, int], plan: Plan) -> list[float]:
    """Pictures of `size` per second through the upscaler, tiles in flight, by session; the sessions take turns."""
    frame: Frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    rounds: list[list[float]] = []
    started = time.perf_counter()
    while not rounds or (len(rounds) < plan.rounds and time.perf_counter() - started < plan.picture_s):
        rounds.append([_upscaling_s(session, frame) for session in sessions])
    return [1 / statistics.median(taken) for taken in zip(*rounds, strict=True)]


def _upscaling_s(session: Session, frame: Frame) -> float:
    started = time.perf_counter()
    Upscaler(session).upscale(frame)
    return time.perf_counter() - started
