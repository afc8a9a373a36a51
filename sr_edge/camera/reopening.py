"""A live source that is opened again when it is lost: it ended, failed, or sent nothing for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.outage import FIRST_WAIT_S, Outage
from sr_edge.camera.policy import Dropping, Policy
from sr_edge.camera.ports import Source, SourceInfo, ignore_event
from sr_edge.camera.queues import Inbox
from sr_edge.errors import StreamError

Opened = TypeVar("Opened", bound=Source)


class ReopeningSource(Generic[Opened]):
    """Frames of one source after the other, numbered through; their time line is the opener's affair."""

    is_live = True

    def __init__(
        self,
        first: Opened,
        reopen: Callable[[Opened], Opened],
        *,
        silence_s: float = 10.0,
        give_up_s: float | None = None,
        on_event: Callable[[str], None] = ignore_event,
        first_wait_s: float = FIRST_WAIT_S,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Args:
        first: already open: whatever is wrong with the address shows before the stream starts.
        reopen: opens the source again, given the one that was lost; raises StreamError while that is not possible.
        silence_s: a source that gives no frame for so long hangs, and is left.
        give_up_s: how long to try again; None tries for good.
        on_event: is told of every loss and return.
        first_wait_s: before the first try; each further wait is twice as long, up to 8 seconds.
        wait: waits so many seconds before a try, true when the source was closed meanwhile.
        """
        self.name = first.name
        self.info: SourceInfo = first.info
        self.reopened = 0
        self._current = first
        self._reopen = reopen
        self._silence_s = silence_s
        self._give_up_s = give_up_s
        self._on_event = on_event
        self._first_wait_s = first_wait_s
        self._closed = threading.Event()
        self._wait: Callable[[float], object] = wait or self._closed.wait
        self._outage: Outage | None = None
        self._inbox = Inbox(Policy(Dropping.BLOCK))

    @property
    def unreadable_packets(self) -> int:
        return int(getattr(self._current, "unreadable_packets", 0))

    def frames(self) -> Iterator[VideoFrame]:
        """Raises at once what a source raises that is no StreamError: opening it again would not help."""
        sequence = 0
        while not self._closed.is_set():
            self._inbox = Inbox(Policy(Dropping.BLOCK))
            errors: list[Exception] = []
            reader = threading.Thread(
                target=_read_all, args=(self._current, self._inbox, errors), name="sr-edge-camera", daemon=True
            )
            reader.start()
            for frame in self._until_lost():
                self._end_outage()
                yield replace(frame, sequence=sequence)
                sequence += 1
            self._current.close()
            if not self._closed.is_set():
                self._lose(errors[0] if errors else None)
                self._open_again()

    def close(self) -> None:
        self._closed.set()
        self._current.close()
        self._inbox.end(discard=True)

    def _until_lost(self) -> Iterator[VideoFrame]:
        inbox = self._inbox
        if self._closed.is_set():
            inbox.end(discard=True)
        while inbox.wait(self._silence_s):
            frame = inbox.take()
            if frame is not None:
                yield frame
        # A reader that hangs finds its inbox ended should it ever wake up.
        self._is_silent = not inbox.is_over
        inbox.end(discard=True)

    def _lose(self, error: Exception | None) -> None:
        """Begins an outage, or takes note that a source which was opened again gave no frame."""
        if error is not None and not isinstance(error, StreamError):
            raise error
        if self._is_silent:
            error = StreamError(f"{self.name}: no frame for {self._silence_s:g} s", found=self.name)
        elif error is None:
            error = StreamError(f"{self.name}: it ended", found=self.name)
        if self._outage is None:
            self._outage = Outage(self.name, str(error), self._on_event, self._give_up_s, self._first_wait_s)
        else:
            self._outage.failed(error)

    def _open_again(self) -> None:
        outage = self._outage
        while outage is not None and not self._wait(outage.wait_s):
            try:
                self._current = self._reopen(self._current)
                break
            except StreamError as error:
                outage.failed(error)
        if self._closed.is_set():  # closed while it was being opened
            self._current.close()

    def _end_outage(self) -> None:
        """At the first frame: a source that opens and gives none is still away."""
        if self._outage is not None:
            self.reopened += 1
            self._outage.over()
            self._outage = None


def _read_all(source: Source, inbox: Inbox, errors: list[Exception]) -> None:
    try:
        for frame in source.frames():
            if not inbox.put(frame):
                return
    except Exception as error:
        errors.append(error)
    finally:
        inbox.end()
