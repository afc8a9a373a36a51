"""Encoded video into a file, to an RTSP server or over UDP, with the audio and subtitles that came along."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.video.frame import PictureType

from sr_edge.address import without_secrets
from sr_edge.camera.conversion import av_from_frame, reformatted, resized
from sr_edge.camera.frame import PixelFormat, VideoFrame
from sr_edge.camera.ports import SourceInfo, ignore_event
from sr_edge.camera.recording import Recording
from sr_edge.camera.scheduling import scheduling_kept
from sr_edge.camera.vendor_errors import stream_errors
from sr_edge.errors import StreamError

_USUAL_RATE = Fraction(30)
_LONGEST_SIDE_PX = {"libx264": 16_384, "libx265": 16_384, "mpeg4": 8_191, "mjpeg": 65_535}
_NEGATIVE_TIMES = ("mp4", "mov")
_PLANAR = {PixelFormat.NV12: PixelFormat.I420, PixelFormat.P010: PixelFormat.I420_10}
_RGB_AS = {PixelFormat.RGB: PixelFormat.I420, PixelFormat.RGB_16: PixelFormat.I420_10}
_GRAY_AS = {PixelFormat.GRAY: PixelFormat.I420, PixelFormat.GRAY_10: PixelFormat.I420_10}


@dataclass(frozen=True)
class StreamEncoding:
    """How frames are written.

    Attributes:
        url: a path or an address.
        container: FFmpeg's name of the container; None goes by the suffix.
        codec: FFmpeg's name of the encoder.
        codec_options: the encoder's own settings.
        container_options: the container's own settings.
        silence_s: who takes nothing for so long is lost; None waits for good.
        key_frames_s: at least so often comes a frame that can be shown without those before, by the frames' own times,
            however many there are; None leaves it to the encoder.
    """

    url: str
    container: str | None = None
    codec: str = "libx264"
    codec_options: Mapping[str, str] = field(default_factory=dict)
    container_options: Mapping[str, str] = field(default_factory=dict)
    silence_s: float | None = None
    key_frames_s: float | None = None

    @property
    def name(self) -> str:
        return without_secrets(self.url)


class EncodedSink:
    """Writes every frame with its own pts. Opened by the first frame; later ones are brought to its size and format."""

    def __init__(
        self, encoding: StreamEncoding, info: SourceInfo | None = None, on_event: Callable[[str], None] = ignore_event
    ) -> None:
        """Args:
        info: of the source: its rate guides the encoder, its passengers are taken along.
        on_event: is told what cannot be taken along.
        """
        self._encoding = encoding
        self._info = info or SourceInfo()
        self._on_event = on_event
        self._video: Any = None
        self._form = PixelFormat.I420
        self._others: dict[Any, Any] = {}
        self._key_frame_s = float("-inf")
        self.resized_frames = 0
        self._container: Any = None
        self._file: Recording | None = None

    @property
    def name(self) -> str:
        return self._encoding.name

    def write(self, frame: VideoFrame) -> None:
        if self._video is None:
            self._begin(frame)
        if (frame.width, frame.height) != (self._video.width, self._video.height):
            frame = resized(frame, self._video.width, self._video.height)
            self.resized_frames += 1
        picture = av_from_frame(reformatted(frame, self._form))
        if self._wants_key_frame(frame.time_s):
            picture.pict_type = PictureType.I
        with stream_errors(self.name):
            packets = self._video.encode(picture)
            started_s = time.monotonic()
            for packet in packets:
                self._container.mux(packet)
            self._take_along(frame.time_s)
            self._require_no_stall(time.monotonic() - started_s)
            if self._file is not None:
                self._file.require_written()

    def _wants_key_frame(self, time_s: float | None) -> bool:
        every_s = self._encoding.key_frames_s
        if every_s is None or time_s is None or time_s - self._key_frame_s < every_s:
            return False
        self._key_frame_s = time_s
        return True

    def _require_no_stall(self, took_s: float) -> None:
        """FFmpeg's RTSP says nothing of a packet that it could send in part only, after which all else is garbled."""
        limit_s = self._encoding.silence_s
        if limit_s is not None and took_s >= limit_s:
            raise StreamError(
                f"{self.name}: sending a frame took {took_s:.1f} s, the limit is {limit_s:g} s",
                found=took_s,
                wanted=limit_s,
                remedy="check the server and the network",
            )

    def close(self) -> None:
        with stream_errors(self.name), ExitStack() as closing:
            if self._file is not None:
                closing.callback(self._file.require_written)
                closing.callback(self._remove_if_useless, self._file)
                closing.callback(self._file.close)
            if self._container is not None:
                closing.callback(self._container.close)
            if self._video is not None:
                for packet in self._video.encode(None):
                    self._container.mux(packet)
                self._take_along(None)

    def _remove_if_useless(self, file: Recording) -> None:
        if file.remove_if_useless():
            self._on_event(f"{self.name}: nothing that was written would play; the file is removed")

    def _begin(self, frame: VideoFrame) -> None:
        codec = self._encoding.codec
        self._form = encodable_format(frame.format, frame.width, frame.height, codec, self.name)
        with stream_errors(self.name):
            self._open()
            video: Any = self._container.add_stream(
                codec, rate=self._info.rate or _USUAL_RATE, options=dict(self._encoding.codec_options)
            )
            video.width, video.height, video.pix_fmt = frame.width, frame.height, self._form.value
            video.codec_context.time_base = video.time_base = frame.time_base
            _tag(video.codec_context, reformatted(frame, self._form))
            for index, template in (self._info.passthrough.templates if self._info.passthrough else {}).items():
                self._add_passthrough_stream(index, template)
            with scheduling_kept():
                video.codec_context.open()
            _require_taken(video.codec_context.options, codec, self.name)
            self._connect()
        self._video = video

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
        self._file = Recording(encoding.url) if encoding.container is None else None
        self._container = av.open(
            self._file or encoding.url, "w", format=encoding.container, options=dict(encoding.container_options)
        )

    def _add_passthrough_stream(self, index: int, template: Any) -> None:
        try:
            self._others[index] = self._container.add_stream_from_template(template)
        except ValueError:
            kind = f"{template.type} ({template.codec_context.name})"
            self._on_event(f"{self.name} cannot hold the source's {kind}: it is left out")

    def _take_along(self, time_s: float | None) -> None:
        passthrough = self._info.passthrough
        for index, packet in passthrough.take_until(time_s) if passthrough else ():
            target = self._others.get(index)
            if target is not None and self._can_start(packet):
                packet.stream = target
                self._container.mux(packet)

    def _can_start(self, packet: Any) -> bool:
        """Before time 0 lies what an audio decoder swallows; where it cannot be written, all else would be moved."""
        return packet.pts is None or packet.pts >= 0 or self._container.format.name in _NEGATIVE_TIMES


