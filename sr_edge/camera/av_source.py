"""Everything that FFmpeg can open as a source: files, cameras, RTSP, UDP, HTTP, generated pictures."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import av

from sr_edge.address import without_secrets
from sr_edge.camera.conversion import frame_from_av
from sr_edge.camera.frame import VideoFrame
from sr_edge.camera.orientation import display_matrix, upright
from sr_edge.camera.passengers import PassthroughPackets
from sr_edge.camera.ports import SourceInfo
from sr_edge.camera.timeline import Timeline
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.errors import FrameError, StreamError

STANDARD_INPUT = "pipe:0"
_MOST_ARRIVALS = 128
_UNREADABLE_IN_A_ROW = 300
"""Packets without one frame between them, after which the stream counts as lost: ten seconds of most cameras."""


@dataclass(frozen=True)
class AvAddress:
    """What FFmpeg is to open, and how.

    Attributes:
        is_live: None asks the stream: what has no length is live.
        silence_s: a stream that sends nothing for so long is lost.
    """

    url: str
    format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    is_live: bool | None = None
    open_s: float = 10.0
    silence_s: float = 5.0

    @property
    def name(self) -> str:
        return "standard input" if self.url == STANDARD_INPUT else without_secrets(self.url)


class AvSource:
    """One opened stream, its first video stream decoded, its audio and subtitles passed on as packets."""

    def __init__(self, address: AvAddress, lost: AvSource | None = None) -> None:
        """Opens it.

        Args:
            lost: the same stream, opened before and lost: its time line goes on, its passengers get the new packets.

        Raises:
            StreamError: it cannot be opened, or has no video that can be decoded here.
        """
        self._address = address
        self._closed = threading.Event()
        timeouts = None if address.is_live is False else (address.open_s, address.silence_s)
        with stream_errors(address.name):
            self._container: Any = av.open(
                address.url, "r", format=address.format, options=dict(address.options), timeout=timeouts
            )
        try:
            self._video = self._video_stream()
        except BaseException:
            self._container.close()
            raise
        self.is_live = self._container.duration is None if address.is_live is None else address.is_live
        self._others = [stream for stream in self._container.streams if stream.type in ("audio", "subtitle")]
        rate = self._video.average_rate or None
        self.timeline: Timeline = lost.timeline if lost else Timeline(self.is_live, rate)
        if lost:
            self.timeline.restart()
        self.info: SourceInfo = (
            lost.info if lost else SourceInfo(rate, PassthroughPackets(self._others) if self._others else None)
        )
        self.unreadable_packets: int = lost.unreadable_packets if lost else 0
        # Several frames at once in the decoder delay each of them by as many.
        self._video.thread_type = "SLICE" if self.is_live else "AUTO"

    @property
    def name(self) -> str:
        return self._address.name

    def _video_stream(self) -> Any:
        streams = self._container.streams
        if not streams.video:
            kinds = sorted({stream.type for stream in streams})
            raise StreamError(
                f"{self.name} has no video stream, only {', '.join(kinds) or 'nothing'}",
                found=kinds,
                wanted="video",
                remedy="give a file or stream with video",
            )
        video = streams.video[0]
        if video.codec_context is None:
            raise StreamError(
                f"the video of {self.name} cannot be decoded by this build of FFmpeg",
                found=self.name,
                wanted=("H.264", "H.265"),
                remedy="convert it to H.264 or H.265",
            )
        return video

    def frames(self) -> Iterator[VideoFrame]:
        try:
            with stream_errors(self.name):
                yield from self._decoded()
        finally:
            self._container.close()

    def close(self) -> None:
        # FFmpeg's reader must not lose its container in the middle of a read: `frames` itself closes it.
        self._closed.set()

    def _decoded(self) -> Iterator[VideoFrame]:
        arrivals: dict[int | None, int] = {}
        sequence = 0
        unreadable = 0
        for packet in self._container.demux(self._video, *self._others):
            if self._closed.is_set():
                return
            if packet.stream is not self._video:
                self._pass_on(packet)
                continue
            now_ns = time.monotonic_ns()
            _remember(arrivals, packet.pts, now_ns)
            try:
                pictures = packet.decode()
            except av.error.InvalidDataError:
                self.unreadable_packets += 1
                unreadable += 1
                if unreadable == _UNREADABLE_IN_A_ROW:
                    raise StreamError(
                        f"{self.name}: {unreadable} packets in a row could not be decoded",
                        found=unreadable,
                        remedy="check the sender and the network",
                    ) from None
                continue
            for picture in pictures:
                if self._closed.is_set():
                    return
                unreadable = 0
                frame = self._frame(picture, sequence, arrivals.pop(picture.pts, now_ns))
                yield self._placed(upright(frame, display_matrix(picture)))
                sequence += 1

    def _frame(self, picture: Any, sequence: int, captured_ns: int) -> VideoFrame:
        try:
            return frame_from_av(picture, sequence, captured_ns)
        except FrameError as error:
            raise FrameError(
                f"{self.name}: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
            ) from None

    def _placed(self, frame: VideoFrame) -> VideoFrame:
        return replace(frame, pts=self.timeline.place(frame.pts, frame.time_base, frame.captured_ns))

    def _pass_on(self, packet: Any) -> None:
        passthrough = self.info.passthrough
        if passthrough is None or packet.dts is None or (self.is_live and not self.timeline.has_begun):
            return
        shift = round(self.timeline.offset_s / packet.time_base)
        packet.dts += shift
        with suppress(TypeError):  # pts may be None
            packet.pts += shift
        passthrough.put(packet.stream.index, packet)


def _remember(arrivals: dict[int | None, int], pts: int | None, now_ns: int) -> None:
    """Keeps when the packet of a frame came in: the decoder may hold it back for others."""
    arrivals[pts] = now_ns
    if len(arrivals) > _MOST_ARRIVALS:
        del arrivals[next(iter(arrivals))]


def frame_rate(text: str) -> Fraction:
    """Reads "30" or "30000/1001"; raises StreamError for anything else."""
    with suppress(ValueError, ZeroDivisionError):
        rate = Fraction(text)
        if rate > 0:
            return rate
    raise StreamError(
        f"{text!r} is not a frame rate",
        found=text,
        wanted="a number or fraction above 0",
        remedy="write frames per second, for example 30 or 30000/1001",
    )
