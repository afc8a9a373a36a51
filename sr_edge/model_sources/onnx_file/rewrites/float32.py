"""Rewrites a graph of another floating-point type so that it computes in float32."""

from __future__ import annotations

import numpy as np
import onnx

from sr_edge.model_sources.onnx_file.external_data import graphs_of, tensors_of

_NAMES: dict[int, str] = {
    onnx.TensorProto.FLOAT16: "fp16",
    onnx.TensorProto.BFLOAT16: "bf16",
    onnx.TensorProto.DOUBLE: "float64",
}
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""Attributes of Cast, EyeLike, RandomNormal, DequantizeLinear and others that name the type of a result."""


def with_float32(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of `model` in which every tensor of float16, bfloat16 or float64 is float32.

    Returns:
        The model, and the names of the types that were there ("fp16", "bf16", "float64").
    """
    converted = onnx.ModelProto()
    converted.CopyFrom(model)
    names = {_NAMES[kind] for tensor in tensors_of(converted.graph) if (kind := _converted_tensor(tensor))}
    for graph in graphs_of(converted.graph):
        names |= {_NAMES[kind] for node in graph.node if (kind := _converted_attribute(node))}
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type.elem_type
            if kind in _NAMES:
                names.add(_NAMES[kind])
                value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return converted, tuple(sorted(names))


def _converted_tensor(tensor: onnx.TensorProto) -> int:
    """Converts a tensor in place; returns the type that it had, or 0 if it needed no conversion."""
    kind = tensor.data_type
    if kind not in _NAMES:
        return 0
    values = np.asarray(onnx.numpy_helper.to_array(tensor)).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return kind


def _converted_attribute(node: onnx.NodeProto) -> int:
    kind = 0
    for attribute in node.attribute:
        if attribute.name in _TYPE_ATTRIBUTES and attribute.i in _NAMES:
            kind = attribute.i
            attribute.i = onnx.TensorProto.FLOAT
    return kind
