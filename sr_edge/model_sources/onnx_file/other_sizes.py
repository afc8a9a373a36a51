"""Lets a graph of one size take pictures of another size, if it computes the same there.

Many networks of convolutions are exported for one size although their operators take any. Others contain sizes in their
constants, such as windows, masks and the shapes of reshapes. Both are distinguished by running them: the two sizes are
cut from one picture with a common corner, and the results near that corner have to agree. Two opposite corners cover
every border. A network in which a pixel depends on others farther away than half of the smaller size is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from sr_edge.errors import ExportError, TileError
from sr_edge.export.graph.view import graph_inputs
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.picture_runs import PictureGraph
from sr_edge.model_sources.onnx_file.ports import Port
from sr_edge.model_sources.onnx_file.rewrites.float32 import with_float32
from sr_edge.model_sources.onnx_file.sizes import photograph
from sr_edge.spec import TileSpec

RELATIVE_TOLERANCE = 1e-4


def with_open_sizes(graph: PictureGraph, fixed: TileSpec, tile: TileSpec, scale: int, path: Path) -> onnx.ModelProto:
    """The graph with height and width as symbols, which was tried at `tile`.

    Args:
        graph: The graph as it is in the file.
        fixed: The only size that it declares.
        tile: The size that is wanted.
        scale: Magnification.
        path: The file, for the error message.

    Raises:
        TileError: The graph cannot run at that size, or computes something else there.
    """
    widened, _ = with_float32(graph.model)
    known = replace(graph, model=widened, input=graph.input.in_float32(), output=graph.output.in_float32())
    opened = replace(known, model=_with_symbolic_sizes(widened, graph.input.port))
    reason = _obstacle(known, opened, fixed, tile, scale)
    if reason:
        raise TileError(
            f"{path} takes tiles of {fixed} only, not of {tile}: {reason}",
            found=tile,
            wanted=fixed,
            remedy="leave --tile out, or export the network again with that size or with dynamic height and width",
        )
    return _with_symbolic_sizes(graph.model, graph.input.port)


def _with_symbolic_sizes(model: onnx.ModelProto, port: Port) -> onnx.ModelProto:
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    dims = next(value for value in graph_inputs(opened) if value.name == port.name).type.tensor_type.shape.dim
    for axis, name in zip(port.layout.axes[1:], ("height", "width"), strict=True):
        dims[axis].dim_param = name
    for output in opened.graph.output:
        output.type.tensor_type.ClearField("shape")
    opened.graph.ClearField("value_info")
    return opened


def _obstacle(known: PictureGraph, opened: PictureGraph, fixed: TileSpec, tile: TileSpec, scale: int) -> str:
    """Why the graph cannot be used at the other size, or ""."""
    try:
        for at_fixed, at_tile in _cuts_at_corners(known.input.port.channels, fixed, tile):
            expected, actual = known.run(at_fixed.picture), opened.run(at_tile.picture)
            wanted_shape = (*expected.shape[:2], scale * tile.height, scale * tile.width)
            if actual.shape != wanted_shape:
                return f"its graph contains the size of its output, {TileSpec(*actual.shape[2:])}"
            near, other = at_fixed.near_corner(expected, scale), at_tile.near_corner(actual, scale)
            tolerance = RELATIVE_TOLERANCE * max(1.0, float(np.abs(near).max()))
            if not float(np.abs(near - other).max()) <= tolerance:
                return "what it computes there differs, or a pixel depends on others farther away than half of the tile"
    except ExportError:
        return "its graph contains this size in its constants"
    return ""


class _Cut:
    """A part of a picture that shares a corner with another part.

    Args:
        picture: The part.
        is_last: Whether the corner is the one at the bottom right instead of the one at the top left.
        kept: The height and width of what is compared, from the corner on.
    """

    def __init__(self, picture: Batch, is_last: bool, kept: TileSpec) -> None:
        self.picture = picture
        self._is_last = is_last
        self._kept = kept

    def near_corner(self, upscaled: Batch, scale: int) -> Batch:
        return _corner(upscaled, TileSpec(scale * self._kept.height, scale * self._kept.width), self._is_last)


def _cuts_at_corners(channels: int, fixed: TileSpec, tile: TileSpec) -> Iterator[tuple[_Cut, _Cut]]:
    larger = TileSpec(max(fixed.height, tile.height), max(fixed.width, tile.width))
    kept = TileSpec(
        max(1, min(fixed.height, tile.height) // 2),
        max(1, min(fixed.width, tile.width) // 2),
    )
    picture = photograph(larger, channels)
    for is_last in (False, True):
        first, second = (_Cut(_corner(picture, size, is_last), is_last, kept) for size in (fixed, tile))
        yield first, second


def _corner(batch: Batch, size: TileSpec, is_last: bool) -> Batch:
    height, width = batch.shape[2:]
    top, left = (height - size.height, width - size.width) if is_last else (0, 0)
    return np.ascontiguousarray(batch[..., top : top + size.height, left : left + size.width])
