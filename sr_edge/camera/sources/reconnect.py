"""A live source that reconnects when it is lost: the stream ended, failed, or delivered nothing for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from sr_edge.camera.flow.drop_policy import Dropping, Policy
from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.flow.queues import InputQueue
from sr_edge.camera.flow.retry import FIRST_WAIT_S, Reconnection
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.protocols import Source, SourceInfo
from sr_edge.errors import StreamError

Opened = TypeVar("Opened", bound=Source)


class ReconnectingSource(Generic[Opened]):
    """The frames of one connection after the other, with continuous numbers.

    The callback that opens the source again continues the time line.
    """

    is_live = True

    def __init__(
        self,
        first: Opened,
        reopen: Callable[[Opened], Opened],
        *,
        timeout_s: float = 10.0,
        give_up_s: float | None = None,
        on_event: Callable[[str], None] = ignore_event,
        first_wait_s: float = FIRST_WAIT_S,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Takes an open source.

        Args:
            first: the first source, already open, so that a wrong address is reported before the stream starts.
            reopen: opens the source again, given the one that was lost; raises StreamError while that fails.
            timeout_s: a source without a frame for this long is abandoned.
            give_up_s: the time after which the attempts to reconnect end; None never gives up.
            on_event: called with every loss and recovery.
            first_wait_s: the wait before the first attempt; it doubles with each one, up to 8 seconds.
            wait: waits so many seconds before an attempt; true if the source was closed meanwhile.
        """
        self.name = first.name
        self.info: SourceInfo = first.info
        self.reconnections = 0
        self._current = first
        self._reopen = reopen
        self._timeout_s = timeout_s
        self._give_up_s = give_up_s
        self._on_event = on_event
        self._first_wait_s = first_wait_s
        self._closed = threading.Event()
        self._wait: Callable[[float], object] = wait or self._closed.wait
        self._reconnection: Reconnection | None = None
        self._queue = InputQueue(Policy(Dropping.BLOCK))

    @property
    def unreadable_packets(self) -> int:
        return self._current.unreadable_packets

    @property
    def is_reconnecting(self) -> bool:
        return self._reconnection is not None

    def frames(self) -> Iterator[VideoFrame]:
        """Iterates over the frames of all connections.

        Raises:
            StreamError: the attempts to reconnect have ended.
            Exception: what the source raises except StreamError, at once: reconnecting would not help.
        """
        sequence = 0
        while not self._closed.is_set():
            # A queue for each connection: a reader that was abandoned cannot add frames to the next one's.
            self._queue = InputQueue(Policy(Dropping.BLOCK))
            errors: list[Exception] = []
            reader = threading.Thread(
                target=_read_all, args=(self._current, self._queue, errors), name="sr-edge-camera", daemon=True
            )
            reader.start()
            for frame in self._until_lost():
                self._end_reconnection()
                yield replace(frame, sequence=sequence)
                sequence += 1
            self._current.close()
            if not self._closed.is_set():
                self._begin_reconnection(errors[0] if errors else None)
                self._open_again()

    def close(self) -> None:
        # The event first: `frames` tests it after it has created a queue or a connection, so that one of the two
        # threads closes whatever the other has just created.
        self._closed.set()
        self._current.close()
        self._queue.end(discard=True)

    def _until_lost(self) -> Iterator[VideoFrame]:
        queue = self._queue
        if self._closed.is_set():  # `close` may have ended the queue before this one
            queue.end(discard=True)
        # Waiting in this thread and reading in another is what makes the timeout possible: a read in FFmpeg that
        # hangs cannot be interrupted. The reader's `end` wakes this thread where the source ends or fails.
        while queue.wait(self._timeout_s):
            frame = queue.take()
            if frame is not None:
                yield frame
        # If a hung reader ever returns, its `put` finds the queue ended and its thread ends.
        self._has_timed_out = not queue.is_over
        queue.end(discard=True)

    def _begin_reconnection(self, error: Exception | None) -> None:
        """Starts a reconnection; a source that delivered no frame after the last one counts as a failed attempt."""
        # The reader appends its error before it ends the queue, and the queue has ended: the error is complete.
        if error is not None and not isinstance(error, StreamError):
            raise error
        if self._has_timed_out:
            error = StreamError(f"{self.name}: no frame for {self._timeout_s:g} s", found=self.name)
        elif error is None:
            error = StreamError(f"{self.name}: the stream ended", found=self.name)
        if self._reconnection is None:
            reason = str(error)
            self._reconnection = Reconnection(self.name, reason, self._on_event, self._give_up_s, self._first_wait_s)
        else:
            self._reconnection.record_failure(error)

    def _open_again(self) -> None:
        reconnection = self._reconnection
        # By default the wait is that of the event which `close` sets: closing ends it at once.
        while reconnection is not None and not self._wait(reconnection.wait_s):
            try:
                self._current = self._reopen(self._current)
                break
            except StreamError as error:
                reconnection.record_failure(error)
        if self._closed.is_set():  # `close` may have closed the connection before this one
            self._current.close()

    def _end_reconnection(self) -> None:
        """Called with each frame: a source that opens without delivering a frame is still unavailable."""
        if self._reconnection is not None:
            self.reconnections += 1
            self._reconnection.record_success()
            self._reconnection = None


def _read_all(source: Source, queue: InputQueue, errors: list[Exception]) -> None:
    try:
        for frame in source.frames():
            if not queue.put(frame):
                return
    except Exception as error:
        # The frames of a traceback refer to the decoder, whose threads would live until the garbage collector runs.
        error.__context__ = error.__traceback__ = None
        errors.append(error)
    finally:
        queue.end()
