"""The interfaces of sources and sinks of frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.passthrough import PassthroughPackets
from sr_edge.errors import StreamError


@dataclass(frozen=True)
class SourceInfo:
    """Properties of a stream as a whole.

    Attributes:
        rate: nominal frames per second; None if the stream does not announce it.
        passthrough: audio and subtitle packets, for sinks that can store them.
        sample_aspect_ratio: width of a pixel divided by its height; None if the stream does not specify it.
    """

    rate: Fraction | None = None
    passthrough: PassthroughPackets | None = None
    sample_aspect_ratio: Fraction | None = None


class SinkUnavailable(StreamError):
    """A sink has lost its connection and may recover: write the same frame again after `wait_s` seconds."""

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
    """An open stream of frames. The size and the pixel format of the frames may change during the stream."""

    @property
    def name(self) -> str:
        """The name in messages and logs, without user name and password."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether frames arrive in real time and are lost if nobody reads them."""
        ...

    @property
    def info(self) -> SourceInfo:
        """Properties of the stream as a whole."""
        ...

    @property
    def reconnections(self) -> int:
        """How often the source was opened again after it was lost."""
        ...

    @property
    def is_reconnecting(self) -> bool:
        """Whether the source is lost and has delivered no frame since."""
        ...

    @property
    def unreadable_packets(self) -> int:
        """Packets that could not be decoded."""
        ...

    def frames(self) -> Iterator[VideoFrame]:
        """Iterates over the frames in presentation order, with increasing pts. Called once, by one thread.

        The iteration ends where the stream ends, and soon after `close`.

        Raises:
            StreamError: the source is lost, or its content cannot be read.
            FrameError: a frame has a pixel format that is not supported.
        """
        ...

    def close(self) -> None:
        """Ends `frames` and frees the source. May be called from any thread, any number of times."""
        ...


class Sink(Protocol):
    """A destination of upscaled frames. The first frame determines the size and the pixel format of the output."""

    @property
    def name(self) -> str:
        """The name in messages and logs, without user name and password."""
        ...

    @property
    def reconnections(self) -> int:
        """How often the sink was opened again after it was lost."""
        ...

    def write(self, frame: VideoFrame) -> None:
        """Writes one frame, and blocks while the sink cannot take more. Called by one thread, in order.

        Raises:
            SinkUnavailable: the frame cannot be written now.
            StreamError: the frame cannot be written; the stream ends, and `close` is still called.
        """
        ...

    def close(self) -> None:
        """Completes the output so that it can be played. Called once, after the last `write` has returned.

        Raises:
            StreamError: the output could not be completed.
        """
        ...
