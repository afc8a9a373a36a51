"""Sinks for programs that take frames themselves, and for measuring."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.camera.frame import VideoFrame


class CallbackSink:
    """Calls a function with every frame, in the stream's sink thread; what it raises ends the stream."""

    name = "a callback"

    def __init__(self, callback: Callable[[VideoFrame], object]) -> None:
        self._callback = callback

    def write(self, frame: VideoFrame) -> None:
        self._callback(frame)

    def close(self) -> None: ...


class NullSink:
    """Takes everything, keeps nothing."""

    name = "null"

    def write(self, frame: VideoFrame) -> None: ...

    def close(self) -> None: ...
