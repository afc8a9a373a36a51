"""Writes a cumulative sum as a product with a constant triangular matrix.

A CumSum runs as a sequential loop where a runtime has no kernel for it, and TensorRT from 10.8 on confuses several of
them (`sr_edge.export.checks.tensorrt_rules`). A product sums the same elements, in the order of the runtime's matrix
multiplication. Values that are not finite reach the whole axis then, since 0 times infinity is not a number.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from sr_edge.export.graph.view import GraphView, integer_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, constant_shape

MAX_LENGTH = 1024
"""Longest axis that is rewritten; its triangle has 4 MB in float32."""


def cumulative_sum_as_product(model: onnx.ModelProto) -> PassResult:
    """Replaces each CumSum over a constant axis of at most `MAX_LENGTH` elements by a MatMul."""
    return GraphEdit(view_graph(model)).replace_each("CumSum", "products with a constant triangle", _replace)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    """Replaces one node; returns why it cannot be, or ""."""
    node = view.nodes[index]
    source, target = node.input[0], node.output[0]
    sizes, axis = constant_shape(view, source), view.constants.get(node.input[1])
    dtype = FLOAT_DTYPES.get(view.types.get(source, 0))
    if axis is None or dtype is None:
        return "its axis is computed" if axis is None else "its elements are not float32 or float64"
    if not sizes:
        return "its shape is not constant"
    at = int(axis.ravel()[0]) % len(sizes)
    length = sizes[at]
    if length > MAX_LENGTH:
        return f"its axis has {length} elements, more than {MAX_LENGTH}"
    exclusive, is_reverse = integer_attribute(node, "exclusive", 0), integer_attribute(node, "reverse", 0)
    triangle = np.tril(np.ones((length, length), dtype), -1 if exclusive else 0)  # row i sums the elements up to i
    matrix = triangle.T if is_reverse else triangle
    chain = edit.replacing(index)
    if at == len(sizes) - 1:
        chain.add("MatMul", [source, chain.constant(matrix.T, "triangle")], output=target)
    elif at == len(sizes) - 2:
        chain.add("MatMul", [chain.constant(matrix, "triangle"), source], output=target)
    else:
        merged = chain.reshape(source, [*sizes[: at + 1], math.prod(sizes[at + 1 :])])
        chain.reshape(chain.add("MatMul", [chain.constant(matrix, "triangle"), merged]), sizes, output=target)
    return ""
