"""What frames come from and go to: two small interfaces, and what a sink may want to know of the source."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.passengers import PassthroughPackets
from sr_edge.errors import StreamError


def ignore_event(text: str) -> None:
    """What tells people of losses and returns, for those who do not want to hear."""


@dataclass(frozen=True)
class SourceInfo:
    """What a stream tells of itself beside its frames.

    Attributes:
        rate: frames a second as announced; None where nothing is.
        passthrough: its audio and subtitles, for sinks that can hold them.
    """

    rate: Fraction | None = None
    passthrough: PassthroughPackets | None = None


class SinkUnavailable(StreamError):
    """A sink is lost and may come back: the same frame is to be written again after `wait_s`."""

    def __init__(
        self,
        problem: str,
        wait_s: float,
        *,
        found: object = None,
        wanted: object = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(problem, found=found, wanted=wanted, remedy=remedy)
        self.wait_s = wait_s


class Source(Protocol):
    """A stream of frames that has been opened. Frames may change their size and format on the way."""

    @property
    def name(self) -> str:
        """For people and logs: never with a user name or password."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames come by themselves, in their own time, and are lost when nobody takes them."""
        ...

    @property
    def info(self) -> SourceInfo: ...

    def frames(self) -> Iterator[VideoFrame]:
        """The frames in the order in which they are shown, their pts rising; asked for once, by one thread.

        Ends where the stream ends, and soon after `close`.

        Raises:
            StreamError: the source is lost, or its content cannot be read.
            FrameError: a frame is of a kind that is not read here.
        """
        ...

    def close(self) -> None:
        """Ends `frames` and frees the source; from any thread, any number of times."""
        ...


class Sink(Protocol):
    """What takes the upscaled frames. Opened by the first frame, whose size and format it then knows."""

    @property
    def name(self) -> str:
        """For people and logs: never with a user name or password."""
        ...

    def write(self, frame: VideoFrame) -> None:
        """Takes one frame; blocks while it cannot take more. Called by one thread, in order.

        Raises:
            SinkUnavailable: the frame cannot be written now.
            StreamError: the frame cannot be written; the stream ends, `close` is still called.
        """
        ...

    def close(self) -> None:
        """Makes what was written complete and playable; called once, when nothing writes any more.

        Raises:
            StreamError: that is not possible.
        """
        ...
