"""Converts frames from and to PyAV frames and RGB arrays, and changes their size and pixel format, with libswscale.

Every conversion states the colour range and the matrix of both sides: by default libswscale assumes BT.601. White is
65,280 in its 16-bit RGB (8 bits, shifted) and 65,535 everywhere else in this project.
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
from sr_edge.camera.media.frame import UNSPECIFIED, Colour, ColourRange, PixelFormat, Plane, VideoFrame
from sr_edge.camera.media.nearest_format import nearest_format
from sr_edge.errors import FrameError
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import TileSpec, member_of

_BT709, _BT601_625, _BT601_525 = 1, 5, 6
_HD_ROWS = 720
_SWSCALE_MATRIX = {_BT709: 1, 4: 4, _BT601_625: 5, _BT601_525: 5, 7: 7, 9: 9}
"""From the matrix coefficients of ITU-T H.273 to the colour space numbers of libswscale."""
_BICUBIC, _FULL_CHROMA, _ACCURATE_ROUNDING = 4, 0x2000, 0x40000
_EXACT = _BICUBIC | _FULL_CHROMA | _ACCURATE_ROUNDING
"""Without the last two flags chroma is repeated instead of interpolated, and colours differ by up to 3 levels."""
_AREA, _CHROMA_OF_ALL_PIXELS = 0x20, 0x4000
_MEAN_CHROMA = _AREA | _CHROMA_OF_ALL_PIXELS
"""From 8-bit RGB of even width and height: chroma is the mean of the pixels that share it. Three times as fast as
`_EXACT`."""

_COSITED_411 = ("yuv411p", "uyyvyy411")
"""4:1:1 as DV has it: a chroma sample is that of the first of its four pixels. libswscale places it in their middle."""

_PLANAR_RGB = {PixelFormat.RGB: "gbrp", PixelFormat.RGB_16: "gbrp16le"}
"""Planar RGB, which libswscale writes with vector instructions: from 8-bit 4:2:0 five times as fast as packed RGB.

The values are the same, except for frames of 7 and 8 rows.
"""
_GBR_PLANES = (2, 0, 1)
"""The planes of red, green and blue in FFmpeg's GBR formats."""

_thread_local = threading.local()

_NV12_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601"}
"""By the matrix coefficients of ITU-T H.273."""


def frame_from_av(av_frame: av.VideoFrame, sequence: int = 0, captured_ns: int | None = None) -> VideoFrame:
    """Converts a decoded frame to the nearest supported pixel format, see `nearest_format`.

    Args:
        av_frame: the frame, as FFmpeg decoded it.
        sequence: the number of the frame in its source.
        captured_ns: when the frame was captured, by `time.monotonic_ns`; None means now.

    Returns:
        A frame whose planes are views of FFmpeg's memory, which lives as long as they do.

    Raises:
        FrameError: the pixel format is not supported.
    """
    now_ns = time.monotonic_ns() if captured_ns is None else captured_ns
    nearest = nearest_format(av_frame.format.name)
    colour = _colour_of(av_frame)
    pts, time_base = av_frame.pts, av_frame.time_base or Fraction(1, 90_000)
    if nearest.source in _COSITED_411:
        planes = _planes_of_411(_converted(av_frame, "yuv411p", colour))
    else:
        if nearest.is_converted:
            av_frame = _converted(av_frame, nearest.pixel_format.value, colour)
        planes = _planes_of(av_frame, nearest.pixel_format)
    return VideoFrame(planes, nearest.pixel_format, colour, pts, time_base, now_ns, sequence)


def _converted(av_frame: av.VideoFrame, format_name: str, colour: Colour) -> av.VideoFrame:
    """The frame in another of FFmpeg's pixel formats, with the same range and matrix."""
    source = av_frame.format
    if source.name == format_name:
        return av_frame
    matrix = _SWSCALE_MATRIX.get(colour.matrix, 5)
    is_full = colour.range is ColourRange.FULL or source.is_rgb or source.has_palette
    colour_range = ColourRange.FULL if is_full else ColourRange.LIMITED
    av_frame.color_primaries = av_frame.color_trc = UNSPECIFIED
    try:
        return _reformatter(source.name, format_name).reformat(
            av_frame,
            format=format_name,
            src_colorspace=matrix,
            dst_colorspace=matrix,
            src_color_range=colour_range,
            dst_color_range=colour_range,
            interpolation=_EXACT,
            threads=1,
        )
    except (av.error.FFmpegError, OSError) as error:
        raise FrameError(
            f"libswscale cannot convert {source.name} pixels to {format_name}",
            found=source.name,
            wanted=format_name,
            remedy="convert the video to yuv420p",
        ) from error


