"""The precision in which an ONNX file computes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx

from sr_edge.model_sources.onnx_file.external_data import tensors_of
from sr_edge.spec import ActivationType, Precision

_QUANTIZED_OPERATORS = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})


@dataclass(frozen=True)
class GraphPrecisions:
    """Precisions of a graph.

    Attributes:
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators; differs from `precision` in INT8 graphs only.
        activation_type: Data type of INT8 activations; None for a float graph.
    """

    precision: Precision
    float_precision: Precision
    activation_type: ActivationType | None


def graph_precisions(model: onnx.ModelProto) -> GraphPrecisions:
    """Determines the precisions of a graph from its operators and the types of its constants."""
    has_float16 = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in tensors_of(model.graph))
    float_precision = Precision.FP16 if has_float16 else Precision.FP32
    activation_type = _activation_type(model.graph)
    return GraphPrecisions(Precision.INT8 if activation_type else float_precision, float_precision, activation_type)


def _activation_type(graph: onnx.GraphProto) -> ActivationType | None:
    """The type to which activations are quantized first; None where nothing is quantized."""
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    types |= {
        node.output[0]: entry.t.data_type
        for node in graph.node
        if node.op_type == "Constant"
        for entry in node.attribute
    }
    for node in graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in types:
            zero_point = types.get(node.input[2]) if len(node.input) > 2 else onnx.TensorProto.UINT8
            return ActivationType.INT8 if zero_point == onnx.TensorProto.INT8 else ActivationType.UINT8
        if node.op_type in _QUANTIZED_OPERATORS:
            return ActivationType.UINT8
    return None
