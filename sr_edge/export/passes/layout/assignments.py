"""Writes the assignment of a slice, which exporters express with ScatterND, as a Concat.

`x[:, :8] = f(x[:, :8])` is a ScatterND whose constant indices are all positions of the slice. If the slice is a range
of one axis, the result is the part in front of it, the new values and the part behind it, to the last bit.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, text_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, NodeChain, constant_shape, leaving_old_opsets


@leaving_old_opsets
def assignment_as_concat(model: onnx.ModelProto) -> PassResult:
    """Writes each ScatterND that replaces a range of one axis as Slice and Concat."""
    return GraphEdit(view_graph(model)).replace_each("ScatterND", "Concat", _replace)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    target, positions, values = node.input
    shape, indices = constant_shape(view, target), view.constants.get(positions)
    if shape is None or indices is None or text_attribute(node, "reduction", "none") != "none":
        return "its shape or its indices are not constant, or it combines values"
    assigned_range = _assigned_range(indices, shape)
    if assigned_range is None:
        return "its indices are not those of a range of one axis"
    axis, start, stop = assigned_range
    chain = edit.replacing(index)
    part = (*shape[:axis], stop - start, *shape[axis + 1 :])
    middle = values if constant_shape(view, values) == part else chain.reshape(values, part)
    parts = [
        *([_slice(chain, target, axis, 0, start)] if start else []),
        middle,
        *([_slice(chain, target, axis, stop, shape[axis])] if stop < shape[axis] else []),
    ]
    chain.add("Concat", parts, output=node.output[0], axis=axis)
    return ""


def _assigned_range(indices: Constant, shape: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The axis, start and end of the range that is replaced; None if the indices are in another order or set."""
    depth = indices.shape[-1]
    sizes = np.array(shape[:depth])
    numbers = indices.astype(np.int64)
    rows = np.where(numbers < 0, numbers + sizes, numbers).reshape(-1, depth)
    if not len(rows) or not depth:
        return None
    first, last = rows[0], rows[-1]
    counts = last - first + 1
    partial = [axis for axis in range(depth) if counts[axis] != sizes[axis]]
    axis = partial[0] if partial else depth - 1
    if len(partial) > 1 or np.any(counts < 1) or math.prod(map(int, counts)) != len(rows):
        return None
    grid = np.indices([int(count) for count in counts]).reshape(depth, -1).T + first
    return (axis, int(first[axis]), int(last[axis]) + 1) if np.array_equal(grid, rows) else None


def _slice(chain: NodeChain, tensor: str, axis: int, start: int, stop: int) -> str:
    """Adds a Slice of one axis."""
    bounds = [chain.constant(np.array([number], np.int64), "bound") for number in (start, stop, axis)]
    return chain.add("Slice", [tensor, *bounds])
