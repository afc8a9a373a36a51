"""Bicubic downscaling as by MATLAB's `imresize`, the classical degradation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sr_edge.frames import Uint8Frame
from sr_edge.resize import downscale_bicubic


@dataclass(frozen=True)
class Bicubic:
    """A `Degradation` by bicubic downscaling alone."""

    name: str = "bicubic"
    is_fixed: bool = True
    halo_px: int = 0

    def degrade(self, hr: Uint8Frame, scale: int, random: np.random.Generator) -> Uint8Frame:
        return downscale_bicubic(hr, scale)

    def test_pictures(self, hr: Uint8Frame, scale: int, index: int) -> dict[str, Uint8Frame]:
        return {"": downscale_bicubic(hr, scale)}


BICUBIC = Bicubic()
