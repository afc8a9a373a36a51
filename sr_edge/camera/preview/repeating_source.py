"""A source that starts again whenever it ends, so that a file plays in a loop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.protocols import Source

_DEFAULT_RATE = Fraction(30)


class RepeatingSource:
    """Repeats the frames of a source; their timestamps and sequence numbers continue to increase."""

    is_live = False
    reconnections = 0
    is_reconnecting = False

    def __init__(self, open_again: Callable[[], Source]) -> None:
        """Opens the source for the first time.

        Args:
            open_again: Opens the source at its start. Called at once and after each end; what it raises is raised.
        """
        self._open = open_again
        self._source = open_again()
        self._closed = threading.Event()
        self._unreadable_before = 0
        self.name = self._source.name
        self.info = self._source.info

    def frames(self) -> Iterator[VideoFrame]:
        number, next_s = 0, None
        while not self._closed.is_set():
            first_number = number
            for frame, time_s in self._single_pass(next_s):
                yield replace(frame, sequence=number)
                number += 1
                next_s = time_s + self._interval_s
            if number == first_number:  # the source has no frames, and opening it again would not change that
                return
            self._reopen()

    def _single_pass(self, first_s: Fraction | None) -> Iterator[tuple[VideoFrame, Fraction]]:
        """All frames once, with their times in seconds.

        Args:
            first_s: The time of the first frame; None keeps its own.
        """
        offset_s: Fraction | None = Fraction(0) if first_s is None else None
        for frame in self._source.frames():
            frame_s = Fraction(0) if frame.pts is None else frame.pts * frame.time_base
            if offset_s is None:
                offset_s = (first_s or Fraction(0)) - frame_s
            pts = None if frame.pts is None else frame.pts + round(offset_s / frame.time_base)
            yield replace(frame, pts=pts), frame_s + offset_s

    def close(self) -> None:
        self._closed.set()
        self._source.close()

    @property
    def unreadable_packets(self) -> int:
        return self._unreadable_before + self._source.unreadable_packets

    @property
    def _interval_s(self) -> Fraction:
        return 1 / (self.info.rate or _DEFAULT_RATE)

    def _reopen(self) -> None:
        self._source.close()
        if not self._closed.is_set():
            unreadable = self._source.unreadable_packets
            self._source = self._open()
            self._unreadable_before += unreadable
        # `close` may have been called while the source was being opened, and has then closed the old one.
        if self._closed.is_set():
            self._source.close()
