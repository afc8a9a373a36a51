"""How the axes of the inputs and outputs of a node correspond, which says which axes may be merged or dropped."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

import onnx

from sr_edge.export.graph.view import GraphView, integer_attribute, integers_attribute
from sr_edge.export.passes.rewrites.edit import constant_integers, constant_shape

Key = str | tuple[int, int]
"""A tensor by its name; an input that each reader may reshape for itself, such as a constant, by node and position."""

RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
"""Operators that change the shape and not the order of the elements: the axes on both sides are independent."""

UNARY = frozenset({
    "Abs", "Cast", "Ceil", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Neg", "Not", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus", "Sqrt",
    "Tanh",
})  # fmt: skip
"""Operators that compute each element of the output from the same element of the first input."""

BROADCASTING = frozenset({
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mul", "Or",
    "PRelu", "Pow", "Sub", "Sum", "Where",
})  # fmt: skip
"""Operators that compute each element of the output from the same element of all inputs, which are broadcast."""

_AXIS_DEFAULTS = {
    "Concat": 0, "Gather": 0, "LayerNormalization": -1, "LogSoftmax": -1, "Softmax": -1, "Split": 0,
}  # fmt: skip
"""Operators that treat the axis of their attribute `axis` specially, with its default."""

AXES_INPUTS = {"ReduceL2": 1, "ReduceMax": 1, "ReduceMean": 1, "ReduceMin": 1, "ReduceSum": 1, "Slice": 3}
"""Operators that treat several axes specially: those of the input at this position, or of their attribute `axes`."""


@dataclass(frozen=True)
class Row:
    """Axes of several tensors that correspond.

    Attributes:
        axes: the axis of each tensor that has one in this row.
        kept: the operator treats this axis specially, so that it is neither dropped nor merged with its neighbours.
        droppable: whether the row may be dropped if every tensor has the size 1 there.
    """

    axes: Mapping[Key, int]
    kept: bool = False
    droppable: bool = True


def axis_rows(view: GraphView, index: int, separate: Container[str]) -> list[Row] | None:
    """The rows of a node, in an order in which the axes of each tensor ascend; None if the operator is not known.

    Transpose and the operators of `RESHAPING` have no rows.

    Args:
        view: the graph.
        index: the node.
        separate: the tensors that each reader may reshape for itself.
    """
    node = view.nodes[index]
    if node.domain not in ("", "ai.onnx") or any(attribute.HasField("g") for attribute in node.attribute):
        return None
    operator = node.op_type
    if operator in UNARY:
        return _aligned(view, [key_of(view, index, 0, separate), node.output[0]])
    if operator in BROADCASTING:
        inputs = [key_of(view, index, position, separate) for position in range(len(node.input))]
        return _aligned(view, [*inputs, node.output[0]])
    if operator == "MatMul":
        return _matrix_product(view, index, separate)
    if operator == "Gather":
        return _gather(view, index, separate)
    return _with_special_axes(view, index, separate) if operator in {*_AXIS_DEFAULTS, *AXES_INPUTS} else None


def shape_of(view: GraphView, key: Key) -> tuple[int, ...] | None:
    """The shape of a tensor or constant; None if it is not constant or has no elements."""
    name = key if isinstance(key, str) else view.nodes[key[0]].input[key[1]]
    return constant_shape(view, name)


def special_axes(view: GraphView, index: int) -> list[int] | None:
    """The axes that an attribute or a constant input of the node names, not negative.

    Returns:
        The axes; an empty list where the operator has none, and None where they are unknown.
    """
    node = view.nodes[index]
    if node.op_type in _AXIS_DEFAULTS:
        axes: list[int] | None = [integer_attribute(node, "axis", _AXIS_DEFAULTS[node.op_type])]
    elif node.op_type in AXES_INPUTS:
        axes = integers_attribute(node, "axes") or constant_integers(view, node, AXES_INPUTS[node.op_type])
    else:
        return []
    shape = constant_shape(view, node.input[0])
    return None if not axes or shape is None else [axis % len(shape) for axis in axes]


def key_of(view: GraphView, index: int, position: int, separate: Container[str]) -> Key:
    """The key of an input of a node."""
    name = view.nodes[index].input[position]
    return (index, position) if name in separate else name


def _aligned(view: GraphView, keys: Sequence[Key], kept: Sequence[int] = ()) -> list[Row] | None:
    """Rows of tensors whose axes correspond from the last one on, as numpy broadcasts them."""
    shapes = {key: shape_of(view, key) for key in keys}
    ranks = {key: len(shape) for key, shape in shapes.items() if shape is not None}
    if len(ranks) < len(shapes):
        return None
    highest = max(ranks.values())
    return [
        Row({key: at - highest + rank for key, rank in ranks.items() if at >= highest - rank}, kept=at in kept)
        for at in range(highest)
    ]


def _matrix_product(view: GraphView, index: int, separate: Container[str]) -> list[Row] | None:
    """The rows of the batch, of the rows of the first factor, of the summed axis and of the columns of the second."""
    first, second = key_of(view, index, 0, separate), key_of(view, index, 1, separate)
    output = view.nodes[index].output[0]
    shapes = [shape_of(view, key) for key in (first, second, output)]
    ranks = [len(shape) if shape is not None else 0 for shape in shapes]
    if min(ranks) < 2:
        return None
    highest = ranks[2]
    keys = list(zip((first, second, output), ranks, strict=True))
    rows = [Row({key: at - highest + rank for key, rank in keys if at >= highest - rank}) for at in range(highest - 2)]
    alone = ranks[1] == 2  # a matrix for all rows of the first factor, which may then be merged with its batch
    rows.append(Row({first: ranks[0] - 2, output: highest - 2}, kept=not alone, droppable=False))
    rows.append(Row({first: ranks[0] - 1, second: ranks[1] - 2}, kept=True))
    rows.append(Row({second: ranks[1] - 1, output: highest - 1}, kept=True))
    return rows


def _with_special_axes(view: GraphView, index: int, separate: Container[str]) -> list[Row] | None:
    """Rows of operators that change nothing but one axis or some, whose tensors have equally many axes."""
    node = view.nodes[index]
    axes = special_axes(view, index)
    if axes is None or not integer_attribute(node, "keepdims", 1):
        return None
    keys: list[Key] = [
        key_of(view, index, position, separate) for position in range(len(node.input) if _is_concat(node) else 1)
    ]
    keys += [output for output in node.output if output]
    rows = _aligned(view, keys, axes)
    if rows is None or any(len(row.axes) < len(set(keys)) for row in rows):
        return None
    is_norm = node.op_type == "LayerNormalization"
    if is_norm and (axes != [len(rows) - 1] or len([output for output in node.output if output]) > 1):
        return None
    return rows


def _is_concat(node: onnx.NodeProto) -> bool:
    return node.op_type == "Concat"


def _gather(view: GraphView, index: int, separate: Container[str]) -> list[Row] | None:
    """Rows of a Gather with constant positions, whose axes take the place of the axis that is gathered from."""
    node = view.nodes[index]
    positions, axes = view.constants.get(node.input[1]), special_axes(view, index)
    source, target = key_of(view, index, 0, separate), node.output[0]
    shape = shape_of(view, source)
    if positions is None or axes is None or shape is None or shape_of(view, target) is None:
        return None
    axis, added = axes[0], positions.ndim - 1
    return [
        *(Row({source: at, target: at}) for at in range(axis)),
        Row({source: axis}, kept=True),
        *(Row({target: axis + at}, kept=True) for at in range(positions.ndim)),
        *(Row({source: at, target: at + added}) for at in range(axis + 1, len(shape))),
    ]
