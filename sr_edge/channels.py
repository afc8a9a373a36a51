"""Converts pictures to frames for networks with 1, 3 or 4 channels, and the networks' output back to pictures.

A network with three channels takes RGB; gray is repeated in all of them. A network with four channels takes RGB and
straight alpha together; where a picture has no alpha, an opaque one is added and dropped again. A network with one
channel takes gray pictures as they are, and of RGB pictures only the luma Y; the chroma Cb and Cr is resized by bicubic
interpolation. Y, Cb and Cr are those of BT.601 in full range, as in JPEG files, PIL and PyTorch's super-resolution
tutorial:

    Y = 0.299 R + 0.587 G + 0.114 B      Cb = (B - Y) / 1.772      Cr = (R - Y) / 1.402
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sr_edge.errors import FrameError
from sr_edge.frames import Batch, Frame, Picture, batch_from_frame, frame_from_batch, max_sample_value
from sr_edge.resize import resize_bicubic
from sr_edge.spec import count_of_channels

Planes = npt.NDArray[np.float32]
"""Samples of any number of channels: float32 (height, width, channels)."""

_LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
_LUMA_WEIGHTS_16_BITS = (19595, 38470, 7471)
"""The weights of luma times 65536, rounded so that their sum is 65536: sums of uint16 samples fit into uint32."""

_CB_FROM_BLUE = np.float32(1.772)
_CR_FROM_RED = np.float32(1.402)
_BAND_ROWS = 64
"""Rows that are converted at a time, so that the intermediate planes need little memory."""

BICUBIC_REACH_PX = 2
"""How far the samples lie on which a sample of the upscaled chroma depends, in pixels of the chroma."""


def network_frame(frame_hwc: Frame, channels: int) -> Frame:
    """A frame with the channels that a network takes; a network with one channel gets the rounded luma of RGB.

    Args:
        frame_hwc: uint8 or uint16 (height, width, 1 gray, 3 RGB or 4 RGB with alpha).
        channels: The number of channels of the network: 1, 3 or 4.

    Returns:
        (height, width, channels) of the same type: the frame itself where it has these channels already.

    Raises:
        FrameError: The frame has an alpha channel, but the network takes none.
    """
    present = frame_hwc.shape[2]
    if present == channels:
        return frame_hwc
    if present == 4:
        raise FrameError(
            f"the frame has an alpha channel, but the network takes {count_of_channels(channels)}",
            found=present,
            wanted=channels,
            remedy="upscale it as a Picture, whose alpha is resized by bicubic interpolation, or drop its alpha",
        )
    if channels == 1:
        return frame_from_batch(batch_for_network(frame_hwc, channels), frame_hwc.dtype)
    rgb = np.repeat(frame_hwc, 3, axis=2) if present == 1 else frame_hwc
    return with_alpha(rgb, None) if channels == 4 else rgb


def picture_frame(network_hwc: Frame, channels: int) -> Frame:
    """The output of a network with three or four channels as a frame with the channels of the picture.

    Alpha is dropped where the picture has none, and a gray picture gets the luma of the colours.
    """
    if network_hwc.shape[2] == channels:
        return network_hwc
    return _luma_levels(network_hwc) if channels == 1 else network_hwc[..., :channels]


def batch_for_network(frame_hwc: Frame, channels: int) -> Batch:
    """A frame as the float input of a network, float32 (1, channels, height, width) in [0, 1]; luma is not rounded."""
    if channels == 1 and frame_hwc.shape[2] != 1:
        luma, _ = split_luma(frame_hwc[..., :3])
        return luma[np.newaxis, ..., 0][np.newaxis]
    return batch_from_frame(network_frame(frame_hwc if channels == 4 else frame_hwc[..., :3], channels))


def with_alpha(pixels_hwc: Frame, alpha: Frame | None) -> Frame:
    """RGB with an alpha channel, (height, width, 4); gray is repeated, and None stands for opaque."""
    height, width, channels = pixels_hwc.shape
    rgba = np.empty((height, width, 4), pixels_hwc.dtype)
    rgba[..., :3] = pixels_hwc if channels == 3 else pixels_hwc[..., :1]
    rgba[..., 3] = max_sample_value(pixels_hwc.dtype) if alpha is None else alpha
    return rgba


def picture_of(frame_hwc: Frame) -> Picture:
    """A frame as a picture; the fourth channel becomes its alpha."""
    if frame_hwc.shape[2] != 4:
        return Picture(frame_hwc)
    return Picture(np.ascontiguousarray(frame_hwc[..., :3]), np.ascontiguousarray(frame_hwc[..., 3]))


def frame_of(picture: Picture) -> Frame:
    """The pixels of a picture, with its alpha as the fourth channel if it has one."""
    return picture.pixels if picture.alpha is None else with_alpha(picture.pixels, picture.alpha)


def split_luma(rgb_hwc: Frame) -> tuple[Planes, Planes]:
    """Splits RGB into luma (height, width, 1) in [0, 1] and chroma (height, width, 2) in [-0.5, 0.5], not rounded."""
    largest = np.float32(max_sample_value(rgb_hwc.dtype))
    luma = np.empty((*rgb_hwc.shape[:2], 1), np.float32)
    chroma = np.empty((*rgb_hwc.shape[:2], 2), np.float32)
    for rows in _bands(rgb_hwc.shape[0]):
        red, green, blue = (rgb_hwc[rows, :, channel] / largest for channel in range(3))
        y = _LUMA_WEIGHTS[0] * red + _LUMA_WEIGHTS[1] * green + _LUMA_WEIGHTS[2] * blue
        luma[rows, :, 0] = y
        chroma[rows, :, 0] = (blue - y) / _CB_FROM_BLUE
        chroma[rows, :, 1] = (red - y) / _CR_FROM_RED
    return luma, chroma


def merge_luma(luma: Planes | Frame, chroma: Planes, scale: int, out: Frame) -> Frame:
    """Merges upscaled luma and chroma, which is upscaled here, into RGB, clipped and rounded.

    Args:
        luma: (scale * height, scale * width, 1), float32 in [0, 1] or integers.
        chroma: float32 (height, width, 2), in low resolution.
        scale: Magnification; values of chroma that bicubic interpolation takes beyond [-0.5, 0.5] are clipped.
        out: uint8 or uint16 (scale * height, scale * width, 3), which receives the result.

    Returns:
        `out`.
    """
    white = np.float32(1.0 if luma.dtype == np.float32 else max_sample_value(luma.dtype))
    largest = np.float32(max_sample_value(out.dtype))
    for rows in _bands(chroma.shape[0]):
        large_rows = slice(scale * rows.start, scale * rows.stop)
        y = luma[large_rows, :, 0] * (largest / white)
        cb, cr = np.moveaxis(_upscaled_rows(chroma, rows, scale).clip(-0.5, 0.5), -1, 0)
        red = y + (_CR_FROM_RED * largest) * cr
        blue = y + (_CB_FROM_BLUE * largest) * cb
        green = (y - _LUMA_WEIGHTS[0] * red - _LUMA_WEIGHTS[2] * blue) / _LUMA_WEIGHTS[1]
        for channel, plane in enumerate((red, green, blue)):
            np.rint(plane, out=plane)
            out[large_rows, :, channel] = np.clip(plane, 0, largest, out=plane)
    return out


def _upscaled_rows(planes: Planes, rows: slice, scale: int) -> Planes:
    """These rows of `planes` in the bicubic interpolation of all rows, without computing the others."""
    first, end = max(0, rows.start - BICUBIC_REACH_PX), min(planes.shape[0], rows.stop + BICUBIC_REACH_PX)
    upscaled = resize_bicubic(planes[first:end], scale)
    return upscaled[scale * (rows.start - first) : scale * (rows.stop - first)]


def rounded_luma(luma: Planes) -> npt.NDArray[np.uint8]:
    """Luma in [0, 1] rounded to 8 bits, for the graphs of uint8 frames."""
    levels: npt.NDArray[np.uint8] = np.rint(luma * np.float32(255.0)).astype(np.uint8)
    return levels


def _luma_levels(frame_hwc: Frame) -> Frame:
    """BT.601 luma in full range, (height, width, 1); three equal channels give exactly that channel."""
    total = np.full(frame_hwc.shape[:2], 1 << 15, np.uint32)
    for channel, weight in enumerate(_LUMA_WEIGHTS_16_BITS):
        total += np.multiply(frame_hwc[..., channel], np.uint32(weight), dtype=np.uint32)
    total >>= np.uint32(16)
    return total.astype(frame_hwc.dtype)[..., np.newaxis]


def _bands(height: int) -> Iterator[slice]:
    for first in range(0, height, _BAND_ROWS):
        yield slice(first, min(first + _BAND_ROWS, height))
