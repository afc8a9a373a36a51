"""Constants that are added to attention scores: position biases and masks, without a Reshape around them.

Shifted windows add their mask with an axis for the windows of one image, between two Reshape nodes:

    scores (windows, heads, N, N) -> (1, windows, heads, N, N) + mask (1, windows, 1, N, N) -> (windows, heads, N, N)

Compilers fuse the operators between the two matrix products of attention only where nothing is reshaped. The axes of
the constant are regrouped instead, which gives the same sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from sr_edge.export.graph.view import Constant, GraphView, captured_tensors, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, constant_shape, leaving_old_opsets

ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Min", "Max"})


@leaving_old_opsets
def constants_without_reshape(model: onnx.ModelProto) -> PassResult:
    """Applies constants to tensors as they are, which were reshaped before and after it."""
    view = view_graph(model)
    edit, fixed = GraphEdit(view), view.output_names | captured_tensors(view.model)
    replaced = sum(_replace(view, index, edit, fixed) for index in range(len(view.nodes)))
    if not replaced:
        return PassResult(model, False, "no constant is applied between two Reshape nodes")
    edit.remove_unused_nodes()
    return edit.result(f"{replaced} constants are applied without a Reshape before and after it")


def _replace(view: GraphView, last: int, edit: GraphEdit, fixed: frozenset[str]) -> bool:
    """Replaces a Reshape, an operator with a constant and the Reshape `last` back to the first shape."""
    if view.nodes[last].op_type != "Reshape":
        return False
    middle = view.producer.get(view.nodes[last].input[0])
    if middle is None or view.nodes[middle].op_type not in ELEMENTWISE or len(view.nodes[middle].input) != 2:
        return False
    node = view.nodes[middle]
    position = next((at for at, tensor in enumerate(node.input) if tensor in view.constants), None)
    if position is None or node.output[0] in fixed or len(view.consumers[node.output[0]]) != 1:
        return False
    first = view.producer.get(node.input[1 - position])
    if first is None or view.nodes[first].op_type != "Reshape":
        return False
    source = view.nodes[first].input[0]
    before, between = constant_shape(view, source), constant_shape(view, node.output[0])
    if before is None or between is None or constant_shape(view, view.nodes[last].output[0]) != before:
        return False
    if constant_shape(view, node.input[1 - position]) != between:  # the constant would broadcast the tensor
        return False
    value = regrouped(view.constants[node.input[position]], between, before)
    if value is None:
        return False
    chain = edit.replacing(last)
    inputs = [source, source]
    inputs[position] = chain.constant(value, "constant")
    chain.add(node.op_type, inputs, output=view.nodes[last].output[0])
    return True


@leaving_old_opsets
def sums_of_constants(model: onnx.ModelProto) -> PassResult:
    """Adds the sum of two constants where they were added one after the other."""
    view = view_graph(model)
    edit, fixed = GraphEdit(view), view.output_names | captured_tensors(view.model)
    added: dict[str, tuple[str, Constant]] = {}
    summed = 0
    for index, node in enumerate(view.nodes):
        tensor, constant = _addition(view, node)
        if constant is None:
            continue
        source, earlier = added.get(tensor, ("", None))
        total = None if earlier is None or tensor in fixed else _sum(earlier, constant)
        if total is not None and len(view.consumers[tensor]) == 1:
            chain = edit.replacing(index)
            chain.add("Add", [source, chain.constant(total, "sum")], output=node.output[0])
            tensor, constant, summed = source, total, summed + 1
        added[node.output[0]] = tensor, constant
    if not summed:
        return PassResult(model, False, "no two constants are added one after the other, or their sum is larger")
    edit.remove_unused_nodes()
    return edit.result(f"{summed} pairs of constants that were added one after the other are added as their sum")


def _addition(view: GraphView, node: onnx.NodeProto) -> tuple[str, Constant | None]:
    """The tensor and the constant that an Add adds without broadcasting the tensor; no constant for any other node."""
    if node.op_type != "Add" or node.domain not in ("", "ai.onnx"):
        return "", None
    for at, tensor in enumerate(node.input):
        value, source = view.constants.get(tensor), node.input[1 - at]
        if value is not None and source not in view.constants:
            shape = constant_shape(view, source)
            is_whole = shape is not None and shape == constant_shape(view, node.output[0])
            return source, value if is_whole and value.dtype.kind == "f" else None
    return "", None


def _sum(first: Constant, second: Constant) -> Constant | None:
    """The sum of two constants, rounded once; None where it has more elements than each of them."""
    total = np.asarray(first.astype(np.float64) + second.astype(np.float64))
    return total.astype(first.dtype) if total.size <= max(first.size, second.size) else None


def regrouped(value: Constant, shape: Sequence[int], new_shape: Sequence[int]) -> Constant | None:
    """A constant for `new_shape` that broadcasts as `value` does for `shape`; None where that needs more elements.

    Args:
        value: a constant that broadcasts to `shape`.
        shape: the shape of the tensor it is applied to.
        new_shape: another shape of that tensor, with the elements in the same order.
    """
    sizes = value.shape
    value = value.reshape((1,) * (len(shape) - len(sizes)) + sizes)
    result: list[int] = []
    old, new = 0, 0
    while old < len(shape) or new < len(new_shape):
        old_end, new_end = _group(shape, new_shape, old, new)
        elements = math.prod(value.shape[old:old_end])
        group = new_shape[new:new_end]
        if elements == math.prod(shape[old:old_end]):
            result += group
        elif elements == 1:
            result += [1] * len(group)
        elif new_end - new == 1 or (matching := _aligned(value.shape[old:old_end], shape[old:old_end], group)) is None:
            return None
        else:
            result += matching
        old, new = old_end, new_end
    return value.reshape(result)


def _group(shape: Sequence[int], new_shape: Sequence[int], old: int, new: int) -> tuple[int, int]:
    """The ends of the shortest groups of axes from `old` and `new` on that have the same number of elements."""
    old_end, new_end = old, new
    left = right = 1
    while left != right or (old_end, new_end) == (old, new):
        if new_end == len(new_shape) or (left <= right and old_end < len(shape)):
            left *= shape[old_end]
            old_end += 1
        else:
            right *= new_shape[new_end]
            new_end += 1
    return old_end, new_end


def _aligned(sizes: Sequence[int], shape: Sequence[int], group: Sequence[int]) -> list[int] | None:
    """The sizes of a constant in a group of axes that differ from those of the tensor only by axes of size 1."""
    kept = [size for size, whole in zip(sizes, shape, strict=True) if whole > 1]
    if [whole for whole in shape if whole > 1] != [whole for whole in group if whole > 1]:
        return None
    remaining = iter(kept)
    return [next(remaining) if whole > 1 else 1 for whole in group]
