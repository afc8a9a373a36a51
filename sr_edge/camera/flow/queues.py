"""The two bounded queues of the pipeline: frames that wait for the model, and results that wait for their turn.

Each queue has one lock with one condition. Every change that a waiter may be waiting for is followed by `notify_all`
under the lock, and every waiter tests its own predicate again after it wakes up. Producers and consumers share the
condition, so `notify` could wake a thread for which nothing has changed and lose the wake-up; `notify_all`
cannot, and the handful of threads of a stream makes its cost negligible.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.media.frame import VideoFrame

Item = TypeVar("Item")

BLOCK_DEPTH = 2
DROP_LATE_DEPTH = 32
"""Frames that may wait under `drop-late`: about a second of video. Beyond that the oldest frame is dropped."""


class InputQueue:
    """Frames between the source's thread and the workers. Drops frames by its policy, and counts them."""

    def __init__(
        self,
        policy: Policy,
        is_low_priority: Callable[[VideoFrame], bool] = lambda frame: False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Creates an empty queue.

        Args:
            policy: which frames are dropped.
            is_low_priority: under `latest`, such a frame replaces only frames of low priority.
            clock: nanoseconds, by the clock of the frames' `captured_ns`.
        """
        depths = {Dropping.LATEST: 1, Dropping.BLOCK: BLOCK_DEPTH, Dropping.DROP_LATE: DROP_LATE_DEPTH}
        self._policy = policy
        self._is_low_priority = is_low_priority
        self._clock = clock
        self._depth = depths[policy.dropping]
        self._waiting: deque[VideoFrame] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.dropped = 0

    def put(self, frame: VideoFrame) -> bool:
        """Adds a frame, under `block` once there is room. False after `end`: the frame was not added."""
        with self._changed:
            # `take` and `end` notify: the producer cannot sleep past free room or past the end of the stream.
            while self._policy.dropping is Dropping.BLOCK and len(self._waiting) == self._depth and not self._ended:
                self._changed.wait()
            if self._ended:
                return False
            self._make_room(frame)
            self._waiting.append(frame)
            self._changed.notify_all()
            return True

    def _make_room(self, frame: VideoFrame) -> None:
        if self._policy.dropping is Dropping.LATEST and self._is_low_priority(frame):
            while self._waiting and self._is_low_priority(self._waiting[-1]):
                self._waiting.pop()
                self.dropped += 1
        else:
            while len(self._waiting) >= self._depth:
                self._waiting.popleft()
                self.dropped += 1

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until a frame is available. False at the end of the stream, or after `timeout_s`.

        The frame is not reserved: another thread may take it before this one does.
        """
        with self._changed:
            # `put` and `end` notify; without a timeout, a source that hangs is waited for until `end`.
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            return bool(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether the queue is empty and has ended."""
        with self._changed:
            return self._ended and not self._waiting

    def head(self) -> VideoFrame | None:
        """The next frame, without removing it; None if the queue is empty."""
        with self._changed:
            return self._waiting[0] if self._waiting else None

    def take(self, is_wanted: Callable[[VideoFrame], bool] = lambda frame: True) -> VideoFrame | None:
        """Removes and returns the next frame.

        Never waits. None if the queue is empty, the next frame is not wanted, or all frames were late and dropped.
        """
        with self._changed:
            while self._waiting and is_wanted(self._waiting[0]):
                frame = self._waiting.popleft()
                self._changed.notify_all()
                if not self._is_late(frame):
                    return frame
                self.dropped += 1
            return None

    def _is_late(self, frame: VideoFrame) -> bool:
        deadline_ms = self._policy.deadline_ms
        return deadline_ms is not None and (self._clock() - frame.captured_ns) / 1e6 > deadline_ms

    def end(self, *, discard: bool = False) -> None:
        """Ends the queue: `put` refuses frames from now on. Those that wait can still be taken, unless discarded."""
        with self._changed:
            self._ended = True
            if discard:
                self._waiting.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._waiting)


class OrderedOutput(Generic[Item]):
    """Restores the order of results that several threads compute, and bounds how many are under way.

    A worker calls `reserve` for a place before it takes a frame, and either `release` if there was no frame, or
    `issue_ticket` and then `deliver` or `fail` with the ticket. Tickets are issued in the order of the frames. The
    consumer's `take` frees the place.
    """

    def __init__(self, depth: int, extra_depth: int = 0) -> None:
        """Creates an empty output.

        Args:
            depth: results that may be under way or wait for the consumer.
            extra_depth: further places while the next result in order is still under way, for those behind it.
        """
        self._depth = depth
        self._extra_depth = extra_depth
        self._reserved = 0
        self._tickets = 0
        self._next = 0
        self._ready: dict[int, Item | None] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._failed: int | None = None

    def reserve(self) -> bool:
        """Waits for a place. False once the output has ended or failed."""
        with self._changed:
            # The wait ends: `take` and `release` free places, `end` and `fail` end the wait, and all of them notify.
            # A place that is held belongs to a worker with a frame, which delivers or fails, or to a result that the
            # consumer takes. Places are reserved before frames are taken, so that the worker with the next ticket
            # never waits here for a place that only its own result could free.
            while self._is_full() and not self._is_ending():
                self._changed.wait()
            if self._is_ending():
                return False
            self._reserved += 1
            return True

    def _is_full(self) -> bool:
        extra_depth = 0 if self._next in self._ready else self._extra_depth
        return self._reserved >= self._depth + extra_depth

    def release(self) -> None:
        """Returns a reserved place for which there was no frame."""
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def issue_ticket(self) -> int:
        """The next number in order, for a reserved place. Each ticket must be delivered or failed once."""
        with self._changed:
            self._tickets += 1
            return self._tickets - 1

    def deliver(self, ticket: int, item: Item | None) -> None:
        """Adds the result of a ticket; None for a frame without one, which is passed over."""
        with self._changed:
            self._ready[ticket] = item
            self._changed.notify_all()

    def fail(self, ticket: int) -> None:
        """Ends the results before this ticket. Earlier ones, which may still be under way, are still given out."""
        with self._changed:
            self._failed = ticket if self._failed is None else min(ticket, self._failed)
            self._changed.notify_all()

    def end(self) -> None:
        """Ends the output: no further result will be delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _is_ending(self) -> bool:
        return self._ended or self._failed is not None

    def take(self, timeout_s: float) -> Item | None:
        """The next result in order; None after `timeout_s`, or if there will be none: see `is_over`."""
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                while self._next in self._ready and self._next != self._failed:
                    item = self._ready.pop(self._next)
                    self._next += 1
                    self._reserved -= 1
                    self._changed.notify_all()
                    if item is not None:
                        return item
                remaining_s = deadline_s - time.monotonic()
                if self._ended or self._next == self._failed or remaining_s <= 0:
                    return None
                # `deliver`, `fail` and `end` notify. The deadline is fixed before the loop: results that arrive out
                # of order wake this thread without restarting the timeout.
                self._changed.wait(remaining_s)

    @property
    def is_over(self) -> bool:
        """Whether all results have been taken and none will follow."""
        with self._changed:
            return self._next == self._failed or (self._ended and self._next not in self._ready)
