"""How much a tile has changed: the measures of `sr_edge.reuse_table`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.reuse_table import BLOCK_PX, ChangeLimits
from sr_edge.tiling import Samples

_LEVELS = {np.dtype(np.uint8): 1.0, np.dtype(np.uint16): 1 / 257, np.dtype(np.float32): 255.0}
"""8-bit levels of a difference of 1, by the type of the samples."""


def block_change(kept: Samples, samples: Samples, block_px: int = BLOCK_PX) -> float:
    """The root mean square difference in the block where it is largest, in 8-bit levels.

    Args:
        kept: uint8, uint16 or float32 (height, width, channels).
        samples: The same shape and type.
        block_px: Height and width of a block; those at the bottom and at the right may be smaller.
    """
    return float(np.sqrt(_block_squares(difference_in_levels(kept, samples), block_px).max()))


def level_change(kept: Samples, samples: Samples) -> float:
    """The difference of the means of a channel, the largest of all channels, in 8-bit levels."""
    means = (kept.mean((0, 1), dtype=np.float64), samples.mean((0, 1), dtype=np.float64))
    return float(np.abs(means[1] - means[0]).max()) * _LEVELS[samples.dtype]


def is_within(kept: Samples, samples: Samples, limits: ChangeLimits) -> bool:
    """Whether both changes are within limits.

    The first row of blocks is compared before the others, so that a tile that has changed everywhere is found early.
    """
    most = limits.block**2
    for part in (slice(BLOCK_PX), slice(None)):
        difference = difference_in_levels(kept[part], samples[part])
        if _block_squares(difference, BLOCK_PX).max() > most:
            return False
    return is_level_within(difference, limits)


def changed_blocks(difference: npt.NDArray[np.float32], limits: ChangeLimits) -> npt.NDArray[np.bool_]:
    """Whether the change of each block exceeds the limit, (rows of blocks, blocks in a row)."""
    exceeding: npt.NDArray[np.bool_] = _block_squares(difference, BLOCK_PX) > limits.block**2
    return exceeding


def is_level_within(difference: npt.NDArray[np.float32], limits: ChangeLimits) -> bool:
    """Whether the level change is within its limit."""
    height, width, channels = difference.shape
    # Added up row by row first, which is several times as fast as along the channels.
    totals = difference.sum(0).reshape(width, channels).sum(0)
    return bool(np.abs(totals).max() <= limits.level * height * width)


def difference_in_levels(kept: Samples, samples: Samples) -> npt.NDArray[np.float32]:
    """The difference in 8-bit levels, (height, width, channels)."""
    difference = np.subtract(samples, kept, dtype=np.float32)
    levels = _LEVELS[samples.dtype]
    return difference if levels == 1.0 else difference * np.float32(levels)


def _block_squares(difference: npt.NDArray[np.float32], block_px: int) -> npt.NDArray[Any]:
    """The mean square of each block, (rows of blocks, blocks in a row)."""
    height, width, channels = difference.shape
    rows, columns = np.arange(0, height, block_px), np.arange(0, width, block_px)
    flat = difference.reshape(height, width * channels)
    sums = np.add.reduceat(np.add.reduceat(flat * flat, rows, axis=0), columns * channels, axis=1)
    heights, widths = np.minimum(block_px, height - rows), np.minimum(block_px, width - columns)
    mean_squares: npt.NDArray[Any] = sums / (channels * np.outer(heights, widths))
    return mean_squares
