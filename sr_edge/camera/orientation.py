"""How players turn and mirror what was decoded, and frames turned in that way."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from sr_edge.camera.conversion import reformatted
from sr_edge.camera.frame import Chroma, PixelFormat, VideoFrame

Matrix = tuple[int, ...]
"""FFmpeg's display matrix, nine fixed-point numbers by rows: column and row of a sample times it are its place when
shown."""


def display_matrix(picture: Any) -> Matrix | None:
    """That of FFmpeg's frame; None where it is shown as it is."""
    data = picture.side_data.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data))


def upright(frame: VideoFrame, matrix: Matrix | None) -> VideoFrame:
    """The frame as players show it, for quarter turns and mirrors; other matrices leave it as it is.

    Its planes are views. Where a turn would swap the sides of 4:2:2 samples the result is 4:4:4.
    """
    columns_to, rows_to = ((0, 0), (0, 0)) if matrix is None else (matrix[0:2], matrix[3:5])
    if any(columns_to) and any(rows_to) and columns_to[0] == rows_to[1] == 0:
        if frame.format.chroma is Chroma.C422:
            frame = reformatted(frame, PixelFormat.I444 if frame.format.bits == 8 else PixelFormat.I444_10)
        planes = tuple(plane.swapaxes(0, 1) for plane in frame.planes)
        return _mirrored(frame.with_planes(planes), rows_to[0] < 0, columns_to[1] < 0)
    if any(columns_to) and any(rows_to) and columns_to[1] == rows_to[0] == 0:
        return _mirrored(frame, columns_to[0] < 0, rows_to[1] < 0)
    return frame


def _mirrored(frame: VideoFrame, left_to_right: bool, top_to_bottom: bool) -> VideoFrame:
    axes = tuple(axis for axis, wanted in ((1, left_to_right), (0, top_to_bottom)) if wanted)
    return frame.with_planes(tuple(np.flip(plane, axes) for plane in frame.planes)) if axes else frame
