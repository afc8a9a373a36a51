"""What FFmpeg's encoders accept, and keeping them from changing the scheduling of the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.media.codecs import (
    CodecKind,
    CodecTrial,
    is_hardware,
    require_accepts,
    require_works,
    video_codec,
)
from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import ColourRange, PixelFormat, VideoFrame
from sr_edge.errors import StreamError, UsageError

_MAX_EDGE_PX = {"libx264": 16_384, "libx265": 16_384, "mpeg4": 8_191, "mjpeg": 65_535}
_PLANAR = {PixelFormat.NV12: PixelFormat.I420, PixelFormat.P010: PixelFormat.I420_10}
_INTERLEAVED = {planar: interleaved for interleaved, planar in _PLANAR.items()}
_AS_420 = {
    PixelFormat.RGB: PixelFormat.I420,
    PixelFormat.RGB_16: PixelFormat.I420_10,
    PixelFormat.GRAY: PixelFormat.I420,
    PixelFormat.GRAY_10: PixelFormat.I420_10,
}
_QUALITY = {
    "libx264": {"crf": "18"},
    "libx265": {"crf": "18"},
    "libsvtav1": {"crf": "25"},
    "libaom-av1": {"crf": "25", "b": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0"},
}
"""Constant rate factors at which losses are hard to see."""
MAX_CRF = {"libx264": 51, "libx265": 51, "libsvtav1": 63, "libaom-av1": 63, "libvpx-vp9": 63}
"""The largest constant rate factors."""
_MOST = {
    **{encoder: {"crf": most} for encoder, most in MAX_CRF.items()},
    "libx264": {"crf": 51, "qp": 81, "bf": 16, "refs": 16},
}
"""The largest values of options where FFmpeg's table of options does not tell them: x264 takes the largest value in
place of a larger one, without a message. The quantizer is at most 69 for 8 bits and 81 for 10."""
_RATE_CONTROLS = {"b", "crf", "cq", "qp", "q", "qscale", "global_quality", "rc", "rc_mode", "maxrate", "qmin", "qmax"}
"""Options that set the quality, by the names of FFmpeg's encoders."""
_BITS_PER_PIXEL, _BITS_PER_INTRA_PIXEL = Fraction(1, 5), Fraction(2)
"""About twice what H.264 needs for a difference that is hard to see, for encoders of less efficiency."""
_MPEG4_MAX_DENOMINATOR = 65_535
_MPEG4_TIME_BASE = Fraction(1, 60_000)
"""24, 25, 30, 50 and 60 frames/s, and 30000/1001, are whole numbers of units."""
_THREADS = Path("/proc/self/task")


def tag_colour(codec_context: Any, frame: VideoFrame) -> None:
    """Sets the colour range, matrix, primaries and transfer of an encoder to those of `frame`."""
    codec_context.color_range, codec_context.colorspace = int(frame.colour.range), frame.colour.matrix
    codec_context.color_primaries, codec_context.color_trc = frame.colour.primaries, frame.colour.transfer


def encodable_format(
    pixel_format: PixelFormat, width: int, height: int, codec: str, name: str, requested: PixelFormat | None = None
) -> PixelFormat:
    """The pixel format in which `codec` encodes such frames.

    Unless one is requested, that is the frames' own where the encoder supports it, else the planar or interleaved
    format of the same samples; RGB and gray become 4:2:0. An encoder of V4L2 declares no format before it is open, and
    receives planar frames then.

    Args:
        pixel_format: the format of the frames.
        width: the width of the frames, in pixels.
        height: the height of the frames, in pixels.
        codec: FFmpeg's name of the encoder.
        name: the name of the sink, for messages.
        requested: the format that the user chose, if any.

    Raises:
        StreamError: the encoder supports none of these formats, or not this size.
    """
    encoded_format = _supported_format(pixel_format, codec, name, requested)
    _require_size(width, height, encoded_format, codec, name)
    return encoded_format


