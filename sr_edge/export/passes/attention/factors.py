"""Constant factors, such as the scale of attention scores, in the weights of the product that they are applied to.

A factor of a tensor is a factor of the product that computes it, whatever moves the elements in between, and a factor
of a matrix product is one of its left operand: c (q k) = (c q) k, and c (x W + b) = x (c W) + c b.
"""

from __future__ import annotations

import math

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, captured_tensors, view_graph
from sr_edge.export.passes.attention.product_columns import product_weight
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, leaving_old_opsets

_PASSING = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity"})


@leaving_old_opsets
def factors_in_weights(model: onnx.ModelProto) -> PassResult:
    """Multiplies the weights of products by the constant factor that their result is multiplied by."""
    view = view_graph(model)
    fixed = view.output_names | captured_tensors(view.model)
    factors: dict[int, float] = {}
    removed: list[int] = []
    for index in range(len(view.nodes)):
        source, factor = _split(view, view.nodes[index])
        product = None if factor is None else _scaled_product(view, source, fixed)
        if factor is not None and product is not None:
            factors[product] = factors.get(product, 1.0) * factor
            removed.append(index)
    if not removed:
        return PassResult(model, False, "no product with constant weights is multiplied by a constant number")
    edit = GraphEdit(view)
    for product, factor in factors.items():
        _scale(view, product, factor, edit)
    for index in removed:
        node = view.nodes[index]
        edit.replacing(index).pass_on(_split(view, node)[0], node.output[0])
    return edit.result(f"{len(removed)} constant factors are part of the weights of {len(factors)} products")


def _split(view: GraphView, node: onnx.NodeProto) -> tuple[str, float | None]:
    """The tensor that a Mul or Div applies a constant number to, and the factor; None for any other node."""
    if node.op_type not in ("Mul", "Div") or node.domain not in ("", "ai.onnx"):
        return "", None
    for at, tensor in enumerate(node.input):
        value = view.constants.get(tensor)
        if value is not None and value.size == 1 and (node.op_type == "Mul" or at == 1):
            number = float(value.ravel()[0])
            if node.op_type == "Div":
                number = 1 / number if number else math.nan
            source = node.input[1 - at]
            keeps_shape = view.shapes.get(source) is not None and view.shapes[source] == view.shapes.get(node.output[0])
            return source, number if math.isfinite(number) and keeps_shape else None
    return "", None


def _scaled_product(view: GraphView, tensor: str, fixed: frozenset[str]) -> int | None:
    """The product with constant weights whose result is, up to movement and other products, only this tensor."""
    while tensor not in fixed and len(view.consumers.get(tensor, ())) == 1:
        index = view.producer.get(tensor)
        if index is None:
            return None
        node = view.nodes[index]
        if product_weight(view, node) is not None:
            return index
        if node.domain not in ("", "ai.onnx") or node.op_type not in _PASSING | {"MatMul"}:
            return None
        if list(node.input).count(node.input[0]) > 1:  # a tensor times itself would get the factor twice
            return None
        tensor = node.input[0]
    return None


def _scale(view: GraphView, index: int, factor: float, edit: GraphEdit) -> None:
    chain, node = edit.replacing(index), view.nodes[index]
    copy = chain.copy()
    for at in range(1, len(node.input)):
        value = view.constants.get(node.input[at])
        if value is not None:
            copy.input[at] = chain.constant(_scaled(value, factor), "scaled")


def _scaled(value: Constant, factor: float) -> Constant:
    """The constant times the factor, rounded once to its own precision."""
    return np.asarray(value.astype(np.float64) * factor).astype(value.dtype)
