"""Writes means over the channels, as in channel-first LayerNorm, as 1x1 convolutions with equal weights.

The channels of a pixel are far apart in memory, or in blocks, and not all runtimes reduce over them with vector
instructions. The convolution is one multiplication for each summand.
"""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.export.graph.view import GraphView, default_opset, integer_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import special_axes
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, OLDEST_OPSET, GraphEdit, constant_shape


def channel_means_as_convolutions(model: onnx.ModelProto) -> PassResult:
    """Writes each ReduceMean over the channels of an image as a 1x1 convolution to one channel."""
    if default_opset(model) < OLDEST_OPSET:
        return PassResult(model, False, f"the opset is older than {OLDEST_OPSET}")
    return GraphEdit(view_graph(model)).replace_each("ReduceMean", "1x1 convolutions", _replace)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    shape, dtype = constant_shape(view, node.input[0]), FLOAT_DTYPES.get(view.types.get(node.input[0], 0))
    if shape is None or len(shape) != 4 or dtype is None:
        return "its input is no float32 or float64 tensor of four axes with constant sizes"
    if special_axes(view, index) != [1] or not integer_attribute(node, "keepdims", 1):
        return "it is not over the channels alone, or removes their axis"
    chain = edit.replacing(index)
    weight = chain.constant(np.full((1, shape[1], 1, 1), 1 / shape[1], dtype), "weight")
    chain.add("Conv", [node.input[0], weight], output=node.output[0], kernel_shape=[1, 1])
    return ""
