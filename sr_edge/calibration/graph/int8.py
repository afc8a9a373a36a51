"""INT8 numbers: the levels of activations, and weights in symmetric INT8 with one scale per output channel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sr_edge.calibration.data.patch import Float32Array

INT8_MAX = 127
"""The largest INT8 level; weights use it in both directions."""

INT8_MIN = -128
UINT8_MAX = 255


def quantize_weight(weight: Float32Array, channel_axis: int) -> tuple[npt.NDArray[np.int8], Float32Array]:
    """Quantizes a weight symmetrically, with one scale per output channel.

    The level -128 is not used, so that the negated weight can be represented as well.

    Args:
        weight: The float weight.
        channel_axis: Its axis of output channels.

    Returns:
        The nearest INT8 levels, in [-127, 127], and (channels,) float32 scales; 1 for a channel of zeros.
    """
    other_axes = tuple(axis for axis in range(weight.ndim) if axis != channel_axis)
    largest = np.abs(weight).max(axis=other_axes)
    tiny = INT8_MAX * np.finfo(np.float32).tiny
    scales = np.where(largest > tiny, largest / INT8_MAX, 1.0).astype(np.float32)
    levels = np.clip(np.rint(weight / along_axis(scales, channel_axis, weight.ndim)), -INT8_MAX, INT8_MAX)
    return levels.astype(np.int8), scales


def int8_weight(weight: Float32Array, channel_axis: int, tuned: npt.NDArray[np.int8] | None = None) -> Float32Array:
    """The weight after quantization and dequantization; `tuned` levels replace the nearest ones."""
    nearest, scales = quantize_weight(weight, channel_axis)
    return (nearest if tuned is None else tuned) * along_axis(scales, channel_axis, weight.ndim)


def along_axis(scales: Float32Array, axis: int, ndim: int) -> Float32Array:
    """The scales of the output channels, reshaped to broadcast with the weight."""
    return scales.reshape([-1 if index == axis else 1 for index in range(ndim)])
