"""A source whose first frame is looked at before the model works on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.ports import Source


class CheckedSource:
    """Another source, which `check` may refuse by its first frame."""

    def __init__(self, source: Source, check: Callable[[VideoFrame], None]) -> None:
        """Args:
        source: is closed with this one.
        check: raises what is to end the stream.
        """
        self.name = source.name
        self.info = source.info
        self.is_live = source.is_live
        self._source = source
        self._check = check

    @property
    def reopened(self) -> int:
        return int(getattr(self._source, "reopened", 0))

    @property
    def unreadable_packets(self) -> int:
        return int(getattr(self._source, "unreadable_packets", 0))

    def frames(self) -> Iterator[VideoFrame]:
        for number, frame in enumerate(self._source.frames()):
            if number == 0:
                self._check(frame)
            yield frame

    def close(self) -> None:
        self._source.close()
