"""Chains of operators that only move data, such as a cyclic shift and a partition into windows, moved once.

Exporters write a cyclic shift as four Slice and two Concat nodes, a partition into windows as Reshape, Transpose and
Reshape, the split into heads as another Transpose, and so on: the elements of one tensor are copied up to ten times
before the next operator computes with them. The order of the elements at the end of such a chain is determined
(`element_order`), and the chain is replaced by the fewest operators that bring them into it: Reshape, Slice and
Transpose, or one Gather of contiguous runs. No element changes, so the outputs are equal to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    captured_tensors,
    integer_attribute,
    integers_attribute,
    view_graph,
)
from sr_edge.export.passes.attention.element_order import ElementOrder
from sr_edge.export.passes.attention.movement_plan import MovementPlan, plan_movement
from sr_edge.export.passes.attention.product_columns import product_weight
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, constant_integers, constant_shape, leaving_old_opsets

RESHAPING = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
COPYING = frozenset({"Transpose", "Slice", "Split", "Gather", "Concat"})


@leaving_old_opsets
def move_once(model: onnx.ModelProto) -> PassResult:
    """Replaces chains of operators that only move data by fewer of them."""
    view = view_graph(model)
    orders = element_orders(view)
    if not orders:
        return PassResult(model, False, "no operator of the graph only moves data")
    edit, replaced, before, after = GraphEdit(view), 0, 0, 0
    for region in _regions(view, orders):
        if region.improves:
            region.write(edit)
            replaced, before, after = replaced + 1, before + region.copied_before, after + region.copied_after
    if not replaced:
        return PassResult(model, False, "no data would be copied fewer times")
    edit.remove_unused_nodes()
    return edit.result(
        f"the results of {replaced} operators are moved with {after} copied elements instead of {before}"
    )


def element_orders(view: GraphView) -> dict[str, ElementOrder]:
    """The order of each tensor that is moved from another one, by its name."""
    orders: dict[str, ElementOrder] = {}
    for node in view.nodes:
        if (
            node.domain not in ("", "ai.onnx")
            or node.op_type not in RESHAPING | COPYING
            or not view.is_float(node.input[0])
        ):
            continue
        if any(constant_shape(view, tensor) is None for tensor in node.output if tensor):
            continue
        for tensor, order in zip(node.output, _moved(view, node, orders), strict=False):
            if order is not None and order.shape == view.shapes[tensor]:
                orders[tensor] = order
    return orders


def _order_of(view: GraphView, tensor: str, orders: Mapping[str, ElementOrder]) -> ElementOrder | None:
    shape = constant_shape(view, tensor)
    if shape is None or tensor in view.constants:
        return None
    return orders.get(tensor) or ElementOrder.of_source(tensor, shape)


def _moved(view: GraphView, node: onnx.NodeProto, orders: Mapping[str, ElementOrder]) -> list[ElementOrder | None]:
    """The orders of the outputs of a node; None for one whose order is not known."""
    order = _order_of(view, node.input[0], orders)
    if order is None:
        return []
    if node.op_type in RESHAPING:
        return [order.reshaped(constant_shape(view, node.output[0]) or ())]
    if node.op_type == "Transpose":
        return [order.transposed(integers_attribute(node, "perm", reversed(range(len(order.shape)))))]
    if node.op_type == "Slice":
        return [_sliced(view, node, order)]
    if node.op_type == "Gather":
        indices = view.constants.get(node.input[1])
        axis = integer_attribute(node, "axis", 0) % len(order.shape)
        return [None if indices is None else order.selected(axis, np.asarray(indices, np.int64) % order.shape[axis])]
    axis = integer_attribute(node, "axis", 0) % len(order.shape)
    if node.op_type == "Split":
        return _split(view, node, order, axis)
    others = [_order_of(view, tensor, orders) for tensor in node.input[1:]]
    return [order.joined([other for other in others if other is not None], axis)] if None not in others else []


def _sliced(view: GraphView, node: onnx.NodeProto, order: ElementOrder) -> ElementOrder | None:
    bounds = [constant_integers(view, node, position) for position in range(1, 5)]
    starts, ends, axes, steps = bounds
    if starts is None or ends is None or axes is None or steps is None:
        return None
    axes = axes or list(range(len(starts)))
    sliced: ElementOrder | None = order
    for axis, start, end, step in zip(axes, starts, ends, steps or [1] * len(starts), strict=True):
        axis %= len(order.shape)
        indices = np.arange(order.shape[axis], dtype=np.int64)[start:end:step]
        if len(indices) < order.shape[axis] or step < 0:
            sliced = sliced and sliced.selected(axis, indices)
    return sliced


def _split(view: GraphView, node: onnx.NodeProto, order: ElementOrder, axis: int) -> list[ElementOrder | None]:
    parts: list[ElementOrder | None] = []
    begin = 0
    for tensor in node.output:
        size = (constant_shape(view, tensor) or (0,) * len(order.shape))[axis]
        parts.append(order.selected(axis, np.arange(begin, begin + size, dtype=np.int64)))
        begin += size
    return parts


class _Region:
    """All that is moved from one source, and the plans of those results that other operators read.

    Attributes:
        copied_before: the number of elements that are copied.
        copied_after: the same for the plans. Slices that select columns of a product are not counted where all columns
            are selected once, because they become products of their own (`product_columns`).
    """

    def __init__(
        self, view: GraphView, source: str, nodes: Iterable[int], results: Mapping[str, MovementPlan | None]
    ) -> None:
        self._view, self._nodes = view, set(nodes)
        self._plans = {tensor: plan for tensor, plan in results.items() if plan is not None}
        kept = self._upstream([tensor for tensor, plan in results.items() if plan is None])
        free = not kept and self._are_columns_of_product(source)
        counted = [index for index in self._nodes if not free or view.nodes[index].op_type not in ("Slice", "Split")]
        self.copied_before = sum(map(self._copied, counted))
        self.copied_after = sum(map(self._copied, kept))
        self.copied_after += sum(math.prod(plan.shape) * (plan.moves - free) for plan in self._plans.values())

    @property
    def improves(self) -> bool:
        return self.copied_after < self.copied_before

    def _are_columns_of_product(self, source: str) -> bool:
        """Whether the plans slice a product with a constant matrix into all of its columns."""
        producer = self._view.producer.get(source)
        weight = None if producer is None else product_weight(self._view, self._view.nodes[producer])
        if weight is None or len(self._plans) < 2:
            return False
        ranges = [plan.columns(weight.shape[1]) for plan in self._plans.values()]
        ordered = sorted(columns for columns in ranges if columns is not None)
        joined = all(first[1] == second[0] for first, second in pairwise(ordered))
        return None not in ranges and joined and (ordered[0][0], ordered[-1][1]) == (0, weight.shape[1])

    def write(self, edit: GraphEdit) -> None:
        shared: dict[tuple[object, ...], str] = {}
        ordered = sorted(self._plans.items(), key=lambda item: self._view.producer[item[0]])
        for tensor, plan in ordered:
            plan.write(edit.replacing(self._view.producer[tensor]), shared, tensor)

    def _copied(self, index: int) -> int:
        """The number of elements that a node copies."""
        node = self._view.nodes[index]
        if node.op_type not in COPYING:
            return 0
        return sum(math.prod(constant_shape(self._view, tensor) or ()) for tensor in node.output if tensor)

    def _upstream(self, tensors: Iterable[str]) -> set[int]:
        """The nodes of the region that compute these tensors."""
        nodes: set[int] = set()
        waiting = list(tensors)
        while waiting:
            index = self._view.producer.get(waiting.pop())
            if index in self._nodes and index not in nodes:
                nodes.add(index)
                waiting += self._view.nodes[index].input
        return nodes


def _regions(view: GraphView, orders: Mapping[str, ElementOrder]) -> list[_Region]:
    border = view.output_names | captured_tensors(view.model)
    results: dict[str, dict[str, MovementPlan | None]] = {}
    nodes: dict[str, set[int]] = {}
    for tensor, order in orders.items():
        index = view.producer[tensor]
        nodes.setdefault(order.source, set()).add(index)
        readers = view.consumers.get(tensor, ())
        moved_on = all(_is_moved_on(view, reader, orders) for reader in readers)
        if tensor in border or not moved_on:
            single = len([output for output in view.nodes[index].output if output]) == 1
            plan = plan_movement(order, constant_shape(view, order.source) or ()) if single else None
            results.setdefault(order.source, {})[tensor] = plan
    return [_Region(view, source, nodes[source], plans) for source, plans in results.items()]


def _is_moved_on(view: GraphView, reader: int, orders: Mapping[str, ElementOrder]) -> bool:
    return any(tensor in orders for tensor in view.nodes[reader].output)
