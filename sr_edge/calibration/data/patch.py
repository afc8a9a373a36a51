"""Patches, the pictures that a network is calibrated and measured on, and the types that all of calibration shares."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sr_edge.frames import Batch

Float32Array = npt.NDArray[np.float32]
"""Tensors, weights and scales of any shape."""

StepProgress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A low-resolution patch that calibration does not see, on which the loss by INT8 is measured.

    Attributes:
        patch: The patch in [0, 1].
        original: Its high-resolution original, if there is one.
        picture: The name of the picture that both were cut from.
    """

    patch: Batch
    original: Batch | None = None
    picture: str = ""

    def __repr__(self) -> str:
        height, width = self.patch.shape[2:]
        origin = f" of {self.picture}" if self.picture else ""
        return f"<HeldOut {height}x{width}{origin}{'' if self.original is None else ', with its original'}>"


def digest_of(batch: Batch) -> str:
    """The SHA-256 of the shape and the samples of a patch, in hexadecimal digits."""
    return hashlib.sha256(str(batch.shape).encode() + batch.tobytes()).hexdigest()
