"""What every way of degrading offers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


class Degradation(Protocol):
    """Makes low-resolution pictures, uint8 RGB, of originals whose sides are multiples of the scale."""

    @property
    def name(self) -> str: ...

    @property
    def is_fixed(self) -> bool:
        """Nothing is drawn: one original has one low-resolution half."""
        ...

    @property
    def halo_px(self) -> int:
        """How many low-resolution pixels around a crop its own pixels depend on."""
        ...

    def degrade(self, hr: Frame, scale: int, random: np.random.Generator) -> Frame:
        """One drawn version to learn from: (height / scale, width / scale, 3), or 6 for two pictures of one place."""
        ...

    def test_pictures(self, hr: Frame, scale: int, index: int) -> dict[str, Frame]:
        """The versions to measure on, always the same for the picture number `index`, by what tells them apart."""
        ...
