"""Patches in black and white, made of the calibration patches: text and drawings drive a network further than photos.

Ranges that photographs alone were measured on saturate at lettering: INT8 then loses half a decibel and more there, and
nothing anywhere else. Two such patches among forty end that. They are drawn at a finer resolution and made small, as
the edges of real pictures are; edges as sharp as a pixel would widen the ranges beyond anything that occurs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.patch import Batch
from sr_edge.resize import resize_bicubic

COUNT = 2
"""At most; and no more than one in LEAST_SHARE, so that they do not decide what few photographs should."""

LEAST_SHARE = 8
FINER = 4
"""So many times finer the edges are drawn."""


def hard_edged_patches(patches: Sequence[Batch]) -> list[Batch]:
    """Black and white twins of evenly chosen patches (1, channels, height, width) in [0, 1]; flat ones have none."""
    twins = [twin for twin in map(_twin, patches) if twin is not None]
    count = min(COUNT, max(1, len(patches) // LEAST_SHARE), len(twins))
    return [twins[index * len(twins) // count] for index in range(count)]


def _twin(patch: Batch) -> Batch | None:
    height, width = patch.shape[2:]
    gray = np.rint(255.0 * patch[0].mean(axis=0)).astype(np.uint8)[..., np.newaxis]
    fine = resize_bicubic(gray, FINER)[..., 0]
    middle = np.median(fine)
    is_white = fine > middle if (fine > middle).any() else fine >= middle  # most of a page may be white
    if is_white.all():
        return None
    small = is_white.astype(np.float32).reshape(height, FINER, width, FINER).mean(axis=(1, 3))
    levels = np.rint(255.0 * small)  # as a picture of 8 bits would hold it
    return np.ascontiguousarray(np.broadcast_to(levels / 255.0, patch.shape), np.float32)
