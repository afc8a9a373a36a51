"""The stream behind the page: runs without viewers too, and keeps nothing but the newest pair of pictures."""

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

from sr_edge.camera.conversion import reformatted
from sr_edge.camera.events import EventLog, ignore_event
from sr_edge.camera.frame import PixelFormat, VideoFrame
from sr_edge.camera.loop import Loop
from sr_edge.camera.options import LoopOptions
from sr_edge.camera.policy import Policy
from sr_edge.camera.ports import Source
from sr_edge.camera.preview.engines import EngineOption, FrameRecord, SwitchableFrameUpscaler
from sr_edge.camera.watch import StageTimeout
from sr_edge.errors import SrEdgeError
from sr_edge.image_files import jpeg_from_frame

_RECENT_S = 2.0
_JOIN_S = 30.0
_MOST_RECENT = 2000


class StreamState(str, Enum):
    """Whether frames come."""

    LIVE = "live"
    ENDED = "ended"
    FAILED = "failed"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class FramePair:
    """One frame before and after, RGB; `number` rises by one with each."""

    number: int
    record: FrameRecord
    after: VideoFrame
    latency_ms: float

    def encoded(self) -> bytes:
        """The pair as the page takes it; made once, for all who look."""
        return self._encoded

    @cached_property
    def _encoded(self) -> bytes:
        """The length of a JSON header (4 bytes, big end first), the header, two JPEG pictures."""
        before, after = (jpeg_from_frame(_shown(frame)) for frame in (self.record.before, self.after))
        header = {
            "number": self.number,
            "made_by": self.record.choice.label,
            "latency_ms": round(self.latency_ms, 1),
            "before": [self.record.before.width, self.record.before.height, len(before)],
            "after": [self.after.width, self.after.height, len(after)],
        }
        text = json.dumps(header).encode()
        return struct.pack(">I", len(text)) + text + before + after


def _shown(frame: VideoFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return reformatted(frame, PixelFormat.RGB).planes[0].astype(np.uint8, copy=False)


@dataclass(frozen=True)
class _FrameTimes:
    """What is remembered of a frame for the figures of the last seconds."""

    at_s: float
    latency_ms: float
    model_ms: float
    choice: EngineOption


class PreviewStream:
    """One stream, and what its viewers may ask."""

    def __init__(
        self,
        source: Source,
        upscaler: SwitchableFrameUpscaler,
        policy: Policy | None = None,
        on_event: Callable[[str], None] = ignore_event,
    ) -> None:
        """Args:
        source: is closed with the show.
        upscaler: stays the caller's.
        on_event: is told of losses, failures and the end, from the stream's threads.
        """
        self._frame_upscaler = upscaler
        self._on_event = on_event
        self._loop = Loop(source, upscaler, LoopOptions(policy=policy, event_log=EventLog(on_event)))
        self._thread = threading.Thread(target=self._run, name="sr-edge-preview", daemon=True)
        self._lock = threading.Lock()
        self._listeners: set[Callable[[], None]] = set()
        self._recent: deque[_FrameTimes] = deque(maxlen=_MOST_RECENT)
        self._newest: FramePair | None = None
        self._state = StreamState.LIVE
        self._reason = ""
        self._loading: EngineOption | None = None
        self._problem = ""
        self._is_closing = False
        self._hangs = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> bool:
        """Ends the stream. False where a stage hangs: then its engine cannot be closed, only the process left."""
        self._is_closing = True
        self._loop.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        return not (self._hangs or self._thread.is_alive())

    def newest(self, after: int) -> FramePair | None:
        """The newest pair, if its number is greater than `after`."""
        pair = self._newest
        return pair if pair is not None and pair.number > after else None

    def listen(self, on_pair: Callable[[], None]) -> Callable[[], None]:
        """Has `on_pair` called after each new pair, from the stream's thread; returns what ends that."""
        with self._lock:
            self._listeners.add(on_pair)

        def leave() -> None:
            with self._lock:
                self._listeners.discard(on_pair)

        return leave

    def switch(self, choice: EngineOption) -> None:
        """Changes the engine, which takes its time; what hinders it is in the figures. One change at a time."""
        with self._lock:
            if self._loading is not None:
                return
            self._loading, self._problem = choice, ""
        try:
            self._frame_upscaler.switch(choice)
        except SrEdgeError as error:
            self._problem = str(error)
            self._on_event(f"{choice.label} cannot be used: {error}")
        finally:
            self._loading = None

    def figures(self) -> dict[str, object]:
        """For the page: what happened so far, and how the present engine did in the last seconds."""
        report = self._loop.report()
        since_s, choice = time.monotonic() - _RECENT_S, self._frame_upscaler.choice
        recent = [times for times in list(self._recent) if times.at_s >= since_s and times.choice == choice]
        latencies_ms = [times.latency_ms for times in recent]
        return {
            "kind": "figures",
            "state": str(self._state),
            "reason": self._reason,
            "running": choice.label,
            "loading": self._loading.label if self._loading else None,
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
                self._take(number, frame)
            self._end(StreamState.ENDED, "the source has ended")
        except SrEdgeError as error:
            self._hangs = isinstance(error, StageTimeout)
            self._end(StreamState.FAILED, str(error))
        except Exception as error:
            self._end(StreamState.FAILED, f"unexpected {type(error).__name__}: {error}")

    def _take(self, number: int, frame: VideoFrame) -> None:
        now_s = time.monotonic()
        latency_ms = 1e3 * now_s - frame.captured_ns / 1e6
        record = self._frame_upscaler.record(frame.sequence)
        self._recent.append(_FrameTimes(now_s, latency_ms, record.model_ms, record.choice))
        self._newest = FramePair(number, record, frame, latency_ms)
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
