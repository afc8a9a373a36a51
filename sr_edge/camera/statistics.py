"""What a stream counts and times, in memory that does not grow with its length."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

_FINEST_MS = 0.01
_STEP = 1.02
_BUCKETS = 1200
"""From 0.01 ms in steps of 2 % to over a day."""
_RECENT_S = 2.0


@dataclass(frozen=True)
class Times:
    """Milliseconds of `count` frames, percentiles to 2 %."""

    count: int
    mean_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Histogram:
    """Durations in buckets that grow with them."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BUCKETS, np.int64)
        self._total_ms = 0.0
        self._max_ms = 0.0

    def add(self, duration_ms: float) -> None:
        bucket = int(math.log(max(duration_ms, _FINEST_MS) / _FINEST_MS, _STEP))
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._total_ms += duration_ms
        self._max_ms = max(self._max_ms, duration_ms)

    def times(self) -> Times | None:
        """None where nothing was added."""
        count = int(self._counts.sum())
        if count == 0:
            return None
        reached = np.cumsum(self._counts)
        p50, p95, p99 = (self._middle(int(np.searchsorted(reached, share * count))) for share in (0.5, 0.95, 0.99))
        return Times(count, self._total_ms / count, p50, p95, p99, self._max_ms)

    def _middle(self, bucket: int) -> float:
        return min(float(_FINEST_MS * _STEP ** (bucket + 0.5)), self._max_ms)


@dataclass(frozen=True)
class StreamReport:
    """A stream so far, or at its end.

    Attributes:
        dropped: left out by the policy: frames that the model had no time for.
        failed: left out because the model or the frame was at fault.
        latency: from capture to the sink having taken the frame.
        stages: `source` includes waiting for frames, `wait` is from capture to the model's turn.
        fps_in, fps_out: over the whole stream; `recent_` ones over the last seconds.
        by_fallback: frames that the fallback enlarged; `between` those that were bicubic by request.
        reopened: how often the source was opened again, `sink_reopened` the sink.
        events: what was said aloud, in its order.
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
    latency: Times | None
    stages: Mapping[str, Times]
    queued: int
    by_fallback: int
    between: int
    switches: int
    reopened: int
    sink_reopened: int
    unreadable_packets: int
    events: tuple[str, ...] = field(default=())


class _Rate:
    """Events a second over the last `_RECENT_S`."""

    def __init__(self) -> None:
        self.count = 0
        self._window: tuple[float, int] = (time.monotonic(), 0)
        self._before = self._window

    def add(self) -> None:
        self.count += 1
        now_s = time.monotonic()
        if now_s - self._window[0] >= _RECENT_S:
            self._before, self._window = self._window, (now_s, self.count)

    def recent(self) -> float:
        since_s, count = self._before
        return (self.count - count) / max(time.monotonic() - since_s, 1e-3)


class StreamStatistics:
    """Counters that all threads of one stream add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started_s = time.monotonic()
        self._in, self._out = _Rate(), _Rate()
        self._latency = Histogram()
        self._stages: dict[str, Histogram] = {}
        self._counts = {"failed": 0, "by_fallback": 0, "between": 0, "switches": 0}

    def frame_in(self, source_ms: float) -> None:
        with self._lock:
            self._in.add()
        self.stage("source", source_ms)

    def frame_out(self, latency_ms: float) -> None:
        with self._lock:
            self._out.add()
            self._latency.add(latency_ms)

    def stage(self, name: str, duration_ms: float) -> None:
        with self._lock:
            self._stages.setdefault(name, Histogram()).add(duration_ms)

    def count(self, what: str) -> None:
        """One more of "failed", "by_fallback", "between" or "switches"."""
        with self._lock:
            self._counts[what] += 1

    def report(
        self,
        *,
        dropped: int = 0,
        queued: int = 0,
        reopened: int = 0,
        sink_reopened: int = 0,
        unreadable_packets: int = 0,
        events: tuple[str, ...] = (),
    ) -> StreamReport:
        with self._lock:
            seconds = time.monotonic() - self._started_s
            stages = {name: histogram.times() for name, histogram in self._stages.items()}
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
                latency=self._latency.times(),
                stages={name: times for name, times in stages.items() if times is not None},
                queued=queued,
                by_fallback=self._counts["by_fallback"],
                between=self._counts["between"],
                switches=self._counts["switches"],
                reopened=reopened,
                sink_reopened=sink_reopened,
                unreadable_packets=unreadable_packets,
                events=events,
            )
