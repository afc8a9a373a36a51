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


def cancelling(model: onnx.ModelProto) -> PassResult:
    """Adds a large number in front of each Relu and takes it away behind, which float16 does not survive."""
    if "large" in {tensor.name for tensor in model.graph.initializer}:
        return PassResult(model, False, "the large number is there")
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    for node in model.graph.node:
        if node.op_type == "Relu":
            relu, output = node.input[0], node.output[0]
            added = helper.make_node("Add", [relu, "large"], [f"{output} added"], name=f"{node.name} added")
            taken = helper.make_node(
                "Sub", [f"{output} added", "large"], [f"{output} taken"], name=f"{node.name} taken"
            )
            changed.graph.node.extend([added, taken])
        copy = changed.graph.node.add()
        copy.CopyFrom(node)
        if node.op_type == "Relu":
            copy.input[0] = f"{node.output[0]} taken"
    changed.graph.initializer.append(helper.make_tensor("large", onnx.TensorProto.FLOAT, [], [128.0]))
    return PassResult(changed, True, "a large number was added and taken away")


CLIP = SpeedPass("clip", relu_as_clip, Gain.STRUCTURE, "Relu becomes Clip.")
MAX = SpeedPass("max", clip_as_max, Gain.MEASUREMENT, "Clip becomes Max.")
WRONG = SpeedPass("wrong", without_activations, Gain.STRUCTURE, "Activations are left out.")
CANCELLING = SpeedPass("cancelling", cancelling, Gain.STRUCTURE, "Nothing, but float16 loses digits.")
FAILING = SpeedPass("failing", failing, Gain.STRUCTURE, "Nothing.")
