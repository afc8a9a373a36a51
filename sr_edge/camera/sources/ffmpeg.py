"""Sources that FFmpeg opens: files, cameras, RTSP, UDP, HTTP, and generated images."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import Any, NamedTuple

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.codecs import named_decoder
from sr_edge.camera.media.conversion import frame_from_av
from sr_edge.camera.media.decoding import StrictDecoder
from sr_edge.camera.media.deinterlacing import Deinterlacer, interlacing_of
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import VideoFrame
from sr_edge.camera.media.orientation import display_matrix, upright
from sr_edge.camera.media.passthrough import PassthroughPackets, is_cover
from sr_edge.camera.media.timeline import Timeline
from sr_edge.camera.protocols import SourceInfo
from sr_edge.camera.sources.connection import FFmpegInput, opened_connection
from sr_edge.camera.sources.losses import LossReport
from sr_edge.errors import FrameError, StreamError, UsageError

_MAX_ARRIVALS = 128
_NO_TIMESTAMPS = 0x80
"""AVFMT_NOTIMESTAMPS, the flag of formats that store pictures without times, such as MJPEG over HTTP."""
_CLOCK_TIME_BASE = Fraction(1, 90_000)
_PRODUCER_TIME = "prft"
"""FFmpeg's AVProducerReferenceTime: microseconds since 1970, and flags."""
_IMAGE_SEQUENCE = "image2"
MIN_RATE, MAX_RATE = Fraction(1, 86_400), 10_000
"""From a frame a day to the fastest cameras."""
_MAX_RATE_DENOMINATOR = 100_000
"""With it, the numerator of MAX_RATE fits the 32 bits that FFmpeg has for it."""
_MAX_UNREADABLE_PACKETS = 300
"""Undecodable packets in a row after which the stream counts as lost: ten seconds of most cameras."""


