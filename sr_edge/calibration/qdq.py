"""Writes INT8 into a float graph as QuantizeLinear/DequantizeLinear pairs.

Activations: one pair per tensor, before the layers that take it. Weights: INT8 initializers with a per-channel
DequantizeLinear. Biases stay float: TensorRT refuses a dequantized INT32 bias. One set of values has two spellings,
signed with zero point 0 (TensorRT takes no other) and unsigned with zero point 128 (OpenVINO 2026.4 loses the sign of
signed values behind a Concat); both saturate at the same magnitudes, [-128, 127] scales.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sr_edge.calibration.calibration import Calibration
from sr_edge.calibration.graph import name_nodes
from sr_edge.calibration.sites import Site, find_sites
from sr_edge.calibration.weights import quantize_weight
from sr_edge.errors import CalibrationError
from sr_edge.export.graph import default_opset, view_graph
from sr_edge.spec import Spelling

_FIRST_OPSET_PER_CHANNEL = 13
_ZERO_POINTS = {Spelling.S8: np.int8(0), Spelling.U8: np.uint8(128)}


def insert_qdq(model: onnx.ModelProto, calibration: Calibration, spelling: Spelling) -> onnx.ModelProto:
    """A copy of `model` with the calibration's INT8 layers quantized; everything else, and the I/O, as it was.

    Raises:
        CalibrationError: a layer or range of the calibration is not in the graph, or the opset is below 13.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    name_nodes(quantized)
    _require_opset(quantized)
    sites = _sites_to_quantize(quantized, calibration)
    writer = _QdqWriter(quantized, calibration, spelling)
    nodes = [new for node in quantized.graph.node for new in writer.rewrite(node, sites.get(node.name))]
    _keep(quantized.graph.node, nodes)
    _drop_unused_constants(quantized)
    return quantized


class _QdqWriter:
    """Rewrites nodes in graph order; a tensor or weight met before is not quantized again."""

    def __init__(self, model: onnx.ModelProto, calibration: Calibration, spelling: Spelling) -> None:
        self._graph = model.graph
        self._constants = view_graph(model).constants
        self._ranges = calibration.ranges
        self._zero_point = _ZERO_POINTS[spelling]
        self._activations: set[str] = set()
        self._weights: set[tuple[str, int]] = set()

    def rewrite(self, node: onnx.NodeProto, site: Site | None) -> Iterable[onnx.NodeProto]:
        if site is not None:
            yield from self._activation_pair(site.activation)
            yield from self._weight_dequantizer(site.weight, site.channel_axis)
            node.input[0] = _dequantized_name(site.activation)
            node.input[1] = _dequantized_name(site.weight, site.channel_axis)
        yield node

    def _activation_pair(self, tensor: str) -> Iterable[onnx.NodeProto]:
        if tensor in self._activations:
            return
        self._activations.add(tensor)
        name = _dequantized_name(tensor)
        scale = self._add(f"{name}_scale", np.float32(self._ranges[tensor].scale))
        zero_point = self._add(f"{name}_zero_point", self._zero_point)
        levels = f"{name}_levels"
        yield _node("QuantizeLinear", [tensor, scale, zero_point], levels)
        yield _node("DequantizeLinear", [levels, scale, zero_point], name)

    def _weight_dequantizer(self, weight: str, axis: int) -> Iterable[onnx.NodeProto]:
        if (weight, axis) in self._weights:
            return
        self._weights.add((weight, axis))
        name = _dequantized_name(weight, axis)
        values, scales = quantize_weight(self._constants[weight].astype(np.float32), axis)
        levels = self._add(f"{name}_levels", values)
        scale = self._add(f"{name}_scale", scales)
        zero_point = self._add(f"{name}_zero_point", np.zeros(scales.shape, np.int8))
        yield _node("DequantizeLinear", [levels, scale, zero_point], name, axis)

    def _add(self, name: str, value: npt.ArrayLike) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _dequantized_name(tensor: str, axis: int | None = None) -> str:
    return f"{tensor}/int8" if axis is None else f"{tensor}/int8_axis{axis}"


def _node(op_type: str, inputs: list[str], output: str, axis: int | None = None) -> onnx.NodeProto:
    node = helper.make_node(op_type, inputs, [output], name=f"{output}_{op_type}")
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _require_opset(model: onnx.ModelProto) -> None:
    opset = default_opset(model)
    if opset < _FIRST_OPSET_PER_CHANNEL:
        raise CalibrationError(
            f"the graph's opset is {opset}; per-channel INT8 needs {_FIRST_OPSET_PER_CHANNEL} or later, export at 17"
        )


def _sites_to_quantize(model: onnx.ModelProto, calibration: Calibration) -> dict[str, Site]:
    possible = {site.node: site for site in find_sites(model) if not site.obstacle}
    for name in calibration.int8_nodes:
        if name not in possible or possible[name].activation not in calibration.ranges:
            raise CalibrationError(f"the calibration does not fit this graph (layer {name}); calibrate it again")
    return {name: possible[name] for name in calibration.int8_nodes}


def _drop_unused_constants(model: onnx.ModelProto) -> None:
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    dropped = view_graph(model).constants.keys() - used
    for field in (graph.initializer, graph.input):  # files of IR version 3 list initializers among the inputs
        _keep(field, [value for value in field if value.name not in dropped])
    _keep(graph.node, [node for node in graph.node if dropped.isdisjoint(node.output)])


def _keep(field: Any, kept: list[Any]) -> None:
    del field[:]
    field.extend(kept)
