"""Makes black and white patches from the calibration patches, with edges as in text and drawings.

Ranges measured on photographs alone saturate on lettering: there INT8 loses half a decibel and more, and nowhere else.
    Two such patches among forty prevent it. They are thresholded at a finer resolution and then reduced, so that their
    edges are like those of real pictures; edges as sharp as one pixel would widen the ranges beyond anything that
    occurs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.frames import Batch
from sr_edge.resize import resize_bicubic

COUNT = 2
"""The largest number of such patches, but at most one per MIN_PATCHES_EACH patches, so that photographs dominate."""

MIN_PATCHES_EACH = 8
FINER = 4
"""The factor by which the resolution of the edges is finer."""


def hard_edged_patches(patches: Sequence[Batch]) -> list[Batch]:
    """Black and white versions of evenly chosen patches (1, channels, height, width) in [0, 1]; flat ones have none."""
    versions = [version for version in map(_black_and_white, patches) if version is not None]
    count = min(COUNT, max(1, len(patches) // MIN_PATCHES_EACH), len(versions))
    return [versions[index * len(versions) // count] for index in range(count)]


def _black_and_white(patch: Batch) -> Batch | None:
    height, width = patch.shape[2:]
    gray = np.rint(255.0 * patch[0].mean(axis=0)).astype(np.uint8)[..., np.newaxis]
    fine = resize_bicubic(gray, FINER)[..., 0]
    middle = np.median(fine)
    is_white = fine > middle if (fine > middle).any() else fine >= middle  # more than half of a page may be white
    if is_white.all():
        return None
    small = is_white.astype(np.float32).reshape(height, FINER, width, FINER).mean(axis=(1, 3))
    levels = np.rint(255.0 * small)  # the levels of an 8-bit image
    return np.ascontiguousarray(np.broadcast_to(levels / 255.0, patch.shape), np.float32)
