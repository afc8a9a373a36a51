"""The display matrix of a stream, and frames rotated and mirrored as players show them."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from sr_edge.camera.media.conversion import reformatted
from sr_edge.camera.media.frame import Chroma, PixelFormat, VideoFrame

Matrix = tuple[int, ...]
"""FFmpeg's display matrix, nine fixed-point numbers in row-major order. It maps the decoded column and row of a sample,
as a row vector, to its column and row when shown."""


def display_matrix(av_frame: Any) -> Matrix | None:
    """The display matrix of a decoded frame; None if the frame is shown as it is."""
    data = av_frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else struct.unpack("=9i", bytes(data))


def upright(frame: VideoFrame, matrix: Matrix | None) -> VideoFrame:
    """Rotates and mirrors a frame as players show it.

    Args:
        frame: the frame, as it was decoded.
        matrix: multiples of 90 degrees and mirrors are applied; any other matrix leaves the frame as it is.

    Returns:
        A frame whose planes are views. 4:2:2 becomes 4:4:4 if width and height are exchanged.
    """
    column_axis, row_axis = ((0, 0), (0, 0)) if matrix is None else (matrix[0:2], matrix[3:5])
    if any(column_axis) and any(row_axis) and column_axis[0] == row_axis[1] == 0:
        if frame.format.chroma is Chroma.C422:
            frame = reformatted(frame, PixelFormat.I444 if frame.format.bits == 8 else PixelFormat.I444_10)
        planes = tuple(plane.swapaxes(0, 1) for plane in frame.planes)
        return _mirrored(frame.with_planes(planes), row_axis[0] < 0, column_axis[1] < 0)
    if any(column_axis) and any(row_axis) and column_axis[1] == row_axis[0] == 0:
        return _mirrored(frame, column_axis[0] < 0, row_axis[1] < 0)
    return frame


def _mirrored(frame: VideoFrame, flips_columns: bool, flips_rows: bool) -> VideoFrame:
    axes = tuple(axis for axis, is_flipped in ((1, flips_columns), (0, flips_rows)) if is_flipped)
    return frame.with_planes(tuple(np.flip(plane, axes) for plane in frame.planes)) if axes else frame
