"""Frames from and to FFmpeg's, from and to RGB arrays, in another size or format; the pixel work is libswscale's.

Every conversion names range and matrix on both sides. Left to itself, libswscale takes BT.601 for everything. Its
RGB of 16 bits has white at 65,280 (8 bits, shifted), the rest of this project has it at 65,535.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from sr_edge import frames
from sr_edge.camera.frame import UNSPECIFIED, Colour, ColourRange, PixelFormat, Plane, VideoFrame
from sr_edge.errors import FrameError

_BT709, _BT601_625, _BT601_525 = 1, 5, 6
_HD_ROWS = 720
_SWSCALE_MATRIX = {_BT709: 1, 4: 4, _BT601_625: 5, _BT601_525: 5, 7: 7, 9: 9}
"""libswscale's number for a matrix of H.273."""
_BICUBIC, _FULL_CHROMA, _ACCURATE_ROUNDING = 4, 0x2000, 0x40000
_EXACT = _BICUBIC | _FULL_CHROMA | _ACCURATE_ROUNDING
"""Without the last two flags colours are repeated, not interpolated, and off by up to 3 levels."""
_AREA, _CHROMA_OF_ALL_PIXELS = 0x20, 0x4000
_MEAN_CHROMA = _AREA | _CHROMA_OF_ALL_PIXELS
"""From RGB of 8 bits: with even sides, colour is the mean of the pixels that share it. Thrice as fast as `_EXACT`."""

_SAME_SAMPLES = {
    "yuvj420p": PixelFormat.I420,
    "yuvj422p": PixelFormat.I422,
    "yuvj444p": PixelFormat.I444,
}
"""Old names of full range."""
_REARRANGED = {
    "yuyv422": PixelFormat.I422,
    "uyvy422": PixelFormat.I422,
    "yvyu422": PixelFormat.I422,
    "nv21": PixelFormat.NV12,
    "nv16": PixelFormat.I422,
    "nv24": PixelFormat.I444,
    "p210le": PixelFormat.I422_10,
    "bgr24": PixelFormat.RGB,
    "gbrp": PixelFormat.RGB,
    "pal8": PixelFormat.RGB,
    **{f"{order}{pad}": PixelFormat.RGB for order in ("rgb", "bgr") for pad in "0a"},
    **{f"{pad}{order}": PixelFormat.RGB for order in ("rgb", "bgr") for pad in "0a"},
    "rgb48be": PixelFormat.RGB_16,
    "rgba64le": PixelFormat.RGB_16,
    "rgba64be": PixelFormat.RGB_16,
}
"""Formats with the same samples in another order; opacity is left out."""

_PLANAR_RGB = {PixelFormat.RGB: "gbrp", PixelFormat.RGB_16: "gbrp16le"}
"""What libswscale writes with vector instructions: 4:2:0 of 8 bits in a fifth of the time of RGB side by side.

The values are the same, but for frames of 7 and 8 rows.
"""
_RGB_IN_GBR = (2, 0, 1)

_own = threading.local()


def frame_from_av(picture: av.VideoFrame, sequence: int = 0, captured_ns: int | None = None) -> VideoFrame:
    """A decoded frame. Its planes are views of FFmpeg's memory, which lives as long as they do.

    Packed formats become the planar ones with the same samples. `captured_ns` None means now.

    Raises:
        FrameError: a pixel format that is not read here.
    """
    now_ns = time.monotonic_ns() if captured_ns is None else captured_ns
    found = picture.format.name
    form = _SAME_SAMPLES.get(found) or _REARRANGED.get(found) or _known(found)
    colour = _colour_of(picture)
    if found in _REARRANGED:
        keep = _SWSCALE_MATRIX.get(colour.matrix, 5)
        picture.color_primaries = picture.color_trc = UNSPECIFIED
        picture = _reformatter(found, form.value).reformat(
            picture, format=form.value, src_colorspace=keep, dst_colorspace=keep, interpolation=_EXACT, threads=1
        )
    pts, base = picture.pts, picture.time_base or Fraction(1, 90_000)
    return VideoFrame(_planes_of(picture, form), form, colour, pts, base, now_ns, sequence)


def _known(name: str) -> PixelFormat:
    try:
        return PixelFormat(name)
    except ValueError:
        known = [form.value for form in PixelFormat]
        raise FrameError(
            f"the pixel format {name} is not supported",
            found=name,
            wanted=known,
            remedy=f"convert the video to one of {', '.join(known)}",
        ) from None


