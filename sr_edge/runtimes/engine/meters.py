"""Measures latency by stage, the ratio of several sessions, throughput and start-up time."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sr_edge.controls import Controls
from sr_edge.errors import UsageError
from sr_edge.frames import Batch, Uint8Frame
from sr_edge.runtimes.engine.host_format import graph_shape
from sr_edge.runtimes.session import Latency, Session, StageTimes
from sr_edge.spec import RGB, FrameFormat, TileSpec, member_of

_SEED = 20_260_101
_TAIL = 0.025
"""The probability outside a 95 % interval, at each end."""


@dataclass(frozen=True)
class StageLatency:
    """Latency of `Session.run`: in total, of the host's work before the engine, of the engine, and of that after it.

    Attributes:
        pre: The host's work before the engine.
        compute: The engine.
        post: The host's work after it.
        total: All of it.
    """

    pre: Latency
    compute: Latency
    post: Latency
    total: Latency

    @classmethod
    def of(cls, times: Sequence[StageTimes]) -> StageLatency:
        """Percentiles of each stage over one or more runs."""
        return cls(
            pre=Latency.from_samples([sample.pre_ms for sample in times]),
            compute=Latency.from_samples([sample.compute_ms for sample in times]),
            post=Latency.from_samples([sample.post_ms for sample in times]),
            total=Latency.from_samples([sample.total_ms for sample in times]),
        )


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a value that was measured once in each round.

    Attributes:
        median: Median.
        low: First quartile.
        high: Third quartile.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Quartiles by linear interpolation."""
        low, median, high = np.quantile(samples, (0.25, 0.5, 0.75)).tolist()
        return cls(median, low, high)

    @classmethod
    def across(cls, spreads: Sequence[Spread]) -> Spread:
        """Medians, over several processes, of their medians and quartiles: one disturbed process has no influence."""
        medians, lows, highs = zip(*((spread.median, spread.low, spread.high) for spread in spreads), strict=True)
        return cls(*(statistics.median(values) for values in (medians, lows, highs)))


