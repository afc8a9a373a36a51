"""Lets a graph of uint8 pictures take and return the same values as float32, which every compiler supports inside.

    uint8 -> [Transpose, Slice, ...] -> Cast to float -> ...      becomes      float32 -> [...] -> Cast -> ...
    ... -> Cast to uint8 -> [Transpose, ...] -> uint8             becomes      ... -> Clip 0 ... 255 -> Floor -> [...]

A Cast to uint8 rounds towards 0, so Floor gives the same levels. Values outside of 0 to 255 wrap around in a Cast; they
saturate here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx

from sr_edge.export.graph.view import attribute, captured_tensors, graph_inputs
from sr_edge.model_sources.onnx_file.rewrites.names import unused_prefix

_MOVING = frozenset({"Transpose", "Slice", "Gather", "Concat", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Split"})
"""Operators that only move values; where one has several inputs, the picture is the first."""

_LIMITS = {"black": 0.0, "white": 255.0}


def with_float_frames(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` whose uint8 input and outputs are float32 of the same values, from 0 to 255.

    An input or output that does not end in a Cast stays uint8.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in graph_inputs(changed):
        if _is_uint8(value) and _ends_in_casts(changed, value.name):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for value in changed.graph.output:
        cast = _cast_behind(changed, value.name) if _is_uint8(value) else None
        if cast is not None:
            _replace_cast(changed.graph, cast)
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    changed.graph.ClearField("value_info")
    return changed


def _is_uint8(value: onnx.ValueInfoProto) -> bool:
    return bool(value.type.tensor_type.elem_type == onnx.TensorProto.UINT8)


def _ends_in_casts(model: onnx.ModelProto, tensor: str) -> bool:
    """Whether everything that reads a tensor only moves its values until they are cast to float32."""
    if tensor in captured_tensors(model) or any(output.name == tensor for output in model.graph.output):
        return False
    return all(
        _is_cast(node, onnx.TensorProto.FLOAT)
        or (node.op_type in _MOVING and all(_ends_in_casts(model, output) for output in node.output))
        for node in _readers(model, tensor)
    )


def _readers(model: onnx.ModelProto, tensor: str) -> Iterator[onnx.NodeProto]:
    return (node for node in model.graph.node if tensor in node.input)


def _cast_behind(model: onnx.ModelProto, output: str) -> onnx.NodeProto | None:
    """The Cast whose values an output contains; None unless that output alone reads them."""
    producers: Mapping[str, onnx.NodeProto] = {tensor: node for node in model.graph.node for tensor in node.output}
    tensor = output
    while (node := producers.get(tensor)) is not None:
        if _is_cast(node, onnx.TensorProto.UINT8):
            return node if tensor not in captured_tensors(model) else None
        if node.op_type not in _MOVING - {"Concat", "Split"} or len(list(_readers(model, node.input[0]))) > 1:
            return None
        tensor = node.input[0]
    return None


def _is_cast(node: onnx.NodeProto, kind: int) -> bool:
    target = attribute(node, "to")
    return node.op_type == "Cast" and target is not None and target.i == kind


def _replace_cast(graph: onnx.GraphProto, cast: onnx.NodeProto) -> None:
    prefix = unused_prefix(graph, "uint8_frames/")
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.float32(value), f"{prefix}{name}") for name, value in _LIMITS.items()
    )
    limits, clipped = [f"{prefix}{name}" for name in _LIMITS], f"{prefix}clipped"
    position = next(index for index, node in enumerate(graph.node) if node is cast or node == cast)
    clip = onnx.helper.make_node("Clip", [cast.input[0], *limits], [clipped], name=f"{prefix}Clip")
    floor = onnx.helper.make_node("Floor", [clipped], [cast.output[0]], name=f"{prefix}Floor")
    nodes = [*graph.node[:position], clip, floor, *graph.node[position + 1 :]]
    del graph.node[:]
    graph.node.extend(nodes)
