"""Converts between the caller's arrays and the graph's: uint8 HWC frames and float NCHW batches.

Packed NV12 tiles (`sr_edge.nv12`) are uint8 (rows, columns, 1); only graphs that convert them take them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from sr_edge.errors import TileError, UsageError
from sr_edge.frames import Batch, Uint8Frame, batch_from_frame, frame_from_batch
from sr_edge.nv12.frames import nv12_shape
from sr_edge.runtimes.session import SessionRequest
from sr_edge.spec import FrameFormat, TileSpec, count_of_channels

Tile = Batch | Uint8Frame
"""An input or output array of a graph: float32 (1, channels, height, width), or uint8 (1, height, width, channels)."""


def output_format(io: FrameFormat) -> FrameFormat:
    """The format of the output of a graph whose input has the format `io`: that of NV12 frames is uint8 NHWC."""
    return FrameFormat.UINT8_NHWC if io is FrameFormat.NV12 else io


def empty_tile(io: FrameFormat, tile: TileSpec, channels: int) -> Tile:
    """Allocates an uninitialized array in the format `io`."""
    shape = graph_shape(io, tile, channels)
    return np.empty(shape, np.float32) if io is FrameFormat.FLOAT_NCHW else np.empty(shape, np.uint8)


def format_of(frames: object, io: FrameFormat, tile: TileSpec, channels: int) -> FrameFormat:
    """Checks a caller's array for a graph of the format `io`, and returns the format of the array.

    Raises:
        UsageError: it is neither float32 NCHW nor uint8 HWC.
        TileError: the shape is not that of `tile` with `channels`.
    """
    shapes: dict[FrameFormat, tuple[int, ...]] = {
        FrameFormat.FLOAT_NCHW: (1, channels, tile.height, tile.width),
        FrameFormat.UINT8_NHWC: (tile.height, tile.width, channels),
    }
    accepted = "float32 {} in [0, 1] or uint8 {}".format(*shapes.values())
    if io is FrameFormat.NV12:
        shapes = {io: nv12_shape(tile)}
        accepted = f"uint8 {shapes[io]}, a packed NV12 tile with its margin"
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
    given = FrameFormat.FLOAT_NCHW if frames.dtype == np.float32 else FrameFormat.UINT8_NHWC
    given = io if io is FrameFormat.NV12 and given is FrameFormat.UINT8_NHWC else given
    if frames.shape != shapes.get(given):
        raise TileError(
            f"frames are {frames.dtype} {frames.shape}, but the tile of this session is {tile} with "
            f"{count_of_channels(channels)}",
            found=frames.shape,
            wanted=shapes.get(given, accepted),
            remedy=f"pass {accepted}; Upscaler cuts images of any size and number of channels into such tiles",
        )
    return given


def graph_shape(io: FrameFormat, tile: TileSpec, channels: int) -> tuple[int, int, int, int]:
    """Shape of a graph's input in the format `io`, or of its output in the `output_format`."""
    if io is FrameFormat.NV12:
        return (1, *nv12_shape(tile))
    if io is FrameFormat.FLOAT_NCHW:
        return (1, channels, tile.height, tile.width)
    return (1, tile.height, tile.width, channels)


def require_graph(request: SessionRequest, input_shape: Sequence[object], output_shape: Sequence[object]) -> None:
    """Raises TileError unless the shapes of a graph match the tile, scale and channels of the request.

    A dimension that is None or a name is dynamic and accepts any size.
    """
    scaled = TileSpec(request.tile.height * request.card.scale, request.tile.width * request.card.scale)
    ends = (
        ("input", input_shape, request.io, request.tile),
        ("output", output_shape, output_format(request.io), scaled),
    )
    for name, shape, io, tile in ends:
        required = graph_shape(io, tile, request.card.channels)
        matches = len(shape) == 4 and all(
            size in (expected, None) or isinstance(size, str) for size, expected in zip(shape, required, strict=True)
        )
        if not matches:
            raise TileError(
                f"the {name} of {request.artifact.name} has the shape {list(shape)}, but tile {request.tile}, scale "
                f"{request.card.scale}, {count_of_channels(request.card.channels)} and {request.io} frames need "
                f"{list(required)}",
                found=tuple(shape),
                wanted=required,
                remedy="open it with the tile, model card and frame format that it was exported with",
            )


def tile_from_frames(frames: Batch | Uint8Frame, io: FrameFormat) -> Tile:
    """Converts the caller's `frames`, which `format_of` has checked, to the graph's format; a view where possible."""
    is_float = frames.dtype == np.float32
    if io is FrameFormat.FLOAT_NCHW:
        return cast(Batch, frames) if is_float else batch_from_frame(cast(Uint8Frame, frames))
    return (frame_from_batch(cast(Batch, frames)) if is_float else cast(Uint8Frame, frames))[np.newaxis]


def frames_from_tile(tile: Tile, io: FrameFormat) -> Batch | Uint8Frame:
    """Converts the graph's output to the caller's format `io`; a view of `tile` where it is in it already."""
    is_float = tile.dtype == np.float32
    if io is FrameFormat.FLOAT_NCHW:
        return cast(Batch, tile) if is_float else batch_from_frame(cast(Uint8Frame, tile[0]))
    return cast(Uint8Frame, frame_from_batch(cast(Batch, tile)) if is_float else tile[0])
