"""Removes movement of data that has no effect, or is half of what two nodes can do at once.

- Two Transposes in a row become one, or none where they cancel each other.
- Of several Reshapes in a row, with Squeeze, Unsqueeze and Flatten, the last one is enough.
- A Pad of zero width is removed. A Pad with zeros in front of a convolution becomes part of its padding.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx

from sr_edge.export.graph.view import (
    GraphView,
    captured_tensors,
    integers_attribute,
    text_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.axis_rows import RESHAPING
from sr_edge.export.passes.rewrites.edit import (
    GraphEdit,
    NodeChain,
    constant_integers,
    constant_shape,
    leaving_old_opsets,
)


@leaving_old_opsets
def movement_merged(model: onnx.ModelProto) -> PassResult:
    """Merges Transposes, Reshapes and Pads with the nodes in front of them or behind them, or removes them."""
    merged, current = 0, model
    while step := _Merging(view_graph(current)).run():
        merged, current = merged + step[0], step[1]
    if not merged:
        return PassResult(model, False, "no movement of data can be merged or removed")
    return PassResult(current, True, f"{merged} Transpose, Reshape and Pad nodes are merged with others or removed")


class _Merging:
    """Merges nodes with the one in front of them, each at most once."""

    def __init__(self, view: GraphView) -> None:
        self._view, self._edit = view, GraphEdit(view)
        self._fixed = view.output_names | captured_tensors(view.model)
        self._changed: set[int] = set()

    def run(self) -> tuple[int, onnx.ModelProto] | None:
        """The number of merged nodes and the new model; None if there was nothing to merge."""
        rules = {
            "Transpose": self._transpose,
            "Pad": self._pad,
            "Conv": self._convolution,
            **dict.fromkeys(RESHAPING, self._reshape),
        }
        for index, node in enumerate(self._view.nodes):
            if node.op_type in rules and node.domain in ("", "ai.onnx"):
                rules[node.op_type](index)
        if not self._changed:
            return None
        self._edit.remove_unused_nodes()
        return len(self._changed), self._edit.result("").model

    def _transpose(self, index: int) -> None:
        node = self._view.nodes[index]
        shape = constant_shape(self._view, node.input[0])
        if shape is None:
            return
        source, order = node.input[0], integers_attribute(node, "perm", reversed(range(len(shape))))
        first = self._single(source, {"Transpose"}, anywhere=True)
        if first is not None:
            before = integers_attribute(first, "perm", reversed(range(len(shape))))
            composed = [before[axis] for axis in order]
            if composed == sorted(composed):
                self._pass_on(index, first.input[0])
            elif self._single(source, {"Transpose"}) is not None:
                self._replacing(index).transpose(first.input[0], composed, output=node.output[0])
        elif order == sorted(order):
            self._pass_on(index, source)

    def _reshape(self, index: int) -> None:
        node = self._view.nodes[index]
        shape = constant_shape(self._view, node.output[0])
        first = self._single(node.input[0], RESHAPING)
        source = node.input[0] if first is None else first.input[0]
        if shape is None:
            return
        if constant_shape(self._view, source) == shape:
            self._pass_on(index, source)
        elif first is not None:
            self._replacing(index).reshape(source, shape, output=node.output[0])

    def _pad(self, index: int) -> None:
        node = self._view.nodes[index]
        widths = constant_integers(self._view, node, 1)
        if widths and not any(widths):
            self._pass_on(index, node.input[0])

    def _convolution(self, index: int) -> None:
        node = self._view.nodes[index]
        pad = self._single(node.input[0], {"Pad"})
        rank = len(constant_shape(self._view, node.input[0]) or ())
        widths = None if pad is None else _zeros_around(self._view, pad, rank)
        if pad is None or widths is None or text_attribute(node, "auto_pad", "NOTSET") != "NOTSET":
            return
        existing = integers_attribute(node, "pads", [0] * (2 * rank - 4))
        copy = self._replacing(index).copy(pads=[one + other for one, other in zip(existing, widths, strict=True)])
        copy.input[0] = pad.input[0]

    def _single(self, tensor: str, operators: Collection[str], *, anywhere: bool = False) -> onnx.NodeProto | None:
        """The node of one of these operators that computes a tensor for one reader alone, or for any number."""
        index = self._view.producer.get(tensor)
        if index is None or self._view.nodes[index].op_type not in operators or index in self._changed:
            return None
        is_alone = len(self._view.consumers.get(tensor, ())) == 1 and tensor not in self._fixed
        return self._view.nodes[index] if is_alone or anywhere else None

    def _pass_on(self, index: int, source: str) -> None:
        """Removes a node whose output is equal to an earlier tensor."""
        self._replacing(index).pass_on(source, self._view.nodes[index].output[0])

    def _replacing(self, index: int) -> NodeChain:
        self._changed.add(index)
        return self._edit.replacing(index)


def _zeros_around(view: GraphView, pad: onnx.NodeProto, rank: int) -> list[int] | None:
    """The widths of the zeros that a Pad adds around an image, as a convolution lists them; None if it does more."""
    widths = constant_integers(view, pad, 1)
    value = view.constants.get(pad.input[2]) if len(pad.input) > 2 and pad.input[2] else np.zeros(1)
    is_constant = text_attribute(pad, "mode", "constant") == "constant" and value is not None and not np.any(value)
    if not widths or not is_constant or len(widths) != 2 * rank or min(widths) < 0:
        return None
    outside = (*widths[:2], *widths[rank : rank + 2])
    return None if any(outside) else [*widths[2:rank], *widths[rank + 2 :]]
