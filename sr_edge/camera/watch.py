"""Which stage is at work since when: no thread can be ended from outside, but a stream can say which one hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sr_edge.errors import StreamError

_LONGEST_STEP_S = 1.0


class HungStage(StreamError):
    """A stage did not come back. Its thread still holds what it holds: only the end of the process frees that."""


class Watch:
    """Knows for every thread what it does and since when.

    Its clock goes by the checks, in steps of a second at most: a process that was stopped for an hour and goes on
    has no stage that hung for an hour.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._checked_s = clock()
        self._observed_s = 0.0
        self._busy: dict[int, tuple[str, float]] = {}
        self._checking = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What this thread does inside the block."""
        thread = threading.get_ident()
        self._busy[thread] = (name, self._observed_s)
        try:
            yield
        finally:
            del self._busy[thread]

    def check(self) -> None:
        """Raises HungStage where a stage is at work for longer than the limit; to be called every second or oftener."""
        with self._checking:
            now_s = self._clock()
            self._observed_s += min(now_s - self._checked_s, _LONGEST_STEP_S)
            self._checked_s = now_s
            for name, since_s in list(self._busy.values()):
                if self._observed_s - since_s > self._limit_s:
                    raise HungStage(
                        f"{name} has not responded for {self._observed_s - since_s:.0f} s and the stream was ended",
                        found=name,
                        remedy="start the program again; another runtime or sink may help",
                    )