def _supported_format(pixel_format: PixelFormat, codec: str, name: str, requested: PixelFormat | None) -> PixelFormat:
    declared = video_codec(codec, CodecKind.ENCODER, name).video_formats
    supported = {video_format.name for video_format in declared or ()}
    if requested is not None:
        return requested if declared is None or not supported else _require_supported(requested, supported, codec, name)
    subsampled = _AS_420.get(pixel_format, pixel_format)
    if not supported:
        return _PLANAR.get(subsampled, subsampled)
    for candidate in (pixel_format, _PLANAR.get(pixel_format), subsampled, _INTERLEAVED.get(subsampled)):
        if candidate is not None and candidate.value in supported:
            return candidate
    raise StreamError(
        f"{name}: the encoder {codec} does not support the pixel format {pixel_format}",
        found=pixel_format.value,
        wanted=sorted(supported),
        remedy="choose another encoder, for example libx265",
    )


def _require_supported(requested: PixelFormat, supported: set[str], codec: str, name: str) -> PixelFormat:
    if requested.value in supported:
        return requested
    choices = [choice.value for choice in PixelFormat if choice.value in supported]
    raise StreamError(
        f"{name}: the encoder {codec} cannot encode {requested} pixels",
        found=requested.value,
        wanted=choices,
        remedy=f"choose --pixel-format {', '.join(choices[:-1])} or {choices[-1]}" if choices else "choose another one",
    )


def _require_size(width: int, height: int, pixel_format: PixelFormat, codec: str, name: str) -> None:
    max_px = _MAX_EDGE_PX.get(codec, 65_535)
    size = f"{width}x{height}"
    if max(width, height) > max_px:
        raise StreamError(
            f"{name} would be {size}, and the encoder {codec} supports at most {max_px} pixels in width and height",
            found=(width, height),
            wanted=(max_px, max_px),
            remedy="upscale a region of the frame (--roi) or use a model of a smaller scale",
        )
    columns, rows = pixel_format.chroma.value if pixel_format.chroma else (1, 1)
    if width % columns or height % rows:
        raise StreamError(
            f"{name} would be {size}, and {pixel_format} frames for the encoder {codec} need an even "
            f"{'width and height' if rows == 2 else 'width'}",
            found=(width, height),
            wanted=(width - width % columns, height - height % rows),
            remedy="upscale an even region of the frame (--roi)",
        )


def require_options_in_range(codec: str, options: Mapping[str, str], name: str) -> None:
    """Raises UsageError for a value that the encoder would replace by another one, or refuse without a reason."""
    for option, most in _MOST.get(codec, {}).items():
        with suppress(KeyError, ValueError):  # FFmpeg itself refuses what is no number
            if not 0 <= float(options[option]) <= most:
                raise UsageError(
                    f"{name}: {option}={options[option]} is outside the range of the encoder {codec}",
                    found=options[option],
                    wanted=range(most + 1),
                    remedy=f"give a number from 0 to {most}",
                )


def require_encoder(codec: str, options: Mapping[str, str], name: str, pixel_format: PixelFormat | None = None) -> None:
    """Checks an encoder and its options before the frames are known, see `require_accepts`.

    Raises:
        StreamError: there is no such encoder, or it does not accept its options.
        UsageError: the value of an option is out of its range.
    """
    video_codec(codec, CodecKind.ENCODER, name)
    require_options_in_range(codec, options, name)
    require_accepts(codec, options, name, pixel_format)


