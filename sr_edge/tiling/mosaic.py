"""Assembles the upscaled tiles of a picture in its output frame, blended without seams.

Over the `overlap` pixels in the middle of a seam the earlier tile fades linearly into the later one; all other output
pixels are copied from one tile.

Rows of tiles are assembled in the output frame itself. Only the band in which a row overlaps the one above is
assembled in a separate buffer and blended when complete, because where four tiles meet, both fades must be applied one
after the other. Apart from the output, memory is needed for this band and the tiles in flight, whatever their number.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.errors import TileError
from sr_edge.tiling.plan import TilePlan

Samples = npt.NDArray[Any]
"""The samples of a frame in uint8, uint16 or float32: (height, width, channels)."""


class Mosaic:
    """The output frame while tiles arrive in the order of `TilePlan.places`."""

    def __init__(self, plan: TilePlan, scale: int, frame: Samples) -> None:
        self.frame = frame
        self._scale = scale
        self._plan = plan
        self._places = plan.places()
        self._tile_shape = (plan.tile.height * scale, plan.tile.width * scale, frame.shape[2])
        band_px = scale * max(row.blended for row in plan.rows)
        self._band = np.empty((band_px, *frame.shape[1:]), frame.dtype)

    def place_next(self, upscaled: Samples) -> None:
        """Copies the next tile into the output frame, blended with its neighbours.

        Raises:
            TileError: the network returned another shape or type.
        """
        require_upscaled_tile(upscaled, self._tile_shape, self.frame.dtype)
        scale = self._scale
        row, column = next(self._places)
        cropped = upscaled[_scaled(row.first - row.start, row.end - row.start, scale)]
        cropped = cropped[:, _scaled(column.first - column.start, column.end - column.start, scale)]
        across = _scaled(column.first, column.end, scale)
        band_px, blended_px = row.blended * scale, column.blended * scale
        top = row.first * scale
        _place(self._band[:band_px, across], cropped[:band_px], blended_px)
        _place(self.frame[top + band_px : row.end * scale, across], cropped[band_px:], blended_px)
        columns = self._plan.columns
        if column is columns[-1]:  # no tile of a window determines the samples at its left and right edge
            determined = _scaled(columns[0].first, columns[-1].end, scale)
            _fade(self.frame[top : top + band_px, determined], self._band[:band_px, determined], axis=0)


def require_upscaled_tile(upscaled: Samples, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """Raises TileError unless the network's result for one tile has this shape and type."""
    if upscaled.shape != shape or upscaled.dtype != dtype:
        raise TileError(
            f"the network returned {upscaled.dtype} {upscaled.shape} for a tile instead of {np.dtype(dtype)} {shape}",
            found=(str(upscaled.dtype), upscaled.shape),
            wanted=(str(np.dtype(dtype)), shape),
            remedy="use the scale and the tile size that it was exported with",
        )


def _scaled(first: int, end: int, scale: int) -> slice:
    return slice(first * scale, end * scale)


def _place(target: Samples, newer: Samples, blended_px: int) -> None:
    """Copies `newer`, and fades its first `blended_px` columns into those of `target`."""
    _fade(target[:, :blended_px], newer[:, :blended_px], axis=1)
    target[:, blended_px:] = newer[:, blended_px:]


def _fade(target: Samples, newer: Samples, axis: int) -> None:
    """Mixes `newer` into `target` with weights that rise linearly along `axis`, integers in those of twice the width.

    Equal samples remain unchanged; other integers are within one level of exact arithmetic.
    """
    if target.size == 0:
        return
    if target.dtype == np.float32:
        target += (newer - target) * _shares(target.shape[axis], axis).astype(np.float32)
        return
    bits = 8 * target.itemsize
    wide = np.dtype(f"u{2 * target.itemsize}")
    keep, take = _ramp(target.shape[axis], bits, axis)
    mixed = np.multiply(target, keep, dtype=wide)
    mixed += np.multiply(newer, take, dtype=wide)
    mixed += wide.type(1 << (bits - 1))
    mixed >>= wide.type(bits)
    target[...] = mixed


def _shares(length: int, axis: int) -> npt.NDArray[np.float64]:
    """Shares of the later tile at the centres of `length` samples."""
    return ((np.arange(length) + 0.5) / length).reshape((-1, 1, 1) if axis == 0 else (-1, 1))


@lru_cache(maxsize=64)
def _ramp(length: int, bits: int, axis: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Weights of the earlier and the later tile at the centres of `length` samples; they add up to 1 << bits."""
    one = 1 << bits
    take = np.rint(_shares(length, axis) * one).astype(np.uint32)
    wide = np.uint16 if bits == 8 else np.uint32
    return (one - take).astype(wide), take.astype(wide)
