"""Writes PRelu as operators that every compiler fuses with others.

PRelu(x) = max(x, 0) + slope * min(x, 0), to the last bit: one of the two summands is zero. Compilers that compute PRelu
with few channels as a layer of its own reorder the tensor around it.
"""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.export.graph.view import GraphView, default_opset, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, OLDEST_OPSET, GraphEdit


def prelu_as_minimum(model: onnx.ModelProto) -> PassResult:
    """Writes each PRelu as Relu, Min, Mul and Add."""
    if default_opset(model) < OLDEST_OPSET:
        return PassResult(model, False, f"the opset is older than {OLDEST_OPSET}")
    return GraphEdit(view_graph(model)).replace_each("PRelu", "sums of Relu and Min", _replace)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    value, slope = node.input
    dtype = FLOAT_DTYPES.get(view.types.get(value, 0))
    if dtype is None:
        return "its input is neither float32 nor float64"
    chain = edit.replacing(index)
    negative = chain.add("Min", [value, chain.constant(np.array(0, dtype), "zero")])
    chain.add("Add", [chain.add("Relu", [value]), chain.add("Mul", [negative, slope])], output=node.output[0])
    return ""
