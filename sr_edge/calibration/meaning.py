"""What a weighted operator is for, read from the graph around it: some are statistics in disguise and stay float.

Attention blocks multiply by constant weights in three roles. Projections (of queries, keys, values, of the sum, and of
the feed-forward part) are layers like any other and may be INT8. Statistics stay float: sums and means over channels
or tokens (all weights alike), whatever only ends in a denominator or under a root (norms, the denominators of linear
and Taylor attention), and layers on values pooled over the whole picture (channel attention), which hold hardly any
arithmetic. Products of two computed tensors (scores, weighted sums) have no weight and never become sites.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from sr_edge.export.graph import Constant, GraphView, attribute

_DENOMINATORS = frozenset({"Sqrt", "Reciprocal", "Pow"})
_ELEMENTWISE = frozenset(
    {
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Exp",
        "Expand",
        "Identity",
        "Max",
        "Mul",
        "Neg",
        "Relu",
        "Reshape",
        "Squeeze",
        "Sub",
    }
    | {"Sum", "Transpose", "Unsqueeze", "ReduceSum", "ReduceMean", "Split", "Slice", "Concat"}
)
_PASSING = _ELEMENTWISE | {"Conv", "Gemm", "MatMul", "Sigmoid", "HardSigmoid", "HardSwish", "LeakyRelu", "PRelu", "Div"}
_PASSING |= {"Tanh", "Erf", "Gelu", "Softmax", "Flatten", "Sqrt"}


def is_sum(weight: Constant) -> bool:
    """Whether all weights of a pointwise layer with several inputs are alike: a sum or mean over channels."""
    return all(side == 1 for side in weight.shape[2:]) and weight.size > 1 and _all_alike(weight)


def statistics_role(view: GraphView, at: int) -> str:
    """Why the layer at `at` is a statistic by its place in the graph; empty where it is not."""
    node = view.nodes[at]
    if _only_denominates(view, node.output[0], 0):
        return "it only feeds a denominator or a root: a statistic"
    if _is_pooled(view, node.input[0]):
        return "it reads values pooled over the whole picture: hardly any arithmetic to save"
    return ""


def _all_alike(weight: Constant) -> bool:
    values = np.asarray(weight, np.float64).ravel()
    return bool(values[0] != 0.0 and np.allclose(values, values[0], rtol=1e-5, atol=0.0))


def _only_denominates(view: GraphView, tensor: str, depth: int) -> bool:
    readers = view.consumers.get(tensor, ())
    if not readers or tensor in view.output_names or depth > 8:
        return False
    return all(_denominates(view, reader, tensor, depth) for reader in readers)


def _denominates(view: GraphView, reader: int, tensor: str, depth: int) -> bool:
    node = view.nodes[reader]
    if node.op_type == "Div":
        return bool(node.input[0] != tensor)
    if node.op_type == "Pow":
        exponent = view.constants.get(node.input[1])
        return node.input[0] == tensor and exponent is not None and bool(np.all(np.asarray(exponent, np.float64) < 1.0))
    if node.op_type in _DENOMINATORS:
        return True
    return node.op_type in _ELEMENTWISE and all(_only_denominates(view, out, depth + 1) for out in node.output if out)


def _is_pooled(view: GraphView, tensor: str) -> bool:
    """Whether the tensor is made of values pooled over height and width alone."""
    seen, waiting = set[str](), [tensor]
    found = False
    while waiting:
        name = waiting.pop()
        if name in seen or name in view.constants:
            continue
        seen.add(name)
        at = view.producer.get(name)
        if at is None:
            return False
        node = view.nodes[at]
        if _pools_the_picture(view, node):
            found = True
        elif node.op_type in _PASSING:
            waiting += [source for source in node.input if source]
        else:
            return False
    return found


def _pools_the_picture(view: GraphView, node: onnx.NodeProto) -> bool:
    if node.op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        return True
    if not node.op_type.startswith("Reduce"):
        return False
    rank = len(view.shapes.get(node.input[0], ()))
    return rank == 4 and {axis % rank for axis in _axes(node, view.constants)} == {2, 3}


def _axes(node: onnx.NodeProto, known: Mapping[str, Constant]) -> list[int]:
    found = attribute(node, "axes")
    if found is not None:
        return [int(axis) for axis in found.ints]
    axes = known.get(node.input[1]) if len(node.input) > 1 else None
    return [int(axis) for axis in np.asarray(axes).ravel()] if axes is not None else []
