"""The float graph with a switch at every layer: INT8 or float, any set of them, without building another graph.

INT8 is computed as the written graph means it: rounded levels times scales, then float arithmetic. So one session in
ONNX Runtime ranks single layers and judges any set of them together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from sr_edge.calibration.biases import bias_of
from sr_edge.calibration.calibration import Calibration, TensorRange
from sr_edge.calibration.columns import Layer, possible_layers
from sr_edge.calibration.graph import name_nodes
from sr_edge.calibration.qdq import smoothing_of
from sr_edge.calibration.watched import Batch, Feeds, WatchedGraph
from sr_edge.calibration.weights import int8_weight
from sr_edge.controls import Controls
from sr_edge.export.graph import view_graph

_SWITCHES = "sr_edge_int8_switches"
_ZERO_POINTS = {False: "sr_edge_int8_zero_point", True: "sr_edge_uint8_zero_point"}
"""By whether the levels are unsigned."""


class SwitchedGraph:
    """Runs a graph with any of a calibration's INT8 layers switched on."""

    def __init__(self, model: onnx.ModelProto, calibration: Calibration) -> None:
        self._feeds = Feeds(model)
        self._names = calibration.int8_nodes
        layers = possible_layers(model)
        switched = _Switcher(model, [layers[name] for name in self._names], calibration).model
        self._graph = WatchedGraph(switched, feeds=self._feeds)

    def run(self, batch: Batch, int8: Collection[str], controls: Controls | None = None) -> Batch:
        """The graph's first output, as float32 NCHW in its own range, with the layers of those names in INT8."""
        switches = np.array([name in int8 for name in self._names], np.bool_)
        (found, *_) = self._graph.run_fed({**self._feeds.of(batch, controls), _SWITCHES: switches})
        return float_picture(found)


def float_picture(output: npt.NDArray[np.generic]) -> Batch:
    """A graph's output as float32 NCHW: uint8 NHWC is turned and divided by 255."""
    if output.dtype == np.uint8:
        picture: Batch = output.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)
        return picture
    return np.asarray(output, np.float32)


class _Switcher:
    def __init__(self, model: onnx.ModelProto, layers: Sequence[Layer], calibration: Calibration) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        name_nodes(self.model)
        self._view = view_graph(self.model)
        self._nodes = {node.name: node for node in self.model.graph.node}
        # Before any node changes: the view's nodes are those that are rewired below.
        switched = {layer.site.node for layer in layers}
        self._biases = {
            node.name: bias_of(self._view, at) for at, node in enumerate(self._view.nodes) if node.name in switched
        }
        self._calibration = calibration
        self._before: dict[str, list[onnx.NodeProto]] = {}
        self._dequantized: dict[str, str] = {}
        self.model.graph.input.append(helper.make_tensor_value_info(_SWITCHES, TensorProto.BOOL, [len(layers)]))
        self._constant(_ZERO_POINTS[False], np.int8(0))
        self._constant(_ZERO_POINTS[True], np.uint8(0))
        for index, layer in enumerate(layers):
            self._switch(index, layer)
        nodes = [new for node in self.model.graph.node for new in (*self._before.get(node.name, ()), node)]
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)

    def _switch(self, index: int, layer: Layer) -> None:
        site = layer.site
        found = self._calibration.range_of(site.activation)
        smoothing = smoothing_of(found)
        weight = layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing)
        flag = self._output(site.node, "Gather", [_SWITCHES, self._constant(f"{site.node}/index", np.int64(index))])
        tuned = self._calibration.tuned_weight(site, weight.shape)
        rounded = self._constant(f"{site.node}/rounded", int8_weight(weight, site.channel_axis, tuned))
        node = self._nodes[site.node]
        activation = self._dequantized_activation(layer, found)
        node.input[0] = self._output(site.node, "Where", [flag, activation, site.activation], "0")
        node.input[1] = self._output(site.node, "Where", [flag, rounded, site.weight], "1")
        self._switch_bias(layer, flag)

    def _dequantized_activation(self, layer: Layer, found: TensorRange) -> str:
        """Quantized once for all readers, before the first of them."""
        site = layer.site
        if site.activation not in self._dequantized:
            source, smoothing = site.activation, smoothing_of(found)
            if smoothing is not None:
                shape = (-1, 1, 1) if layer.is_spatial else (-1,)
                factor = self._constant(f"{site.node}/smoothing", (1.0 / smoothing).reshape(shape))
                source = self._output(site.node, "Mul", [source, factor])
            scale = self._constant(f"{site.node}/scale", np.float32(found.scale))
            zero_point = _ZERO_POINTS[found.is_unsigned]
            levels = self._output(site.node, "QuantizeLinear", [source, scale, zero_point])
            self._dequantized[site.activation] = self._output(
                site.node, "DequantizeLinear", [levels, scale, zero_point]
            )
        return self._dequantized[site.activation]

    def _switch_bias(self, layer: Layer, flag: str) -> None:
        name = layer.site.node
        correction = self._calibration.correction_of(layer.site)
        bias = self._biases[name]
        if correction is None or bias is None:
            return
        old = self._view.constants[bias.name].astype(np.float32) if bias.name else np.zeros(len(correction), np.float32)
        new = self._constant(f"{name}/corrected", old + np.asarray(correction, np.float32).reshape(old.shape))
        kept = bias.name or self._constant(f"{name}/uncorrected", old)
        node = self._nodes[bias.node]
        while len(node.input) <= bias.slot:
            node.input.append("")
        node.input[bias.slot] = self._output(name, "Where", [flag, new, kept], "2")

    def _constant(self, name: str, value: npt.ArrayLike) -> str:
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _output(self, site: str, op_type: str, inputs: list[str], suffix: str = "") -> str:
        name = f"{site}/switched_{op_type}{suffix}"
        self._before.setdefault(site, []).append(helper.make_node(op_type, inputs, [name], name=name))
        return name
