"""Which stage is at work since when: no thread can be ended from outside, but a stream can say which one hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sr_edge.errors import StreamError


class HungStage(StreamError):
    """A stage did not come back. Its thread still holds what it holds: only the end of the process frees that."""


class Watch:
    """Knows for every thread what it does and since when."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._busy: dict[int, tuple[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        thread = threading.get_ident()
        self._busy[thread] = (name, time.monotonic())
        try:
            yield
        finally:
            del self._busy[thread]

    def check(self) -> None:
        """Raises HungStage where a stage is at work for longer than the limit."""
        now_s = time.monotonic()
        for name, since_s in list(self._busy.values()):
            if now_s - since_s > self._limit_s:
                raise HungStage(
                    f"{name} did not come back for {now_s - since_s:.0f} s; the stream is ended. "
                    "Start the program again; another runtime or sink may help"
                )
