"""NV12 frames for tests, and their RGB pixels as libswscale gives them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sr_edge.camera.media.conversion import rgb_from_frame
from sr_edge.camera.media.frame import Colour, ColourRange, PixelFormat, VideoFrame
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import Nv12Frame

Array = npt.NDArray[np.uint8]


def colour_of(colour: Nv12Colour) -> Colour:
    return Colour(ColourRange.FULL if colour.is_full_range else ColourRange.LIMITED, 1 if colour.is_bt709 else 6)


def random_nv12(height: int, width: int, colour: Nv12Colour = Nv12Colour.BT709_LIMITED, seed: int = 0) -> VideoFrame:
    """Random samples within the ranges of the format, whose RGB values libswscale computes without an overflow.

    The chroma of the first three rows and columns is constant: there libswscale leaves out a tap of its filter.
    """
    generator = np.random.default_rng(seed)
    luma = generator.integers(60, 190, (height, width), np.uint8)
    chroma = generator.integers(70, 186, (height // 2, width // 2, 2), np.uint8)
    chroma[:3], chroma[:, :3] = 128, 128
    return VideoFrame((luma, chroma), PixelFormat.NV12, colour_of(colour))


def planes_of(frame: VideoFrame) -> Nv12Frame:
    return Nv12Frame(*frame.planes)


def rgb_of(frame: VideoFrame) -> Array:
    return rgb_from_frame(frame).astype(np.uint8, copy=False)


def largest_difference(actual: npt.NDArray[np.uint8], expected: npt.NDArray[np.uint8]) -> int:
    return int(np.abs(actual.astype(int) - expected.astype(int)).max())