class FFmpegSource:
    """An open stream: its first video stream is decoded, its audio and subtitle packets are passed through.

    Damaged pictures are left out and counted. What the frames lose before they reach the output is an event, once.
    """

    reconnections = 0
    is_reconnecting = False

    def __init__(
        self,
        ffmpeg_input: FFmpegInput,
        lost: FFmpegSource | None = None,
        on_event: Callable[[str], None] = ignore_event,
    ) -> None:
        """Opens the stream.

        Args:
            ffmpeg_input: what to open.
            lost: an earlier connection to the same stream, whose time line and passthrough packets are continued.
            on_event: called with what the output will not have, and with the first damaged picture.

        Raises:
            StreamError: the stream cannot be opened, has no video that can be decoded, or the chosen decoder does not
                work.
            UsageError: a frame rate was given, and the stream announces one.
        """
        self._input = ffmpeg_input
        self._closed = threading.Event()
        with stream_errors(ffmpeg_input.name):
            self._connection = opened_connection(ffmpeg_input)
        self._container: Any = self._connection.container
        self.is_live = self._container.duration is None if ffmpeg_input.is_live is None else ffmpeg_input.is_live
        self._has_timestamps = not int(self._container.format.flags) & _NO_TIMESTAMPS
        try:
            self._video = self._video_stream()
            rate = self._rate(is_first=lost is None)
            decoder = self._chosen_decoder(is_first=lost is None)
        except BaseException:
            self._connection.close()
            raise
        self._passthrough_streams = [
            stream for stream in self._container.streams if stream.type in ("audio", "subtitle")
        ]
        is_constant = ffmpeg_input.rate is not None
        self.timeline: Timeline = lost.timeline if lost else Timeline(self.is_live, rate, is_constant=is_constant)
        if lost:
            self.timeline.restart()
        passthrough = PassthroughPackets(self._passthrough_streams) if self._passthrough_streams else None
        self.info: SourceInfo = (
            lost.info if lost else SourceInfo(rate, passthrough, self._video.sample_aspect_ratio or None)
        )
        self._unreadable_before = lost.unreadable_packets if lost else 0
        self._decoder = StrictDecoder(self._video, False, self.is_live, decoder)
        self._deinterlacer: Deinterlacer | None = None
        self._is_first = True
        self._losses: LossReport = (
            lost._losses if lost else LossReport(ffmpeg_input.name, ffmpeg_input.is_deinterlaced, on_event)
        )
        if passthrough is not None and not lost:
            self._losses.report_streams(passthrough.left_out)

    @property
    def unreadable_packets(self) -> int:
        """Packets whose picture is damaged or cannot be decoded, over all connections."""
        return self._unreadable_before + self._decoder.damaged

    @property
    def name(self) -> str:
        return self._input.name

    def _video_stream(self) -> Any:
        streams = self._container.streams
        videos = [stream for stream in streams.video if not is_cover(stream)]
        if not videos:
            stream_types = sorted({stream.type for stream in streams})
            raise StreamError(
                f"{self.name} has no video stream, only {', '.join(stream_types) or 'nothing'}",
                found=stream_types,
                wanted="video",
                remedy="give a file or stream with video",
            )
        video = videos[0]
        if video.codec_context is None:
            raise StreamError(
                f"the video of {self.name} cannot be decoded by this build of FFmpeg",
                found=self.name,
                wanted=("H.264", "H.265"),
                remedy="convert it to H.264 or H.265",
            )
        return video

    def _rate(self, is_first: bool) -> Fraction | None:
        """The rate that the stream announces, or that of the user. FFmpeg invents one for bare pictures and H.264."""
        announced, given = self._video.average_rate or None, self._input.rate
        if given is None:
            return announced
        if is_first and announced is not None and self._has_timestamps:
            raise UsageError(
                f"{self.name} has a frame rate of its own, {float(announced):g}, and {float(given):g} would have no "
                "effect",
                found=given,
                wanted=announced,
                remedy="leave --rate out; a camera may offer other rates, for example with --read framerate=10",
            )
        return given

    def _chosen_decoder(self, is_first: bool) -> Any:
        """A codec context of the decoder that the user chose; None if the choice is FFmpeg's."""
        name = self._input.decoder
        if name is None:
            return None
        return named_decoder(name, self._video, self.name, is_tried=is_first)

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
        arrivals: dict[int | None, _Arrival] = {}
        sequence = packets = 0
        for packet in self._connection.packets(self._video, *self._passthrough_streams):
            if self._closed.is_set():
                return
            if packet.stream is not self._video:
                self._pass_through(packet)
                continue
            packets += packet.size > 0
            arrival = _Arrival(time.monotonic_ns(), _camera_clock_ns(packet))
            _record_arrival(arrivals, packet.pts, arrival)
            for av_frame in self._pictures(packet):
                if self._closed.is_set():
                    return
                frame = self._frame(av_frame, sequence, arrivals.pop(av_frame.pts, arrival))
                yield self._placed(upright(frame, display_matrix(av_frame)))
                sequence += 1
        self._require_whole_sequence(packets)

    def _pictures(self, packet: Any) -> Iterator[Any]:
        """The intact pictures that the decoder outputs for a packet, deinterlaced if that was asked for."""
        av_frames = self._decoder.decode(packet)
        self._losses.report_damage(self._decoder.damaged)
        self._require_readable()
        for av_frame in av_frames:
            if self._is_first:
                self._begin(av_frame)
            self._losses.report_frame(av_frame)
            yield from self._deinterlacer.push(av_frame) if self._deinterlacer else (av_frame,)
        if self._deinterlacer is not None and not packet.size:
            yield from self._deinterlacer.flush()

    def _begin(self, av_frame: Any) -> None:
        self._is_first = False
        interlacing = interlacing_of(self._video, av_frame)
        if self._input.is_deinterlaced:
            self._deinterlacer = Deinterlacer(interlacing)
        self._losses.report_start(self._container, self._video, av_frame)
        self._losses.report_interlacing(interlacing)

    def _require_whole_sequence(self, images: int) -> None:
        """Raises StreamError if a numbered sequence ended early: FFmpeg takes an empty image for its end."""
        expected = self._video.duration
        if self._container.format.name == _IMAGE_SEQUENCE and expected and images < expected:
            raise StreamError(
                f"{self.name}: image {images + 1} of {expected} is empty or cannot be read",
                found=images,
                wanted=expected,
                remedy="remove or replace it",
            )

    def _require_readable(self) -> None:
        if self._decoder.failed_in_a_row >= _MAX_UNREADABLE_PACKETS:
            raise StreamError(
                f"{self.name}: {self._decoder.failed_in_a_row} packets in a row could not be decoded",
                found=self._decoder.failed_in_a_row,
                remedy="check the sender and the network",
            )

    def _frame(self, av_frame: Any, sequence: int, arrival: _Arrival) -> VideoFrame:
        try:
            frame = frame_from_av(av_frame, sequence, arrival.monotonic_ns)
            return replace(frame, captured_utc_ns=arrival.camera_ns) if arrival.camera_ns else frame
        except FrameError as error:
            raise FrameError(
                f"{self.name}: {error.problem}", found=error.found, wanted=error.wanted, remedy=error.remedy
            ) from None

    def _placed(self, frame: VideoFrame) -> VideoFrame:
        if not self._has_timestamps and self._input.rate is not None:
            frame = replace(frame, pts=None, time_base=1 / self._input.rate)
        elif not self._has_timestamps and self.is_live:  # FFmpeg only counts the frames, at 25 in a second
            frame = replace(frame, pts=None, time_base=_CLOCK_TIME_BASE)
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


class _Arrival(NamedTuple):
    """When a packet arrived by the clock of this process, and was captured by that of the camera (0: unknown)."""

    monotonic_ns: int
    camera_ns: int


def _camera_clock_ns(packet: Any) -> int:
    """The capture time that an RTSP camera sends in its RTCP reports, in nanoseconds since 1970 UTC; 0 if unknown."""
    if not packet.has_sidedata(_PRODUCER_TIME):
        return 0
    (microseconds,) = struct.unpack_from("=q", bytes(packet.get_sidedata(_PRODUCER_TIME)))
    return 1000 * int(microseconds)


def _record_arrival(arrivals: dict[int | None, _Arrival], pts: int | None, arrival: _Arrival) -> None:
    """Records when the packet of a frame arrived: the decoder may return the frame only after later packets."""
    arrivals[pts] = arrival
    if len(arrivals) > _MAX_ARRIVALS:
        del arrivals[next(iter(arrivals))]


def frame_rate(text: str) -> Fraction:
    """Reads a frame rate such as "30" or "30000/1001".

    Raises:
        UsageError: the text is not a number or fraction, or not from `MIN_RATE` to `MAX_RATE`.
    """
    with suppress(ValueError, ZeroDivisionError):
        rate = Fraction(text).limit_denominator(_MAX_RATE_DENOMINATOR)
        if MIN_RATE <= rate <= MAX_RATE:
            return rate
    raise UsageError(
        f"{text!r} is not a frame rate",
        found=text,
        wanted=f"a number or fraction from {MIN_RATE} to {MAX_RATE}",
        remedy=f"write frames per second, from {MIN_RATE} to {MAX_RATE}, for example 30 or 30000/1001",
    )
