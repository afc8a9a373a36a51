"""Writes a discrete Fourier transform over a constant axis as products with its matrix.

A DFT of n elements is a product with a matrix of n x n complex numbers. The real and the imaginary part are the last
axis of a tensor in ONNX; together with the transformed axis they are one axis of 2n real numbers here, so that the
transform is one MatMul. For the windows of 8 to 64 elements that networks transform, no fast transform is faster, and
TensorRT has no DFT before 11.2.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.export.graph.view import Constant, GraphView, default_opset, integer_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, NodeChain, constant_shape

MAX_LENGTH = 512
"""Longest axis that is rewritten; the matrix of a complex transform has 4 MB in float32."""

AXIS_INPUT_OPSET = 20
"""From this opset on, the axis of a DFT is an input."""


def fourier_as_product(model: onnx.ModelProto) -> PassResult:
    """Replaces each DFT over a constant axis of at most `MAX_LENGTH` elements by a MatMul.

    The inverse of a one-sided transform, which opset 17 does not define and torch's exporter writes nevertheless, gives
    the real sequence, as numpy.fft.irfft does.
    """
    return GraphEdit(view_graph(model)).replace_each("DFT", "products with a constant matrix", _replace)


def fourier_matrix(length: int, count: int, parts: int, inverse: bool, onesided: bool) -> npt.NDArray[np.float64]:
    """The matrix that a row of numbers is multiplied by.

    Args:
        length: elements of the sequence, as long as the transform takes.
        count: elements that are given; others are zeros or, of a one-sided spectrum, symmetric.
        parts: 1 for real elements, 2 for complex ones.
        inverse: whether the transform is inverse.
        onesided: whether only the first half of a spectrum is computed or, inverse, given.

    Returns:
        float64 (count * parts, elements of the result * its parts).
    """
    rows = np.eye(count * parts).reshape(-1, count, parts)
    values = rows[..., 0] + 1j * (rows[..., 1] if parts == 2 else 0.0)
    if onesided and inverse:
        return np.fft.irfft(values, length)
    if inverse:
        result = np.fft.ifft(values, length)
    else:
        result = np.fft.fft(values, length)[:, : length // 2 + 1 if onesided else length]
    return np.stack([result.real, result.imag], -1).reshape(len(rows), -1)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    """Replaces one node; returns why it cannot be, or ""."""
    node = view.nodes[index]
    shape = constant_shape(view, node.input[0])
    dtype = FLOAT_DTYPES.get(view.types.get(node.input[0], 0))
    if dtype is None or shape is None:
        return "its shape is not constant" if dtype else "its elements are not float32 or float64"
    if shape[-1] > 2:
        return "its elements are neither real nor complex numbers"
    inverse, onesided = bool(integer_attribute(node, "inverse", 0)), bool(integer_attribute(node, "onesided", 0))
    has_axis_input = default_opset(view.model) >= AXIS_INPUT_OPSET
    axis = _number(view, node, 2, -2) if has_axis_input else integer_attribute(node, "axis", 1)
    if axis is None:
        return "its axis is computed"
    axis %= len(shape)
    count = shape[axis]
    length = _number(view, node, 1, 2 * (count - 1) if inverse and onesided else count)
    if length is None:
        return "its length is computed"
    if max(length, count) > MAX_LENGTH:
        return f"its axis has {max(length, count)} elements, more than {MAX_LENGTH}"
    matrix = fourier_matrix(length, count, shape[-1], inverse, onesided).astype(dtype)
    _write(edit.replacing(index), node, shape, axis, matrix, parts=1 if inverse and onesided else 2)
    return ""


def _number(view: GraphView, node: onnx.NodeProto, position: int, default: int) -> int | None:
    """The value of a constant input, the default where there is none, and None where it is computed."""
    if position >= len(node.input) or not node.input[position]:
        return default
    value = view.constants.get(node.input[position])
    return None if value is None else int(value.ravel()[0])


def _write(
    chain: NodeChain, node: onnx.NodeProto, shape: tuple[int, ...], axis: int, matrix: Constant, parts: int
) -> None:
    """Writes the product of (axes in front, transformed axis, axes behind, parts), as far as these have elements."""
    front, behind = math.prod(shape[:axis]), math.prod(shape[axis + 1 : -1])
    new_count = matrix.shape[1] // parts
    new_shape = [*shape[:axis], new_count, *shape[axis + 1 : -1], parts]
    tensor = node.input[0]
    if behind > 1:
        tensor = chain.reshape(tensor, [front, shape[axis], behind, shape[-1]])
        tensor = chain.transpose(tensor, [0, 2, 1, 3])
    tensor = chain.reshape(tensor, [front, behind, matrix.shape[0]] if behind > 1 else [front, matrix.shape[0]])
    product = chain.add("MatMul", [tensor, chain.constant(matrix, "transform")])
    if behind > 1:
        product = chain.reshape(product, [front, behind, new_count, parts])
        product = chain.transpose(product, [0, 2, 1, 3])
    chain.reshape(product, new_shape, output=node.output[0])
