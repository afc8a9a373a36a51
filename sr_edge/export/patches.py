"""Inputs that export checks run on when no pictures are given: the extremes that a camera or a screen can produce."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sr_edge.spec import TileSpec

Patch = npt.NDArray[np.float32]


def worst_case_patches(tile: TileSpec) -> tuple[Patch, ...]:
    """Float32 (1, 3, height, width) in [0, 1]: black, binary noise, and a step on noise.

    A flat picture makes variances as small as they get, binary noise makes activations as large as they get.
    """
    shape = (1, 3, tile.height, tile.width)
    generator = np.random.default_rng(0)
    columns = np.arange(tile.width)
    binary = generator.integers(0, 2, shape)
    step = np.where(columns < tile.width // 2, 0.1, 0.9) + 0.1 * generator.random(shape)
    pictures = (np.zeros(shape), binary, step)
    return tuple(np.ascontiguousarray(picture, dtype=np.float32) for picture in pictures)
