"""Between the caller's arrays and the graph's: uint8 HWC frames and float NCHW batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from sr_edge.errors import TileError, UsageError
from sr_edge.frames import batch_from_frame, frame_from_batch
from sr_edge.runtimes.session import Batch, Frame, SessionRequest
from sr_edge.spec import FrameFormat, TileSpec

Tile = Batch | Frame
"""An array as a graph takes and gives it: float32 (1, 3, height, width), or uint8 (1, height, width, 3)."""


def empty_tile(io: FrameFormat, tile: TileSpec) -> Tile:
    """A new array in the graph's format, not cleared."""
    shape = graph_shape(io, tile)
    return np.empty(shape, np.float32) if io is FrameFormat.FLOAT_NCHW else np.empty(shape, np.uint8)


def format_of(frames: object, tile: TileSpec) -> FrameFormat:
    """The format of a caller's array.

    Raises:
        UsageError: neither float32 NCHW nor uint8 HWC.
        TileError: the shape is not that of `tile`.
    """
    shapes = {
        FrameFormat.FLOAT_NCHW: (1, 3, tile.height, tile.width),
        FrameFormat.UINT8_NHWC: (tile.height, tile.width, 3),
    }
    accepted = "float32 {} in [0, 1] or uint8 {}".format(*shapes.values())
    if not isinstance(frames, np.ndarray):
        raise UsageError(
            f"frames of type {type(frames).__name__} are not a numpy array",
            found=type(frames).__name__,
            wanted="ndarray",
            remedy=f"pass a numpy array, {accepted}",
        )
    if frames.dtype not in (np.float32, np.uint8):
        raise UsageError(
            f"frames are {frames.dtype} {frames.shape}, but a session accepts float32 and uint8 only",
            found=str(frames.dtype),
            wanted=("float32", "uint8"),
            remedy=f"convert them to {accepted}",
        )
    io = FrameFormat.FLOAT_NCHW if frames.dtype == np.float32 else FrameFormat.UINT8_NHWC
    if frames.shape != shapes[io]:
        raise TileError(
            f"frames are {frames.dtype} {frames.shape}, but the tile of this session is {tile}",
            found=frames.shape,
            wanted=shapes[io],
            remedy=f"pass {accepted}, and cut larger pictures into tiles",
        )
    return io


def graph_shape(io: FrameFormat, tile: TileSpec) -> tuple[int, int, int, int]:
    """Shape of a tile as a graph in the format `io` takes or gives it."""
    return (1, 3, tile.height, tile.width) if io is FrameFormat.FLOAT_NCHW else (1, tile.height, tile.width, 3)


def require_graph(request: SessionRequest, found_in: Sequence[object], found_out: Sequence[object]) -> None:
    """Raises TileError unless a graph's input and output have the request's tile and scale.

    A dimension that is not an int is a dynamic one, which takes any size.
    """
    scaled = TileSpec(request.tile.height * request.card.scale, request.tile.width * request.card.scale)
    for name, found, tile in (("input", found_in, request.tile), ("output", found_out, scaled)):
        wanted = graph_shape(request.io, tile)
        fits = len(found) == 4 and all(
            size in (side, None) or isinstance(size, str) for size, side in zip(found, wanted, strict=True)
        )
        if not fits:
            raise TileError(
                f"the {name} of {request.artifact.name} has the shape {list(found)}, but tile {request.tile}, scale "
                f"{request.card.scale} and {request.io} frames need {list(wanted)}",
                found=tuple(found),
                wanted=wanted,
                remedy="open it with the tile, scale and frame format that it was exported with",
            )


def tile_from_frames(frames: Batch | Frame, io: FrameFormat) -> Tile:
    """The caller's `frames` in the graph's format; a view where they are that already."""
    is_float = frames.dtype == np.float32
    if io is FrameFormat.FLOAT_NCHW:
        return cast(Batch, frames) if is_float else batch_from_frame(cast(Frame, frames))
    return (frame_from_batch(cast(Batch, frames)) if is_float else cast(Frame, frames))[np.newaxis]


def frames_from_tile(tile: Tile, wanted: FrameFormat) -> Batch | Frame:
    """The graph's output as the caller wants it; a view of `tile` where it is that already."""
    is_float = tile.dtype == np.float32
    if wanted is FrameFormat.FLOAT_NCHW:
        return cast(Batch, tile) if is_float else batch_from_frame(cast(Frame, tile[0]))
    return cast(Frame, frame_from_batch(cast(Batch, tile)) if is_float else tile[0])
