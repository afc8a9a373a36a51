"""A file that begins again whenever it ends, for looking at it as long as one likes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.ports import Source

_USUAL_RATE = Fraction(30)


class RepeatedSource:
    """Gives the frames of a source again and again; times and numbers go on."""

    is_live = False
    reconnections = 0

    def __init__(self, open_again: Callable[[], Source]) -> None:
        """Args:
        open_again: opens the source at its beginning; called at once and after each end. Raises what it raises.
        """
        self._open = open_again
        self._source = open_again()
        self._closed = threading.Event()
        self.name = self._source.name
        self.info = self._source.info

    def frames(self) -> Iterator[VideoFrame]:
        number, next_s = 0, None
        while not self._closed.is_set():
            began_at = number
            for frame, time_s in self._round(next_s):
                yield replace(frame, sequence=number)
                number += 1
                next_s = time_s + self._interval_s
            if number == began_at:  # nothing came, and nothing would the next time
                return
            self._rewind()

    def _round(self, first_s: Fraction | None) -> Iterator[tuple[VideoFrame, Fraction]]:
        """The frames once, with their times, the first one at `first_s` or, where that is None, at its own."""
        later_s: Fraction | None = Fraction(0) if first_s is None else None
        for frame in self._source.frames():
            own_s = Fraction(0) if frame.pts is None else frame.pts * frame.time_base
            if later_s is None:
                later_s = (first_s or Fraction(0)) - own_s
            pts = None if frame.pts is None else frame.pts + round(later_s / frame.time_base)
            yield replace(frame, pts=pts), own_s + later_s

    def close(self) -> None:
        self._closed.set()
        self._source.close()

    @property
    def unreadable_packets(self) -> int:
        return self._source.unreadable_packets

    @property
    def _interval_s(self) -> Fraction:
        return 1 / (self.info.rate or _USUAL_RATE)

    def _rewind(self) -> None:
        self._source.close()
        if not self._closed.is_set():
            self._source = self._open()
        if self._closed.is_set():
            self._source.close()
