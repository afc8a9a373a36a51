"""Audio and subtitle packets that pass from the source to the sink without being decoded."""

from __future__ import annotations

import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av

MAX_WAITING = 4096
"""Packets that may wait for the sink, minutes of audio. Beyond that the oldest are dropped and counted."""


@dataclass(frozen=True)
class OtherStream:
    """A stream of a file other than its video.

    Attributes:
        index: FFmpeg's stream index.
        kind: FFmpeg's media type, "cover picture", or "timecode" for a track that says no more than a tag of the video.
        codec: FFmpeg's codec name; empty if FFmpeg does not know the codec.
    """

    index: int
    kind: str
    codec: str

    def __str__(self) -> str:
        is_coded = self.kind in ("audio", "subtitle", "video")
        codec = self.codec or ("of an unknown codec" if is_coded else "")
        return f"stream {self.index} ({' '.join(filter(None, (self.kind, codec)))})"


def other_stream(stream: Any) -> OtherStream:
    """Describes a stream of a PyAV container."""
    kind = "cover picture" if stream.type == "video" and is_cover(stream) else stream.type
    kind = "timecode" if kind == "data" and "timecode" in stream.metadata else kind
    return OtherStream(stream.index, kind, stream.codec_context.name if stream.codec_context else "")


def is_cover(stream: Any) -> bool:
    """Whether a video stream is a picture that players show instead of a video, such as the cover of an album."""
    return bool(stream.disposition & type(stream.disposition).attached_pic)


class PassthroughPackets:
    """A bounded queue of packets from the source's thread to the sink's, with templates of their streams."""

    def __init__(self, streams: Sequence[Any]) -> None:
        """Copies the streams as templates.

        Args:
            streams: audio and subtitle streams of a PyAV container, which may be closed afterwards.
        """
        # A sink may open after a short source has ended, and FFmpeg frees streams with their container: the templates
        # are streams of a container in memory that lives as long as this object.
        self._template_container: Any = av.open(io.BytesIO(), "w", format="matroska")
        self.templates: dict[int, Any] = {}
        self.left_out: list[OtherStream] = []
        self.dropped = 0
        for stream in streams:
            try:
                self.templates[stream.index] = self._template_container.add_stream_from_template(stream)
            except (av.error.FFmpegError, ValueError):  # Matroska supports whatever the other containers here do
                self.left_out.append(other_stream(stream))
        self._waiting: deque[tuple[int, Any]] = deque()
        self._lock = threading.Lock()

    def put(self, index: int, packet: Any) -> None:
        """Adds a packet of the source's stream `index`, with timestamps on the time line of the video."""
        with self._lock:
            if len(self._waiting) == MAX_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append((index, packet))

    def take_until(self, time_s: float | None) -> Iterator[tuple[int, Any]]:
        """Removes and returns the packets that start no later than `time_s`; None returns all."""
        while True:
            # The lock is released before each packet is yielded: the sink may block for long while it writes one.
            with self._lock:
                if not self._waiting or not _is_due(self._waiting[0][1], time_s):
                    return
                entry = self._waiting.popleft()
            yield entry


def _is_due(packet: Any, time_s: float | None) -> bool:
    return time_s is None or packet.pts is None or float(packet.pts * packet.time_base) <= time_s
