"""Fair turns on one engine: whoever waits, each stream is served as often as every other."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FairLock:
    """Lets `at_once` frames into the engine at a time, and takes the streams that wait in rotation."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self._free = at_once
        self._waiting: dict[object, int] = {}
        self._granted: dict[object, int] = {}
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many frames of all streams wait."""
        with self._changed:
            return sum(self._waiting.values())

    @contextmanager
    def acquire(self, stream: object, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Waits until it is the turn of `stream`, any value that tells streams apart.

        Gives False, and no turn, once `is_wanted` is false while it waits; it is asked again after `wake`.
        """
        is_acquired = self._enter(stream, is_wanted)
        try:
            yield is_acquired
        finally:
            if is_acquired:
                self._leave()

    def wake(self) -> None:
        """Has all who wait asked whether they still want their turn."""
        with self._changed:
            self._changed.notify_all()

    def _enter(self, stream: object, is_wanted: Callable[[], bool]) -> bool:
        with self._changed:
            _add(self._waiting, stream, 1)
            self._grant()
            while not self._granted.get(stream):
                if not is_wanted():
                    _add(self._waiting, stream, -1)
                    return False
                self._changed.wait()
            _add(self._granted, stream, -1)
            return True

    def _leave(self) -> None:
        with self._changed:
            self._free += 1
            self._grant()

    def _grant(self) -> None:
        """Streams stand in the order in which they are to be served; one that was served goes to the end."""
        while self._free and self._waiting:
            stream = next(iter(self._waiting))
            others = self._waiting.pop(stream) - 1
            if others:
                self._waiting[stream] = others
            _add(self._granted, stream, 1)
            self._free -= 1
        self._changed.notify_all()


def _add(counts: dict[object, int], stream: object, change: int) -> None:
    """A stream without anything has no place among the others."""
    counts[stream] = counts.get(stream, 0) + change
    if not counts[stream]:
        del counts[stream]
