"""Writes activations as operators that runtimes compute fast or fuse with others.

PRelu(x) = max(x, 0) + slope * min(x, 0), to the last bit: one of the two summands is zero. Compilers that compute PRelu
as a layer of its own reorder the tensor around it. With equal slopes it is LeakyRelu, which more of them fuse.

Mish(x) = x * tanh(softplus(x)), which exporters write with Softplus and Tanh. With the sigmoid s of x and n = s(2 - s),
tanh(softplus(x)) = n / (2 - n), since it is ((1 + exp x)^2 - 1) / ((1 + exp x)^2 + 1) and s = 1 - 1 / (1 + exp x). All
values are between 0 and 2, and no digits cancel where x is negative. ONNX Runtime computes Sigmoid with vector
instructions and Softplus without.
"""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.export.graph.view import GraphView, captured_tensors, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, constant_shape, leaving_old_opsets

_NO_FLOAT = "its input is neither float32 nor float64"


@leaving_old_opsets
def prelu_as_minimum(model: onnx.ModelProto) -> PassResult:
    """Writes each PRelu as Relu, Min, Mul and Add, or as LeakyRelu if all of its slopes are equal."""
    return GraphEdit(view_graph(model)).replace_each("PRelu", "LeakyRelu or sums of Relu and Min", _replace_prelu)


@leaving_old_opsets
def mish_as_sigmoid(model: onnx.ModelProto) -> PassResult:
    """Writes each tanh(softplus(x)), the factor of Mish, with Sigmoid."""
    return GraphEdit(view_graph(model)).replace_each("Softplus", "quotients of Sigmoid", _replace_softplus)


def _replace_prelu(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    value, slope = node.input
    dtype = FLOAT_DTYPES.get(view.types.get(value, 0))
    if dtype is None:
        return _NO_FLOAT
    chain = edit.replacing(index)
    factor = _only_slope(view, node)
    if factor is not None:
        chain.add("LeakyRelu", [value], output=node.output[0], alpha=factor)
        return ""
    negative = chain.add("Min", [value, chain.constant(np.array(0, dtype), "zero")])
    chain.add("Add", [chain.add("Relu", [value]), chain.add("Mul", [negative, slope])], output=node.output[0])
    return ""


def _only_slope(view: GraphView, node: onnx.NodeProto) -> float | None:
    """The slope of a PRelu if it is the same for all elements, and a number that an attribute represents exactly."""
    slope = view.constants.get(node.input[1])
    if slope is None or constant_shape(view, node.input[0]) != constant_shape(view, node.output[0]):
        return None
    number = np.ravel(slope)[:1].astype(np.float32)
    return float(number[0]) if number.size and np.all(slope == number) else None


def _replace_softplus(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    dtype = FLOAT_DTYPES.get(view.types.get(node.input[0], 0))
    readers = view.consumers.get(node.output[0], ())
    if dtype is None:
        return _NO_FLOAT
    if node.output[0] in view.output_names | captured_tensors(view.model) or [
        view.nodes[reader].op_type for reader in readers
    ] != ["Tanh"]:
        return "it is not read by one Tanh alone"
    chain = edit.replacing(index)
    two = chain.constant(np.array(2, dtype), "two")
    sigmoid = chain.add("Sigmoid", [node.input[0]])
    numerator = chain.add("Mul", [sigmoid, chain.add("Sub", [two, sigmoid])])
    denominator = chain.add("Sub", [two, numerator])
    chain.add("Div", [numerator, denominator], output=view.nodes[readers[0]].output[0])
    edit.replacing(readers[0])
    return ""
