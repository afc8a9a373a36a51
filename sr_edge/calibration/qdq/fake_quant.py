"""The fake-quant graph: the float graph with a flag at every layer that selects INT8 or float at run time.

INT8 is computed as the written graph defines it: rounded levels times scales, then float arithmetic. One session in
    ONNX Runtime can therefore measure single layers and any set of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.biases import BIAS_SLOT, Bias, bias_of
from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.calibration.graph.int8 import int8_weight
from sr_edge.calibration.graph.probe import Feeds, InstrumentedGraph, float_picture
from sr_edge.calibration.result.calibration import Calibration
from sr_edge.controls import Controls
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.cleanup import name_nodes
from sr_edge.frames import Batch

_INT8_FLAGS = "sr_edge_int8_flags"
_PREFIX = "sr_edge_int8/"
"""The prefix of all other names that are added."""


class FakeQuantGraph:
    """Runs a graph with any set of the INT8 layers of a calibration."""

    def __init__(self, model: onnx.ModelProto, calibration: Calibration) -> None:
        self._feeds = Feeds(model)
        self._names = calibration.int8_nodes
        layers = quantizable_layers(model)
        fake_quant = _FakeQuantWriter(model, [layers[name] for name in self._names], calibration).model
        self._graph = InstrumentedGraph(fake_quant, feeds=self._feeds)

    def run(self, batch: Batch, int8: Collection[str], controls: Controls | None = None) -> Batch:
        """The first output with the named layers in INT8, as float32 NCHW in the input range of the graph."""
        int8_flags = np.array([name in int8 for name in self._names], np.bool_)
        (output, *_) = self._graph.run_inputs({**self._feeds.of(batch, controls), _INT8_FLAGS: int8_flags})
        return float_picture(output)


class _FakeQuantWriter:
    """Puts every layer into an If: one branch is the float layer, the other has the quantized input, weight and bias.

    Only the selected branch is computed, and both branches have constant weights, which ONNX Runtime prepares once.
    """

    def __init__(self, model: onnx.ModelProto, layers: Sequence[Layer], calibration: Calibration) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(name_nodes(model).model)
        self._view = view_graph(self.model)
        self._nodes = {node.name: node for node in self.model.graph.node}
        # The biases are found before any node changes, because the nodes of the view are rewired below.
        fake_quant = {layer.op.node for layer in layers}
        self._biases = {
            node.name: bias_of(self._view, at) for at, node in enumerate(self._view.nodes) if node.name in fake_quant
        }
        self._calibration = calibration
        self._replacements: dict[str, list[onnx.NodeProto]] = {}
        self.model.graph.input.append(helper.make_tensor_value_info(_INT8_FLAGS, TensorProto.BOOL, [len(layers)]))
        for index, layer in enumerate(layers):
            self._insert_branches(index, layer)
        nodes = [new for node in self.model.graph.node for new in self._replacements.get(node.name, [node])]
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)

    def _insert_branches(self, index: int, layer: Layer) -> None:
        op, node, bias = layer.op, self._nodes[layer.op.node], self._biases[layer.op.node]
        flag = f"{_PREFIX}{op.node}/flag"
        gather = helper.make_node("Gather", [_INT8_FLAGS, self._constant(f"{flag}_index", np.int64(index))], [flag])
        before, after = self._bias_values(layer, bias)
        if bias is not None and bias.node != op.node:
            self._select_bias(bias, flag, before, after)
            before = after = None
        branches = {
            "else_branch": _branch(node, "float", op.activation, layer.weight, before),
            "then_branch": self._int8_branch(layer, node, after),
        }
        self._replacements[op.node] = [gather, helper.make_node("If", [flag], [*node.output], **branches)]

    def _bias_values(self, layer: Layer, bias: Bias | None) -> tuple[Float32Array | None, Float32Array | None]:
        """The float bias and the corrected bias; None if the layer has none."""
        correction = self._calibration.correction_of(layer.op)
        before = self._view.constants[bias.name].astype(np.float32) if bias is not None and bias.name else None
        if correction is None or bias is None:
            return before, before
        added = np.asarray(correction, np.float32)
        return before, added if before is None else before + added.reshape(before.shape)

    def _select_bias(self, bias: Bias, flag: str, before: Float32Array | None, after: Float32Array | None) -> None:
        """Selects the bias of a matrix product, which is the constant of the Add that follows it."""
        if before is None or after is None or after is before:
            return
        adder, selected = self._nodes[bias.node], f"{flag}_bias"
        values = [self._constant(f"{selected}/{kind}", value) for kind, value in (("after", after), ("before", before))]
        adder.input[bias.slot] = selected
        self._replacements[bias.node] = [helper.make_node("Where", [flag, *values], [selected]), adder]

    def _int8_branch(self, layer: Layer, node: onnx.NodeProto, bias: Float32Array | None) -> onnx.GraphProto:
        op, tensor_range = layer.op, self._calibration.range_of(layer.op.activation)
        smoothing = tensor_range.smoothing_divisors
        weight = layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing)
        rounded = int8_weight(weight, op.channel_axis, self._calibration.tuned_weight(op, weight.shape))
        constants: dict[str, npt.ArrayLike] = {
            f"{_PREFIX}{op.node}/scale": np.float32(tensor_range.scale),
            f"{_PREFIX}{op.node}/zero_point": np.uint8(0) if tensor_range.is_unsigned else np.int8(0),
        }
        steps = [("QuantizeLinear", [*constants]), ("DequantizeLinear", [*constants])]
        if smoothing is not None:
            factor = f"{_PREFIX}{op.node}/smoothing"
            constants[factor] = (1.0 / smoothing).reshape((-1, 1, 1) if layer.is_spatial else (-1,))
            steps.insert(0, ("Mul", [factor]))
        branch, source = onnx.GraphProto(), op.activation
        for op_type, operands in steps:
            output = f"{_PREFIX}{op.node}/{op_type}"
            branch.node.append(helper.make_node(op_type, [source, *operands], [output]))
            source = output
        branch.MergeFrom(_branch(node, "int8", source, rounded, bias))
        branch.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items())
        return branch

    def _constant(self, name: str, value: npt.ArrayLike) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _branch(
    node: onnx.NodeProto, kind: str, source: str, weight: Float32Array, bias: Float32Array | None
) -> onnx.GraphProto:
    """A branch with a copy of the layer on `source`; without `bias` the copy keeps the bias of the layer."""
    layer = onnx.NodeProto()
    layer.CopyFrom(node)
    layer.name = layer.output[0] = f"{_PREFIX}{node.name}/{kind}"
    operands = {1: weight} if bias is None else {1: weight, BIAS_SLOT: bias}
    layer.input.extend([""] * (max(operands) + 1 - len(layer.input)))
    layer.input[0] = source
    for slot in operands:
        layer.input[slot] = f"{layer.name}_{slot}"
    constants = [numpy_helper.from_array(np.asarray(v, np.float32), layer.input[s]) for s, v in operands.items()]
    output = helper.make_tensor_value_info(layer.output[0], TensorProto.FLOAT, None)
    return helper.make_graph([layer], layer.name, [], [output], constants)
