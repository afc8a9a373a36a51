"""Fair turns on one engine: whoever waits, each stream is served as often as every other."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
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
    def turn(self, stream: object) -> Iterator[None]:
        """Waits until it is the turn of `stream`, any value that tells streams apart."""
        self._enter(stream)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, stream: object) -> None:
        with self._changed:
            self._waiting[stream] = self._waiting.get(stream, 0) + 1
            self._grant()
            while not self._granted.get(stream):
                self._changed.wait()
            self._granted[stream] -= 1
            if not self._granted[stream]:
                del self._granted[stream]

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
            self._granted[stream] = self._granted.get(stream, 0) + 1
            self._free -= 1
        self._changed.notify_all()
