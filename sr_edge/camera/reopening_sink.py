"""A server or receiver that is connected to again when it is lost in mid-stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.outage import FIRST_WAIT_S, Outage
from sr_edge.camera.passengers import PassthroughPackets
from sr_edge.camera.ports import Sink, SinkUnavailable, ignore_event
from sr_edge.errors import StreamError


class ReopeningSink:
    """Frames into one sink after the other. What comes from a live source while it is away is dropped by the policy."""

    def __init__(
        self,
        open_one: Callable[[], Sink],
        passthrough: PassthroughPackets | None = None,
        *,
        give_up_s: float | None = None,
        on_event: Callable[[str], None] = ignore_event,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Args:
        open_one: makes a sink that connects with its first frame.
        passthrough: what waited while the sink was away is old and left out.
        give_up_s: how long to try again; None tries for good.
        on_event: is told of every loss and return.
        first_wait_s: before the first try; each further wait is twice as long, up to 8 seconds.
        """
        self.reopened = 0
        self._open_one = open_one
        self._passthrough = passthrough
        self._give_up_s = give_up_s
        self._on_event = on_event
        self._first_wait_s = first_wait_s
        self._current: Sink | None = open_one()
        self.name = self._current.name
        self._has_begun = False
        self._outage: Outage | None = None

    def write(self, frame: VideoFrame) -> None:
        """Raises StreamError where the first frame of all cannot be written: then the address is at fault."""
        try:
            if self._current is None:
                self._current = self._open_one()
            if self._outage is not None:
                self._leave_behind(frame.time_s)
            self._current.write(frame)
        except StreamError as error:
            if not self._has_begun:
                raise
            self._lose(error)
        self._has_begun = True
        if self._outage is not None:
            self.reopened += 1
            self._outage.over()
            self._outage = None

    def close(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.close()

    def _lose(self, error: StreamError) -> None:
        """Raises SinkUnavailable, or StreamError when it is time to give up."""
        with suppress(StreamError):  # the other side is gone: the end of the stream cannot be sent
            self.close()
        if self._outage is None:
            self._outage = Outage(self.name, str(error), self._on_event, self._give_up_s, self._first_wait_s)
        else:
            self._outage.failed(error)
        raise SinkUnavailable(
            error.problem, self._outage.wait_s, found=error.found, wanted=error.wanted, remedy=error.remedy
        ) from None

    def _leave_behind(self, time_s: float | None) -> None:
        if self._passthrough is not None:
            for _ in self._passthrough.take_until(time_s):
                pass
