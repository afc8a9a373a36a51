"""Encoded video into a file, to an RTSP server or over UDP, with the audio and subtitles of the source."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType

from sr_edge.camera.flow.events import ignore_event
from sr_edge.camera.media.conversion import av_from_frame, reformatted, resized
from sr_edge.camera.media.declared import TIMECODE_TAG
from sr_edge.camera.media.encoder_settings import (
    encodable_format,
    encoder_time_base,
    open_encoder,
    rate_control,
    require_no_unused_options,
    tag_colour,
)
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import Chroma, PixelFormat, VideoFrame
from sr_edge.camera.protocols import SourceInfo
from sr_edge.camera.sinks.checked_file import CheckedFile
from sr_edge.errors import StreamError
from sr_edge.printable import without_secrets

_DEFAULT_RATE = Fraction(30)
_MAX_TIMECODE_RATE = 99
"""Timecodes number the frames of a second with two digits."""
_NEGATIVE_TIMES = ("mp4", "mov")


def start_time(frame: VideoFrame) -> datetime:
    """The time in UTC at which the frame with the timestamp 0 was captured, which usually is the first one.

    It follows from when this frame was captured: by the clock of its camera if that is known, else when it arrived.
    """
    utc_ns = frame.captured_utc_ns
    if not utc_ns:
        age_ns = time.monotonic_ns() - frame.captured_ns if frame.captured_ns else 0
        utc_ns = time.time_ns() - age_ns
    start_us = round(utc_ns / 1000 - 1e6 * (frame.time_s or 0.0))
    return datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=start_us)


@dataclass(frozen=True)
class StreamEncoding:
    """Destination, container and encoder of a stream.

    Attributes:
        url: a path or an address.
        container: FFmpeg's name of the muxer; None chooses it by the suffix.
        codec: FFmpeg's name of the encoder.
        codec_options: options of the encoder.
        container_options: options of the muxer and the protocol.
        timeout_s: sending a frame may take at most this long; None sets no limit.
        pixel_format: of the encoded frames; None keeps that of the frames as far as the encoder can.
        has_timecode: whether the file states when its first frame was captured.
        key_frames_s: the longest time between two key frames, by the pts of the frames, whatever their rate; None
            leaves the interval to the encoder.
    """

    url: str
    container: str | None = None
    codec: str = "libx264"
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float | None = None
    pixel_format: PixelFormat | None = None
    key_frames_s: float | None = None
    has_timecode: bool = False

    @property
    def name(self) -> str:
        """The URL without user name and password."""
        return without_secrets(self.url)


class EncodedSink:
    """Writes every frame with its own pts.

    The first frame opens the sink; later frames are converted to its size and pixel format.
    """

    reconnections = 0

    def __init__(
        self, encoding: StreamEncoding, info: SourceInfo | None = None, on_event: Callable[[str], None] = ignore_event
    ) -> None:
        """Creates a sink that opens with its first frame.

        Args:
            encoding: destination and encoder.
            info: the properties of the source. Its rate guides the encoder; its audio and subtitles are written, too.
            on_event: called with each stream of the source that the container does not support.
        """
        self._encoding = encoding
        self._info = info or SourceInfo()
        self._on_event = on_event
        self._video: Any = None
        self._pixel_format = PixelFormat.I420
        self._passthrough_streams: dict[Any, Any] = {}
        self._key_frame_s = float("-inf")
        self.resized_frames = 0
        self._container: Any = None
        self._file: CheckedFile | None = None

    @property
    def name(self) -> str:
        return self._encoding.name

    def write(self, frame: VideoFrame) -> None:
        if self._video is None:
            self._begin(frame)
        if (frame.width, frame.height) != (self._video.width, self._video.height):
            frame = resized(frame, self._video.width, self._video.height)
            self.resized_frames += 1
        av_frame = av_from_frame(reformatted(frame, self._pixel_format))
        if self._needs_key_frame(frame.time_s):
            av_frame.pict_type = PictureType.I
        with stream_errors(self.name):
            packets = self._video.encode(av_frame)
            started_s = time.monotonic()
            for packet in packets:
                self._container.mux(packet)
            self._mux_passthrough(frame.time_s)
            self._require_no_stall(time.monotonic() - started_s)
            if self._file is not None:
                self._file.require_written()

    def _needs_key_frame(self, time_s: float | None) -> bool:
        interval_s = self._encoding.key_frames_s
        if interval_s is None or time_s is None or time_s - self._key_frame_s < interval_s:
            return False
        self._key_frame_s = time_s
        return True

    def _require_no_stall(self, elapsed_s: float) -> None:
        """Raises StreamError after a stall: FFmpeg's RTSP muxer reports no error for a packet that it sent only in
        part, after which the receiver cannot read the rest of the stream."""
        limit_s = self._encoding.timeout_s
        if limit_s is not None and elapsed_s >= limit_s:
            raise StreamError(
                f"{self.name}: sending a frame took {elapsed_s:.1f} s, the limit is {limit_s:g} s",
                found=elapsed_s,
                wanted=limit_s,
                remedy="check the server and the network",
            )

    def close(self) -> None:
        with stream_errors(self.name), ExitStack() as closing:
            # Callbacks run in reverse order: the container is closed first, and the check of the file comes last.
            if self._file is not None:
                closing.callback(self._file.require_written)
                closing.callback(self._remove_unplayable, self._file)
                closing.callback(self._file.close)
            if self._container is not None:
                closing.callback(self._container.close)
            if self._video is not None:
                for packet in self._video.encode(None):
                    self._container.mux(packet)
                self._mux_passthrough(None)

    def _remove_unplayable(self, file: CheckedFile) -> None:
        if file.remove_if_unplayable():
            self._on_event(f"{self.name}: the recording contains no frame that can be played and was removed")

    def _begin(self, frame: VideoFrame) -> None:
        codec = self._encoding.codec
        requested = self._encoding.pixel_format
        self._pixel_format = encodable_format(frame.format, frame.width, frame.height, codec, self.name, requested)
        if frame.format.is_rgb and self._pixel_format.chroma is Chroma.C420 and requested is None:
            self._on_event(
                f"{self.name}: RGB is encoded as {self._pixel_format}; --pixel-format chooses another format"
            )
        with stream_errors(self.name):
            self._open()
            video: Any = self._container.add_stream(codec, rate=self._rate, options=self._codec_options(frame))
            video.width, video.height, video.pix_fmt = frame.width, frame.height, self._pixel_format.value
            video.codec_context.time_base = video.time_base = encoder_time_base(codec, frame.time_base)
            if self._info.sample_aspect_ratio is not None:
                video.codec_context.sample_aspect_ratio = self._info.sample_aspect_ratio
            if self._encoding.has_timecode:
                self._write_start_time(video, start_time(frame))
            tag_colour(video.codec_context, reformatted(frame, self._pixel_format))
            for index, template in (self._info.passthrough.templates if self._info.passthrough else {}).items():
                self._add_passthrough_stream(index, template)
            open_encoder(video.codec_context)
            require_no_unused_options(video.codec_context.options, codec, self.name)
            self._connect()
        self._video = video

    def _write_start_time(self, video: Any, start: datetime) -> None:
        """Writes the time of day as the first timecode, and date and time as the time of creation."""
        self._container.metadata["creation_time"] = start.isoformat(timespec="microseconds")
        frames_per_second = round(self._rate)
        if not 1 <= frames_per_second <= _MAX_TIMECODE_RATE:
            self._on_event(
                f"{self.name}: no timecode can count {float(self._rate):g} frames/s; it has its time of creation only"
            )
            return
        number = start.microsecond * frames_per_second // 1_000_000
        video.metadata[TIMECODE_TAG] = f"{start:%H:%M:%S}:{number:02d}"

    @property
    def _rate(self) -> Fraction:
        return self._info.rate or _DEFAULT_RATE

    def _codec_options(self, frame: VideoFrame) -> dict[str, str]:
        """The options of the encoder, with a bit rate or a constant rate factor if they set none."""
        options = dict(self._encoding.codec_options)
        added = rate_control(self._encoding.codec, options, frame.width, frame.height, self._rate)
        if "crf" not in added and "b" in added:
            self._on_event(
                f"{self.name}: {self._encoding.codec} has no known quality level and encodes at "
                f"{int(added['b']) / 1e6:.1f} Mbit/s; --encode b=8M, for example, chooses another bit rate"
            )
        return {**added, **options}

    def _connect(self) -> None:
        try:
            self._container.start_encoding()
        except av.error.InvalidDataError:
            if self._encoding.container is None:
                raise
            container = self._encoding.container
            raise StreamError(
                f"{self.name}: the server does not answer, or does not speak {container}",
                found=self.name,
                wanted=container,
                remedy="check the address and the server",
            ) from None

    def _open(self) -> None:
        encoding = self._encoding
        self._file = CheckedFile(encoding.url) if encoding.container is None else None
        self._container = av.open(
            self._file or encoding.url, "w", format=encoding.container, options=dict(encoding.container_options)
        )

    def _add_passthrough_stream(self, index: int, template: Any) -> None:
        try:
            self._passthrough_streams[index] = self._container.add_stream_from_template(template)
        except ValueError:
            kind = f"{template.type} ({template.codec_context.name})"
            self._on_event(f"{self.name} does not support the source's {kind} stream, which is not written")

    def _mux_passthrough(self, time_s: float | None) -> None:
        """Writes the audio and subtitle packets up to `time_s`; None writes all of them."""
        passthrough = self._info.passthrough
        for index, packet in passthrough.take_until(time_s) if passthrough else ():
            stream = self._passthrough_streams.get(index)
            if stream is not None and self._can_store_time(packet):
                packet.stream = stream
                self._container.mux(packet)

    def _can_store_time(self, packet: Any) -> bool:
        """Whether the container can store the packet's time.

        Audio before time 0 is what decoders skip (priming samples). A container without negative times would shift
        all other packets to make room for it.
        """
        return packet.pts is None or packet.pts >= 0 or self._container.format.name in _NEGATIVE_TIMES
