"""Finds the bias of a layer: its third input, or the constant of an Add that follows a matrix product."""

from __future__ import annotations

from dataclasses import dataclass

from sr_edge.export.graph.view import GraphView, attribute

BIAS_SLOT = 2


@dataclass(frozen=True)
class Bias:
    """Input `slot` of the node `node` adds the constant `name` to the output of the layer.

    `name` is empty if the layer has no bias yet but can be given one.
    """

    node: str
    slot: int
    name: str


def bias_of(view: GraphView, at: int) -> Bias | None:
    """The bias of the layer at index `at`; None if it cannot have one without another operator."""
    node = view.nodes[at]
    if node.op_type == "MatMul":
        return _added_behind(view, at)
    name = node.input[BIAS_SLOT] if len(node.input) > BIAS_SLOT else ""
    if name and name not in view.constants:
        return None
    if node.op_type == "Gemm" and not _is_one_value_per_output(view, at, name):
        return None
    return Bias(node.name, BIAS_SLOT, name)


def _added_behind(view: GraphView, at: int) -> Bias | None:
    (product,) = view.nodes[at].output
    readers = view.consumers.get(product, ())
    if len(readers) != 1 or product in view.output_names:
        return None
    reader = view.nodes[readers[0]]
    outputs = view.constants[view.nodes[at].input[1]].shape[-1]
    if reader.op_type == "Add":
        for slot, name in enumerate(reader.input):
            constant = view.constants.get(name)
            if constant is not None and constant.size == outputs == constant.shape[-1]:
                return Bias(reader.name, slot, name)
    return None


def _is_one_value_per_output(view: GraphView, at: int, name: str) -> bool:
    """Whether the Gemm at index `at` adds one value per output channel, the same for all rows."""
    node = view.nodes[at]
    weight, transposed = view.constants.get(node.input[1]), attribute(node, "transB")
    if not name or weight is None or not all(_is_one(view, at, factor) for factor in ("alpha", "beta")):
        return False
    outputs = weight.shape[0 if transposed is not None and transposed.i else 1]
    return view.constants[name].shape in ((outputs,), (1, outputs))


def _is_one(view: GraphView, at: int, name: str) -> bool:
    value = attribute(view.nodes[at], name)
    return value is None or value.f == 1.0
