"""Which nodes compute statistics: sums, means, and what is derived from them, down to a denominator or a root.

Statistics need more precision than the layers around them, so half precision keeps them in float32
(`sr_edge.export.passes.fp32_islands`) and INT8 leaves their layers in float (`sr_edge.calibration.graph.candidates`).
This module defines for both what a statistic is; what follows from it is decided there:

- An average (`is_average`) is a reduction, or a layer without a spatial kernel that weights all its inputs alike.
- A derived statistic (`statistics_nodes`) is computed from averages alone.
- A root or reciprocal (`is_root_or_reciprocal`) and a division by a computed value (`divides_by_computed`) magnify the
  errors of small numbers. A tensor that `only_denominates` ends in nothing else, such as a norm or the denominator of
  linear or Taylor attention.
- A pooled tensor (`is_pooled`) has one value per channel of the whole image, as in channel attention.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.export.graph.view import Constant, GraphView, attribute

MOVEMENT = frozenset({
    "Reshape", "Transpose", "Slice", "Split", "Concat", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Identity",
    "Gather", "Pad", "DepthToSpace", "SpaceToDepth", "Tile",
})  # fmt: skip
ELEMENTWISE = frozenset({
    "Add", "Sub", "Mul", "Div", "Max", "Min", "Clip", "Relu", "Neg", "Abs", "Pow", "Sqrt", "Reciprocal", "Sum",
})  # fmt: skip
REDUCTIONS = frozenset({
    "ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSum",
    "ReduceLogSumExp", "GlobalAveragePool", "GlobalLpPool",
})  # fmt: skip

_MAKES_DENOMINATORS = MOVEMENT | ELEMENTWISE | {"Cast", "Exp", "ReduceSum", "ReduceMean"}
"""What may stand between a layer and the division that its result ends in."""

_KEEPS_POOLED = (MOVEMENT | ELEMENTWISE) - {"Pad", "Tile", "DepthToSpace", "SpaceToDepth"} | {
    "Cast", "Conv", "Erf", "Exp", "Gelu", "Gemm", "HardSigmoid", "HardSwish", "LeakyRelu", "MatMul", "PRelu",
    "ReduceMean", "ReduceSum", "Sigmoid", "Softmax", "Tanh",
}  # fmt: skip
"""What may stand between the pooling and a layer of channel attention."""

_LONGEST_DENOMINATOR = 8  # nodes; norms and attention need five at most

_EQUAL_WEIGHTS = 1e-5  # relative; the rounding of a weight that was multiplied into another one


def is_average(view: GraphView, at: int) -> bool:
    """Whether the node sums or averages computed values over a dimension, in whatever form it is written."""
    node = view.nodes[at]
    if node.op_type in REDUCTIONS:
        return bool(view.computed_inputs(at))
    weight = view.constants.get(node.input[1]) if len(node.input) > 1 else None
    return weight is not None and _weights_alike(node, weight)


def statistics_nodes(view: GraphView) -> frozenset[int]:
    """Averages, and the elementwise nodes and movements whose computed inputs are all statistics already."""
    nodes: set[int] = set()
    for at, node in enumerate(view.nodes):  # topological order: one pass is enough
        computed = view.computed_inputs(at)
        derived = node.op_type in ELEMENTWISE | MOVEMENT and bool(computed)
        if is_average(view, at) or (derived and all(view.producer.get(tensor) in nodes for tensor in computed)):
            nodes.add(at)
    return frozenset(nodes)


def divides_by_computed(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether the node is a division by a value that is computed at run time."""
    return node.op_type == "Div" and node.input[1] not in view.constants


def is_root_or_reciprocal(view: GraphView, node: onnx.NodeProto) -> bool:
    """Whether the node takes a root or a reciprocal, also as a power that is negative, not a whole number or computed.

    Such a node magnifies the relative error of values near zero, or bursts there.
    """
    if node.op_type != "Pow":
        return node.op_type in ("Sqrt", "Reciprocal")
    exponents = view.constants.get(node.input[1])
    if exponents is None:
        return True
    values = np.asarray(exponents, np.float64)
    return bool(np.any((values < 0.0) | (values != np.trunc(values))))