def _colour_of(picture: av.VideoFrame) -> Colour:
    tagged_range = ColourRange(picture.color_range) if picture.color_range in (1, 2) else ColourRange.UNSPECIFIED
    full = picture.format.name.startswith("yuvj")
    return Colour(
        ColourRange.FULL if full else tagged_range, picture.colorspace, picture.color_primaries, picture.color_trc
    )


def _planes_of(picture: av.VideoFrame, form: PixelFormat) -> tuple[Plane, ...]:
    """Views of the planes, without the padding at the end of each row."""
    planes = []
    for plane, part in zip(picture.planes, form.layout, strict=True):
        shape = part.shape(picture.height, picture.width)
        planes.append(_samples(plane, form.dtype)[: shape[0], : shape[1] * part.components].reshape(shape))
    return tuple(planes)


def _samples(plane: av.video.plane.VideoPlane, dtype: np.dtype[Any]) -> Plane:
    """(rows, samples of a row and of its padding), a view."""
    samples: Plane = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)  # type: ignore[call-overload]
    return samples


def av_from_frame(frame: VideoFrame) -> av.VideoFrame:
    """The frame as FFmpeg's encoders and filters take it, with its time and colour; the planes are copied."""
    picture = _untagged(frame)
    picture.pts, picture.time_base = frame.pts, frame.time_base
    picture.color_range, picture.colorspace = int(frame.colour.range), frame.colour.matrix
    picture.color_primaries, picture.color_trc = frame.colour.primaries, frame.colour.transfer
    return picture


def _untagged(frame: VideoFrame) -> av.VideoFrame:
    """A copy of the samples alone: some releases of PyAV would convert, or refuse, told primaries and transfer."""
    picture = av.VideoFrame(frame.width, frame.height, frame.format.value)
    for target, plane in zip(_planes_of(picture, frame.format), frame.planes, strict=True):
        np.copyto(target, plane)
    return picture


def rgb_from_frame(frame: VideoFrame) -> frames.Frame:
    """The pixels as networks take them: (height, width, 3) RGB in full range, uint8 or, above 8 bits, uint16.

    Contiguous; a view of the frame's memory where that is such an array already.
    """
    if frame.format.is_rgb:
        return np.ascontiguousarray(frame.planes[0])
    form = PixelFormat.RGB if frame.format.bits == 8 else PixelFormat.RGB_16
    target = _PLANAR_RGB[form] if frame.format.chroma else form.value
    picture = _reformatter(frame.format.value, target).reformat(
        _untagged(frame),
        format=target,
        src_colorspace=_SWSCALE_MATRIX[assumed_matrix(frame)],
        src_color_range=_assumed_range(frame),
        dst_color_range=ColourRange.FULL,
        interpolation=_EXACT,
        threads=1,
    )
    rgb = _interleaved(picture, form) if frame.format.chroma else np.ascontiguousarray(_planes_of(picture, form)[0])
    return rgb if form is PixelFormat.RGB else _white_from_65280(rgb)


def _interleaved(picture: av.VideoFrame, form: PixelFormat) -> frames.Frame:
    """(height, width, 3) of a picture whose planes are green, blue and red."""
    rgb = np.empty((picture.height, picture.width, 3), form.dtype)
    for channel, at in enumerate(_RGB_IN_GBR):
        rgb[..., channel] = _samples(picture.planes[at], form.dtype)[: picture.height, : picture.width]
    return rgb


def frame_from_rgb(rgb_hwc: frames.Frame, like: VideoFrame) -> VideoFrame:
    """Pixels in the format and colour of `like`, and at its place in the stream; the size is that of the pixels.

    A matrix that `like` leaves open is named in the result: players guess it by the number of rows, which changes.

    Args:
        rgb_hwc: (height, width, 3) RGB in full range; uint8 for formats of 8 bits, uint16 for others.
    """
    frames.require_frame(rgb_hwc)
    if like.format.is_rgb:
        return like.with_planes((rgb_hwc.astype(like.format.dtype, copy=False),))
    form = PixelFormat.RGB if rgb_hwc.dtype == np.uint8 else PixelFormat.RGB_16
    plane = rgb_hwc if form is PixelFormat.RGB else _white_to_65280(rgb_hwc)
    # In limited range libswscale rounds colours to the nearest where they stand side by side, else 0.06 levels down.
    target = PixelFormat.NV12 if like.format is PixelFormat.I420 else like.format
    matrix, span = assumed_matrix(like), _assumed_range(like)
    picture = _reformatter(form.value, target.value).reformat(
        _untagged(VideoFrame((plane,), form)),
        format=target.value,
        dst_colorspace=_SWSCALE_MATRIX[matrix],
        src_color_range=ColourRange.FULL,
        dst_color_range=span,
        interpolation=_MEAN_CHROMA if form is PixelFormat.RGB else _EXACT,
        threads=1,
    )
    planes = _planes_of(picture, target)
    if target is not like.format:
        luma, colours = planes
        planes = (luma, *(np.ascontiguousarray(colours[..., channel]) for channel in range(2)))
    return like.with_planes(planes, colour=replace(like.colour, matrix=matrix))