def _planes_of_411(av_frame: av.VideoFrame) -> tuple[Plane, ...]:
    """The planes of 4:2:2 from 4:1:1: every second chroma sample is kept, those between are the mean of two."""
    planes = []
    for index, subsampling in enumerate((1, 4, 4)):
        columns = -(-av_frame.width // subsampling)
        samples = _samples(av_frame.planes[index], np.dtype(np.uint8))[: av_frame.height, :columns]
        planes.append(samples if index == 0 else _doubled_columns(samples, -(-av_frame.width // 2)))
    return tuple(planes)


def _doubled_columns(samples: Plane, width: int) -> Plane:
    doubled: Plane = np.repeat(samples, 2, axis=1)
    pairs = samples[:, :-1].astype(np.uint16) + samples[:, 1:]
    doubled[:, 1:-1:2] = (pairs + 1) >> 1
    return doubled[:, :width]


def _colour_of(av_frame: av.VideoFrame) -> Colour:
    tagged_range = ColourRange(av_frame.color_range) if av_frame.color_range in (1, 2) else ColourRange.UNSPECIFIED
    is_full_range = av_frame.format.name.startswith("yuvj")
    return Colour(
        ColourRange.FULL if is_full_range else tagged_range,
        av_frame.colorspace,
        av_frame.color_primaries,
        av_frame.color_trc,
    )


def _planes_of(av_frame: av.VideoFrame, pixel_format: PixelFormat) -> tuple[Plane, ...]:
    """Views of the planes, without the padding at the end of each row."""
    planes = []
    for plane, layout in zip(av_frame.planes, pixel_format.layout, strict=True):
        shape = layout.shape(av_frame.height, av_frame.width)
        planes.append(_samples(plane, pixel_format.dtype)[: shape[0], : shape[1] * layout.components].reshape(shape))
    return tuple(planes)


def _samples(plane: av.video.plane.VideoPlane, dtype: np.dtype[Any]) -> Plane:
    """A view of a plane with the padding at the end of each row: (rows, samples)."""
    samples: Plane = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)  # type: ignore[call-overload]
    return samples


def av_from_frame(frame: VideoFrame) -> av.VideoFrame:
    """Converts a frame for FFmpeg's encoders and filters, with its pts and colour tags; the planes are copied."""
    av_frame = _untagged(frame)
    av_frame.pts, av_frame.time_base = frame.pts, frame.time_base
    av_frame.color_range, av_frame.colorspace = int(frame.colour.range), frame.colour.matrix
    av_frame.color_primaries, av_frame.color_trc = frame.colour.primaries, frame.colour.transfer
    return av_frame


def _untagged(frame: VideoFrame) -> av.VideoFrame:
    """A copy of the samples without colour tags: some releases of PyAV convert tagged frames, or reject the tags."""
    av_frame = av.VideoFrame(frame.width, frame.height, frame.format.value)
    for target, plane in zip(_planes_of(av_frame, frame.format), frame.planes, strict=True):
        np.copyto(target, plane)
    return av_frame


def rgb_from_frame(frame: VideoFrame) -> frames.Frame:
    """Converts a frame to the input of the models: (height, width, 3) RGB in full range.

    Returns:
        A contiguous array, uint8 for 8-bit formats and uint16 for others. It is a view of the frame's memory if that
        has this layout already.
    """
    if frame.format.is_rgb:
        return np.ascontiguousarray(frame.planes[0])
    pixel_format = PixelFormat.RGB if frame.format.bits == 8 else PixelFormat.RGB_16
    target = _PLANAR_RGB[pixel_format] if frame.format.chroma else pixel_format.value
    av_frame = _reformatter(frame.format.value, target).reformat(
        _untagged(frame),
        format=target,
        src_colorspace=_SWSCALE_MATRIX[assumed_matrix(frame)],
        src_color_range=_assumed_range(frame),
        dst_color_range=ColourRange.FULL,
        interpolation=_EXACT,
        threads=1,
    )
    rgb = (
        _interleaved(av_frame, pixel_format)
        if frame.format.chroma
        else np.ascontiguousarray(_planes_of(av_frame, pixel_format)[0])
    )
    return rgb if pixel_format is PixelFormat.RGB else _white_from_65280(rgb)


def _interleaved(av_frame: av.VideoFrame, pixel_format: PixelFormat) -> frames.Frame:
    """Packed RGB, (height, width, 3), of a planar GBR frame."""
    rgb = np.empty((av_frame.height, av_frame.width, 3), pixel_format.dtype)
    for channel, plane in enumerate(_GBR_PLANES):
        rgb[..., channel] = _samples(av_frame.planes[plane], pixel_format.dtype)[: av_frame.height, : av_frame.width]
    return rgb


def frame_from_rgb(rgb_hwc: frames.Frame, like: VideoFrame) -> VideoFrame:
    """Converts RGB pixels to a frame with the pixel format, colour, pts and number of another one.

    If `like` has no matrix, the result names the assumed one: players would choose it by the number of rows, which
    upscaling changes.

    Args:
        rgb_hwc: (height, width, 3) RGB in full range; uint8 for 8-bit formats, uint16 for others.
        like: a frame of any size.
    """
    frames.require_frame(rgb_hwc, frames.PICTURE_CHANNELS)
    if like.format.is_rgb:
        return like.with_planes((rgb_hwc.astype(like.format.dtype, copy=False),))
    pixel_format = PixelFormat.RGB if rgb_hwc.dtype == np.uint8 else PixelFormat.RGB_16
    plane = rgb_hwc if pixel_format is PixelFormat.RGB else _white_to_65280(rgb_hwc)
    # In limited range libswscale rounds chroma to nearest if it writes NV12; into separate planes it rounds 0.06
    # levels too low on average.
    target = PixelFormat.NV12 if like.format is PixelFormat.I420 else like.format
    matrix, colour_range = assumed_matrix(like), _assumed_range(like)
    av_frame = _reformatter(pixel_format.value, target.value).reformat(
        _untagged(VideoFrame((plane,), pixel_format)),
        format=target.value,
        dst_colorspace=_SWSCALE_MATRIX[matrix],
        src_color_range=ColourRange.FULL,
        dst_color_range=colour_range,
        interpolation=_MEAN_CHROMA if pixel_format is PixelFormat.RGB else _EXACT,
        threads=1,
    )
    planes = _planes_of(av_frame, target)
    if target is not like.format:
        luma, chroma = planes
        planes = (luma, *(np.ascontiguousarray(chroma[..., channel]) for channel in range(2)))
    return like.with_planes(planes, colour=replace(like.colour, matrix=matrix))


def resized(frame: VideoFrame, width: int, height: int) -> VideoFrame:
    """Resizes each plane by bicubic interpolation, without conversion to RGB. Range and matrix do not change.

    Args:
        frame: The frame, which does not change.
        width: Width of the result.
        height: Height of the result.
    """
    matrix = _SWSCALE_MATRIX[assumed_matrix(frame)]
    av_frame = _reformatter(frame.format.value, frame.format.value).reformat(
        _untagged(frame),
        width=width,
        height=height,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        interpolation=_EXACT,
        threads=1,
    )
    colour = frame.colour if frame.format.is_rgb else replace(frame.colour, matrix=assumed_matrix(frame))
    return frame.with_planes(_planes_of(av_frame, frame.format), colour=colour)


def reformatted(frame: VideoFrame, pixel_format: PixelFormat | str) -> VideoFrame:
    """Converts a frame to another pixel format. RGB becomes YUV in limited range with the BT.709 matrix.

    Args:
        frame: The frame, which does not change.
        pixel_format: The format that is wanted, for example "nv12".
    """
    pixel_format = member_of(PixelFormat, pixel_format, "pixel format")
    if pixel_format is frame.format:
        return frame
    if pixel_format.is_rgb:
        return frame.with_planes((_to_depth(rgb_from_frame(frame), pixel_format.bits),), pixel_format, RGB_COLOUR)
    if frame.format.is_rgb:
        minimal = tuple(np.zeros(layout.shape(1, 1), pixel_format.dtype) for layout in pixel_format.layout)
        like = frame.with_planes(minimal, pixel_format, YUV_COLOUR)
        return frame_from_rgb(_to_depth(rgb_from_frame(frame), 8 if pixel_format.bits == 8 else 16), like)
    matrix, colour_range = _SWSCALE_MATRIX[assumed_matrix(frame)], _assumed_range(frame)
    av_frame = _reformatter(frame.format.value, pixel_format.value).reformat(
        _untagged(frame),
        format=pixel_format.value,
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=colour_range,
        dst_color_range=colour_range,
        interpolation=_EXACT,
        threads=1,
    )
    return frame.with_planes(_planes_of(av_frame, pixel_format), pixel_format)


RGB_COLOUR = Colour(ColourRange.FULL, 0, _BT709, 13)
YUV_COLOUR = Colour(ColourRange.LIMITED, _BT709, _BT709, _BT709)


def _to_depth(rgb_hwc: frames.Frame, bits: int) -> frames.Frame:
    depth_bits = 8 * rgb_hwc.dtype.itemsize
    if depth_bits == bits:
        return rgb_hwc
    if bits == 16:
        return np.multiply(rgb_hwc, 257, dtype=np.uint16)
    return ((rgb_hwc.astype(np.uint32) + 128) // 257).astype(np.uint8)


def assumed_matrix(frame: VideoFrame) -> int:
    """The matrix of a frame. Without a tag it is what players assume: BT.709 from 720 rows, BT.601 below.

    Raises:
        FrameError: the matrix is not supported.
    """
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
    """Scales white from 65,280 to 65,535: x * 257 / 256. Values above white are clipped."""
    scaled: npt.NDArray[np.uint16] = np.minimum(rgb, np.uint16(65_280))
    scaled += scaled >> np.uint16(8)
    return scaled


def _white_to_65280(rgb: npt.NDArray[Any]) -> npt.NDArray[np.uint16]:
    """Scales white from 65,535 to 65,280: x * 256 / 257, rounded."""
    scaled: npt.NDArray[np.uint16] = ((rgb.astype(np.uint32) * 256 + 128) // 257).astype(np.uint16)
    return scaled


def _reformatter(source: str, target: str) -> VideoReformatter:
    """This thread's reformatter for a pair of formats, which keeps libswscale's tables for the next frame.

    A reformatter is not safe for use from several threads at a time, hence one for each.
    """
    reformatters: dict[tuple[str, str], VideoReformatter] = _thread_local.__dict__.setdefault("reformatters", {})
    return reformatters.setdefault((source, target), VideoReformatter())


def nv12_obstacle(frame: VideoFrame, colour: Nv12Colour, tile: TileSpec) -> str:
    """Why a graph that takes NV12 frames cannot take this one; empty if it can.

    Args:
        frame: The frame. 4:2:0 with separate chroma planes has the same samples as NV12.
        colour: Matrix and range for which the graph was made.
        tile: The tile of the graph.

    Raises:
        FrameError: The matrix of the frame is not supported at all.
    """
    if frame.format not in (PixelFormat.NV12, PixelFormat.I420):
        return f"they are {frame.format} instead of nv12 or yuv420p"
    if frame.width % 2 or frame.height % 2:
        return f"their size is {frame.width}x{frame.height}, which is odd"
    if frame.width < tile.width or frame.height < tile.height:
        return f"their size is {frame.width}x{frame.height}, which is less than the tile {tile}"
    matrix = assumed_matrix(frame)
    levels = "full" if frame.colour.range is ColourRange.FULL else "limited"
    frame_colour = f"{_NV12_MATRICES.get(matrix, f'matrix {matrix}')}-{levels}"
    return "" if frame_colour == colour else f"their colour is {frame_colour}, but that of the graph is {colour}"


def nv12_planes(frame: VideoFrame) -> tuple[Plane, Plane]:
    """Luma (height, width) and interleaved chroma (height / 2, width / 2, 2) of an 8-bit 4:2:0 frame.

    Views of the frame's memory, except for the chroma of a format with separate chroma planes.
    """
    luma, *chroma = frame.planes
    interleaved = chroma[0] if len(chroma) == 1 else np.stack(chroma, axis=-1)
    return luma, interleaved
