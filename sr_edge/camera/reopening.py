"""A live source that is opened again when it is lost: it ended, failed, or sent nothing for too long."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.outage import FIRST_WAIT_S, Outage
from sr_edge.camera.policy import Dropping, Policy
from sr_edge.camera.ports import Source, SourceInfo, say_nothing
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
        say: Callable[[str], None] = say_nothing,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Args:
        first: already open: whatever is wrong with the address shows before the stream starts.
        reopen: opens the source again, given the one that was lost; raises StreamError while that is not possible.
        silence_s: a source that gives no frame for so long hangs, and is left.
        give_up_s: how long to try again; None tries for good.
        say: is told of every loss and return.
        first_wait_s: before the first try; each further wait is twice as long, up to 8 seconds.
        """
        self.name = first.name
        self.info: SourceInfo = first.info
        self.reopened = 0
        self._current = first
        self._reopen = reopen
        self._silence_s = silence_s
        self._give_up_s = give_up_s
        self._say = say
        self._first_wait_s = first_wait_s
        self._closed = threading.Event()
        self._inbox = Inbox(Policy(Dropping.BLOCK))

    @property
    def unreadable_packets(self) -> int:
        return int(getattr(self._current, "unreadable_packets", 0))

    def frames(self) -> Iterator[VideoFrame]:
        sequence = 0
        while not self._closed.is_set():
            self._inbox = Inbox(Policy(Dropping.BLOCK))
            losses: list[StreamError] = []
            reader = threading.Thread(
                target=_read_all, args=(self._current, self._inbox, losses), name="sr-edge-camera", daemon=True
            )
            reader.start()
            for frame in self._until_lost():
                yield replace(frame, sequence=sequence)
                sequence += 1
            self._current.close()
            if not self._closed.is_set():
                self._open_again(
                    Outage(self.name, self._why_lost(losses), self._say, self._give_up_s, self._first_wait_s)
                )

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

    def _why_lost(self, losses: list[StreamError]) -> str:
        if self._is_silent:
            return f"no frame for {self._silence_s:g} s"
        return str(losses[0]) if losses else "it ended"

    def _open_again(self, outage: Outage) -> None:
        while not self._closed.wait(outage.wait_s):
            try:
                self._current = self._reopen(self._current)
            except StreamError as error:
                outage.failed(error)
                continue
            self.reopened += 1
            outage.over()
            break
        if self._closed.is_set():  # closed while it was being opened
            self._current.close()


def _read_all(source: Source, inbox: Inbox, losses: list[StreamError]) -> None:
    try:
        for frame in source.frames():
            if not inbox.put(frame):
                return
    except StreamError as error:
        losses.append(error)
    finally:
        inbox.end()
