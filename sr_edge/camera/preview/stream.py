"""The stream of a preview. It runs with or without viewers, and keeps only the newest frame."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.events import EventLog, ignore_event
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import StreamReport
from sr_edge.camera.pipeline.watchdog import StageTimeout
from sr_edge.camera.preview.engines import EngineOption
from sr_edge.camera.preview.frame_message import PreviewFrame
from sr_edge.camera.preview.switching import SwitchableFrameUpscaler
from sr_edge.camera.protocols import Source
from sr_edge.controls import Controls
from sr_edge.errors import SrEdgeError
from sr_edge.upscaler.reuse import FrameReuse

_RECENT_S = 2.0
_JOIN_S = 30.0
_LOADING_S = 0.5
_MAX_RECENT_FRAMES = 2000


class StreamState(str, Enum):
    """Whether the stream is running."""

    LIVE = "live"
    ENDED = "ended"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


class WaitingFor(str, Enum):
    """What a stream waits for that has shown no frame for a while."""

    SOURCE = "source"
    RECONNECTION = "reconnection"
    ENGINE = "engine"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class _FrameTimes:
    """The times of a frame, for the statistics of the last seconds."""

    finished_s: float
    latency_ms: float
    model_ms: float
    option: EngineOption
    reuse: FrameReuse | None


class PreviewStream:
    """A stream whose newest frame and statistics any number of viewers can request.

    Only the thread of the stream writes the newest frame, the recent times and the state. It replaces each by a single
    assignment or appends to a bounded deque, which readers copy first; both are atomic in CPython and need no lock.
    `_lock` guards the set of listeners and the engines that were requested.
    """

    def __init__(
        self,
        source: Source,
        upscaler: SwitchableFrameUpscaler,
        policy: Policy | None = None,
        on_event: Callable[[str], None] = ignore_event,
        waiting_after_s: float = 2.0,
    ) -> None:
        """Prepares the stream; `start` runs it.

        Args:
            source: Closed together with the stream.
            upscaler: The caller closes it.
            policy: Which frames are dropped if they arrive too fast.
            on_event: Called with a line about each loss, failure and the end, from the threads of the stream.
            waiting_after_s: Seconds without a frame after which the statistics say what the stream waits for.
        """
        self._frame_upscaler = upscaler
        self._on_event = on_event
        self._waiting_after_s = waiting_after_s
        self._loop = Loop(source, upscaler, LoopOptions(policy=policy, event_log=EventLog(on_event)))
        self._thread = threading.Thread(target=self._run, name="sr-edge-preview", daemon=True)
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._recent: deque[_FrameTimes] = deque(maxlen=_MAX_RECENT_FRAMES)
        self._newest: PreviewFrame | None = None
        self._shown_s = time.monotonic()
        self._state = StreamState.LIVE
        self._reason = ""
        self._requested: tuple[EngineOption, ...] | None = None
        self._loading: tuple[EngineOption, ...] | None = None
        self._switching: threading.Thread | None = None
        self._problem = ""
        self._is_closing = False
        self._is_hung = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> bool:
        """Ends the stream.

        Returns:
            False if a stage of the stream hangs, or an engine is still being loaded. The engines cannot be closed then;
            the process must be ended.
        """
        with self._lock:
            self._is_closing = True
            switching = self._switching
        self._loop.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if switching is not None:
            switching.join(_LOADING_S)
        is_loading = switching is not None and switching.is_alive()
        return not (self._is_hung or self._thread.is_alive() or is_loading)

    def newest(self, after: int) -> PreviewFrame | None:
        """The newest frame; None if its number is not greater than `after`."""
        frame = self._newest
        return frame if frame is not None and frame.number > after else None

    def listen(self, on_frame: Callable[[], None]) -> Callable[[], None]:
        """Registers a callback for new frames, which the thread of the stream calls.

        Returns:
            A function that removes the callback.
        """
        with self._lock:
            self._listeners.add(on_frame)

        def remove() -> None:
            with self._lock:
                self._listeners.discard(on_frame)

        return remove

    def request_engines(self, options: Sequence[EngineOption]) -> None:
        """Changes the engines, in a thread of its own, and returns at once.

        Only the newest request counts: an engine that is being loaded when it arrives is closed unused, unless the
        newest request contains it. If an engine cannot be opened, the reason is in the statistics and the current
        engines stay.

        Args:
            options: The engine of the stream, and optionally another one that upscales the same frames.
        """
        with self._lock:
            self._requested, self._problem = tuple(options), ""
            if self._switching is None and not self._is_closing:
                self._switching = threading.Thread(target=self._switch_engines, name="sr-edge-switch", daemon=True)
                self._switching.start()

    def set_controls(self, values: Controls) -> None:
        """Sets values of the network's controls; see `SwitchableFrameUpscaler.set_controls`.

        Raises:
            UsageError: A name or value is refused.
        """
        self._frame_upscaler.set_controls(values)

    def _switch_engines(self) -> None:
        while True:
            with self._lock:
                options, self._requested = self._requested, None
                self._loading = options
                if options is None or self._is_closing:
                    self._switching = None
                    return
            try:
                self._frame_upscaler.switch(options, self._has_no_newer_request)
            except Exception as error:
                self._report_problem(options, error)

    def _has_no_newer_request(self) -> bool:
        return self._requested is None and not self._is_closing

    def _report_problem(self, options: Sequence[EngineOption], error: Exception) -> None:
        problem = str(error) if isinstance(error, SrEdgeError) else f"unexpected {type(error).__name__}: {error}"
        # Under the lock: the problem of an older request must not replace the empty one of a newer request.
        with self._lock:
            if not self._has_no_newer_request():
                return
            self._problem = problem
        labels = " or ".join(option.label for option in options if option not in self._frame_upscaler.options)
        self._on_event(f"{labels} cannot be used: {problem}")

    def report(self) -> StreamReport:
        """The statistics of the whole stream so far."""
        return self._loop.report()

    def statistics(self) -> dict[str, object]:
        """The statistics for the page: totals since the start, and the current engine in the last seconds."""
        report = self._loop.report()
        current = self._frame_upscaler.options
        wanted = self._requested or self._loading or current
        since_s = time.monotonic() - _RECENT_S
        recent = [times for times in list(self._recent) if times.finished_s >= since_s and times.option == current[0]]
        latencies_ms = [times.latency_ms for times in recent]
        return {
            "kind": "statistics",
            "state": str(self._state),
            "reason": self._reason,
            "engines": [option.label for option in current],
            "wanted": [option.label for option in wanted],
            "loading": [option.label for option in wanted if option not in current],
            "problem": self._problem,
            "controls": self._frame_upscaler.controls,
            "waiting": self._waiting(report),
            "seconds": report.seconds,
            "fps_in": report.recent_fps_in,
            "fps_out": report.recent_fps_out,
            "frames_in": report.frames_in,
            "frames_out": report.frames_out,
            "dropped": report.dropped,
            "failed": report.failed,
            "p50_ms": _percentile(latencies_ms, 50),
            "p95_ms": _percentile(latencies_ms, 95),
            "model_ms": _percentile([times.model_ms for times in recent], 50),
            "reuse": _recent_reuse([times.reuse for times in recent if times.reuse]),
        }

    def _waiting(self, report: StreamReport) -> dict[str, object] | None:
        """What the stream waits for, and since when; None while frames are shown."""
        seconds = time.monotonic() - self._shown_s
        if self._state is not StreamState.LIVE or seconds < self._waiting_after_s:
            return None
        if report.is_reconnecting:
            return {"for": str(WaitingFor.RECONNECTION), "seconds": report.since_input_s}
        if self._frame_upscaler.is_busy or report.queued:
            return {"for": str(WaitingFor.ENGINE), "seconds": seconds}
        return {"for": str(WaitingFor.SOURCE), "seconds": report.since_input_s}

    def _run(self) -> None:
        try:
            for number, frame in enumerate(self._loop.frames()):
                self._publish(number, frame)
            self._end(StreamState.ENDED, "the source has ended")
        except SrEdgeError as error:
            self._is_hung = isinstance(error, StageTimeout)
            self._end(StreamState.FAILED, str(error))
        except Exception as error:
            self._end(StreamState.FAILED, f"unexpected {type(error).__name__}: {error}")

    def _publish(self, number: int, frame: VideoFrame) -> None:
        now_s = self._shown_s = time.monotonic()
        latency_ms = 1e3 * now_s - frame.captured_ns / 1e6
        record = self._frame_upscaler.record(frame.sequence)
        output = record.outputs[0]
        self._recent.append(_FrameTimes(now_s, latency_ms, output.model_ms, output.option, output.frame.reuse))
        self._newest = PreviewFrame(number, record, latency_ms)
        # Called without the lock: a listener may remove itself. The frame is stored first, so a listener that reads it
        # in answer to the call finds it.
        with self._lock:
            listeners = list(self._listeners)
        for on_frame in listeners:
            on_frame()

    def _end(self, state: StreamState, reason: str) -> None:
        self._state, self._reason = state, reason
        if not self._is_closing:
            self._on_event(reason)


def _recent_reuse(frames: Sequence[FrameReuse]) -> dict[str, object] | None:
    """The share of reused tiles in the last frames, and the memory that they occupy; None without reuse."""
    if not frames:
        return None
    newest = frames[-1]
    return {
        "share": 1 - sum(frame.computed for frame in frames) / sum(frame.tiles for frame in frames),
        "tiles": newest.tiles,
        "memory_bytes": newest.statistics.memory_bytes,
        "most_bytes": newest.statistics.most_bytes,
        "obstacle": newest.statistics.obstacle,
    }


def _percentile(samples: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(samples, percent)) if samples else None
