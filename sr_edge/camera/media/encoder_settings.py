"""What FFmpeg's encoders accept, and keeping them from changing the scheduling of the process."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import av

from sr_edge.camera.media.ffmpeg_errors import stream_errors
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.errors import StreamError

_MAX_EDGE_PX = {"libx264": 16_384, "libx265": 16_384, "mpeg4": 8_191, "mjpeg": 65_535}
_PLANAR = {PixelFormat.NV12: PixelFormat.I420, PixelFormat.P010: PixelFormat.I420_10}
_RGB_AS = {PixelFormat.RGB: PixelFormat.I420, PixelFormat.RGB_16: PixelFormat.I420_10}
_GRAY_AS = {PixelFormat.GRAY: PixelFormat.I420, PixelFormat.GRAY_10: PixelFormat.I420_10}
_THREADS = Path("/proc/self/task")


def tag_colour(codec_context: Any, frame: VideoFrame) -> None:
    """Sets the colour range, matrix, primaries and transfer of an encoder to those of `frame`."""
    codec_context.color_range, codec_context.colorspace = int(frame.colour.range), frame.colour.matrix
    codec_context.color_primaries, codec_context.color_trc = frame.colour.primaries, frame.colour.transfer


def encodable_format(
    pixel_format: PixelFormat, width: int, height: int, codec: str, name: str, requested: PixelFormat | None = None
) -> PixelFormat:
    """The pixel format in which `codec` encodes such frames.

    Unless one is requested, that is the frames' own where the encoder supports it, else the planar format of the same
    samples; RGB and gray become 4:2:0.

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
    with stream_errors(name):
        supported = {video_format.name for video_format in av.Codec(codec, "w").video_formats or ()}
    if requested is not None:
        return _require_supported(requested, supported, codec, name)
    replacements = (_PLANAR.get(pixel_format), _RGB_AS.get(pixel_format), _GRAY_AS.get(pixel_format))
    for candidate in (pixel_format, *replacements):
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


def require_no_unused_options(unused: Mapping[str, str], codec: str, name: str) -> None:
    """Raises StreamError if the encoder left options unused, which FFmpeg itself passes over in silence."""
    if unused:
        raise StreamError(
            f"{name}: the encoder {codec} has no option {', '.join(sorted(unused))}",
            found=sorted(unused),
            remedy="check its name, or leave it out",
        )


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
