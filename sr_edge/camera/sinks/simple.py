"""Sinks without output of their own: a callback for programs, and one that discards frames for measurements."""

from __future__ import annotations

from collections.abc import Callable

from sr_edge.camera.media.frame import VideoFrame


class CallbackSink:
    """Calls a function with every frame, in the thread that writes; an exception of the function ends the stream."""

    name = "a callback"
    reconnections = 0

    def __init__(self, callback: Callable[[VideoFrame], object]) -> None:
        self._callback = callback

    def write(self, frame: VideoFrame) -> None:
        self._callback(frame)

    def close(self) -> None: ...


class NullSink:
    """Discards every frame."""

    name = "null"
    reconnections = 0

    def write(self, frame: VideoFrame) -> None: ...

    def close(self) -> None: ...
