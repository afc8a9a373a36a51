"""Inserts QuantizeLinear/DequantizeLinear pairs into a float graph.

Activations: one pair per tensor, before the layers that read it. Smoothing is folded into the producer of the tensor
    where that is exact; elsewhere a Mul precedes the pair. Weights: INT8 initializers with a per-channel
    DequantizeLinear. Biases stay float, because TensorRT rejects a dequantized INT32 bias.

One set of values is written with one of two activation types: INT8 with zero point 0, the only one that TensorRT takes,
    or UINT8 with zero point 128, because OpenVINO 2026.4 loses the sign of INT8 values after a Concat. Both saturate
    at [-128, 127] times the scale. In a UINT8 graph the output of a Relu has zero point 0, which is faster, and a Clip
    replaces the Relu so that it saturates at 127 times the scale as well. An image with levels from 0 to 255 is made
    signed by a Sub (see the module `unsigned`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.biases import Bias, bias_of
from sr_edge.calibration.graph.im2col import Layer, quantizable_layers
from sr_edge.calibration.graph.int8 import INT8_MAX, quantize_weight
from sr_edge.calibration.graph.load import FIRST_OPSET_PER_CHANNEL
from sr_edge.calibration.qdq.folding import CHANNELS, LAST, fold_division
from sr_edge.calibration.result.calibration import Calibration
from sr_edge.errors import CalibrationError
from sr_edge.export.graph.view import GraphView, captured_tensors, default_opset, view_graph
from sr_edge.export.passes.cleanup import drop_unused_constants, name_nodes
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.spec import ActivationType

_ZERO_POINTS = {ActivationType.INT8: np.int8(0), ActivationType.UINT8: np.uint8(128)}


def insert_qdq(model: onnx.ModelProto, calibration: Calibration, activation_type: ActivationType) -> PassResult:
    """Quantizes the INT8 layers of the calibration; inputs, outputs and all other nodes are unchanged.

    `model` is not modified. Without INT8 layers nothing is changed.

    Raises:
        CalibrationError: A layer or range of the calibration is not in the graph, the graph is quantized already, or
            its opset is below 13.
    """
    if not calibration.int8_nodes:
        return PassResult(model, False, "the calibration has no INT8 layer")
    quantized = onnx.ModelProto()
    quantized.CopyFrom(name_nodes(model).model)
    _require_opset(quantized)
    layers = _layers_to_quantize(quantized, calibration)
    writer = _QdqWriter(quantized, layers, calibration, activation_type)
    nodes = [new for node in quantized.graph.node for new in writer.rewrite(node)]
    _keep(quantized.graph.node, nodes)
    reason = f"quantized {len(layers)} layers to INT8"
    return PassResult(drop_unused_constants(quantized).model, True, reason)


class _QdqWriter:
    """Rewrites the nodes in graph order; a tensor or weight that is used several times is quantized once."""

    def __init__(
        self,
        model: onnx.ModelProto,
        layers: Mapping[str, Layer],
        calibration: Calibration,
        activation_type: ActivationType,
    ) -> None:
        self._graph = model.graph
        self._view = view_graph(model)
        self._layers = layers
        self._calibration = calibration
        self._zero_point = _ZERO_POINTS[activation_type]
        self._activations: set[str] = set()
        self._weights: dict[tuple[str, int, bytes], str] = {}
        self._unfolded: dict[str, int] = {}
        self._divisors: dict[tuple[str, int], Float32Array] = {}
        self._corrections: dict[tuple[str, int], Float32Array] = {}
        self._centres: dict[tuple[str, int], Float32Array] = {}
        self._plan_smoothing()
        self._captured = captured_tensors(model)
        self._limited = self._relus() if activation_type is ActivationType.UINT8 else frozenset()
        self._plan_biases()

    def rewrite(self, node: onnx.NodeProto) -> Iterable[onnx.NodeProto]:
        if not self._limited.isdisjoint(node.output):
            yield self._clip(node)
            return
        layer = self._layers.get(node.name)
        self._rewrite_constants(node, weight_too=layer is None)
        if layer is not None:
            op = layer.op
            yield from self._activation_pair(layer)
            node.input[0] = _dequantized_name(op.activation)
            if self._calibration.range_of(op.activation).is_unsigned:
                _set_no_padding(node)
            weight, nodes = self._weight_dequantizer(layer)
            yield from nodes
            node.input[1] = weight
        yield node

    def _plan_smoothing(self) -> None:
        """Plans the divisors of the producers of smoothed tensors, and finds the tensors that need a Mul instead."""
        readers: dict[str, list[Layer]] = {}
        for layer in self._layers.values():
            readers.setdefault(layer.op.activation, []).append(layer)
        for tensor, layers in readers.items():
            smoothing = self._calibration.range_of(tensor).smoothing_divisors
            if smoothing is None:
                continue
            axis = CHANNELS if layers[0].is_spatial else LAST
            names = [layer.op.node for layer in layers]
            divisors = fold_division(self._view, tensor, smoothing, axis, names)
            if divisors is None:
                self._unfolded[tensor] = axis
            else:
                self._divisors.update(divisors)

    def _relus(self) -> frozenset[str]:
        """The outputs of Relus that only INT8 layers read."""
        tensors = {layer.op.activation for layer in self._layers.values()} - self._unfolded.keys()
        return frozenset(tensor for tensor in tensors - self._view.output_names if self._is_relu_for_int8(tensor))

    def _is_relu_for_int8(self, tensor: str) -> bool:
        at = self._view.producer.get(tensor)
        if at is None or self._view.nodes[at].op_type != "Relu" or tensor in self._captured:
            return False
        readers = [self._view.nodes[reader] for reader in self._view.consumers[tensor]]
        return all(reader.name in self._layers and tensor not in reader.input[1:] for reader in readers)

    def _clip(self, relu: onnx.NodeProto) -> onnx.NodeProto:
        """The Clip that replaces a Relu and also limits its output to where signed INT8 saturates."""
        (tensor,) = relu.output
        largest = np.float32(INT8_MAX) * np.float32(self._calibration.range_of(tensor).scale)
        limits = [self._add(f"{tensor}/int8_least", np.float32(0.0)), self._add(f"{tensor}/int8_largest", largest)]
        return helper.make_node("Clip", [relu.input[0], *limits], [tensor], name=relu.name)

    def _plan_biases(self) -> None:
        for name, layer in self._layers.items():
            bias, correction = bias_at(self._view, name), self._calibration.correction_of(layer.op)
            if bias is not None and correction is not None:
                self._corrections[bias.node, bias.slot] = np.asarray(correction, np.float32)
            centre = self._calibration.range_of(layer.op.activation).centre
            if bias is not None and centre:
                levels, scales = self._int8_weight(layer)
                sums = levels.sum(axis=(1, 2, 3), dtype=np.float64) * scales
                self._centres[bias.node, bias.slot] = (centre * sums).astype(np.float32)

    def _rewrite_constants(self, node: onnx.NodeProto, weight_too: bool) -> None:
        for slot in range(3):
            key, is_present = (node.name, slot), slot < len(node.input) and bool(node.input[slot])
            changed = key in self._corrections or key in self._centres or (key in self._divisors and is_present)
            if changed and (slot != 1 or weight_too):
                name = self._add(f"{node.name}/int8_input{slot}", self._changed_constant(node, slot))
                while len(node.input) <= slot:
                    node.input.append("")
                node.input[slot] = name

    def _changed_constant(self, node: onnx.NodeProto, slot: int) -> Float32Array:
        name = node.input[slot] if slot < len(node.input) else ""
        centre = self._centres.get((node.name, slot), np.zeros(1, np.float32))
        correction = self._corrections.get((node.name, slot), np.zeros_like(centre))
        value = self._view.constants[name].astype(np.float32) if name else np.zeros_like(correction)
        corrected = value + (correction.reshape(value.shape) if correction.size == value.size else correction)
        return np.asarray(self._divided(corrected, node.name, slot) + centre, np.float32)

    def _divided(self, constant: Float32Array, node: str, slot: int) -> Float32Array:
        divisor = self._divisors.get((node, slot))
        return constant if divisor is None else (constant / divisor).astype(np.float32)

    def _activation_pair(self, reader: Layer) -> Iterable[onnx.NodeProto]:
        tensor = reader.op.activation
        if tensor in self._activations:
            return
        self._activations.add(tensor)
        name, tensor_range = _dequantized_name(tensor), self._calibration.range_of(tensor)
        source, smoothing = tensor, tensor_range.smoothing_divisors
        if tensor in self._unfolded and smoothing is not None:
            source = f"{name}_smoothed"
            shape = (-1, 1, 1) if self._unfolded[tensor] == CHANNELS else (-1,)
            yield _node("Mul", [tensor, self._add(f"{name}_smoothing", (1.0 / smoothing).reshape(shape))], source)
        if tensor_range.is_unsigned:
            nodes = self._centring(tensor, tensor_range.centre, reader.padding)
            source = nodes[-1].output[0]
            yield from nodes
        scale = self._add(f"{name}_scale", np.float32(tensor_range.scale))
        zero = np.uint8(0) if tensor in self._limited else self._zero_point
        zero_point = self._add(f"{name}_zero_point", zero)
        levels = f"{name}_levels"
        yield _node("QuantizeLinear", [source, scale, zero_point], levels)
        yield _node("DequantizeLinear", [levels, scale, zero_point], name)

    def _centring(self, tensor: str, centre: float, pads: tuple[int, ...]) -> list[onnx.NodeProto]:
        """Pads an unsigned tensor as its readers would, before the Sub that makes its levels signed moves zero."""
        name, nodes = _dequantized_name(tensor), []
        if any(pads):
            around = self._add(f"{name}_pads", np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
            nodes.append(_node("Pad", [tensor, around], f"{name}_padded"))
            tensor = f"{name}_padded"
        subtracted = self._add(f"{name}_centre", np.float32(centre))
        return [*nodes, _node("Sub", [tensor, subtracted], f"{name}_centred")]

    def _weight_dequantizer(self, layer: Layer) -> tuple[str, list[onnx.NodeProto]]:
        op = layer.op
        values, scales = self._int8_weight(layer)
        key = (op.weight, op.channel_axis, values.tobytes() + scales.tobytes())
        if key in self._weights:
            return self._weights[key], []
        copies = sum(other[:2] == key[:2] for other in self._weights)
        name = _dequantized_name(op.weight, op.channel_axis) + (f"_{copies}" if copies else "")
        self._weights[key] = name
        levels = self._add(f"{name}_levels", values)
        scale = self._add(f"{name}_scale", scales)
        zero_point = self._add(f"{name}_zero_point", np.zeros(scales.shape, np.int8))
        return name, [_node("DequantizeLinear", [levels, scale, zero_point], name, op.channel_axis)]

    def _int8_weight(self, layer: Layer) -> tuple[npt.NDArray[np.int8], Float32Array]:
        """The INT8 levels, and one scale per output channel."""
        op = layer.op
        smoothing = self._calibration.range_of(op.activation).smoothing_divisors
        weight = layer.weight if smoothing is None else layer.smoothed(layer.weight, smoothing)
        nearest, scales = quantize_weight(self._divided(weight, op.node, 1), op.channel_axis)
        tuned = self._calibration.tuned_weight(op, weight.shape)
        return nearest if tuned is None else tuned, scales

    def _add(self, name: str, value: npt.ArrayLike) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def bias_at(view: GraphView, node: str) -> Bias | None:
    """The bias of the layer with that node name."""
    return bias_of(view, next(at for at, candidate in enumerate(view.nodes) if candidate.name == node))


def _dequantized_name(tensor: str, axis: int | None = None) -> str:
    return f"{tensor}/int8" if axis is None else f"{tensor}/int8_axis{axis}"


def _node(op_type: str, inputs: list[str], output: str, axis: int | None = None) -> onnx.NodeProto:
    node = helper.make_node(op_type, inputs, [output], name=f"{output}_{op_type}")
    if axis is not None:
        node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _set_no_padding(node: onnx.NodeProto) -> None:
    _keep(node.attribute, [attribute for attribute in node.attribute if attribute.name != "pads"])


def _require_opset(model: onnx.ModelProto) -> None:
    opset = default_opset(model)
    if opset < FIRST_OPSET_PER_CHANNEL:
        raise CalibrationError(
            f"the opset of the graph is {opset}, but per-channel INT8 needs {FIRST_OPSET_PER_CHANNEL} or later",
            found=opset,
            wanted=FIRST_OPSET_PER_CHANNEL,
            remedy="export it at opset 17",
        )


def _layers_to_quantize(model: onnx.ModelProto, calibration: Calibration) -> dict[str, Layer]:
    layers = quantizable_layers(model)
    for name in calibration.int8_nodes:
        if name not in layers or layers[name].op.activation not in calibration.ranges:
            raise CalibrationError(
                f"the calibration does not fit this graph, in which the layer {name} has no INT8 range or cannot be "
                "quantized",
                found=name,
                wanted=tuple(layers),
                remedy="calibrate this graph again",
            )
    return {name: layers[name] for name in calibration.int8_nodes}


def _keep(field: Any, kept: list[Any]) -> None:
    del field[:]
    field.extend(kept)
