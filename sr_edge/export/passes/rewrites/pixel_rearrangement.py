"""Writes a Reshape, Transpose and Reshape that move pixels into channels, or channels into pixels, as one operator.

DepthToSpace is what torch's pixel_shuffle does, in its form CRD, and in its form DCR what TensorFlow's depth_to_space
does. SpaceToDepth has one form, in which the channels are the innermost axis; torch's pixel_unshuffle has them as the
outermost one, so that the two agree for one channel only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from sr_edge.export.graph.view import GraphView, captured_tensors, integers_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, constant_shape, leaving_old_opsets


@leaving_old_opsets
def rearranged_pixels(model: onnx.ModelProto) -> PassResult:
    """Replaces each Reshape, Transpose and Reshape that is exactly DepthToSpace or SpaceToDepth."""
    view = view_graph(model)
    edit, fixed = GraphEdit(view), view.output_names | captured_tensors(model)
    replaced = 0
    for index, node in enumerate(view.nodes):
        if node.op_type != "Transpose":
            continue
        first, last = view.producer.get(node.input[0], -1), view.consumers.get(node.output[0], ())
        if first < 0 or len(last) != 1 or fixed & {node.input[0], node.output[0]} or len(view.readers(first)) != 1:
            continue
        if view.nodes[first].op_type == "Reshape" == view.nodes[last[0]].op_type:
            replaced += _replace(view, (first, index, last[0]), edit)
    if not replaced:
        return edit.result("no Reshape, Transpose and Reshape is exactly DepthToSpace or SpaceToDepth")
    return edit.result(f"{replaced} rearrangements of pixels are DepthToSpace or SpaceToDepth now")


def _replace(view: GraphView, indices: tuple[int, int, int], edit: GraphEdit) -> bool:
    """Replaces three nodes by one, if there is one; returns whether there is."""
    first, middle, last = (view.nodes[index] for index in indices)
    source, target = constant_shape(view, first.input[0]), constant_shape(view, last.output[0])
    split, order = constant_shape(view, first.output[0]), integers_attribute(middle, "perm")
    if source is None or target is None or split is None or len(source) != 4 or len(target) != 4:
        return False
    operation = _operation(source, target, split, order)
    if operation is None:
        return False
    operator, attributes = operation
    edit.replacing(indices[0])
    edit.replacing(indices[1])
    edit.replacing(indices[2]).add(operator, [first.input[0]], output=last.output[0], **attributes)
    return True


def _operation(
    source: Sequence[int], target: Sequence[int], split: Sequence[int], order: Sequence[int]
) -> tuple[str, dict[str, Any]] | None:
    """The operator and its attributes that does what the three nodes do to a tensor of the shape `source`, or None."""
    batch, channels, height, width = source
    if len(split) != 6 or batch != target[0]:
        return None
    if height < target[2] and target[2] % height == 0:
        factor = target[2] // height
        depth = channels // factor**2
        written = {
            "CRD": ((batch, depth, factor, factor, height, width), (0, 1, 4, 2, 5, 3)),
            "DCR": ((batch, factor, factor, depth, height, width), (0, 3, 4, 1, 5, 2)),
        }
        wanted = (batch, depth, height * factor, width * factor)
        for mode, (shape, moved) in written.items():
            if (tuple(split), tuple(order), tuple(target)) == (shape, moved, wanted):
                return "DepthToSpace", {"blocksize": factor, "mode": mode}
    elif height > target[2] and height % target[2] == 0:
        factor = height // target[2]
        shape = (batch, channels, target[2], factor, width // factor, factor)
        orders = [(0, 3, 5, 1, 2, 4), *([(0, 1, 3, 5, 2, 4)] if channels == 1 else [])]
        wanted = (batch, channels * factor**2, height // factor, width // factor)
        if (tuple(split), tuple(target)) == (shape, wanted) and tuple(order) in orders:
            return "SpaceToDepth", {"blocksize": factor}
    return None
