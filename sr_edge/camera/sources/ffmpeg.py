"""Sources that FFmpeg opens: files, cameras, RTSP, UDP, HTTP, and generated images."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av

from sr_edge.camera.media.conversion import frame_from_av
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.orientation import display_matrix, upright
from sr_edge.camera.media.passthrough import PassthroughPackets
from sr_edge.camera.media.timeline import Timeline
from sr_edge.camera.protocols import SourceInfo
from sr_edge.camera.sources.connection import FFmpegInput, opened_connection
from sr_edge.errors import FrameError, StreamError

_MAX_ARRIVALS = 128
_MAX_UNREADABLE_PACKETS = 300
"""Undecodable packets in a row after which the stream counts as lost: ten seconds of most cameras."""


class FFmpegSource:
    """An open stream: its first video stream is decoded, its audio and subtitle packets are passed through."""

    reconnections = 0

    def __init__(self, ffmpeg_input: FFmpegInput, lost: FFmpegSource | None = None) -> None:
        """Opens the stream.

        Args:
            ffmpeg_input: what to open.
            lost: an earlier connection to the same stream, whose time line and passthrough packets are continued.

        Raises:
            StreamError: the stream cannot be opened, or has no video that can be decoded.
        """
        self._input = ffmpeg_input
        self._closed = threading.Event()
        with stream_errors(ffmpeg_input.name):
            self._connection = opened_connection(ffmpeg_input)
        self._container: Any = self._connection.container
        try:
            self._video = self._video_stream()
        except BaseException:
            self._connection.close()
            raise
        self.is_live = self._container.duration is None if ffmpeg_input.is_live is None else ffmpeg_input.is_live
        self._passthrough_streams = [
            stream for stream in self._container.streams if stream.type in ("audio", "subtitle")
        ]
        rate = self._video.average_rate or None
        self.timeline: Timeline = lost.timeline if lost else Timeline(self.is_live, rate)
        if lost:
            self.timeline.restart()
        passthrough = PassthroughPackets(self._passthrough_streams) if self._passthrough_streams else None
        self.info: SourceInfo = lost.info if lost else SourceInfo(rate, passthrough)
        self.unreadable_packets: int = lost.unreadable_packets if lost else 0
        # Frame threading decodes several frames at a time, and delays each of them by that number of frames.
        self._video.thread_type = "SLICE" if self.is_live else "AUTO"

    @property
    def name(self) -> str:
        return self._input.name

    def _video_stream(self) -> Any:
        streams = self._container.streams
        if not streams.video:
            stream_types = sorted({stream.type for stream in streams})
            raise StreamError(
                f"{self.name} has no video stream, only {', '.join(stream_types) or 'nothing'}",
                found=stream_types,
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
            self._connection.close()

    def close(self) -> None:
        # Only sets a flag: freeing the container while FFmpeg reads from it in another thread would crash. The
        # reading thread tests the flag after each packet and closes the container itself. Live sources have a read
        # timeout, so that it does so in bounded time.
        self._closed.set()
        self._connection.cancel()

    def _decoded(self) -> Iterator[VideoFrame]:
        arrivals: dict[int | None, int] = {}
        sequence = 0
        unreadable_in_a_row = 0
        for packet in self._connection.packets(self._video, *self._passthrough_streams):
            if self._closed.is_set():
                return
            if packet.stream is not self._video:
                self._pass_through(packet)
                continue
            now_ns = time.monotonic_ns()
            _record_arrival(arrivals, packet.pts, now_ns)
            try:
                av_frames = packet.decode()
            except av.error.InvalidDataError:
                self.unreadable_packets += 1
                unreadable_in_a_row += 1
                if unreadable_in_a_row == _MAX_UNREADABLE_PACKETS:
                    raise StreamError(
                        f"{self.name}: {unreadable_in_a_row} packets in a row could not be decoded",
                        found=unreadable_in_a_row,
                        remedy="check the sender and the network",
                    ) from None
                continue
            for av_frame in av_frames:
                if self._closed.is_set():
                    return
                unreadable_in_a_row = 0
                frame = self._frame(av_frame, sequence, arrivals.pop(av_frame.pts, now_ns))
                yield self._placed(upright(frame, display_matrix(av_frame)))
                sequence += 1

    def _frame(self, av_frame: Any, sequence: int, captured_ns: int) -> VideoFrame:
        try:
            return frame_from_av(av_frame, sequence, captured_ns)
        except FrameError as error:
            raise FrameError(
                f"{self.name}: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
            ) from None

    def _placed(self, frame: VideoFrame) -> VideoFrame:
        return replace(frame, pts=self.timeline.place(frame.pts, frame.time_base, frame.captured_ns))

    def _pass_through(self, packet: Any) -> None:
        passthrough = self.info.passthrough
        if passthrough is None or packet.dts is None or (self.is_live and not self.timeline.has_begun):
            return
        shift = round(self.timeline.offset_s / packet.time_base)
        packet.dts += shift
        with suppress(TypeError):  # pts may be None
            packet.pts += shift
        passthrough.put(packet.stream.index, packet)


def _record_arrival(arrivals: dict[int | None, int], pts: int | None, now_ns: int) -> None:
    """Records when the packet of a frame arrived: the decoder may return the frame only after later packets."""
    arrivals[pts] = now_ns
    if len(arrivals) > _MAX_ARRIVALS:
        del arrivals[next(iter(arrivals))]


def frame_rate(text: str) -> Fraction:
    """Reads a frame rate such as "30" or "30000/1001".

    Raises:
        StreamError: the text is not a positive number or fraction.
    """
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