def require_opens(
    codec: str,
    pixel_format: PixelFormat,
    size: tuple[int, int],
    options: Mapping[str, str],
    name: str,
    color_range: ColourRange = ColourRange.UNSPECIFIED,
) -> None:
    """Checks before the work whether an encoder opens for such frames.

    A hardware encoder also encodes a few black frames in a separate process, which takes up to a second.

    Args:
        codec: FFmpeg's name of the encoder.
        pixel_format: the format of the encoded frames.
        size: the width and height of the frames, in pixels.
        options: the options of the encoder.
        name: the name of the sink, for messages.
        color_range: the range of the frames.

    Raises:
        StreamError: the encoder does not open, or lacks one of the options.
        UsageError: the value of an option is out of its range.
    """
    require_options_in_range(codec, options, name)
    trial = CodecTrial(codec, CodecKind.ENCODER, pixel_format.value, *size, options, int(color_range))
    if is_hardware(video_codec(codec, CodecKind.ENCODER, name)):
        require_works(trial, name)
        return
    with stream_errors(f"{name}: the encoder {codec}"):
        context: Any = av.CodecContext.create(codec, "w")
        (context.width, context.height), context.pix_fmt = size, pixel_format.value
        context.color_range = int(color_range)
        context.time_base, context.framerate = Fraction(1, 30), Fraction(30)
        quiet = {"x265-params": "log-level=none"} if codec == "libx265" else {}
        context.options = {**quiet, **options}
        try:
            open_encoder(context)
        except av.error.FFmpegError:
            require_works(trial, name)  # fails as well, and names the reason in FFmpeg's words
            raise
    require_no_unused_options(context.options, codec, name)


def encoder_time_base(codec: str, time_base: Fraction) -> Fraction:
    """The time base of an encoder for frames with this one: the same, unless MPEG-4 cannot express it."""
    is_mpeg4 = av.Codec(codec, "w").canonical_name == "mpeg4"
    return _MPEG4_TIME_BASE if is_mpeg4 and time_base.denominator > _MPEG4_MAX_DENOMINATOR else time_base


def rate_control(codec: str, options: Mapping[str, str], width: int, height: int, rate: Fraction) -> dict[str, str]:
    """The options that set the quality of an encoder where the user's do not.

    Encoders without a constant rate factor, such as those of the hardware, get a bit rate for the size and the frame
    rate: the default of FFmpeg, 200 kbit/s, is too low for large frames.

    Args:
        codec: FFmpeg's name of the encoder.
        options: the options that are set already.
        width: the width of the frames, in pixels.
        height: the height of the frames, in pixels.
        rate: nominal frames per second.

    Returns:
        The options to add; empty for a lossless encoder, and if the quality is set.
    """
    properties = av.Codec(codec, "w")
    if _RATE_CONTROLS & set(options) or (properties.lossless and not properties.lossy):
        return {}
    if codec in _QUALITY:
        return dict(_QUALITY[codec])
    bits = _BITS_PER_INTRA_PIXEL if properties.intra_only else _BITS_PER_PIXEL
    return {"b": str(round(bits * width * height * rate))}


def require_no_unused_options(unused: Mapping[str, str], codec: str, name: str) -> None:
    """Raises StreamError if the encoder left options unused, which FFmpeg itself passes over in silence."""
    if unused:
        raise StreamError(
            f"{name}: the encoder {codec} has no option {', '.join(sorted(unused))}",
            found=sorted(unused),
            remedy="check its name, or leave it out",
        )


def open_encoder(context: Any) -> None:
    """Opens the codec context of an encoder, without what SVT-AV1 does to the process: see `scheduling_kept`."""
    if context.name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only: SVT-AV1 writes to stderr without asking FFmpeg
    with scheduling_kept():
        context.open()


@contextmanager
def scheduling_kept() -> Iterator[None]:
    """Restores the scheduling policy of this thread, and applies it to threads started inside the block.

    As root, SVT-AV1 turns itself and its caller into real-time threads. Every thread and process that they start
    later inherits that: an encoder that computes without a pause would stop cameras, servers and the shell.
    """
    if sys.platform != "linux":
        yield
        return
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    before = set(_THREADS.iterdir())
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, priority)
        for thread in set(_THREADS.iterdir()) - before:
            with suppress(ProcessLookupError):  # the thread has ended since it was listed
                os.sched_setscheduler(int(thread.name), policy, priority)
