"""A file as if it were a camera: each frame comes at its time, whether or not anybody is ready for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.ports import Source


class PacedSource:
    """Gives the frames of another source by the clock, the first one at once."""

    is_live = True

    def __init__(self, source: Source, wait_until: Callable[[float], bool] | None = None) -> None:
        """Args:
        source: is closed with this one.
        wait_until: waits for a time of `time.monotonic`, true when the source was closed meanwhile; for tests.
        """
        self.name = source.name
        self.info = source.info
        self._source = source
        self._closed = threading.Event()
        self._wait_until = wait_until or (lambda at_s: self._closed.wait(max(0.0, at_s - time.monotonic())))

    @property
    def reopened(self) -> int:
        return int(getattr(self._source, "reopened", 0))

    @property
    def unreadable_packets(self) -> int:
        return int(getattr(self._source, "unreadable_packets", 0))

    def frames(self) -> Iterator[VideoFrame]:
        begun_s: float | None = None
        for frame in self._source.frames():
            if frame.time_s is not None:
                if begun_s is None:
                    begun_s = time.monotonic() - frame.time_s
                if self._wait_until(begun_s + frame.time_s):
                    return
            yield replace(frame, captured_ns=time.monotonic_ns())

    def close(self) -> None:
        self._closed.set()
        self._source.close()