def resized(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """Another size by bicubic, plane by plane: no detour over RGB; range and matrix stay what they are."""
    matrix = _SWSCALE_MATRIX[assumed_matrix(frame)]
    picture = _reformatter(frame.format.value, frame.format.value).reformat(
        _untagged(frame),
        width=width,
        height=height,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=_EXACT,
        threads=1,
    )
    colour = frame.colour if frame.format.is_rgb else replace(frame.colour, matrix=assumed_matrix(frame))
    return frame.with_planes(_planes_of(picture, frame.format), colour=colour)


def reformatted(frame: VideoFrame, form: PixelFormat) -> VideoFrame:
    """Another pixel format of the same colours; RGB becomes YUV of limited range and BT.709."""
    if form is frame.format:
        return frame
    if form.is_rgb:
        return frame.with_planes((_in_bits(rgb_from_frame(frame), form.bits),), form, RGB_COLOUR)
    if frame.format.is_rgb:
        nothing = tuple(np.zeros(part.shape(1, 1), form.dtype) for part in form.layout)
        like = frame.with_planes(nothing, form, YUV_COLOUR)
        return frame_from_rgb(_in_bits(rgb_from_frame(frame), 8 if form.bits == 8 else 16), like)
    matrix, span = _SWSCALE_MATRIX[assumed_matrix(frame)], _assumed_range(frame)
    picture = _reformatter(frame.format.value, form.value).reformat(
        _untagged(frame),
        format=form.value,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=span,
        dst_color_range=span,
        interpolation=_EXACT,
        threads=1,
    )
    return frame.with_planes(_planes_of(picture, form), form)


RGB_COLOUR = Colour(ColourRange.FULL, 0, _BT709, 13)
YUV_COLOUR = Colour(ColourRange.LIMITED, _BT709, _BT709, _BT709)


def _in_bits(rgb_hwc: frames.Frame, bits: int) -> frames.Frame:
    found = 8 * rgb_hwc.dtype.itemsize
    if found == bits:
        return rgb_hwc
    if bits == 16:
        return np.multiply(rgb_hwc, 257, dtype=np.uint16)
    return ((rgb_hwc.astype(np.uint32) + 128) // 257).astype(np.uint8)


def assumed_matrix(frame: VideoFrame) -> int:
    """The frame's matrix; where it is not told, what players take by its size: BT.709 from 720 rows on, else BT.601."""
    if frame.colour.matrix in _SWSCALE_MATRIX:
        return frame.colour.matrix
    if frame.colour.matrix in (UNSPECIFIED, 0, 3):
        return _BT709 if frame.height >= _HD_ROWS else _BT601_525
    raise FrameError(
        f"the frame's colour matrix, number {frame.colour.matrix} of ITU-T H.273, is not supported",
        found=frame.colour.matrix,
        wanted=list(_SWSCALE_MATRIX),
        remedy="convert the video to BT.601, BT.709 or BT.2020 (non-constant luminance)",
    )


def _assumed_range(frame: VideoFrame) -> ColourRange:
    return ColourRange.FULL if frame.colour.range is ColourRange.FULL else ColourRange.LIMITED


def _white_from_65280(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """x * 257 / 256; what is above white already stays white."""
    held: npt.NDArray[np.uint16] = np.minimum(rgb, np.uint16(65_280))
    held += held >> np.uint16(8)
    return held


def _white_to_65280(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """x * 256 / 257, rounded."""
    held: npt.NDArray[np.uint16] = ((rgb.astype(np.uint32) * 256 + 128) // 257).astype(np.uint16)
    return held


def _reformatter(source: str, target: str) -> VideoReformatter:
    """Each thread's own for each pair of formats: it keeps libswscale's tables between calls that are alike."""
    kept: dict[tuple[str, str], VideoReformatter] = _own.__dict__.setdefault("reformatters", {})
    return kept.setdefault((source, target), VideoReformatter())
