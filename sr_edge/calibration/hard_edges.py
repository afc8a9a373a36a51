"""Patches in black and white, made of the calibration patches: text and drawings drive a network further than photos.

Ranges that photographs alone were measured on saturate at lettering: INT8 then loses half a decibel and more there, and
nothing anywhere else. Two such patches among forty end that. They are drawn at a finer resolution and made small, as
the edges of real pictures are; edges as sharp as a pixel would widen the ranges beyond anything that occurs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sr_edge.calibration.watched import Batch
from sr_edge.resize import resize_bicubic

COUNT = 2
FINER = 4
"""So many times finer the edges are drawn."""


def hard_edged(patches: Sequence[Batch]) -> list[Batch]:
    """COUNT twins of evenly chosen patches (1, channels, height, width) in [0, 1], black and white at their medians."""
    count = min(COUNT, len(patches))
    return [_twin(patches[index * len(patches) // count]) for index in range(count)]


def _twin(patch: Batch) -> Batch:
    height, width = patch.shape[2:]
    gray = np.rint(255.0 * patch[0].mean(axis=0)).astype(np.uint8)[..., np.newaxis]
    fine = resize_bicubic(gray, FINER)[..., 0]
    drawn = (fine > np.median(fine)).astype(np.float32)
    small = drawn.reshape(height, FINER, width, FINER).mean(axis=(1, 3))
    levels = np.rint(255.0 * small)  # as a picture of 8 bits would hold it
    return np.broadcast_to(levels / 255.0, patch.shape).astype(np.float32)
