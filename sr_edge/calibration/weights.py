"""Per-channel symmetric INT8 weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.observers import INT8_LEVELS


def quantize_weight(
    weight: npt.NDArray[np.float32], channel_axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """The nearest INT8 weights in [-127, 127] and one float32 scale per output channel.

    -128 is left out, so that the negated weight is representable too. A channel of zeros gets scale 1.
    """
    other_axes = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    largest = np.abs(weight).max(axis=other_axes)
    tiny = INT8_LEVELS * np.finfo(np.float32).tiny
    scales = np.where(largest > tiny, largest / INT8_LEVELS, 1.0).astype(np.float32)
    levels = np.clip(np.rint(weight / _along(scales, channel_axis, weight.ndim)), -INT8_LEVELS, INT8_LEVELS)
    return levels.astype(np.int8), scales


def int8_weight(weight: npt.NDArray[np.float32], channel_axis: int) -> npt.NDArray[np.float32]:
    """The weight as INT8 gives it back."""
    levels, scales = quantize_weight(weight, channel_axis)
    return levels * _along(scales, channel_axis, weight.ndim)


def _along(scales: npt.NDArray[np.float32], axis: int, ndim: int) -> npt.NDArray[np.float32]:
    return scales.reshape([-1 if index == axis else 1 for index in range(ndim)])
