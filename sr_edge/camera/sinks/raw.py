"""Raw frames into an open file, such as standard output."""

from __future__ import annotations

import os

import numpy as np

from sr_edge.camera.media.conversion import reformatted, resized
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame


class RawSink:
    """Writes frames plane after plane without padding, all of them in the size and pixel format of the first."""

    reconnections = 0

    def __init__(self, descriptor: int, name: str = "standard output") -> None:
        """Takes an open file.

        Args:
            descriptor: the caller owns and closes it.
            name: the name to use in messages.
        """
        self.name = name
        self._descriptor = descriptor
        self._first: VideoFrame | None = None

    def write(self, frame: VideoFrame) -> None:
        first = self._first = self._first or frame
        if (frame.width, frame.height) != (first.width, first.height):
            frame = resized(frame, first.width, first.height)
        for plane in reformatted(frame, first.format).planes:
            self._write_all(np.ascontiguousarray(plane).reshape(-1).view(np.uint8).data)

    def close(self) -> None: ...

    def _write_all(self, content: memoryview) -> None:
        with stream_errors(self.name):
            while content:
                content = content[os.write(self._descriptor, content) :]
