"""Audio and subtitles of a stream on their way past the network, as the packets they are."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import av

MOST_WAITING = 4096
"""Packets kept for the sink: minutes of audio. Beyond that the oldest go, and are counted."""


class PassthroughPackets:
    """Packets between a source's thread and a sink's, with templates of the streams that they belong to."""

    def __init__(self, streams: Sequence[Any]) -> None:
        """Args:
        streams: FFmpeg's streams of the source, which may be closed later: the templates are copies.
        """
        # A sink may begin after a short source has ended, and FFmpeg's streams die with their container.
        self._keeper: Any = av.open(io.BytesIO(), "w", format="matroska")
        self.templates: dict[int, Any] = {}
        self.lost = 0
        for stream in streams:
            with suppress(ValueError):  # Matroska cannot hold it, so nothing that is written here can
                self.templates[stream.index] = self._keeper.add_stream_from_template(stream)
        self._waiting: deque[tuple[int, Any]] = deque()
        self._lock = threading.Lock()

    def put(self, index: int, packet: Any) -> None:
        """Adds a packet of the source's stream `index`, whose times are on the video's time line."""
        with self._lock:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append((index, packet))

    def take_until(self, time_s: float | None) -> Iterator[tuple[int, Any]]:
        """Removes and gives the packets that start no later than `time_s`; all of them for None."""
        while True:
            with self._lock:
                if not self._waiting or not _is_due(self._waiting[0][1], time_s):
                    return
                waiting = self._waiting.popleft()
            yield waiting


def _is_due(packet: Any, time_s: float | None) -> bool:
    return time_s is None or packet.pts is None or float(packet.pts * packet.time_base) <= time_s
