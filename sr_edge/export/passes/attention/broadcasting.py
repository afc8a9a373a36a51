"""Expand nodes in front of operators that broadcast on their own, such as the norms of cosine attention."""

from __future__ import annotations

import onnx

from sr_edge.export.graph.view import GraphView, captured_tensors, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, constant_shape, leaving_old_opsets

_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Where", "Equal", "Less", "Greater"})


@leaving_old_opsets
def broadcast_without_expand(model: onnx.ModelProto) -> PassResult:
    """Removes each Expand of which every reader broadcasts the smaller tensor to the same shape."""
    view = view_graph(model)
    edit, fixed, removed = GraphEdit(view), view.output_names | captured_tensors(model), 0
    for index, node in enumerate(view.nodes):
        is_expand = node.op_type == "Expand" and node.domain in ("", "ai.onnx") and node.output[0] not in fixed
        if is_expand and all(_broadcasts(view, reader, index) for reader in view.readers(index)):
            edit.replacing(index).pass_on(node.input[0], node.output[0])
            removed += 1
    return edit.result(
        f"removed {removed} Expand nodes whose readers broadcast"
        if removed
        else "no Expand has readers that all broadcast on their own"
    )


def _broadcasts(view: GraphView, reader: int, expand: int) -> bool:
    """Whether the output of a reader has the expanded shape because of another input, too."""
    node, (smaller, _), expanded = view.nodes[reader], view.nodes[expand].input, view.nodes[expand].output[0]
    shape, before = constant_shape(view, node.output[0]), constant_shape(view, smaller)
    if node.op_type not in _BROADCASTING or node.domain not in ("", "ai.onnx") or shape is None or before is None:
        return False
    others = [constant_shape(view, tensor) for tensor in node.input if tensor != expanded]
    return shape == constant_shape(view, expanded) and shape in others
