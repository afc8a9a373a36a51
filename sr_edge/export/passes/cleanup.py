"""Passes that bring a graph of any origin into the form that INT8 quantization reads: opset, names, constants."""

from __future__ import annotations

import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import captured_tensors, default_opset, view_graph
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.printable import one_line


def raise_opset(model: onnx.ModelProto, oldest: int) -> PassResult:
    """Converts a graph of an older opset to opset `oldest`; newer graphs stay as they are.

    Raises:
        ExportError: onnx cannot convert the graph.
    """
    opset = default_opset(model)
    if opset == 0:
        return PassResult(model, False, "the graph uses no operator of the ONNX standard")
    if opset >= oldest:
        return PassResult(model, False, f"opset {opset} is not older than {oldest}")
    try:
        converted = onnx.version_converter.convert_version(model, oldest)
    except Exception as error:  # the converter raises its own types and RuntimeError
        raise ExportError(
            f"onnx cannot convert the graph from opset {opset} to {oldest}: {one_line(str(error))}",
            found=opset,
            wanted=oldest,
            remedy="export it again at opset 17",
        ) from error
    return PassResult(converted, True, f"converted from opset {opset} to {oldest}")


def bypass_identities(model: onnx.ModelProto) -> PassResult:
    """Removes each Identity of an initializer, by which exporters share weights: its readers take the initializer."""
    fixed = {output.name for output in model.graph.output} | captured_tensors(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    source_of: dict[str, str] = {}
    for node in model.graph.node:
        source = source_of.get(node.input[0], node.input[0]) if node.input else ""
        if node.op_type == "Identity" and source in constants and node.output[0] not in fixed:
            source_of[node.output[0]] = source
    if not source_of:
        return PassResult(model, False, "no Identity passes an initializer on")
    bypassed = onnx.ModelProto()
    bypassed.CopyFrom(model)
    nodes = [node for node in bypassed.graph.node if source_of.keys().isdisjoint(node.output)]
    for node in nodes:
        node.input[:] = [source_of.get(tensor, tensor) for tensor in node.input]
    _replace_nodes(bypassed.graph, nodes)
    return PassResult(bypassed, True, f"removed {len(source_of)} Identity nodes of initializers")


def name_nodes(model: onnx.ModelProto) -> PassResult:
    """Gives every node without a name, or with another node's, a name made of its operator and position."""
    reserved = {node.name for node in model.graph.node}
    seen: set[str] = set()
    names: dict[int, str] = {}
    for index, node in enumerate(model.graph.node):
        name = node.name
        if not name or name in seen:
            name = f"{node.op_type}_{index}"
            while name in reserved:
                name += "_"
            reserved.add(name)
            names[index] = name
        seen.add(name)
    if not names:
        return PassResult(model, False, "every node has a name of its own")
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for index, name in names.items():
        named.graph.node[index].name = name
    return PassResult(named, True, f"named {len(names)} nodes")


def drop_unused_constants(model: onnx.ModelProto) -> PassResult:
    """Removes initializers and Constant nodes that no node, no subgraph and no output of the graph reads."""
    graph = model.graph
    used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
    unused = view_graph(model).constants.keys() - used - captured_tensors(model)
    if not unused:
        return PassResult(model, False, "every constant is used")
    smaller = onnx.ModelProto()
    smaller.CopyFrom(model)
    for values in (smaller.graph.initializer, smaller.graph.input):  # IR version 3 lists initializers as inputs, too
        kept = [value for value in values if value.name not in unused]
        del values[:]
        values.extend(kept)
    _replace_nodes(smaller.graph, [node for node in smaller.graph.node if unused.isdisjoint(node.output)])
    return PassResult(smaller, True, f"removed {len(unused)} unused constants")


def _replace_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)