@dataclass(frozen=True)
class MedianInterval:
    """Median of a value that was measured once in each round, with the 95 % interval of the median.

    The interval is that of the order statistics, which assumes nothing about the distribution: each value is below the
    median with probability 1/2, so the number of values below it is binomial.

    Attributes:
        median: Median.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> MedianInterval:
        """The interval; with fewer than 6 values, which cannot give 95 %, it is infinite."""
        values = sorted(samples)
        count, outside, below = len(values), -1, 0.0
        while below + math.comb(count, outside + 1) / 2**count <= _TAIL:
            outside += 1
            below += math.comb(count, outside) / 2**count
        median = statistics.median(values)
        return cls(median, -math.inf, math.inf) if outside < 0 else cls(median, values[outside], values[-1 - outside])


@dataclass(frozen=True)
class Throughput:
    """Tiles per second, measured over `tiles` of them with `in_flight` at a time (MLPerf's "offline" scenario).

    Attributes:
        tiles_per_s: Tiles per second.
        in_flight: Tiles that were in flight at a time.
        tiles: Number of tiles.
    """

    tiles_per_s: float
    in_flight: int
    tiles: int


@dataclass(frozen=True)
class StartUp:
    """Time from the request to an open session, and to its first output, in milliseconds.

    Attributes:
        open_ms: Until the session is open.
        first_frame_ms: Until its first output.
    """

    open_ms: float
    first_frame_ms: float


def random_tile(tile: TileSpec | str, io: FrameFormat | str, channels: int = RGB) -> Batch | Uint8Frame:
    """A seeded random tile for `Session.run`: uint8 HWC, a packed NV12 tile, or float32 NCHW in [0, 1].

    Args:
        tile: height and width.
        io: frame format.
        channels: number of channels.
    """
    tile = TileSpec.of(tile)
    io = member_of(FrameFormat, io, "frame format")
    generator = np.random.default_rng(_SEED)
    if io is not FrameFormat.FLOAT_NCHW:
        return generator.integers(0, 256, graph_shape(io, tile, channels)[1:], np.uint8)
    return generator.random((1, channels, tile.height, tile.width), np.float32)


def measure_latency(
    session: Session, runs: int = 20, warm_up: int = 3, io: FrameFormat | str | None = None
) -> StageLatency:
    """Measures the latency of one tile at a time (MLPerf's "single-stream" scenario), on a seeded random tile.

    Args:
        session: an open session.
        runs: timed runs.
        warm_up: untimed runs before them.
        io: format of the frames passed to `run`; None for the graph's own, which needs no conversion on the host.
    """
    io = None if io is None else member_of(FrameFormat, io, "frame format")
    frames = random_tile(session.spec.tile, io or session.spec.io, session.spec.channels)
    for _ in range(warm_up):
        session.run(frames)
    return StageLatency.of([session.run_staged(frames)[1] for _ in range(require_runs(runs))])


def measure_interleaved(
    sessions: Sequence[Session],
    rounds: int = 20,
    warm_up: int = 3,
    controls: Controls | None = None,
    on_round: Callable[[int, int], None] | None = None,
) -> list[list[StageTimes]]:
    """Runs the sessions in turn, A, B, A, B, ...; returns the times of every timed run, by session and round.

    Args:
        sessions: open sessions; the first is the base of ratios.
        rounds: timed runs of each session.
        warm_up: untimed runs of each session before them.
        controls: values of the network's controls.
        on_round: called before each round with the number of rounds done and of all, warm-up rounds included.
    """
    frames = [random_tile(session.spec.tile, session.spec.io, session.spec.channels) for session in sessions]
    times: list[list[StageTimes]] = [[] for _ in sessions]
    for index in range(warm_up + require_runs(rounds)):
        if on_round is not None:
            on_round(index, warm_up + rounds)
        for session, tile, samples in zip(sessions, frames, times, strict=True):
            sample = session.run_staged(tile, controls)[1]
            if index >= warm_up:
                samples.append(sample)
    return times


def interleaved(
    sessions: Sequence[Session], rounds: int = 20, warm_up: int = 3, controls: Controls | None = None
) -> list[StageLatency]:
    """Measures several sessions in turn, A, B, A, B, ..., so that a drift of the machine affects all of them alike.

    Args:
        sessions: open sessions; the first is the base of ratios.
        rounds: timed runs of each session.
        warm_up: untimed runs of each session before them.
        controls: values of the network's controls.
    """
    return [StageLatency.of(samples) for samples in measure_interleaved(sessions, rounds, warm_up, controls)]


def ratios_to_first(sessions: Sequence[Session], rounds: int = 20, warm_up: int = 3) -> list[Spread]:
    """Measures each session's compute time as a multiple of the first session's in the same round.

    A shared machine changes its speed for seconds at a time. Within a round it is the same for all sessions, so the
    median of the ratios of all rounds is steadier than the ratio of two medians.

    Args:
        sessions: open sessions; the first is the base of ratios.
        rounds: timed runs of each session.
        warm_up: untimed runs of each session before them.
    """
    times = measure_interleaved(sessions, rounds, warm_up)
    return [paired_ratio(samples, times[0]) for samples in times]


def paired_ratio(samples: Sequence[StageTimes], base: Sequence[StageTimes]) -> Spread:
    """Compute time of `samples` as a multiple of that of `base`, taken round by round.

    Args:
        samples: the times of one session, by round.
        base: the times of the session that it is compared with.
    """
    return Spread.of(
        [sample.compute_ms / reference.compute_ms for sample, reference in zip(samples, base, strict=True)]
    )


def measure_throughput(session: Session, tiles: int = 40, warm_up: int = 3) -> Throughput:
    """Measures the throughput with all slots of the session in flight; `slots` is chosen when the session is opened.

    Args:
        session: an open session.
        tiles: timed tiles.
        warm_up: untimed tiles before them.
    """
    frames = random_tile(session.spec.tile, session.spec.io, session.spec.channels)
    for _ in range(warm_up):
        session.run(frames)
    slots = session.spec.slots
    in_flight: deque[int] = deque()
    started = time.perf_counter()
    for _ in range(require_runs(tiles)):
        if len(in_flight) == slots:
            session.result(in_flight.popleft())
        in_flight.append(session.submit(frames))
    while in_flight:
        session.result(in_flight.popleft())
    return Throughput(tiles / (time.perf_counter() - started), slots, tiles)


def measure_start_up(open_session: Callable[[], Session]) -> StartUp:
    """Measures the time to an open session and to its first output; the session is closed again.

    The first session that a process opens also imports the runtime's library: call this in a fresh process to include
    the import, or open another session first to exclude it.
    """
    started = time.perf_counter()
    with open_session() as session:
        opened = time.perf_counter()
        session.run(random_tile(session.spec.tile, session.spec.io, session.spec.channels))
        return StartUp(1e3 * (opened - started), 1e3 * (time.perf_counter() - started))


def require_runs(runs: int) -> int:
    """Returns `runs`; raises UsageError unless it is at least 1."""
    if runs < 1:
        raise UsageError(f"cannot measure {runs} runs", found=runs, wanted="1 or more", remedy="pass 1 or more")
    return runs
