"""Sources that wrap another source: frames paced by the clock, and a check of the first frame."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.protocols import Source


class _WrappedSource:
    """The properties of the wrapped source."""

    def __init__(self, source: Source) -> None:
        self.name = source.name
        self.info = source.info
        self._source = source

    @property
    def reconnections(self) -> int:
        return self._source.reconnections

    @property
    def is_reconnecting(self) -> bool:
        return self._source.is_reconnecting

    @property
    def unreadable_packets(self) -> int:
        return self._source.unreadable_packets


class PacedSource(_WrappedSource):
    """A file that behaves like a camera: each frame is delivered at its presentation time, the first one at once."""

    is_live = True

    def __init__(self, source: Source, wait_until: Callable[[float], bool] | None = None) -> None:
        """Wraps `source`.

        Args:
            source: the wrapped source, which is closed with this one.
            wait_until: waits until a time of `time.monotonic` and returns true if the source was closed meanwhile;
                None waits by the clock.
        """
        super().__init__(source)
        self._closed = threading.Event()
        self._wait_until = wait_until or (lambda at_s: self._closed.wait(max(0.0, at_s - time.monotonic())))

    def frames(self) -> Iterator[VideoFrame]:
        started_s: float | None = None
        for frame in self._source.frames():
            if frame.time_s is not None:
                if started_s is None:
                    started_s = time.monotonic() - frame.time_s
                if self._wait_until(started_s + frame.time_s):
                    return
            yield replace(frame, captured_ns=time.monotonic_ns())

    def close(self) -> None:
        # The event wakes the wait for the next frame's time; closing the source ends a read.
        self._closed.set()
        self._source.close()


class CheckedSource(_WrappedSource):
    """A source whose first frame is checked before the model runs."""

    def __init__(self, source: Source, check: Callable[[VideoFrame], None]) -> None:
        """Wraps `source`.

        Args:
            source: the wrapped source, which is closed with this one.
            check: called with the first frame; what it raises ends the stream.
        """
        super().__init__(source)
        self.is_live = source.is_live
        self._check = check

    def frames(self) -> Iterator[VideoFrame]:
        for number, frame in enumerate(self._source.frames()):
            if number == 0:
                self._check(frame)
            yield frame

    def close(self) -> None:
        self._source.close()