def _tag(context: Any, frame: VideoFrame) -> None:
    context.color_range, context.colorspace = int(frame.colour.range), frame.colour.matrix
    context.color_primaries, context.color_trc = frame.colour.primaries, frame.colour.transfer


def encodable_format(form: PixelFormat, width: int, height: int, codec: str, name: str) -> PixelFormat:
    """The format in which `codec` takes such frames: as it is, else the planar one of the same samples; RGB as 4:2:0.

    Raises:
        StreamError: it takes none like them, or none of that size.
    """
    taken = _taken_format(form, codec, name)
    _require_size(width, height, taken, codec, name)
    return taken


def _taken_format(form: PixelFormat, codec: str, name: str) -> PixelFormat:
    with stream_errors(name):
        taken = {video_format.name for video_format in av.Codec(codec, "w").video_formats or ()}
    for choice in (form, _PLANAR.get(form), _RGB_AS.get(form), _GRAY_AS.get(form)):
        if choice is not None and choice.value in taken:
            return choice
    raise StreamError(
        f"{name}: the encoder {codec} does not support the pixel format {form}",
        found=form.value,
        wanted=sorted(taken),
        remedy="choose another encoder, for example libx265",
    )


def _require_taken(left: Mapping[str, str], codec: str, name: str) -> None:
    """`left` is what the encoder did not take of its settings."""
    if left:
        raise StreamError(
            f"{name}: the encoder {codec} has no option {', '.join(sorted(left))}",
            found=sorted(left),
            remedy="check its name, or leave it out",
        )


def _require_size(width: int, height: int, form: PixelFormat, codec: str, name: str) -> None:
    limit = _LONGEST_SIDE_PX.get(codec, 65_535)
    size = f"{width}x{height}"
    if max(width, height) > limit:
        raise StreamError(
            f"{name} would be {size}, and the encoder {codec} supports at most {limit} pixels in width and height",
            found=(width, height),
            wanted=(limit, limit),
            remedy="upscale a region of the frame (--roi) or use a model of a smaller scale",
        )
    columns, rows = form.chroma.value if form.chroma else (1, 1)
    if width % columns or height % rows:
        raise StreamError(
            f"{name} would be {size}, and {form} frames for the encoder {codec} need an even "
            f"{'width and height' if rows == 2 else 'width'}",
            found=(width, height),
            wanted=(width - width % columns, height - height % rows),
            remedy="upscale an even region of the frame (--roi)",
        )
