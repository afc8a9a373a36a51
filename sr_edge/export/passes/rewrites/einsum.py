"""Writes an Einsum of one or two operands with Transpose, Reshape and MatMul, or as a 1x1 convolution.

Each index of a product of two operands is of one of five kinds: in both operands and the result (batch), in both and
summed, in the first or in the second and the result (rows and columns), or in one operand alone and summed, which is
done first. What remains is a batch of matrix products; without a summed index it is an elementwise product.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, text_attribute, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, NodeChain, constant_shape, leaving_old_opsets
from sr_edge.export.passes.rewrites.equation import Equation, parse_equation

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@leaving_old_opsets
def einsum_as_product(model: onnx.ModelProto) -> PassResult:
    """Replaces each Einsum of one or two operands of constant shape; one that takes a diagonal is left alone."""
    return GraphEdit(view_graph(model)).replace_each("Einsum", "matrix products", _replace)


def _replace(view: GraphView, index: int, edit: GraphEdit) -> str:
    """Replaces one node; returns why it cannot be, or ""."""
    node = view.nodes[index]
    if len(node.input) > 2:
        return f"it multiplies {len(node.input)} operands"
    if view.types.get(node.output[0]) not in _FLOATS:
        return "its elements are not floating-point numbers"
    shapes = [shape for name in node.input if (shape := constant_shape(view, name)) is not None]
    if len(shapes) < len(node.input):
        return "its shapes are not constant"
    try:
        equation = parse_equation(text_attribute(node, "equation", ""), shapes)
    except ValueError as error:
        return str(error)
    if tuple(equation.sizes[letter] for letter in equation.result) != view.shapes.get(node.output[0]):
        return "its output has another shape than its equation gives"
    operands = [
        _Operand(name, letters, shape, view.constants.get(name))
        for name, letters, shape in zip(node.input, equation.operands, shapes, strict=True)
    ]
    _Product(edit.replacing(index), equation).write(operands, node.output[0])
    return ""


@dataclass(frozen=True)
class _Operand:
    """A tensor with a letter for each axis.

    Attributes:
        value: its elements where it is a constant, which is transposed and reshaped at once.
    """

    tensor: str
    letters: str
    shape: tuple[int, ...]
    value: Constant | None = None


class _Product:
    """Writes the nodes of one equation."""

    def __init__(self, chain: NodeChain, equation: Equation) -> None:
        self._chain, self._equation = chain, equation

    def write(self, operands: Sequence[_Operand], target: str) -> None:
        """Adds nodes that compute `target` from the operands, which have the axes of the equation."""
        result = self._equation.result
        narrow = [self._without_broadcast_axes(operand) for operand in operands]
        if len(narrow) == 1:
            summed = self._summed(narrow[0], result)
            self._finish(summed, target)
            return
        first = self._summed(narrow[0], result + narrow[1].letters)
        second = self._summed(narrow[1], result + narrow[0].letters)
        if set(first.letters) & set(second.letters) <= set(result):
            self._elementwise(first, second, target)
        elif not self._convolution(first, second, target):
            self._matrix_product(first, second, target)

    def _without_broadcast_axes(self, operand: _Operand) -> _Operand:
        """The operand without axes of size 1 that are wider in the other operand."""
        sizes = self._equation.sizes
        kept = [at for at, letter in enumerate(operand.letters) if operand.shape[at] == sizes[letter]]
        letters = "".join(operand.letters[at] for at in kept)
        return self._reshaped(operand, letters, tuple(operand.shape[at] for at in kept))

    def _summed(self, operand: _Operand, needed: str) -> _Operand:
        """The operand summed over the axes that neither the result nor the other operand has."""
        axes = [at for at, letter in enumerate(operand.letters) if letter not in needed]
        if not axes:
            return operand
        letters = "".join(letter for letter in operand.letters if letter in needed)
        shape = tuple(self._equation.sizes[letter] for letter in letters)
        if operand.value is not None:
            return self._constant(operand.value.sum(tuple(axes), dtype=operand.value.dtype), letters)
        numbers = self._chain.constant(np.array(axes, np.int64), "axes")
        return _Operand(self._chain.add("ReduceSum", [operand.tensor, numbers], keepdims=0), letters, shape)

    def _elementwise(self, first: _Operand, second: _Operand, target: str) -> None:
        result = self._equation.result
        aligned = []
        for operand in (first, second):
            ordered = self._transposed(operand, "".join(letter for letter in result if letter in operand.letters))
            shape = tuple(self._equation.sizes[letter] if letter in operand.letters else 1 for letter in result)
            aligned.append(self._reshaped(ordered, ordered.letters, shape).tensor)
        self._chain.add("Mul", aligned, output=target)

    def _convolution(self, first: _Operand, second: _Operand, target: str) -> bool:
        """Writes the product of an image (N, C, H, W) and a constant matrix over its channels as a convolution."""
        result = self._equation.result
        for image, matrix in ((first, second), (second, first)):
            if matrix.value is None or len(matrix.letters) != 2 or len(image.letters) != 4 or len(result) != 4:
                continue
            channel = image.letters[1]
            new = matrix.letters.replace(channel, "")
            if len(new) == 1 and result == image.letters.replace(channel, new):
                weight = self._transposed(matrix, new + channel)
                kernel = self._reshaped(weight, weight.letters, (*weight.shape, 1, 1))
                self._chain.add("Conv", [image.tensor, kernel.tensor], output=target, kernel_shape=[1, 1])
                return True
        return False

    def _matrix_product(self, first: _Operand, second: _Operand, target: str) -> None:
        """Writes a batch of matrix products, with the operands in the order that takes fewer transposes."""
        if self._transposes(second, first) < self._transposes(first, second):
            first, second = second, first
        batch, rows, summed, columns = self._kinds(first, second)
        sizes = self._equation.sizes
        width, height, length = (math.prod(sizes[letter] for letter in part) for part in (columns, rows, summed))
        batch_shape = tuple(sizes[letter] for letter in batch)
        left = self._transposed(first, batch + rows + summed)
        right = self._transposed(second, batch + summed + columns)
        left = self._reshaped(left, left.letters, (*batch_shape, height, length))
        right = self._reshaped(right, right.letters, (*batch_shape, length, width))
        letters = batch + rows + columns
        shape = tuple(sizes[letter] for letter in letters)
        is_whole = letters == self._equation.result and shape == (*batch_shape, height, width)
        product = self._chain.add("MatMul", [left.tensor, right.tensor], output=target if is_whole else "")
        if not is_whole:
            self._finish(_Operand(product, letters, (*batch_shape, height, width)), target)

    def _kinds(self, first: _Operand, second: _Operand) -> tuple[str, str, str, str]:
        """The letters of batch, rows, summed axes and columns, each in an order that some operand or the result has."""
        result = self._equation.result
        both = set(first.letters) & set(second.letters)
        batch = "".join(letter for letter in result if letter in both)
        rows = "".join(letter for letter in result if letter in first.letters and letter not in both)
        columns = "".join(letter for letter in result if letter in second.letters and letter not in both)
        order = second.letters if first.value is not None else first.letters
        summed = "".join(letter for letter in order if letter in both and letter not in result)
        return batch, rows, summed, columns

    def _transposes(self, first: _Operand, second: _Operand) -> int:
        batch, rows, summed, columns = self._kinds(first, second)
        return (
            (first.value is None and first.letters != batch + rows + summed)
            + (second.value is None and second.letters != batch + summed + columns)
            + (self._equation.result != batch + rows + columns)
        )

    def _finish(self, operand: _Operand, target: str) -> None:
        """Brings a tensor, whose axes may still be merged, into the order and the shape of the result."""
        result, sizes = self._equation.result, self._equation.sizes
        shape = tuple(sizes[letter] for letter in operand.letters)
        if operand.letters == result:
            final = tuple(sizes[letter] for letter in result)
            if final == operand.shape:
                self._chain.add("Identity", [operand.tensor], output=target)
            else:
                self._chain.reshape(operand.tensor, final, output=target)
            return
        ordered = self._reshaped(operand, operand.letters, shape)
        self._chain.transpose(ordered.tensor, [operand.letters.index(letter) for letter in result], output=target)

    def _transposed(self, operand: _Operand, letters: str) -> _Operand:
        order = [operand.letters.index(letter) for letter in letters]
        if letters == operand.letters:
            return operand
        if operand.value is not None:
            return self._constant(operand.value.transpose(order), letters)
        shape = tuple(operand.shape[at] for at in order)
        return _Operand(self._chain.transpose(operand.tensor, order), letters, shape)

    def _reshaped(self, operand: _Operand, letters: str, shape: tuple[int, ...]) -> _Operand:
        if shape == operand.shape:
            return _Operand(operand.tensor, letters, shape, operand.value)
        if operand.value is not None:
            return self._constant(operand.value.reshape(shape), letters)
        return _Operand(self._chain.reshape(operand.tensor, shape), letters, shape)

    def _constant(self, value: Constant, letters: str) -> _Operand:
        return _Operand(self._chain.constant(value, "factor"), letters, value.shape, value)
