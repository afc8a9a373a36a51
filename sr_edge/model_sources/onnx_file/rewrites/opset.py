"""Brings a graph of any opset to the one in which sr-edge writes graphs."""

from __future__ import annotations

import re

import onnx
from onnx.inliner import inline_selected_functions

from sr_edge.export.graph.view import default_opset, graph_inputs
from sr_edge.model_sources.onnx_file.external_data import graphs_of
from sr_edge.printable import one_line

OPSET = 17
IR_VERSION = 8
"""The version of the file format that came with opset 17."""

_OPERATOR = re.compile(r"OpType: (\w+)|Version of (\w+)|for operator (\w+)|adapter for (\w+)")


def with_opset(model: onnx.ModelProto) -> tuple[onnx.ModelProto, str]:
    """Converts a graph to `OPSET` with onnx's version converter.

    Newer operators that the standard defines by simpler ones, such as Gelu, are replaced by these first.

    Returns:
        The converted model, and what was done; a graph that cannot be converted stays in its opset.
    """
    opset = default_opset(model)
    if opset == OPSET:
        return _with_ir_version(model), ""
    try:
        lowered = _with_known_operators(model) if opset > OPSET else model
        converted = onnx.version_converter.convert_version(lowered, OPSET)
        onnx.checker.check_model(converted)
    except Exception as error:  # the converter and the checker raise types of their own and RuntimeError
        reason = _operator_of(one_line(str(error)))
        return model, f"opset {opset} kept, as onnx cannot convert {reason} to opset {OPSET}"
    return _with_ir_version(converted), f"opset {opset} converted to {OPSET}"


def _with_ir_version(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in the version of the file format that belongs to `OPSET`: older ones list initializers as inputs, too."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    changed.ir_version = IR_VERSION
    inputs = graph_inputs(model)
    del changed.graph.input[:]
    changed.graph.input.extend(inputs)
    return changed


def _with_known_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    newer = sorted({node.op_type for graph in graphs_of(model.graph) for node in graph.node if _is_newer(node.op_type)})
    known = onnx.ModelProto()
    known.CopyFrom(
        inline_selected_functions(model, [("", name) for name in newer], inline_schema_functions=True)
        if newer
        else model
    )
    opset = default_opset(model)
    for graph in graphs_of(known.graph):
        for node in graph.node:
            _drop_new_defaults(node, opset)
    return known


def _is_newer(operator: str) -> bool:
    """Whether the standard has an operator only since a later opset."""
    return onnx.defs.has(operator) and not _known(operator, OPSET)


def _known(operator: str, opset: int) -> bool:
    try:
        onnx.defs.get_schema(operator, opset)
    except onnx.defs.SchemaError:
        return False
    return True


def _drop_new_defaults(node: onnx.NodeProto, opset: int) -> None:
    """Removes attributes that `OPSET` does not have and whose values are the defaults, so that they have no effect."""
    if not (_known(node.op_type, OPSET) and _known(node.op_type, opset)):
        return
    older = onnx.defs.get_schema(node.op_type, OPSET).attributes
    newer = onnx.defs.get_schema(node.op_type, opset).attributes
    kept = [
        entry
        for entry in node.attribute
        if entry.name in older
        or entry.name not in newer
        or onnx.helper.get_attribute_value(entry) != onnx.helper.get_attribute_value(newer[entry.name].default_value)
    ]
    del node.attribute[:]
    node.attribute.extend(kept)


def _operator_of(message: str) -> str:
    match = _OPERATOR.search(message)
    return next(filter(None, match.groups())) if match else f"it ({message})"
