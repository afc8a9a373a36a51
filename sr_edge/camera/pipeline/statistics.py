"""Counters and durations of a stream, in memory that does not grow with its length."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sr_edge.upscaler.reuse import FrameReuse, ReuseStatistics

_MIN_MS = 0.01
_GROWTH = 1.02
_BUCKETS = 1200
"""From 0.01 ms in steps of 2 % to more than a day."""
_RECENT_S = 2.0

INFER = "infer"
"""The stage in which the model upscales a frame."""

MODEL, FALLBACK, BICUBIC = "model", "fallback", "bicubic"
"""What upscaled a frame: the model, the fallback while the model is too slow, or bicubic interpolation (`every`)."""


@dataclass(frozen=True)
class LatencySummary:
    """Mean, percentiles and maximum of `count` durations; the percentiles are accurate to 2 %.

    Attributes:
        count: Number of durations.
        mean_ms: Mean.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: Maximum.
    """

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class DurationHistogram:
    """A histogram of durations whose bucket widths grow by 2 % from one bucket to the next."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._total_ms = 0.0
        self._max_ms = 0.0

    def add(self, duration_ms: float) -> None:
        """Adds one duration."""
        bucket = int(math.log(max(duration_ms, _MIN_MS) / _MIN_MS, _GROWTH))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._total_ms += duration_ms
        self._max_ms = max(self._max_ms, duration_ms)

    def summary(self) -> LatencySummary | None:
        """The summary of all durations; None if there are none."""
        count = int(self._counts.sum())
        if count == 0:
            return None
        cumulative = np.cumsum(self._counts)
        p50, p95, p99 = (
            self._bucket_center_ms(int(np.searchsorted(cumulative, fraction * count))) for fraction in (0.5, 0.95, 0.99)
        )
        return LatencySummary(count, self._total_ms / count, p50, p95, p99, self._max_ms)

    def _bucket_center_ms(self, bucket: int) -> float:
        return min(float(_MIN_MS * _GROWTH ** (bucket + 0.5)), self._max_ms)


@dataclass(frozen=True)
class StreamReport:
    """The statistics of a stream, so far or at its end.

    Attributes:
        seconds: since the stream was created.
        frames_in: frames that the source delivered.
        frames_out: frames that the sink has taken.
        dropped: frames dropped by the policy because the model was busy.
        failed: frames without a result because the model raised an error or the frame was unusable.
        fps_in: frames in per second, over the whole stream.
        fps_out: frames out per second, over the whole stream.
        recent_fps_in: frames in per second, over the last seconds.
        recent_fps_out: frames out per second, over the last seconds.
        latency: the time from capture until the sink has taken the frame.
        latencies: the same for the frames of each upscaler: "model", "fallback" and "bicubic". Each has the number of
            its frames.
        stages: durations by stage; `source` includes waiting for frames, `wait` is from capture until an upscaler
            takes the frame. `prepare`, `infer` and `finish` are those of the model; `fallback` and `bicubic` replace
            `infer` for frames that these upscaled.
        queued: frames that wait for the model.
        fallback_frames: frames upscaled by the fallback.
        bicubic_frames: frames between those of the model that were upscaled by bicubic interpolation (`every`).
        fallback_switches: changes between the model and the fallback.
        reconnections: how often the source was opened again.
        is_reconnecting: whether the source is lost at the moment.
        since_input_s: seconds since the last frame of the source, or since the stream was created if there is none.
        sink_reconnections: how often the sink was opened again.
        unreadable_packets: packets of the source that could not be decoded.
        events: the recorded events, oldest first.
        input_size: width and height of the frames, or of the region, that are upscaled; None before the first one.
        output_size: width and height of the upscaled frames; None before the first one.
        reuse: tiles of the model's frames that were needed and reused, and their memory; None without reuse.
        reused_share: the share of the tiles that were reused, over the whole stream.
        recent_reused_share: the same over the last seconds.
        recent_model_ms: mean duration of `infer` over the last seconds; None if the model upscaled no frame in them.
    """

    seconds: float
    frames_in: int
    frames_out: int
    dropped: int
    failed: int
    fps_in: float
    fps_out: float
    recent_fps_in: float
    recent_fps_out: float
    latency: LatencySummary | None
    latencies: Mapping[str, LatencySummary]
    stages: Mapping[str, LatencySummary]
    queued: int
    fallback_frames: int
    bicubic_frames: int
    fallback_switches: int
    reconnections: int
    is_reconnecting: bool
    since_input_s: float
    sink_reconnections: int
    unreadable_packets: int
    events: tuple[str, ...] = field(default=())
    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    reuse: ReuseStatistics | None = None
    reused_share: float | None = None
    recent_reused_share: float | None = None
    recent_model_ms: float | None = None

    def __repr__(self) -> str:
        bicubic = self.bicubic_frames + self.fallback_frames
        model = f", {self.frames_out - bicubic} of them by the model" if bicubic else ""
        latency = f", latency {self.latency.p50_ms:.0f} ms (median)" if self.latency else ""
        reused = f", {self.reused_share:.0%} of the tiles reused" if self.reused_share else ""
        return (
            f"<StreamReport {self.seconds:.1f} s: {self.frames_in} frames in, {self.frames_out} out{model} "
            f"({self.fps_out:.1f} frames/s), {self.dropped} dropped, {self.failed} failed{latency}{reused}>"
        )


