"""One small trained network as the ONNX files that people hold: in other types, layouts, ranges, opsets and batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Step = tuple[str, Sequence[object], Mapping[str, object]]
"""An operator, its constants, and its attributes."""


def sized(model: onnx.ModelProto, *sizes: int | str) -> onnx.ModelProto:
    """A copy whose input has these sizes; text is the name of a dynamic one."""
    changed = copied(model)
    for dim, size in zip(changed.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        dim.Clear()
        if isinstance(size, str):
            dim.dim_param = size
        else:
            dim.dim_value = size
    changed.graph.output[0].type.tensor_type.ClearField("shape")
    changed.graph.ClearField("value_info")
    return changed


def of_type(model: onnx.ModelProto, kind: int) -> onnx.ModelProto:
    """A copy in which every float32 tensor has another floating-point type."""
    changed = copied(model)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for tensor in changed.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(dtype), tensor.name))
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = kind
    changed.graph.ClearField("value_info")
    return changed


def around(model: onnx.ModelProto, entry: Sequence[Step], exit_: Sequence[Step]) -> onnx.ModelProto:
    """A copy with nodes in front of the network and behind it; the outer names and types stay."""
    changed = copied(model)
    graph = changed.graph
    source, result = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        node.input[:] = ["inner_in" if name == source else name for name in node.input]
        node.output[:] = ["inner_out" if name == result else name for name in node.output]
    body = list(graph.node)
    graph.ClearField("node")
    first = _chain(graph, "entry", source, "inner_in", entry or [("Identity", (), {})])
    last = _chain(graph, "exit", "inner_out", result, exit_ or [("Identity", (), {})])
    graph.node.extend([*first, *body, *last])
    graph.output[0].type.tensor_type.ClearField("shape")
    graph.ClearField("value_info")
    return changed


def _chain(graph: onnx.GraphProto, end: str, first: str, last: str, steps: Sequence[Step]) -> list[onnx.NodeProto]:
    nodes, tensor = [], first
    for number, (operator, constants, attributes) in enumerate(steps):
        names = [f"{end}{number}_{position}" for position in range(len(constants))]
        for name, value in zip(names, constants, strict=True):
            graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        made = last if number == len(steps) - 1 else f"{end}{number}"
        node = helper.make_node(operator, [tensor, *names], [made], name=f"{end}{number}")
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        nodes.append(node)
        tensor = made
    return nodes


def with_second_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose first output is the mean of the picture."""
    changed = copied(model)
    changed.graph.node.append(helper.make_node("ReduceMean", [model.graph.input[0].name], ["mean"], name="mean"))
    picture = changed.graph.output.pop()
    changed.graph.output.extend([helper.make_tensor_value_info("mean", TensorProto.FLOAT, None), picture])
    return changed


def with_initializers_as_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that lists its weights as inputs, the first ones in front of the picture, as IR version 3 requires."""
    changed = copied(model)
    values = [
        helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in model.graph.initializer
    ]
    picture = changed.graph.input.pop()
    changed.graph.input.extend([values[0], picture, *values[1:]])
    changed.ir_version = 3
    return changed


def renamed(model: onnx.ModelProto, source: str, result: str) -> onnx.ModelProto:
    """A copy whose picture input and output have other names."""
    changed = copied(model)
    names = {model.graph.input[0].name: source, model.graph.output[0].name: result}
    for value in (changed.graph.input[0], changed.graph.output[0]):
        value.name = names[value.name]
    for node in changed.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    return changed


def with_inner_names(model: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """A copy that takes `input`, returns `output`, and whose first tensors in between have these names."""
    changed = renamed(model, "input", "output")
    inner = [tensor for node in changed.graph.node for tensor in node.output if tensor != "output"]
    given = dict(zip(inner, names, strict=False))
    for node in changed.graph.node:
        node.input[:] = [given.get(name, name) for name in node.input]
        node.output[:] = [given.get(name, name) for name in node.output]
    changed.graph.ClearField("value_info")
    return changed


def with_sequence_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose first output is a sequence of tensors."""
    changed = copied(model)
    picture = changed.graph.output.pop()
    changed.graph.node.append(helper.make_node("SequenceConstruct", [picture.name], ["sequence"], name="sequence"))
    changed.graph.output.extend([helper.make_tensor_sequence_value_info("sequence", TensorProto.FLOAT, None), picture])
    return changed


def without_graph_name(model: onnx.ModelProto) -> onnx.ModelProto:
    changed = copied(model)
    changed.graph.name = ""
    return changed


def in_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    return onnx.version_converter.convert_version(model, opset)


def labelled(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy that states another opset, in which its operators are the same."""
    changed = copied(model)
    changed.opset_import[0].version = opset
    return changed


def saved(model: onnx.ModelProto, path: Path, external: str | None = None) -> Path:
    """Writes a file, with its weights in the file `external` beside it if that is given."""
    if external is None:
        onnx.save(model, path)
    else:
        onnx.save(copied(model), path, save_as_external_data=True, location=external, size_threshold=0)
    return path


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    return result
