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
    strips = _starts(samples.shape[0], block_px)
    squares = [_block_squares(_difference(kept, samples, top, block_px), block_px).max() for top in strips]
    return float(np.sqrt(max(squares)))


def level_change(kept: Samples, samples: Samples) -> float:
    """The difference of the means of a channel, the largest of all channels, in 8-bit levels."""
    means = (kept.mean((0, 1), dtype=np.float64), samples.mean((0, 1), dtype=np.float64))
    return float(np.abs(means[1] - means[0]).max()) * _LEVELS[samples.dtype]


def is_within(kept: Samples, samples: Samples, limits: ChangeLimits) -> bool:
    """Whether both changes are within limits.

    Strips of blocks are compared one after the other, so that a tile that has changed as a whole is told by the first.
    """
    most = limits.block**2
    total = np.zeros(samples.shape[2])
    for top in _starts(samples.shape[0], BLOCK_PX):
        difference = _difference(kept, samples, top, BLOCK_PX)
        if _block_squares(difference, BLOCK_PX).max() > most:
            return False
        total += difference.sum((0, 1))
    height, width = samples.shape[:2]
    return bool(np.abs(total).max() <= limits.level * height * width)


def _starts(length: int, block_px: int) -> range:
    return range(0, length, block_px)


def _difference(kept: Samples, samples: Samples, top: int, rows: int) -> npt.NDArray[np.float32]:
    """The difference of some rows, in 8-bit levels."""
    part = slice(top, top + rows)
    difference = np.subtract(samples[part], kept[part], dtype=np.float32)
    levels = _LEVELS[samples.dtype]
    return difference if levels == 1.0 else difference * np.float32(levels)


def _block_squares(difference: npt.NDArray[np.float32], block_px: int) -> npt.NDArray[Any]:
    """The mean square of each block of a strip that is one block high."""
    rows, width, channels = difference.shape
    sums = np.add.reduceat(np.einsum("ijk,ijk->j", difference, difference), _starts(width, block_px))
    widths = np.minimum(block_px, width - np.arange(0, width, block_px))
    mean_squares: npt.NDArray[Any] = sums / (rows * channels * widths)
    return mean_squares
