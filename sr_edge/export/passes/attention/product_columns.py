"""Products whose columns are read apart, such as one projection to queries, keys and values, as one product for each.

A Slice of the columns copies them; a product of its own writes them where they are read. The sums are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx

from sr_edge.export.graph.view import (
    Constant,
    GraphView,
    captured_tensors,
    integer_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import (
    GraphEdit,
    NodeChain,
    constant_integers,
    constant_shape,
    leaving_old_opsets,
)


@leaving_old_opsets
def products_of_columns(model: onnx.ModelProto) -> PassResult:
    """Replaces slices of the columns of a product with a constant matrix by products with slices of the matrix."""
    view = view_graph(model)
    edit, fixed = GraphEdit(view), view.output_names | captured_tensors(view.model)
    split = sum(_split(view, index, edit, fixed) for index in range(len(view.nodes)))
    if not split:
        return PassResult(model, False, "no product has columns that are only read through Slice nodes")
    edit.remove_unused_nodes()
    return edit.result(f"{split} products whose columns are sliced are one product for each slice now")


@dataclass(frozen=True)
class _Part:
    """A Slice that selects columns of a product: the node, the columns and the shape of the result."""

    index: int
    begin: int
    end: int
    shape: tuple[int, ...]


def _split(view: GraphView, index: int, edit: GraphEdit, fixed: frozenset[str]) -> bool:
    node = view.nodes[index]
    weight = product_weight(view, node)
    if weight is None or node.output[0] in fixed:
        return False
    parts = _parts(view, node.output[0], weight.shape[1], fixed)
    ends = [0] + [part.end for part in parts]
    if len(parts) < 2 or ends[-1] != weight.shape[1] or [part.begin for part in parts] != ends[:-1]:
        return False
    for part in parts:
        _write_part(view, node, weight, part, edit.replacing(part.index))
    return True


def product_weight(view: GraphView, node: onnx.NodeProto) -> Constant | None:
    """The constant matrix (rows, columns) that a MatMul or Gemm multiplies its input with from the right, or None."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
        return None
    weight = view.constants.get(node.input[1])
    if weight is None or weight.ndim != 2 or node.input[0] in view.constants:
        return None
    if node.op_type == "MatMul":
        return weight
    if any(tensor not in view.constants for tensor in node.input[2:] if tensor):
        return None
    return weight.T if integer_attribute(node, "transB", 0) else weight


def _parts(view: GraphView, product: str, columns: int, fixed: frozenset[str]) -> list[_Part]:
    """The slices of columns that read a product; none if it is read otherwise, too."""
    parts: list[_Part] = []
    for reader in view.consumers.get(product, ()):
        node = view.nodes[reader]
        if node.op_type == "Reshape" and node.output[0] not in fixed:
            read = [_part(view, after, node.output[0], columns) for after in view.consumers.get(node.output[0], ())]
        else:
            read = [_part(view, reader, product, columns)]
        if None in read:
            return []
        parts += [part for part in read if part is not None]
    return sorted(parts, key=lambda part: part.begin)


def _part(view: GraphView, index: int, tensor: str, columns: int) -> _Part | None:
    node = view.nodes[index]
    shape, sliced = constant_shape(view, tensor), constant_shape(view, node.output[0])
    if node.op_type != "Slice" or node.input[0] != tensor or shape is None or sliced is None:
        return None
    begins, axes, steps = (constant_integers(view, node, position) for position in (1, 3, 4))
    if begins is None or not axes or steps is None or any(step != 1 for step in steps):
        return None
    changed = [axis for axis, (before, after) in enumerate(zip(shape, sliced, strict=True)) if before != after]
    if len(changed) != 1:
        return None
    axis = changed[0]
    inner = math.prod(shape[axis + 1 :])
    if shape[axis] * inner != columns:
        return None
    named = [number % len(shape) for number in axes]
    begin = begins[named.index(axis)]
    begin = max(0, begin + shape[axis]) if begin < 0 else begin
    return _Part(index, begin * inner, (begin + sliced[axis]) * inner, sliced)


def _write_part(view: GraphView, node: onnx.NodeProto, weight: Constant, part: _Part, chain: NodeChain) -> None:
    columns = slice(part.begin, part.end)
    inputs = [node.input[0], chain.constant(weight[:, columns], "weight")]
    if len(node.input) > 2 and node.input[2]:
        bias = view.constants[node.input[2]]
        whole = bias.ndim == 0 or bias.shape[-1] == 1
        inputs.append(node.input[2] if whole else chain.constant(bias[..., columns], "bias"))
    product = chain.add_like(node, inputs)
    attributes = [entry for entry in node.attribute if entry.name != "transB"]
    del chain.nodes[-1].attribute[:]
    chain.nodes[-1].attribute.extend(attributes)
    chain.reshape(product, part.shape, output=view.nodes[part.index].output[0])
