"""Merges axes that move together, and drops axes of size 1, where tensors have more than five axes.

Networks partition an image into windows with a Reshape to six axes, a Transpose and another Reshape, sometimes with a
normalization or a matrix product in between. Compilers plan transposes of that many axes badly, and some targets limit
the number of axes. Neighbours that stay neighbours in all tensors between two Reshape nodes can be one axis.

All tensors that nodes other than Reshape connect are solved together. Each node says how the axes of its tensors
correspond (`axis_rows`); an axis is dropped, or merged with the one in front of it, only if all nodes allow it. Only
shapes, permutations and numbers of axes change: the outputs stay equal to the last bit, unless a runtime sums a matrix
product of another shape in another order.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import cached_property

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    attribute,
    captured_tensors,
    integers_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import (
    AXES_INPUTS,
    RESHAPING,
    Key,
    Row,
    axis_rows,
    key_of,
    shape_of,
    special_axes,
)
from sr_edge.export.passes.rewrites.edit import GraphEdit, NodeChain, leaving_old_opsets, set_attribute

MAX_AXES = 5
"""Tensors of more axes are changed, with all tensors that are connected to them."""

Groups = Mapping[Key, list[list[int]]]
"""The axes of each tensor that stay, in lists of those that are merged."""


@leaving_old_opsets
def merge_axes(model: onnx.ModelProto, max_axes: int = MAX_AXES) -> PassResult:
    """Merges axes that move together where a tensor has more than `max_axes`."""
    view = view_graph(model)
    if all(len(shape) <= max_axes for shape in view.shapes.values()):
        return PassResult(model, False, f"no tensor has more than {max_axes} axes")
    correspondence = _Correspondence(view)
    groups = correspondence.reducing(_merged(correspondence, _kept(correspondence)), max_axes)
    if not groups:
        return PassResult(model, False, f"no axes of the tensors of more than {max_axes} axes move together")
    edit = GraphEdit(view)
    for index in range(len(view.nodes)):
        _rewrite(correspondence, index, groups, edit)
    highest = max(len(axes) for axes in groups.values())
    return edit.result(f"merged axes of {len(groups)} tensors, which have at most {highest} axes now")


class _Union:
    """Sets of decisions that are taken together or not at all; those tied to `FIXED` are not taken."""

    FIXED = "fixed"

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def find(self, element: Hashable) -> Hashable:
        while (parent := self._parent.get(element, element)) != element:
            self._parent[element] = self._parent.get(parent, parent)
            element = parent
        return element

    def tie(self, elements: Iterable[Hashable]) -> None:
        """Makes one decision of several."""
        roots = [self.find(element) for element in elements]
        for root in roots[1:]:
            self._parent[self.find(root)] = self.find(roots[0])

    def fix(self, elements: Iterable[Hashable]) -> None:
        self.tie([self.FIXED, *elements])

    def is_free(self, element: Hashable) -> bool:
        return self.find(element) != self.find(self.FIXED)


class _Correspondence:
    """How the axes of all tensors of a graph correspond, and which tensors must keep their shape.

    Pinned tensors keep their shape, because the graph's border, a subgraph or an unknown operator sees them. A node
    that reads one, or a constant, may reshape it for itself.
    """

    def __init__(self, view: GraphView) -> None:
        self.view = view
        border = {value.name for value in (*view.model.graph.input, *view.model.graph.output)}
        self.pinned: set[str] = {*border, *captured_tensors(view.model), *view.constants}
        for index, node in enumerate(view.nodes):
            if node.op_type not in RESHAPING and not self._is_known(index, node):
                self.pinned |= {tensor for tensor in (*node.input, *node.output) if tensor}
        self.transposes = {index: node for index, node in enumerate(view.nodes) if self._is_transpose(node)}
        rows = {index: axis_rows(view, index, self.pinned) for index in range(len(view.nodes))}
        self.rows = {index: known for index, known in rows.items() if known is not None}

    def _is_known(self, index: int, node: onnx.NodeProto) -> bool:
        return self._is_transpose(node) or axis_rows(self.view, index, self.view.constants) is not None

    def _is_transpose(self, node: onnx.NodeProto) -> bool:
        tensors = (*node.input, *node.output)
        return node.op_type == "Transpose" and all(shape_of(self.view, tensor) is not None for tensor in tensors)

    def source(self, index: int) -> Key:
        """The key of the first input of a node, whose pinned tensors each reader may reshape for itself."""
        return key_of(self.view, index, 0, self.pinned)

    @cached_property
    def shapes(self) -> dict[Key, tuple[int, ...]]:
        """The shapes of all tensors, and of the constants in rows, whose shape is constant."""
        keys: dict[Key, None] = {tensor: None for node in self.view.nodes for tensor in (*node.input, *node.output)}
        keys |= {key: None for rows in self.rows.values() for row in rows for key in row.axes}
        keys |= {self.source(index): None for index in self.transposes}
        shapes = {key: shape_of(self.view, key) for key in keys if key}
        return {key: shape for key, shape in shapes.items() if shape is not None}

    def order(self, node: onnx.NodeProto) -> list[int]:
        """The axis of the input that becomes each axis of the output of a Transpose."""
        return integers_attribute(node, "perm", reversed(range(len(self.shapes[node.input[0]]))))

    def reducing(self, groups: Groups, max_axes: int) -> Groups:
        """The groups of the tensors that are connected to one of more than `max_axes`, if that gets fewer axes."""
        connected = _Union()
        for index, node in self.transposes.items():
            connected.tie([self.source(index), node.output[0]])
        for rows in self.rows.values():
            connected.tie(key for row in rows for key in row.axes)
        before: dict[Hashable, int] = {}
        after: dict[Hashable, int] = {}
        for key, axes in groups.items():
            root = connected.find(key)
            before[root] = max(before.get(root, 0), len(self.shapes[key]))
            after[root] = max(after.get(root, 0), len(axes))
        chosen = {root for root, rank in before.items() if rank > max_axes and after[root] < rank}
        return {key: axes for key, axes in groups.items() if connected.find(key) in chosen}


def _kept(correspondence: _Correspondence) -> dict[Key, list[int]]:
    """The axes of each tensor without those of size 1 that no node needs."""
    shapes, union = correspondence.shapes, _Union()
    for key, shape in shapes.items():
        is_whole = key in correspondence.pinned or math.prod(shape) == 1
        union.fix((key, axis) for axis, size in enumerate(shape) if size > 1 or is_whole)
    for index, node in correspondence.transposes.items():
        for axis, origin in enumerate(correspondence.order(node)):
            union.tie([(correspondence.source(index), origin), (node.output[0], axis)])
    for row in (row for rows in correspondence.rows.values() for row in rows):
        if row.kept or not row.droppable or any(shapes[key][axis] > 1 for key, axis in row.axes.items()):
            union.fix(row.axes.items())
        else:
            union.tie(row.axes.items())
    return {
        key: [axis for axis in range(len(shape)) if not union.is_free((key, axis))] for key, shape in shapes.items()
    }


def _merged(correspondence: _Correspondence, kept: Mapping[Key, list[int]]) -> dict[Key, list[list[int]]]:
    """Merges axes with the one in front of them; `union` decides about each (tensor, axis)."""
    union = _Union()
    for key, axes in kept.items():
        union.fix((key, axis) for axis in (axes if key in correspondence.pinned else axes[:1]))
    for index, node in correspondence.transposes.items():
        _tie_transposed(correspondence.source(index), node.output[0], correspondence.order(node), kept, union)
    for rows in correspondence.rows.values():
        _tie_rows([row for row in rows if _is_kept(row, kept)], correspondence.shapes, union)
    groups: dict[Key, list[list[int]]] = {}
    for key, axes in kept.items():
        groups[key] = []
        for axis in axes:
            if union.is_free((key, axis)):
                groups[key][-1].append(axis)
            else:
                groups[key].append([axis])
    return groups


def _is_kept(row: Row, kept: Mapping[Key, list[int]]) -> bool:
    return any(axis in kept[key] for key, axis in row.axes.items())


def _tie_transposed(source: Key, target: Key, order: list[int], kept: Mapping[Key, list[int]], union: _Union) -> None:
    """Ties the boundaries between neighbours that a Transpose leaves together, and fixes all others."""
    before = {axis: position for position, axis in enumerate(kept[source])}
    staying = set()
    for previous, axis in zip(kept[target], kept[target][1:], strict=False):
        if before[order[axis]] == before[order[previous]] + 1:
            union.tie([(source, order[axis]), (target, axis)])
            staying.add(order[axis])
        else:
            union.fix([(target, axis)])
    union.fix((source, axis) for axis in kept[source] if axis not in staying)


def _tie_rows(rows: Sequence[Row], shapes: Mapping[Key, tuple[int, ...]], union: _Union) -> None:
    """Ties the boundaries in front of each row, or fixes them where the row cannot be merged with the one in front."""
    previous: Row | None = None
    for row in rows:
        if previous is None or not _is_mergeable(previous, row, shapes):
            union.fix(row.axes.items())
        else:
            # A tensor without an axis in the row in front begins here: it has no boundary to decide about.
            union.tie((key, axis) for key, axis in row.axes.items() if key in previous.axes)
        previous = row


def _is_mergeable(previous: Row, row: Row, shapes: Mapping[Key, tuple[int, ...]]) -> bool:
    """Whether every tensor has either both axes in full or none of them, so that broadcasting stays what it is."""
    if previous.kept or row.kept:
        return False
    keys = {*previous.axes, *row.axes}
    pairs = [tuple(shapes[key][one.axes[key]] if key in one.axes else 1 for one in (previous, row)) for key in keys]
    full = (max(first for first, _ in pairs), max(second for _, second in pairs))
    return all(pair in (full, (1, 1)) for pair in pairs)


def _rewrite(correspondence: _Correspondence, index: int, groups: Groups, edit: GraphEdit) -> None:
    """Writes a node for the new shapes of its inputs and outputs."""
    node = correspondence.view.nodes[index]
    positions = {(index, at) for at in range(len(node.input))}
    if not positions & groups.keys() and all(key not in groups for key in (*node.input, *node.output)):
        return
    target = node.output[0]
    if node.op_type in RESHAPING:
        shape = correspondence.shapes.get(target)
        if shape is not None:
            new_shape = _new_shape(shape, groups[target]) if target in groups else shape
            edit.replacing(index).reshape(node.input[0], new_shape, output=target)
    elif index in correspondence.transposes or index in correspondence.rows:
        _copy_with_new_axes(correspondence, index, groups, edit.replacing(index))


def _copy_with_new_axes(correspondence: _Correspondence, index: int, groups: Groups, chain: NodeChain) -> None:
    """Adds a copy of a node with the new numbers of its axes, and new shapes of the inputs that it may reshape."""
    view, node = correspondence.view, correspondence.view.nodes[index]
    inputs = [
        _reshaped(view, tensor, groups[index, at], chain) if (index, at) in groups else tensor
        for at, tensor in enumerate(node.input)
    ]
    copy = chain.copy()
    copy.input[:] = inputs
    position = {axis: at for at, merged in enumerate(groups[correspondence.source(index)]) for axis in merged}
    if index in correspondence.transposes:
        order = correspondence.order(node)
        set_attribute(copy, "perm", [position[order[merged[0]]] for merged in groups[node.output[0]]])
        return
    numbers = [position[axis] for axis in special_axes(view, index) or ()]
    if not numbers:
        return
    if node.op_type in AXES_INPUTS and attribute(node, "axes") is None:
        copy.input[AXES_INPUTS[node.op_type]] = chain.constant(np.array(numbers, np.int64), "axes")
    else:
        name = "axes" if node.op_type in AXES_INPUTS else "axis"
        set_attribute(copy, name, numbers if name == "axes" else numbers[0])


def _reshaped(view: GraphView, tensor: str, groups: Sequence[Sequence[int]], chain: NodeChain) -> str:
    """An input with merged axes: another constant, or the result of a Reshape."""
    shape = shape_of(view, tensor) or ()
    new_shape = tuple(_new_shape(shape, groups))
    if new_shape == shape:
        return tensor
    value = view.constants.get(tensor)
    return chain.reshape(tensor, new_shape) if value is None else chain.constant(value.reshape(new_shape), "constant")


def _new_shape(shape: Sequence[int], groups: Sequence[Sequence[int]]) -> list[int]:
    return [math.prod(shape[axis] for axis in merged) for merged in groups]
