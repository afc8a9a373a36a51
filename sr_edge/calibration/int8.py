"""INT8 numbers: the levels of activations, and weights in symmetric INT8 with one scale per output channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.patch import Float32Array

INT8_MAX = 127
"""The largest level of signed INT8, and of weights in both directions."""

INT8_MIN = -128
UINT8_MAX = 255


def quantize_weight(weight: Float32Array, channel_axis: int) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """The nearest INT8 weights in [-127, 127] and one float32 scale per output channel.

    -128 is left out, so that the negated weight is representable too. A channel of zeros gets scale 1.
    """
    other_axes = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    largest = np.abs(weight).max(axis=other_axes)
    tiny = INT8_MAX * np.finfo(np.float32).tiny
    scales = np.where(largest > tiny, largest / INT8_MAX, 1.0).astype(np.float32)
    levels = np.clip(np.rint(weight / along_axis(scales, channel_axis, weight.ndim)), -INT8_MAX, INT8_MAX)
    return levels.astype(np.int8), scales


def int8_weight(weight: Float32Array, channel_axis: int, tuned: npt.NDArray[np.int8] | None = None) -> Float32Array:
    """The weight as INT8 gives it back; `tuned` INT8 weights take the place of the nearest ones."""
    nearest, scales = quantize_weight(weight, channel_axis)
    return (nearest if tuned is None else tuned) * along_axis(scales, channel_axis, weight.ndim)


def along_axis(scales: Float32Array, axis: int, ndim: int) -> Float32Array:
    """One scale per output channel, shaped to broadcast with the weight."""
    return scales.reshape([-1 if index == axis else 1 for index in range(ndim)])
