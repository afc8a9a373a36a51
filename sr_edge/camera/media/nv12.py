"""Frames for graphs that convert NV12 to RGB themselves: whether such a graph takes a frame, and its planes."""

from __future__ import annotations

import numpy as np

from sr_edge.camera.media.conversion import assumed_matrix
from sr_edge.camera.media.frame import ColourRange, PixelFormat, Plane, VideoFrame
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import TileSpec

_MATRICES = {1: "bt709", 5: "bt601", 6: "bt601"}
"""By the matrix coefficients of ITU-T H.273."""


def nv12_obstacle(frame: VideoFrame, colour: Nv12Colour, tile: TileSpec) -> str:
    """Why a graph that takes NV12 frames cannot take this one; empty if it can.

    Args:
        frame: The frame. 4:2:0 with separate chroma planes has the same samples as NV12.
        colour: Matrix and range for which the graph was made.
        tile: The tile of the graph.

    Raises:
        FrameError: The matrix of the frame is not supported at all.
    """
    if frame.format not in (PixelFormat.NV12, PixelFormat.I420):
        return f"they are {frame.format} instead of nv12 or yuv420p"
    if frame.width % 2 or frame.height % 2:
        return f"their size is {frame.width}x{frame.height}, which is odd"
    if frame.width < tile.width or frame.height < tile.height:
        return f"their size is {frame.width}x{frame.height}, which is less than the tile {tile}"
    matrix = assumed_matrix(frame)
    levels = "full" if frame.colour.range is ColourRange.FULL else "limited"
    found = f"{_MATRICES.get(matrix, f'matrix {matrix}')}-{levels}"
    return "" if found == colour else f"their colour is {found}, but that of the graph is {colour}"


def nv12_planes(frame: VideoFrame) -> tuple[Plane, Plane]:
    """Luma (height, width) and interleaved chroma (height / 2, width / 2, 2) of an 8-bit 4:2:0 frame.

    Views of the frame's memory, except for the chroma of a format with separate chroma planes.
    """
    luma, *chroma = frame.planes
    interleaved = chroma[0] if len(chroma) == 1 else np.stack(chroma, axis=-1)
    return luma, interleaved