def only_denominates(view: GraphView, tensor: str) -> bool:
    """Whether every path from the tensor ends in a root, a reciprocal or a computed denominator."""
    return _only_denominates(view, tensor, _LONGEST_DENOMINATOR)


def is_pooled(view: GraphView, tensor: str) -> bool:
    """Whether the tensor is computed from values pooled over the whole height and width, and from nothing else."""
    seen, waiting = set[str](), [tensor]
    has_pooling = False
    while waiting:
        name = waiting.pop()
        if name in seen or name in view.constants:
            continue
        seen.add(name)
        at = view.producer.get(name)
        if at is None:
            return False
        node = view.nodes[at]
        if _pools_the_image(view, node):
            has_pooling = True
        elif node.op_type in _KEEPS_POOLED:
            waiting += [source for source in node.input if source]
        else:
            return False
    return has_pooling


def _weights_alike(node: onnx.NodeProto, weight: Constant) -> bool:
    """Whether a layer adds up several inputs with one weight; a weight of zero leaves an input out of the sum."""
    if not np.issubdtype(weight.dtype, np.floating) or weight.ndim < 2:
        return False
    rows = _inputs_of_outputs(node, weight)
    if rows is None:
        return False
    weights = rows[rows != 0.0]
    is_sum = np.count_nonzero(rows, axis=1).max(initial=0) > 1
    return bool(is_sum and np.allclose(weights, weights[0], rtol=_EQUAL_WEIGHTS, atol=0.0))


def _inputs_of_outputs(node: onnx.NodeProto, weight: Constant) -> npt.NDArray[np.float64] | None:
    """(outputs, inputs of an output) of a layer without a spatial kernel; None for other nodes."""
    values = np.asarray(weight, np.float64)
    if node.op_type == "MatMul":
        return np.swapaxes(values, -1, -2).reshape(-1, values.shape[-2])
    if node.op_type == "Gemm":
        transposed = attribute(node, "transB")
        return values if transposed is not None and transposed.i else values.T
    if node.op_type not in ("Conv", "ConvTranspose") or any(size != 1 for size in values.shape[2:]):
        return None
    if node.op_type == "Conv":
        return values.reshape(values.shape[0], -1)
    group = attribute(node, "group")
    groups = 1 if group is None else int(group.i)
    inputs, outputs = values.shape[0] // groups, values.shape[1]
    return values.reshape(groups, inputs, outputs).swapaxes(1, 2).reshape(-1, inputs)


def _only_denominates(view: GraphView, tensor: str, depth: int) -> bool:
    readers = view.consumers.get(tensor, ())
    if not readers or tensor in view.output_names or depth < 0:
        return False
    return all(_denominates(view, view.nodes[reader], tensor, depth) for reader in readers)


def _denominates(view: GraphView, reader: onnx.NodeProto, tensor: str, depth: int) -> bool:
    if divides_by_computed(view, reader) and reader.input[0] != tensor:
        return True
    if is_root_or_reciprocal(view, reader):
        return reader.input[0] == tensor  # not as the exponent of a power
    if reader.op_type not in _MAKES_DENOMINATORS:
        return False
    return all(_only_denominates(view, output, depth - 1) for output in reader.output if output)


def _pools_the_image(view: GraphView, node: onnx.NodeProto) -> bool:
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"):
        return True
    if not node.op_type.startswith("Reduce"):
        return False
    rank = len(view.shapes.get(node.input[0], ()))
    return rank == 4 and {axis % rank for axis in _axes(view, node)} == {2, 3}


def _axes(view: GraphView, node: onnx.NodeProto) -> list[int]:
    axes = attribute(node, "axes")
    if axes is not None:
        return [int(axis) for axis in axes.ints]
    constant = view.constants.get(node.input[1]) if len(node.input) > 1 else None
    return [int(axis) for axis in np.asarray(constant).ravel()] if constant is not None else []
