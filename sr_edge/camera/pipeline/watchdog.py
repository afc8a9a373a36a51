"""A watchdog over the stages of a stream: a hung thread cannot be ended from outside, but the stream can be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sr_edge.errors import StreamError

_MAX_STEP_S = 1.0


class StageTimeout(StreamError):
    """A stage did not return in time. Its thread keeps its resources: only the end of the process frees them."""


class Watchdog:
    """Records for every thread the stage that it runs and when that began, and raises if a stage exceeds the limit.

    Its clock advances with the checks, by at most a second each: a process that was suspended for an hour and resumed
    has no stage that has run for an hour.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Starts the watchdog's clock.

        Args:
            limit_s: the longest time that a stage may take.
            clock: seconds that only increase.
        """
        self._limit_s = limit_s
        self._clock = clock
        self._checked_s = clock()
        self._observed_s = 0.0
        # Each thread writes only its own key, which the interpreter does atomically: `stage` needs no lock.
        self._running: dict[int, tuple[str, float]] = {}
        self._checking = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Records that this thread runs the stage `name` inside the block. Blocks must not be nested."""
        thread = threading.get_ident()
        self._running[thread] = (name, self._observed_s)
        try:
            yield
        finally:
            del self._running[thread]

    def check(self) -> None:
        """Checks all stages. To be called at least once a second, from any thread.

        Raises:
            StageTimeout: a stage has run for longer than the limit.
        """
        # Two threads check: without the lock both would advance the clock by the same interval.
        with self._checking:
            now_s = self._clock()
            self._observed_s += min(now_s - self._checked_s, _MAX_STEP_S)
            self._checked_s = now_s
            # `list` copies the items in one step: other threads enter and leave stages meanwhile.
            for name, started_s in list(self._running.values()):
                if self._observed_s - started_s > self._limit_s:
                    raise StageTimeout(
                        f"{name} has not responded for {self._observed_s - started_s:.0f} s and the stream was ended",
                        found=name,
                        remedy="start the program again; another runtime or sink may help",
                    )
