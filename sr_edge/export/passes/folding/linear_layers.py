"""The pass that folds linear layers: training-form branches and chains become one convolution each.

Between two nonlinearities, networks in training form have parallel branches (RepVGG's 3x3, 1x1 and identity, each with
a batch norm; ECB; DBB) and chains (1x1, 3x3, 1x1) whose sum is one convolution. Such a subgraph is replaced where there
are fewer operators afterwards and no more multiply-accumulates. Where a bias is in front of zero padding, a constant is
added that differs at the borders; its elements count as multiply-accumulates.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    captured_tensors,
    integer_attribute,
    integers_attribute,
    view_graph,
)
from sr_edge.export.passes.folding.linear_map import Array, LinearMap, grouped
from sr_edge.export.passes.folding.operators import convolution_macs, is_linear, linear_map
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import FLOAT_DTYPES, GraphEdit, constant_shape, leaving_old_opsets

MAX_NODES = 64
"""Larger subgraphs between two nonlinearities are not searched as a whole."""

_MAX_ROUNDS = 8
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class _Convolution:
    """The one convolution that replaces a subgraph."""

    weight: Array
    groups: int
    dilations: tuple[int, int]
    pads: tuple[int, int, int, int]
    strides: tuple[int, int]
    constant: Array
    size: tuple[int, int]

    @property
    def has_border_map(self) -> bool:
        return self.constant.shape[1:] != (1, 1)

    @property
    def macs(self) -> int:
        return self.weight.size * math.prod(self.size)

    @property
    def cost(self) -> int:
        """Multiply-accumulates, with one for each element of a constant that is added."""
        return self.macs + (self.constant.size if self.has_border_map else 0)


@dataclass(frozen=True)
class _Fold:
    """A subgraph from a tensor to the output of its last node, and the convolution in its place."""

    source: str
    nodes: tuple[int, ...]
    macs: int
    convolution: _Convolution

    @property
    def gain(self) -> tuple[int, int]:
        """Saved multiply-accumulates, and saved operators."""
        written = 2 if self.convolution.has_border_map else 1
        return self.macs - self.convolution.cost, len(self.nodes) - written


@leaving_old_opsets
def fold_linear_layers(model: onnx.ModelProto) -> PassResult:
    """Replaces subgraphs of convolutions, sums and constant factors by one convolution each, where that is cheaper."""
    folds: list[_Fold] = []
    folded = model
    for _ in range(_MAX_ROUNDS):
        view = view_graph(folded)
        new_folds = list(_folds(view))
        if not new_folds:
            break
        folds += new_folds
        folded = _written(view, new_folds)
    if not folds:
        return PassResult(model, False, "no subgraph of linear layers is cheaper as one convolution")
    saved = sum(fold.macs - fold.convolution.macs for fold in folds)
    nodes = sum(len(fold.nodes) for fold in folds)
    reason = f"{nodes} linear operators are {len(folds)} convolutions now, with {saved:,} multiply-accumulates fewer"
    return PassResult(folded, True, reason)


def _folds(view: GraphView) -> Iterator[_Fold]:
    """The folds of a graph from its end to its beginning; no node is in two of them."""
    regions = _Regions(view)
    taken: set[int] = set()
    for root in reversed(range(len(view.nodes))):
        if root in taken or not is_linear(view, root):
            continue
        candidates = [fold for fold in regions.folds(root) if taken.isdisjoint(fold.nodes)]
        best = max(candidates, key=lambda fold: fold.gain, default=None)
        if best is not None:
            taken.update(best.nodes)
            yield best


class _Regions:
    """Finds the subgraphs of linear operators that end at a node."""

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._fixed = view.output_names | captured_tensors(view.model)

    def folds(self, root: int) -> Iterator[_Fold]:
        """All subgraphs that compute the output of `root` from one tensor and are cheaper as a convolution."""
        if self._view.types.get(self._view.nodes[root].output[0]) not in FLOAT_DTYPES:
            return
        for source in self._sources(root):
            nodes = self._between(source, root)
            if nodes is None or not self._is_closed(nodes, root) or not self._is_worth_reading(nodes):
                continue
            convolution = self._convolution(source, nodes)
            macs = sum(convolution_macs(self._view, index) for index in nodes)
            fold = _Fold(source, nodes, macs, convolution) if convolution else None
            if fold is not None and fold.gain[0] >= 0 and fold.gain[1] > 0:
                yield fold

    def _sources(self, root: int) -> list[str]:
        """The tensors from which linear operators compute the output of `root`, the nearest first."""
        sources: dict[str, None] = {}
        pending, seen = [root], {root}
        while pending and len(seen) <= MAX_NODES:
            for tensor in self._view.computed_inputs(pending.pop(0)):
                sources[tensor] = None
                producer = self._view.producer.get(tensor)
                if producer is not None and producer not in seen and is_linear(self._view, producer):
                    seen.add(producer)
                    pending.append(producer)
        return list(sources)

    def _between(self, source: str, root: int) -> tuple[int, ...] | None:
        """The nodes between a tensor and `root`, in order; None if the output depends on anything else."""
        nodes, pending = {root}, [root]
        while pending:
            for tensor in self._view.computed_inputs(pending.pop()):
                producer = self._view.producer.get(tensor)
                if tensor == source or producer in nodes:
                    continue
                if producer is None or len(nodes) >= MAX_NODES or not is_linear(self._view, producer):
                    return None
                nodes.add(producer)
                pending.append(producer)
        return tuple(sorted(nodes))

    def _is_closed(self, nodes: tuple[int, ...], root: int) -> bool:
        """Whether nothing else reads what is computed inside, or the weights that are folded."""
        inside = set(nodes)
        for index in nodes:
            node = self._view.nodes[index]
            if index != root and (node.output[0] in self._fixed or not inside.issuperset(self._view.readers(index))):
                return False
            if node.op_type == "Conv" and not self._is_own(node.input[1], inside):
                return False
        return True

    def _is_own(self, weight: str, inside: set[int]) -> bool:
        return weight not in self._fixed and inside.issuperset(self._view.consumers.get(weight, ()))

    def _is_worth_reading(self, nodes: tuple[int, ...]) -> bool:
        """Whether there is a constant convolution, and more than one node to be saved."""
        convolutions = [self._view.nodes[index] for index in nodes if self._view.nodes[index].op_type == "Conv"]
        constants = self._view.constants
        return len(nodes) > 1 and bool(convolutions) and all(node.input[1] in constants for node in convolutions)

    def _convolution(self, source: str, nodes: tuple[int, ...]) -> _Convolution | None:
        shape = constant_shape(self._view, source)
        if shape is None or len(shape) != 4:
            return None
        maps = {source: LinearMap.identity(shape[1], (shape[2], shape[3]))}
        for index in nodes:
            linear = linear_map(self._view, index, maps)
            if linear is None:
                return None
            maps[self._view.nodes[index].output[0]] = linear
        return self._written_form(maps[self._view.nodes[nodes[-1]].output[0]], nodes)

    def _written_form(self, linear: LinearMap, nodes: tuple[int, ...]) -> _Convolution | None:
        """The convolution of a map, with groups and dilations where the kernel has their zeros."""
        largest = max(np.abs(linear.kernel).max(initial=0.0), np.abs(linear.constant).max(initial=0.0))
        if min(*linear.offset, *linear.ends) < 0 or not largest < _LARGEST:
            return None
        convolutions = [self._view.nodes[index] for index in nodes if self._view.nodes[index].op_type == "Conv"]
        groups = sorted({integer_attribute(node, "group", 1) for node in convolutions} | {1}, reverse=True)
        group, weight = next(
            (group, weight) for group in groups if (weight := grouped(linear.kernel, group)) is not None
        )
        steps = {tuple(integers_attribute(node, "dilations", (1, 1))) for node in convolutions} | {(1, 1)}
        step = next(step for step in sorted(steps, reverse=True) if _is_dilated(weight, step))
        return _Convolution(
            weight=weight[:, :, :: step[0], :: step[1]],
            groups=group,
            dilations=(step[0], step[1]),
            pads=(*linear.offset, *linear.ends),
            strides=linear.strides,
            constant=linear.constant,
            size=linear.size,
        )


def _is_dilated(weight: Array, step: tuple[int, ...]) -> bool:
    """Whether a kernel has the zeros of these dilations."""
    rows, columns = weight.shape[2:]
    if (rows - 1) % step[0] or (columns - 1) % step[1]:
        return False
    return np.count_nonzero(weight) == np.count_nonzero(weight[:, :, :: step[0], :: step[1]])


def _written(view: GraphView, folds: list[_Fold]) -> onnx.ModelProto:
    edit = GraphEdit(view)
    for fold in folds:
        root = fold.nodes[-1]
        for index in fold.nodes[:-1]:
            edit.replacing(index)
        chain, written, output = edit.replacing(root), fold.convolution, view.nodes[root].output[0]
        dtype = FLOAT_DTYPES[view.types[output]]
        inputs = [fold.source, chain.constant(written.weight.astype(dtype), "weight")]
        if not written.has_border_map and np.any(written.constant):
            inputs.append(chain.constant(written.constant.ravel().astype(dtype), "bias"))
        convolved = chain.add(
            "Conv",
            inputs,
            output="" if written.has_border_map else output,
            kernel_shape=list(written.weight.shape[2:]),
            pads=list(written.pads),
            strides=list(written.strides),
            dilations=list(written.dilations),
            group=written.groups,
        )
        if written.has_border_map:
            border = chain.constant(written.constant[np.newaxis].astype(dtype), "border")
            chain.add("Add", [convolved, border], output=output)
    return edit.result("").model