class _Rate:
    """Events per second over the last `_RECENT_S` to twice that."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.count = 0
        self._clock_s = clock_s
        self._window: tuple[float, int] = (clock_s(), 0)
        self._previous = self._window

    def add(self) -> None:
        self.count += 1
        now_s = self._clock_s()
        if now_s - self._window[0] >= _RECENT_S:
            self._previous, self._window = self._window, (now_s, self.count)

    def recent(self) -> float:
        since_s, count = self._previous
        return (self.count - count) / max(self._clock_s() - since_s, 1e-3)


class _RecentRatio:
    """The ratio of two sums, in all and over the last `_RECENT_S` to twice that."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self.part: float = 0
        self.whole = 0
        self._clock_s = clock_s
        self._added_s = clock_s()
        self._window: tuple[float, float, int] = (self._added_s, 0.0, 0)
        self._previous: tuple[float, float, int] = self._window

    def add(self, part: float, whole: int) -> None:
        self.part += part
        self.whole += whole
        now_s = self._added_s = self._clock_s()
        if now_s - self._window[0] >= _RECENT_S:
            self._previous, self._window = self._window, (now_s, self.part, self.whole)

    def recent(self) -> float | None:
        """The recent ratio; None without anything recent."""
        _, part, whole = self._previous
        is_over = self._clock_s() - self._added_s > 2 * _RECENT_S
        return None if is_over or self.whole == whole else (self.part - part) / (self.whole - whole)


class StreamStatistics:
    """Counters and histograms that all threads of a stream update."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Creates empty statistics.

        Args:
            clock: a monotonic clock in nanoseconds.
        """
        self._clock = clock
        self._lock = threading.Lock()
        self._started_s = self._last_input_s = self._now_s()
        self._in, self._out = _Rate(self._now_s), _Rate(self._now_s)
        self._latency = DurationHistogram()
        self._latencies: dict[str, DurationHistogram] = {}
        self._stages: dict[str, DurationHistogram] = {}
        self._reuse: ReuseStatistics | None = None
        self._reused_tiles, self._model_ms = _RecentRatio(self._now_s), _RecentRatio(self._now_s)
        self._sizes: tuple[tuple[int, int], tuple[int, int]] | None = None
        self._counts = {"failed": 0, "fallback_frames": 0, "bicubic_frames": 0, "fallback_switches": 0}

    def _now_s(self) -> float:
        return self._clock() / 1e9

    def record_input(self, source_ms: float) -> None:
        """Records a frame of the source, and how long it took to arrive."""
        with self._lock:
            self._in.add()
            self._last_input_s = self._now_s()
        self.record_stage("source", source_ms)

    def record_output(self, latency_ms: float, upscaler: str = MODEL) -> None:
        """Records a frame that the sink has taken, and whether the model, the fallback or bicubic upscaled it."""
        with self._lock:
            self._out.add()
            self._latency.add(latency_ms)
            self._latencies.setdefault(upscaler, DurationHistogram()).add(latency_ms)

    def record_reuse(self, reuse: FrameReuse) -> None:
        """Records how many tiles of a frame were needed and reused."""
        with self._lock:
            tiles = self._reused_tiles
            tiles.add(reuse.tiles - reuse.computed, reuse.tiles)
            self._reuse = replace(reuse.statistics, tiles=tiles.whole, reused=int(tiles.part))

    def record_sizes(self, input_size: tuple[int, int], output_size: tuple[int, int]) -> None:
        """Records width and height of a frame before and after upscaling."""
        self._sizes = (input_size, output_size)

    def record_stage(self, name: str, duration_ms: float) -> None:
        """Records how long a stage took for one frame."""
        with self._lock:
            self._stages.setdefault(name, DurationHistogram()).add(duration_ms)
            if name == INFER:
                self._model_ms.add(duration_ms, 1)

    def increment(self, counter: str) -> None:
        """Adds one to "failed", "fallback_frames", "bicubic_frames" or "fallback_switches"."""
        with self._lock:
            self._counts[counter] += 1

    def report(
        self,
        *,
        dropped: int = 0,
        queued: int = 0,
        reconnections: int = 0,
        is_reconnecting: bool = False,
        sink_reconnections: int = 0,
        unreadable_packets: int = 0,
        events: tuple[str, ...] = (),
    ) -> StreamReport:
        """A report with the counters of this object, and those that others keep."""
        with self._lock:
            seconds = self._now_s() - self._started_s
            input_size, output_size = self._sizes or (None, None)
            return StreamReport(
                seconds=seconds,
                frames_in=self._in.count,
                frames_out=self._out.count,
                dropped=dropped,
                failed=self._counts["failed"],
                fps_in=self._in.count / max(seconds, 1e-3),
                fps_out=self._out.count / max(seconds, 1e-3),
                recent_fps_in=self._in.recent(),
                recent_fps_out=self._out.recent(),
                latency=self._latency.summary(),
                latencies=_summaries(self._latencies),
                stages=_summaries(self._stages),
                queued=queued,
                fallback_frames=self._counts["fallback_frames"],
                bicubic_frames=self._counts["bicubic_frames"],
                fallback_switches=self._counts["fallback_switches"],
                reconnections=reconnections,
                is_reconnecting=is_reconnecting,
                since_input_s=self._now_s() - self._last_input_s,
                sink_reconnections=sink_reconnections,
                unreadable_packets=unreadable_packets,
                events=events,
                input_size=input_size,
                output_size=output_size,
                reuse=self._reuse,
                reused_share=self._reuse.share if self._reuse else None,
                recent_reused_share=self._reused_tiles.recent(),
                recent_model_ms=self._model_ms.recent(),
            )


def _summaries(histograms: Mapping[str, DurationHistogram]) -> dict[str, LatencySummary]:
    summaries = {name: histogram.summary() for name, histogram in histograms.items()}
    return {name: summary for name, summary in summaries.items() if summary is not None}
