"""A lock that streams sharing one engine acquire in rotation, so that no stream is starved by another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class FairLock:
    """A semaphore of `concurrency` permits that grants them to the waiting streams in turn.

    The waiting streams are kept in the order in which they are served next. A stream that is granted a permit goes to
    the end of that order if more of its threads wait. Any of the stream's waiting threads uses the permit: which one
    does not matter, because a thread takes its frame only after it has the permit.
    """

    def __init__(self, concurrency: int) -> None:
        self.concurrency = concurrency
        self._free = concurrency
        self._waiting: dict[object, int] = {}
        self._granted: dict[object, int] = {}
        self._changed = threading.Condition()

    @property
    def waiting(self) -> int:
        """How many threads of all streams wait."""
        with self._changed:
            return sum(self._waiting.values())

    @contextmanager
    def acquire(self, stream: object, is_wanted: Callable[[], bool] = lambda: True) -> Iterator[bool]:
        """Waits for a permit for `stream`, and returns it at the end of the block.

        Args:
            stream: any hashable value that identifies the stream.
            is_wanted: whether the permit is still needed; tested whenever this thread wakes up, and so after `wake`.
                Runs while the lock's state is locked: it must neither block nor use this lock.

        Yields:
            True with a permit; False without one, once `is_wanted` was false while the thread waited.
        """
        is_acquired = self._enter(stream, is_wanted)
        try:
            yield is_acquired
        finally:
            if is_acquired:
                self._leave()

    def wake(self) -> None:
        """Makes every waiting thread test again whether it still wants its permit."""
        with self._changed:
            self._changed.notify_all()

    def _enter(self, stream: object, is_wanted: Callable[[], bool]) -> bool:
        with self._changed:
            _add(self._waiting, stream, 1)
            self._grant()
            # A grant is counted for the stream under this lock before the threads are notified: it is seen here even
            # if it came before this thread began to wait. `_waiting` and `_granted` together count the stream's
            # threads in this loop; without a grant left all of them are in `_waiting`, so a thread that gives up
            # can take its own entry out.
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
        """Hands out free permits in the order of the waiting streams; a stream that was served goes to the end."""
        while self._free and self._waiting:
            stream = next(iter(self._waiting))
            remaining = self._waiting.pop(stream) - 1
            if remaining:
                self._waiting[stream] = remaining
            _add(self._granted, stream, 1)
            self._free -= 1
        # All threads share one condition, and only those of a stream with a grant go on.
        self._changed.notify_all()


def _add(counts: dict[object, int], stream: object, change: int) -> None:
    """Changes a count; a count of zero is removed, so the stream loses its place in the order."""
    counts[stream] = counts.get(stream, 0) + change
    if not counts[stream]:
        del counts[stream]
