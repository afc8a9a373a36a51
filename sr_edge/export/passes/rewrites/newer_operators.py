"""Operators that came after opset 17, written with those of opset 17.

Each function writes the nodes for one node and returns why it cannot, or "".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    attribute,
    default_opset,
    integer_attribute,
    integers_attribute,
    text_attribute,
)
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, NodeChain, constant_integers, constant_shape

_SCALE_FOR_EACH_CHANNEL = 21
"""From this opset on, GroupNormalization has a scale for each channel instead of one for each group."""


def _gelu(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    x, dtype = node.input[0], _dtype(view, node)
    half, one = chain.constant(np.array(0.5, dtype), "half"), chain.constant(np.array(1.0, dtype), "one")
    if text_attribute(node, "approximate", "none") == "tanh":
        cube = chain.add("Mul", [chain.add("Mul", [x, x]), x])
        scaled = chain.add("Mul", [cube, chain.constant(np.array(0.044715, dtype), "cubic_factor")])
        total = chain.add("Add", [x, scaled])
        root = chain.constant(np.array(math.sqrt(2.0 / math.pi), dtype), "factor")
        curve = chain.add("Tanh", [chain.add("Mul", [total, root])])
    else:
        root = chain.constant(np.array(math.sqrt(2.0), dtype), "root")
        curve = chain.add("Erf", [chain.add("Div", [x, root])])
    product = chain.add("Mul", [x, chain.add("Add", [curve, one])])
    chain.add("Mul", [product, half], output=node.output[0])
    return ""


def _mish(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    curve = chain.add("Tanh", [chain.add("Softplus", [node.input[0]])])
    chain.add("Mul", [node.input[0], curve], output=node.output[0])
    return ""


def _swish(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    entry, x = attribute(node, "alpha"), node.input[0]
    alpha = 1.0 if entry is None else entry.f
    scaled = x if alpha == 1.0 else chain.add("Mul", [x, chain.constant(np.array(alpha, _dtype(view, node)), "alpha")])
    chain.add("Mul", [x, chain.add("Sigmoid", [scaled])], output=node.output[0])
    return ""


def _group_normalization(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Normalizes each group as one channel, then scales each channel."""
    shape, groups = constant_shape(view, node.input[0]), integer_attribute(node, "num_groups", 1)
    if shape is None:
        return "normalizes a tensor of unknown shape"
    dtype, epsilon = _dtype(view, node), attribute(node, "epsilon")
    ones = chain.constant(np.ones(groups, dtype), "one_for_each_group")
    zeros = chain.constant(np.zeros(groups, dtype), "zero_for_each_group")
    merged = chain.reshape(node.input[0], [shape[0], groups, math.prod(shape[1:]) // groups])
    smallest = 1e-5 if epsilon is None else epsilon.f
    normalized = chain.add("InstanceNormalization", [merged, ones, zeros], epsilon=smallest)
    normalized = chain.reshape(normalized, shape)
    is_each_channel = default_opset(view.model) >= _SCALE_FOR_EACH_CHANNEL
    scale, bias = (
        _for_each_channel(view, chain, tensor, shape, 1 if is_each_channel else shape[1] // groups)
        for tensor in node.input[1:3]
    )
    chain.add("Add", [chain.add("Mul", [normalized, scale]), bias], output=node.output[0])
    return ""


def _for_each_channel(view: GraphView, chain: NodeChain, tensor: str, shape: Sequence[int], repeats: int) -> str:
    """A vector of one number for each channel, or for `repeats` channels each, in the rank of the image."""
    target = [shape[1], *[1] * (len(shape) - 2)]
    if tensor in view.constants:
        return chain.constant(np.repeat(view.constants[tensor], repeats).reshape(target), "channels")
    if repeats > 1:
        column = chain.reshape(tensor, [shape[1] // repeats, 1])
        tensor = chain.add("Tile", [column, chain.constant(np.array([1, repeats], np.int64), "repeats")])
    return chain.reshape(tensor, target)


def _root_mean_square(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    shape, entry = view.shapes.get(node.input[0]), attribute(node, "epsilon")
    if shape is None:
        return "normalizes a tensor of unknown shape"
    x, axis = node.input[0], integer_attribute(node, "axis", -1) % len(shape)
    mean = chain.add("ReduceMean", [chain.add("Mul", [x, x])], axes=list(range(axis, len(shape))))
    epsilon = chain.constant(np.array(1e-5 if entry is None else entry.f, _dtype(view, node)), "epsilon")
    deviation = chain.add("Sqrt", [chain.add("Add", [mean, epsilon])])
    chain.add("Mul", [chain.add("Div", [x, deviation]), node.input[1]], output=node.output[0])
    return ""


def _fold(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes Col2Im (torch's fold) as a Transpose, or where blocks overlap as a transposed convolution of ones."""
    shape = constant_shape(view, node.input[0])
    image, block = constant_integers(view, node, 1), constant_integers(view, node, 2)
    if shape is None or not image or not block or len(block) != 2:
        return "has sizes that are computed" if not block or len(block) == 2 else "folds other than two axes"
    strides, dilations = (integers_attribute(node, name, (1, 1)) for name in ("strides", "dilations"))
    pads, channels = integers_attribute(node, "pads", (0, 0, 0, 0)), shape[1] // math.prod(block)
    reach = [dilation * (size - 1) + 1 for dilation, size in zip(dilations, block, strict=True)]
    padded = [size + pads[at] + pads[at + 2] for at, size in enumerate(image)]
    counts = [(padded[at] - reach[at]) // strides[at] + 1 for at in (0, 1)]
    if block == strides and not any(pads) and padded == [counts[at] * block[at] for at in (0, 1)]:
        blocks = chain.reshape(node.input[0], [shape[0], channels, *block, *counts])
        ordered = chain.transpose(blocks, [0, 1, 4, 2, 5, 3])
        chain.reshape(ordered, [shape[0], channels, *image], output=node.output[0])
        return ""
    one_hot = np.eye(math.prod(block), dtype=_dtype(view, node)).reshape(-1, 1, *block)
    chain.add(
        "ConvTranspose",
        [
            chain.reshape(node.input[0], [*shape[:2], *counts]),
            chain.constant(np.tile(one_hot, (channels, 1, 1, 1)), "ones"),
        ],
        output=node.output[0],
        group=channels,
        kernel_shape=block,
        strides=strides,
        dilations=dilations,
        pads=pads,
        output_padding=[padded[at] - reach[at] - strides[at] * (counts[at] - 1) for at in (0, 1)],
    )
    return ""


def _dtype(view: GraphView, node: onnx.NodeProto) -> type[np.floating]:
    return FLOAT_DTYPES.get(view.types.get(node.input[0], 0), np.float32)


NEWER_OPERATORS: Mapping[str, Callable[[GraphView, onnx.NodeProto, NodeChain], str]] = {
    "Col2Im": _fold,
    "Gelu": _gelu,
    "GroupNormalization": _group_normalization,
    "Mish": _mish,
    "RMSNormalization": _root_mean_square,
    "Swish": _swish,
}
