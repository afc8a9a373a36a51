"""Writes an assignment to the elements of a mask as a selection between two whole tensors.

`hue[mask] = 4 + shade[mask]` is traced as NonZero, whose number of positions depends on the image, GatherND, the
arithmetic on as many elements, and ScatterND. The same arithmetic on all elements, of which Where takes those of the
mask, has constant shapes, and every target runs it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    integer_attribute,
    integers_attribute,
    text_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, NodeChain, constant_integers, constant_shape

_ELEMENTWISE = frozenset({
    "Abs", "Add", "Cast", "Ceil", "Clip", "Cos", "Div", "Erf", "Exp", "Floor", "LeakyRelu", "Log", "Max", "Min", "Mul",
    "Neg", "Pow", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Sqrt", "Sub", "Tanh",
})  # fmt: skip


def assignment_as_selection(model: onnx.ModelProto) -> PassResult:
    """Replaces each ScatterND at the positions of a mask by Where, and removes what only computed the positions."""
    view = view_graph(model)
    edit = GraphEdit(view)
    scatters = [index for index, node in enumerate(view.nodes) if node.op_type == "ScatterND"]
    replaced = [index for index in scatters if _replace(view, index, edit)]
    if not replaced:
        return edit.result("no ScatterND assigns to the elements of a mask")
    edit.remove_unused_nodes()
    return edit.result(f"{len(replaced)} assignments to the elements of a mask are selections now")


def _replace(view: GraphView, index: int, edit: GraphEdit) -> bool:
    """Replaces one node; returns whether it could be."""
    node = view.nodes[index]
    data, positions, updates = node.input
    mask = _mask_of(view, positions)
    if mask is None or text_attribute(node, "reduction", "none") != "none":
        return False
    shape = constant_shape(view, data)
    if shape is None or shape != constant_shape(view, mask):
        return False
    masked = _Masked(view, positions, shape)
    if not masked.is_whole(updates):
        return False
    chain = edit.replacing(index)
    chain.add("Where", [mask, masked.whole(updates, chain), data], output=node.output[0])
    return True


def _mask_of(view: GraphView, positions: str) -> str | None:
    """The mask of which a tensor has the positions of all elements that are true; None where it is something else."""
    transpose = _node(view, positions, "Transpose")
    if transpose is None or integers_attribute(transpose, "perm") != [1, 0]:
        return None
    nonzero = _node(view, transpose.input[0], "NonZero")
    is_mask = nonzero is not None and view.types.get(nonzero.input[0]) == onnx.TensorProto.BOOL
    return nonzero.input[0] if nonzero is not None and is_mask else None


def _node(view: GraphView, tensor: str, operator: str) -> onnx.NodeProto | None:
    node = view.nodes[view.producer[tensor]] if tensor in view.producer else None
    return node if node is not None and node.op_type == operator else None


@dataclass(frozen=True)
class _Masked:
    """Lists of the elements at the positions of a mask, and the whole tensors that they are taken from."""

    view: GraphView
    positions: str
    shape: tuple[int, ...]

    def is_whole(self, tensor: str) -> bool:
        """Whether a list is computed element by element from whole tensors of the shape of the mask and numbers."""
        constant = self.view.constants.get(tensor)
        if constant is not None:
            return constant.size == 1 and constant.ndim < 2
        if tensor not in self.view.producer:
            return False
        node = self.view.nodes[self.view.producer[tensor]]
        if node.op_type == "GatherND":
            is_same = node.input[1] == self.positions and not integer_attribute(node, "batch_dims", 0)
            return is_same and constant_shape(self.view, node.input[0]) == self.shape
        if node.op_type == "Slice":
            return self._is_everything(node) and self.is_whole(node.input[0])
        return node.op_type in _ELEMENTWISE and all(self.is_whole(each) for each in node.input if each)

    def whole(self, tensor: str, chain: NodeChain) -> str:
        """Adds the nodes that compute the whole tensor of a list, and returns its name."""
        if tensor in self.view.constants:
            return tensor
        node = self.view.nodes[self.view.producer[tensor]]
        if node.op_type == "GatherND":
            return node.input[0]
        if node.op_type == "Slice":
            return self.whole(node.input[0], chain)
        return chain.add_like(node, [self.whole(each, chain) if each else "" for each in node.input])

    def _is_everything(self, node: onnx.NodeProto) -> bool:
        """Whether a Slice takes all elements, from 0 to as many as there are positions, as the exporter writes it."""
        starts, axes = constant_integers(self.view, node, 1), constant_integers(self.view, node, 3)
        steps = constant_integers(self.view, node, 4)
        end = node.input[2]
        for operator in ("Unsqueeze", "Gather", "Shape"):
            counted = _node(self.view, end, operator)
            if counted is None:
                return False
            if operator == "Gather" and not np.array_equal(self.view.constants.get(counted.input[1], -1), 0):
                return False
            end = counted.input[0]
        return end == self.positions and starts == [0] and axes in ([], [0]) and steps in ([], [1])
