"""The stream of a preview. It runs with or without viewers, and keeps only the newest pair of images."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import numpy as np

from sr_edge.camera.flow.drop_policy import Policy
from sr_edge.camera.flow.events import EventLog, ignore_event
from sr_edge.camera.media.conversion import reformatted
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.camera.pipeline.loop import Loop
from sr_edge.camera.pipeline.options import LoopOptions
from sr_edge.camera.pipeline.statistics import StreamReport
from sr_edge.camera.pipeline.watchdog import StageTimeout
from sr_edge.camera.preview.engines import EngineOption, FrameRecord, SwitchableFrameUpscaler
from sr_edge.camera.protocols import Source
from sr_edge.errors import SrEdgeError
from sr_edge.image_files import jpeg_from_frame

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


@dataclass(frozen=True)
class FramePair:
    """One frame before and after upscaling, in RGB; `number` increases by one from pair to pair."""

    number: int
    record: FrameRecord
    after: VideoFrame
    latency_ms: float

    def encoded(self) -> bytes:
        """The message for the page; encoded once for all viewers."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        """The length of a JSON header (4 bytes, big-endian), the header, and two JPEG images."""
        before, after = (jpeg_from_frame(_rgb(frame)) for frame in (self.record.before, self.after))
        header = {
            "number": self.number,
            "engine": self.record.option.label,
            "latency_ms": round(self.latency_ms, 1),
            "before": [self.record.before.width, self.record.before.height, len(before)],
            "after": [self.after.width, self.after.height, len(after)],
        }
        text = json.dumps(header).encode()
        return struct.pack(">I", len(text)) + text + before + after


def _rgb(frame: VideoFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return reformatted(frame, PixelFormat.RGB).planes[0].astype(np.uint8, copy=False)


@dataclass(frozen=True)
class _FrameTimes:
    """The times of a frame, for the statistics of the last seconds."""

    finished_s: float
    latency_ms: float
    model_ms: float
    option: EngineOption


class PreviewStream:
    """A stream whose newest frame and statistics any number of viewers can request.

    Only the thread of the stream writes the newest pair, the recent times and the state. It replaces each by a single
    assignment or appends to a bounded deque, which readers copy first; both are atomic in CPython and need no lock.
    `_lock` guards the set of listeners and the engines that were requested.
    """

    def __init__(
        self,
        source: Source,
        upscaler: SwitchableFrameUpscaler,
        policy: Policy | None = None,
        on_event: Callable[[str], None] = ignore_event,
    ) -> None:
        """Prepares the stream; `start` runs it.

        Args:
            source: Closed together with the stream.
            upscaler: The caller closes it.
            policy: Which frames are dropped if they arrive too fast.
            on_event: Called with a line about each loss, failure and the end, from the threads of the stream.
        """
        self._frame_upscaler = upscaler
        self._on_event = on_event
        self._loop = Loop(source, upscaler, LoopOptions(policy=policy, event_log=EventLog(on_event)))
        self._thread = threading.Thread(target=self._run, name="sr-edge-preview", daemon=True)
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._recent: deque[_FrameTimes] = deque(maxlen=_MAX_RECENT_FRAMES)
        self._newest: FramePair | None = None
        self._state = StreamState.LIVE
        self._reason = ""
        self._requested: EngineOption | None = None
        self._loading: EngineOption | None = None
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

    def newest(self, after: int) -> FramePair | None:
        """The newest pair; None if its number is not greater than `after`."""
        pair = self._newest
        return pair if pair is not None and pair.number > after else None

    def listen(self, on_pair: Callable[[], None]) -> Callable[[], None]:
        """Registers a callback for new pairs, which the thread of the stream calls.

        Returns:
            A function that removes the callback.
        """
        with self._lock:
            self._listeners.add(on_pair)

        def remove() -> None:
            with self._lock:
                self._listeners.discard(on_pair)

        return remove

    def request_engine(self, option: EngineOption) -> None:
        """Changes the engine, in a thread of its own, and returns at once.

        Of the requests that arrive while an engine is loaded, the newest is carried out when that one is in use. If an
        engine cannot be opened, the reason is in the statistics and the current engine stays.
        """
        with self._lock:
            self._requested, self._problem = option, ""
            if self._switching is None and not self._is_closing:
                self._switching = threading.Thread(target=self._switch_engines, name="sr-edge-switch", daemon=True)
                self._switching.start()

    def _switch_engines(self) -> None:
        while True:
            with self._lock:
                option, self._requested = self._requested, None
                self._loading = option
                if option is None or self._is_closing:
                    self._switching = None
                    return
            try:
                self._frame_upscaler.switch(option)
            except Exception as error:
                expected = isinstance(error, SrEdgeError)
                self._problem = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
                self._on_event(f"{option.label} cannot be used: {self._problem}")

    def report(self) -> StreamReport:
        """The statistics of the whole stream so far."""
        return self._loop.report()

    def statistics(self) -> dict[str, object]:
        """The statistics for the page: totals since the start, and the current engine in the last seconds."""
        report = self._loop.report()
        since_s, option = time.monotonic() - _RECENT_S, self._frame_upscaler.option
        recent = [times for times in list(self._recent) if times.finished_s >= since_s and times.option == option]
        latencies_ms = [times.latency_ms for times in recent]
        return {
            "kind": "statistics",
            "state": str(self._state),
            "reason": self._reason,
            "engine": option.label,
            "loading": wanted.label if (wanted := self._requested or self._loading) else None,
            "problem": self._problem,
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
        }

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
        now_s = time.monotonic()
        latency_ms = 1e3 * now_s - frame.captured_ns / 1e6
        record = self._frame_upscaler.record(frame.sequence)
        self._recent.append(_FrameTimes(now_s, latency_ms, record.model_ms, record.option))
        self._newest = FramePair(number, record, frame, latency_ms)
        # Called without the lock: a listener may remove itself. The pair is stored first, so a listener that reads it
        # in answer to the call finds it.
        with self._lock:
            listeners = list(self._listeners)
        for on_pair in listeners:
            on_pair()

    def _end(self, state: StreamState, reason: str) -> None:
        self._state, self._reason = state, reason
        if not self._is_closing:
            self._on_event(reason)


def _percentile(samples: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(samples, percent)) if samples else None
