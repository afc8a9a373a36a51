"""Normalizations as means, products and sums, which compilers compute in the layout of the tensor, and their means.

The channels of a pixel are far apart in memory, or in blocks, and not all runtimes reduce over them with vector
instructions. A mean over the channels is a 1x1 convolution with equal weights: one multiplication for each summand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, integer_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import special_axes
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, NodeChain, constant_shape, leaving_old_opsets

_OPSET_OF_AXES_INPUT = 18
"""Since this opset, the axes of ReduceMean are an input."""


@leaving_old_opsets
def channel_means_as_convolutions(model: onnx.ModelProto) -> PassResult:
    """Writes each ReduceMean over the channels of an image as a 1x1 convolution to one channel."""
    return GraphEdit(view_graph(model)).replace_each("ReduceMean", "1x1 convolutions", _replace_mean)


def _replace_mean(view: GraphView, index: int, edit: GraphEdit) -> str:
    node = view.nodes[index]
    shape, dtype = constant_shape(view, node.input[0]), FLOAT_DTYPES.get(view.types.get(node.input[0], 0))
    if shape is None or len(shape) != 4 or dtype is None:
        return "its input is not a float32 or float64 tensor of four axes with constant sizes"
    if special_axes(view, index) != [1] or not integer_attribute(node, "keepdims", 1):
        return "it is not over the channels alone, or removes their axis"
    if shape[2:] == (1, 1):
        return "it is over the channels of one pixel"
    chain = edit.replacing(index)
    weight = chain.constant(np.full((1, shape[1], 1, 1), 1 / shape[1], dtype), "weight")
    chain.add("Conv", [node.input[0], weight], output=node.output[0], kernel_shape=[1, 1])
    return ""


@dataclass(frozen=True)
class Normalization:
    """What a normalization computes: (x - mean) / sqrt(variance + epsilon) * scale + bias.

    Attributes:
        axes: the axes over which mean and variance are taken, one after the other, because runtimes add up many numbers
            in long sequences, which round more than several short ones.
        epsilon: the number that is added to the variance.
        dtype: the type of the tensors.
        scale: the factors, of a shape that is broadcast with the tensor; None for no factors.
        bias: the summands; None for none.
        mixing: the weight of a 1x1 convolution of all means, with which means of channels become means of groups.
    """

    axes: tuple[int, ...]
    epsilon: float
    dtype: np.dtype[np.generic]
    scale: Constant | None = None
    bias: Constant | None = None
    mixing: Constant | None = None


def add_normalization(chain: NodeChain, tensor: str, norm: Normalization, *, output: str = "") -> str:
    """Adds the nodes of a normalization with the variance of the centred values; returns the name of its output."""
    centred = chain.add("Sub", [tensor, _mean(chain, tensor, norm)])
    variance = _mean(chain, chain.add("Mul", [centred, centred]), norm)
    epsilon = chain.constant(np.array(norm.epsilon, norm.dtype), "epsilon")
    deviation = chain.add("Sqrt", [chain.add("Add", [variance, epsilon])])
    steps = [("Div", deviation)]
    if norm.scale is not None:
        steps.append(("Mul", chain.constant(norm.scale, "scale")))
    if norm.bias is not None:
        steps.append(("Add", chain.constant(norm.bias, "bias")))
    result = centred
    for operator, operand in steps[:-1]:
        result = chain.add(operator, [result, operand])
    return chain.add(steps[-1][0], [result, steps[-1][1]], output=output)


def add_mean(chain: NodeChain, tensor: str, axis: int) -> str:
    """Adds a ReduceMean that keeps the axis."""
    if chain.opset < _OPSET_OF_AXES_INPUT:
        return chain.add("ReduceMean", [tensor], axes=[axis], keepdims=1)
    return chain.add("ReduceMean", [tensor, chain.constant(np.array([axis], np.int64), "axes")], keepdims=1)


def _mean(chain: NodeChain, tensor: str, norm: Normalization) -> str:
    mean = tensor
    for axis in norm.axes:
        mean = add_mean(chain, mean, axis)
    if norm.mixing is None:
        return mean
    return chain.add("Conv", [mean, chain.constant(norm.mixing, "means_of_groups")])
