"""A sink on the network that reconnects when the connection is lost during the stream."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.flow.retry import FIRST_WAIT_S, Reconnection
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.passthrough import PassthroughPackets
from sr_edge.camera.protocols import Sink, SinkUnavailable
from sr_edge.errors import StreamError


class ReconnectingSink:
    """Writes to one connection after the other. While there is none, the policy drops the frames of a live source.

    It never waits itself: `write` raises SinkUnavailable with the time to wait, and the pipeline calls it again.
    """

    def __init__(
        self,
        open_one: Callable[[], Sink],
        passthrough: PassthroughPackets | None = None,
        *,
        give_up_s: float | None = None,
        on_event: Callable[[str], None] = ignore_event,
        first_wait_s: float = FIRST_WAIT_S,
    ) -> None:
        """Creates the first sink, which does not connect yet.

        Args:
            open_one: creates a sink that connects with its first frame.
            passthrough: its packets from the time without a connection are discarded.
            give_up_s: the time after which the attempts to reconnect end; None never gives up.
            on_event: called with every loss and recovery.
            first_wait_s: the wait before the first attempt; it doubles with each one, up to 8 seconds.
        """
        self.reconnections = 0
        self._open_one = open_one
        self._passthrough = passthrough
        self._give_up_s = give_up_s
        self._on_event = on_event
        self._first_wait_s = first_wait_s
        self._current: Sink | None = open_one()
        self.name = self._current.name
        self._has_written = False
        self._reconnection: Reconnection | None = None

    def write(self, frame: VideoFrame) -> None:
        """Writes one frame, and connects if necessary.

        Raises:
            SinkUnavailable: the connection is lost; write the same frame again later.
            StreamError: the first frame of all could not be written, which points to a wrong address, or the attempts
                to reconnect have ended.
        """
        try:
            if self._current is None:
                self._current = self._open_one()
            if self._reconnection is not None:
                self._discard_passthrough(frame.time_s)
            self._current.write(frame)
        except StreamError as error:
            if not self._has_written:
                raise
            self._lose(error)
        self._has_written = True
        if self._reconnection is not None:
            self.reconnections += 1
            self._reconnection.record_success()
            self._reconnection = None

    def close(self) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.close()

    def _lose(self, error: StreamError) -> None:
        """Raises SinkUnavailable, or StreamError if the attempts to reconnect have ended."""
        with suppress(StreamError):  # without a connection, the end of the stream cannot be sent either
            self.close()
        if self._reconnection is None:
            reason = str(error)
            self._reconnection = Reconnection(self.name, reason, self._on_event, self._give_up_s, self._first_wait_s)
        else:
            self._reconnection.record_failure(error)
        raise SinkUnavailable(
            error.problem, self._reconnection.wait_s, found=error.found, wanted=error.wanted, remedy=error.remedy
        ) from None

    def _discard_passthrough(self, time_s: float | None) -> None:
        if self._passthrough is not None:
            for _ in self._passthrough.take_until(time_s):
                pass
