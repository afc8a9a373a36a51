"""A source, a sink and an upscaler that a test holds in its hand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction

from sr_edge.camera.flow.fair_lock import FairLock
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.protocols import SourceInfo
from sr_edge.upscaler import ReuseOptions

TIMEOUT_S = 30
"""Nothing waits so long unless it hangs."""


def eventually(condition: Callable[[], bool]) -> None:
    """Waits until a condition that other threads bring about is true."""
    until_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < until_s, "it never came true"
        time.sleep(0.002)


class ListSource:
    """Gives the frames of a list, or of a generator that a test holds in its hand."""

    name = "a list"
    reconnections = 0
    is_reconnecting = False
    unreadable_packets = 0

    def __init__(self, frames: Iterable[VideoFrame], is_live: bool = False) -> None:
        self.is_live = is_live
        self.info = SourceInfo(Fraction(30))
        self.closed = threading.Event()
        self.content = frames

    def frames(self) -> Iterator[VideoFrame]:
        for frame in self.content:
            if self.closed.is_set():
                return
            yield frame

    def close(self) -> None:
        self.closed.set()


class ListSink:
    """Keeps what it is given."""

    name = "a list"
    reconnections = 0

    def __init__(self) -> None:
        self.frames: list[VideoFrame] = []
        self.closed = 0

    def write(self, frame: VideoFrame) -> None:
        self.frames.append(frame)

    def close(self) -> None:
        self.closed += 1


class RepeatingFrameUpscaler:
    """Repeats each sample of the planes twice; `before_infer` is called with each frame, and may block or raise."""

    scale = 2

    def __init__(self, concurrency: int = 1, name: str = "repeating") -> None:
        self.name = name
        self.reuse = ReuseOptions()
        self.lock = FairLock(concurrency)

    def before_infer(self, frame: VideoFrame) -> None: ...

    def prepare(self, frame: VideoFrame) -> VideoFrame:
        return frame

    def infer(self, prepared: VideoFrame) -> VideoFrame:
        self.before_infer(prepared)
        return prepared.with_planes(tuple(plane.repeat(2, 0).repeat(2, 1) for plane in prepared.planes))

    def finish(self, upscaled: VideoFrame, like: VideoFrame) -> VideoFrame:
        return upscaled

    def for_stream(self) -> RepeatingFrameUpscaler:
        return self

    def count_changed(self, frame: VideoFrame) -> int | None:
        return None
