"""Operators that came after opset 17, written with those of opset 17.

Each function writes the nodes for one node and returns why it cannot, or "".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    Constant,
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


@dataclass(frozen=True)
class _Fold:
    """The sizes of a Col2Im, each of two axes: blocks of pixels that are added at the places of a grid."""

    image: Sequence[int]
    block: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[int]

    @property
    def reach(self) -> list[int]:
        """The pixels from the first to the last one of a block."""
        return [dilation * (size - 1) + 1 for dilation, size in zip(self.dilations, self.block, strict=True)]

    @property
    def counts(self) -> list[int]:
        """The number of blocks."""
        padded = [size + self.pads[at] + self.pads[at + 2] for at, size in enumerate(self.image)]
        return [(padded[at] - self.reach[at]) // self.strides[at] + 1 for at in (0, 1)]

    @property
    def is_tiling(self) -> bool:
        """Whether the blocks cover the image and do not overlap."""
        covered = [count * size for count, size in zip(self.counts, self.block, strict=True)]
        return list(self.block) == list(self.strides) and not any(self.pads) and covered == list(self.image)

    @property
    def is_cheaper_as_convolution(self) -> bool:
        """Whether a transposed convolution takes fewer multiplications than two matrix products."""
        columns, rows = (size * count for size, count in zip(self.block, self.counts, strict=True))
        return math.prod(self.block) ** 2 * math.prod(self.counts) <= columns * self.image[1] * (rows + self.image[0])

    def placement(self, axis: int, dtype: type[np.floating[Any]]) -> Constant:
        """A matrix (pixels of the axis, pixels of a block x blocks) of ones where a pixel of a block is added."""
        matrix = np.zeros((self.image[axis], self.block[axis], self.counts[axis]), dtype)
        for pixel in range(self.block[axis]):
            for block in range(self.counts[axis]):
                target = block * self.strides[axis] + pixel * self.dilations[axis] - self.pads[axis]
                if 0 <= target < self.image[axis]:
                    matrix[target, pixel, block] = 1.0
        return matrix.reshape(self.image[axis], -1)


def _fold(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes Col2Im (torch's fold) as a Transpose or, where blocks overlap, as the cheaper one of two products."""
    shape = constant_shape(view, node.input[0])
    image, block = constant_integers(view, node, 1), constant_integers(view, node, 2)
    if shape is None or not image or not block:
        return "has sizes that are computed"
    if len(block) != 2:
        return "folds other than two axes"
    strides, dilations = (integers_attribute(node, name, (1, 1)) for name in ("strides", "dilations"))
    fold = _Fold(image, block, strides, dilations, integers_attribute(node, "pads", (0, 0, 0, 0)))
    channels = shape[1] // math.prod(block)
    if fold.is_tiling:
        blocks = chain.reshape(node.input[0], [shape[0], channels, *block, *fold.counts])
        ordered = chain.transpose(blocks, [0, 1, 4, 2, 5, 3])
        chain.reshape(ordered, [shape[0], channels, *image], output=node.output[0])
    elif fold.is_cheaper_as_convolution:
        _fold_by_convolution(fold, channels, shape, _dtype(view, node), node, chain)
    else:
        blocks = chain.reshape(node.input[0], [shape[0], channels, *block, *fold.counts])
        ordered = chain.transpose(blocks, [0, 1, 2, 4, 3, 5])
        sizes = [size * count for size, count in zip(block, fold.counts, strict=True)]
        rows, columns = (fold.placement(axis, _dtype(view, node)) for axis in (0, 1))
        matrix = chain.reshape(ordered, [shape[0], channels, *sizes])
        wide = chain.add("MatMul", [matrix, chain.constant(columns.T, "columns")])
        chain.add("MatMul", [chain.constant(rows, "rows"), wide], output=node.output[0])
    return ""


def _fold_by_convolution(
    fold: _Fold,
    channels: int,
    shape: Sequence[int],
    dtype: type[np.floating[Any]],
    node: onnx.NodeProto,
    chain: NodeChain,
) -> None:
    """Adds every pixel of a block at its place by a transposed convolution whose kernels are one at one place each."""
    kernels = np.eye(math.prod(fold.block), dtype=dtype).reshape(-1, 1, *fold.block)
    covered = [fold.reach[at] + fold.strides[at] * (fold.counts[at] - 1) for at in (0, 1)]
    chain.add(
        "ConvTranspose",
        [
            chain.reshape(node.input[0], [*shape[:2], *fold.counts]),
            chain.constant(np.tile(kernels, (channels, 1, 1, 1)), "places"),
        ],
        output=node.output[0],
        group=channels,
        kernel_shape=list(fold.block),
        strides=list(fold.strides),
        dilations=list(fold.dilations),
        pads=list(fold.pads),
        output_padding=[fold.image[at] + fold.pads[at] + fold.pads[at + 2] - covered[at] for at in (0, 1)],
    )


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
