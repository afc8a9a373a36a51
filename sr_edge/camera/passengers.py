"""Audio and subtitles of a stream on their way past the network, as the packets they are."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

MOST_WAITING = 4096
"""Packets kept for the sink: minutes of audio. Beyond that the oldest go, and are counted."""


class Passengers:
    """Packets between a source's thread and a sink's, with the streams that they belong to."""

    def __init__(self, streams: Sequence[Any]) -> None:
        """Args:
        streams: FFmpeg's streams, as templates for the sink.
        """
        self.streams = tuple(streams)
        self.lost = 0
        self._waiting: deque[Any] = deque()
        self._lock = threading.Lock()

    def put(self, packet: Any) -> None:
        """Adds a packet whose times are on the video's time line."""
        with self._lock:
            if len(self._waiting) == MOST_WAITING:
                self._waiting.popleft()
                self.lost += 1
            self._waiting.append(packet)

    def take_until(self, time_s: float | None) -> Iterator[Any]:
        """Removes and gives the packets that start no later than `time_s`; all of them for None."""
        while True:
            with self._lock:
                if not self._waiting or not _is_due(self._waiting[0], time_s):
                    return
                packet = self._waiting.popleft()
            yield packet


def _is_due(packet: Any, time_s: float | None) -> bool:
    return time_s is None or packet.pts is None or float(packet.pts * packet.time_base) <= time_s
