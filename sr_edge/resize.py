"""Bicubic resizing that matches MATLAB's `imresize`, with which the low-resolution test sets were made.

Each output sample is a weighted mean of the inputs under Keys' cubic kernel (1981, eq. 15, a = -1/2), whose
width grows by 1/scale when downscaling, so it also removes aliasing. Positions: output pixel i sits
at input (i + 1/2) / scale - 1/2; beyond the border the picture is mirrored with its edge pixel repeated.
Rows go first, then columns, and integer pictures are rounded, half up, after each: with that order, the
low-resolution Set5 files in circulation come out without one differing sample.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sr_edge.errors import UsageError

Sample = TypeVar("Sample", bound=np.number[Any])
_Taps = tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]

_KERNEL_WIDTH = 4.0
_STRIP_SAMPLES = 1 << 18


def resize_bicubic(picture: npt.NDArray[Sample], scale: float) -> npt.NDArray[Sample]:
    """Resizes height and width by the factor `scale`, with antialiasing when downscaling.

    Args:
        picture: (height, width) or (height, width, channels); uint8, uint16, float32 or float64.
        scale: Positive factor; 1/3 reduces height and width to a third.

    Returns:
        A new array of the same type, ceil(scale * size) long in both dimensions; integers are clipped, floats are not.

    Raises:
        UsageError: the scale, type or shape is none of these.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise UsageError(
            f"cannot resize by {scale}",
            found=scale,
            wanted="a finite number above 0",
            remedy="give a finite number above 0, for example 0.5",
        )
    if (
        picture.ndim not in (2, 3)
        or picture.size == 0
        or picture.dtype not in (np.uint8, np.uint16, np.float32, np.float64)
    ):
        raise UsageError(
            f"cannot resize an array of {picture.dtype} {picture.shape}",
            found=(str(picture.dtype), picture.shape),
            wanted=("uint8, uint16, float32 or float64", "(height, width) or (height, width, channels)"),
            remedy="give (height, width) or (height, width, channels) of uint8, uint16, float32 or float64",
        )
    return _resize_axis(_resize_axis(picture, 0, scale), 1, scale)


def downscale_bicubic(picture: npt.NDArray[Sample], factor: int) -> npt.NDArray[Sample]:
    """Makes the low-resolution image of a test pair: crops to a multiple of `factor`, then downscales as `imresize`."""
    return resize_bicubic(crop_to_multiple(picture, factor), 1 / factor)


def crop_to_multiple(picture: npt.NDArray[Sample], multiple: int) -> npt.NDArray[Sample]:
    """A view of (height, width, ...) cropped at bottom and right to multiples of `multiple`.

    Raises:
        UsageError: height or width is smaller than `multiple`.
    """
    height, width = (size_px - size_px % multiple for size_px in picture.shape[:2])
    if height == 0 or width == 0:
        raise UsageError(
            f"cropping a picture of {picture.shape[1]}x{picture.shape[0]} pixels to a multiple of {multiple} would "
            "leave nothing of it",
            found=picture.shape[:2],
            wanted=multiple,
            remedy=f"use a picture of at least {multiple}x{multiple} pixels",
        )
    return picture[:height, :width]


def _resize_axis(picture: npt.NDArray[Any], axis: int, scale: float) -> npt.NDArray[Any]:
    """Resizes one axis in strips along the other, which limits the memory of the intermediate sums."""
    sources, weights = _taps(picture.shape[axis], scale)
    moved = np.moveaxis(picture, axis, 0)
    resized = np.empty((len(sources), *moved.shape[1:]), picture.dtype)
    strip = max(1, _STRIP_SAMPLES // len(sources))
    for first in range(0, moved.shape[1], strip):
        part = slice(first, first + strip)
        resized[:, part] = _weighted_sums(moved[:, part], sources, weights)
    return np.ascontiguousarray(np.moveaxis(resized, 0, axis))


def _weighted_sums(
    rows: npt.NDArray[Any], sources: npt.NDArray[np.intp], weights: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Accumulates tap by tap: each step is one gather and one multiply-add over whole rows."""
    work = np.float64 if rows.dtype == np.float64 else np.float32
    exact = np.ascontiguousarray(rows, work)
    total = np.zeros((len(sources), *rows.shape[1:]), work)
    term = np.empty_like(total)
    for source, weight in zip(sources.T, weights.astype(work).T, strict=True):
        np.take(exact, source, axis=0, out=term, mode="clip")
        term *= weight.reshape(-1, *[1] * (rows.ndim - 1))
        total += term
    if np.issubdtype(rows.dtype, np.integer):
        total += 0.5
        np.clip(total, 0, np.iinfo(rows.dtype).max, out=total)
    return total.astype(rows.dtype)


@lru_cache(maxsize=64)
def _taps(size: int, scale: float) -> _Taps:
    """For each output sample its input samples and their weights, both (output size, taps)."""
    stretch = max(1.0, 1 / scale)
    width = _KERNEL_WIDTH * stretch
    centres = (np.arange(math.ceil(size * scale)) + 0.5) / scale - 0.5
    positions = np.floor(centres - width / 2)[:, None] + np.arange(math.ceil(width) + 2)
    weights = _cubic((centres[:, None] - positions) / stretch)
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    return _mirrored(positions[:, used].astype(np.intp), size), weights[:, used]


def _cubic(distance: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    x = np.abs(distance)
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x <= 2, far, 0.0))


def _mirrored(positions: npt.NDArray[np.intp], size: int) -> npt.NDArray[np.intp]:
    """Reflects positions outside of the axis into it: ... 1 0 | 0 1 ... size-1 | size-1 size-2 ..."""
    folded = positions % (2 * size)
    return np.minimum(folded, 2 * size - 1 - folded)
