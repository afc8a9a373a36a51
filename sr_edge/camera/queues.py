"""The two bounded queues of the loop: frames that wait for the model, and results that wait to go out in order."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.policy import Dropping, Policy

Item = TypeVar("Item")

BLOCK_DEPTH = 2
DROP_LATE_DEPTH = 32
"""Frames that may wait under `drop-late`: a second of video. Beyond that the oldest is late whatever its age."""


class Inbox:
    """Frames between the source's thread and those that run the model; drops by its policy, and counts that."""

    def __init__(
        self,
        policy: Policy,
        gives_way: Callable[[VideoFrame], bool] = lambda frame: False,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Args:
        gives_way: for frames that displace only their like under `latest`.
        clock: nanoseconds, by the clock of the frames' `captured_ns`.
        """
        depths = {Dropping.LATEST: 1, Dropping.BLOCK: BLOCK_DEPTH, Dropping.DROP_LATE: DROP_LATE_DEPTH}
        self._policy = policy
        self._gives_way = gives_way
        self._clock = clock
        self._depth = depths[policy.dropping]
        self._waiting: deque[VideoFrame] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self.dropped = 0

    def put(self, frame: VideoFrame) -> bool:
        """Adds a frame; under `block` once there is room. False when nobody takes frames any more."""
        with self._changed:
            while self._policy.dropping is Dropping.BLOCK and len(self._waiting) == self._depth and not self._ended:
                self._changed.wait()
            if self._ended:
                return False
            self._make_room(frame)
            self._waiting.append(frame)
            self._changed.notify_all()
            return True

    def _make_room(self, frame: VideoFrame) -> None:
        if self._policy.dropping is Dropping.LATEST and self._gives_way(frame):
            while self._waiting and self._gives_way(self._waiting[-1]):
                self._waiting.pop()
                self.dropped += 1
        else:
            while len(self._waiting) >= self._depth:
                self._waiting.popleft()
                self.dropped += 1

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for a frame; False once there will be none, or after `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            return bool(self._waiting)

    @property
    def is_over(self) -> bool:
        """Whether no frame waits and none will come."""
        with self._changed:
            return self._ended and not self._waiting

    def head(self) -> VideoFrame | None:
        """The frame whose turn it is, which stays; None where none waits."""
        with self._changed:
            return self._waiting[0] if self._waiting else None

    def take(self, is_wanted: Callable[[VideoFrame], bool] = lambda frame: True) -> VideoFrame | None:
        """The frame whose turn it is; None where it is not wanted, another thread took it, or all were late."""
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
        """No more frames come in; those that wait are still taken, or forgotten."""
        with self._changed:
            self._ended = True
            if discard:
                self._waiting.clear()
            self._changed.notify_all()

    def __len__(self) -> int:
        return len(self._waiting)


class Outbox(Generic[Item]):
    """Results of several threads in the order of their tickets. `depth` of them are under way or wait at a time."""

    def __init__(self, depth: int, behind: int = 0) -> None:
        """Args:
        behind: so many more while the next in the order is under way.
        """
        self._depth = depth
        self._behind = behind
        self._reserved = 0
        self._tickets = 0
        self._next = 0
        self._ready: dict[int, Item | None] = {}
        self._changed = threading.Condition()
        self._ended = False
        self._failed: int | None = None

    def reserve(self) -> bool:
        """Waits for a place; False when nobody takes results any more."""
        with self._changed:
            while self._is_full() and not self._is_ending():
                self._changed.wait()
            if self._is_ending():
                return False
            self._reserved += 1
            return True

    def _is_full(self) -> bool:
        behind = 0 if self._next in self._ready else self._behind
        return self._reserved >= self._depth + behind

    def release(self) -> None:
        """Gives a place back for which there was no frame."""
        with self._changed:
            self._reserved -= 1
            self._changed.notify_all()

    def ticket(self) -> int:
        """The next number in the order, for a place that was reserved; to be delivered once."""
        with self._changed:
            self._tickets += 1
            return self._tickets - 1

    def deliver(self, ticket: int, item: Item | None) -> None:
        """Puts a result in its place; None for a frame that has none."""
        with self._changed:
            self._ready[ticket] = item
            self._changed.notify_all()

    def fail(self, ticket: int) -> None:
        """The results end before this one; those before it, which may still be under way, are kept."""
        with self._changed:
            self._failed = ticket if self._failed is None else min(ticket, self._failed)
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more will be delivered."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _is_ending(self) -> bool:
        return self._ended or self._failed is not None

    def take(self, timeout_s: float) -> Item | None:
        """The next result in order. None after `timeout_s`, or where there will be none: see `is_over`."""
        until_s = time.monotonic() + timeout_s
        with self._changed:
            while True:
                while self._next in self._ready and self._next != self._failed:
                    item = self._ready.pop(self._next)
                    self._next += 1
                    self._reserved -= 1
                    self._changed.notify_all()
                    if item is not None:
                        return item
                left_s = until_s - time.monotonic()
                if self._ended or self._next == self._failed or left_s <= 0:
                    return None
                self._changed.wait(left_s)

    @property
    def is_over(self) -> bool:
        with self._changed:
            return self._next == self._failed or (self._ended and self._next not in self._ready)
