"""Passes for tests: exact ones that do nothing useful, a wrong one, and one that fails."""

from __future__ import annotations

import onnx
from onnx import helper

from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.speed_passes import Gain, SpeedPass


def _replaced(model: onnx.ModelProto, operator: str, replacement: str, zero: bool = False) -> PassResult:
    """The graph with one operator in place of another, with a constant zero as the second input if `zero`."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    nodes = [node for node in changed.graph.node if node.op_type == operator]
    if not nodes:
        return PassResult(model, False, f"the graph has no {operator}")
    if zero and "zero" not in {tensor.name for tensor in changed.graph.initializer}:
        changed.graph.initializer.append(helper.make_tensor("zero", onnx.TensorProto.FLOAT, [], [0.0]))
    for node in nodes:
        inputs = [node.input[0], "zero"] if zero else [node.input[0]]
        node.CopyFrom(helper.make_node(replacement, inputs, list(node.output), name=node.name))
    return PassResult(changed, True, f"{len(nodes)} {operator} became {replacement}")


def relu_as_clip(model: onnx.ModelProto) -> PassResult:
    return _replaced(model, "Relu", "Clip", zero=True)


def clip_as_max(model: onnx.ModelProto) -> PassResult:
    return _replaced(model, "Clip", "Max", zero=True)


def without_activations(model: onnx.ModelProto) -> PassResult:
    """Computes something else."""
    first = _replaced(model, "Clip", "Identity")
    return first if first.changed else _replaced(model, "Relu", "Identity")


def failing(model: onnx.ModelProto) -> PassResult:
    raise KeyError("a tensor that nobody produces")


CLIP = SpeedPass("clip", relu_as_clip, Gain.STRUCTURE, "Relu becomes Clip.")
MAX = SpeedPass("max", clip_as_max, Gain.MEASUREMENT, "Clip becomes Max.")
WRONG = SpeedPass("wrong", without_activations, Gain.STRUCTURE, "Activations are left out.")
FAILING = SpeedPass("failing", failing, Gain.STRUCTURE, "Nothing.")
