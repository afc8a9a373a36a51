"""Converts a graph of a newer opset to opset 17, which every target reads.

Newer versions of most operators only take more element types, or have attributes whose default is what the operator did
before. Operators that are written differently in opset 17, and those that it lacks, have a function each, here and in
`newer_operators`. Anything else is an error that names the operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import (
    GraphView,
    attribute,
    default_opset,
    integer_attribute,
    integers_attribute,
    text_attribute,
    view_graph,
)
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.rewrites.edit import GraphEdit, NodeChain, constant_integers, constant_shape, set_attribute
from sr_edge.export.passes.rewrites.newer_operators import NEWER_OPERATORS

OPSET, IR_VERSION = 17, 8
"""The opset, and the version of the file format that came with it."""

_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
)  # fmt: skip
_OLD_GRID_MODES = {"linear": "bilinear", "cubic": "bicubic"}


def lower_opset(model: onnx.ModelProto) -> PassResult:
    """Converts a graph of an opset above 17 to opset 17.

    Notes of the exporter about its own source code, which are in the file since version 10 of the format, are removed.

    Raises:
        ExportError: an operator, or an attribute of it, has no form in opset 17.
    """
    opset = default_opset(model)
    if opset <= OPSET:
        return PassResult(model, False, f"opset {opset} is not newer than {OPSET}")
    view = view_graph(model)
    edit = GraphEdit(view)
    for index, node in enumerate(view.nodes):
        if node.domain in ("", "ai.onnx"):
            _convert(view, index, opset, edit)
    lowered = edit.copy_of_model()
    for entry in lowered.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = OPSET
    lowered.ir_version = min(lowered.ir_version, IR_VERSION)
    _remove_notes(lowered)
    return PassResult(lowered, True, f"converted from opset {opset} to {OPSET}")


def _convert(view: GraphView, index: int, opset: int, edit: GraphEdit) -> None:
    """Replaces a node that opset 17 does not have in this form."""
    node = view.nodes[index]
    if any(entry.HasField("g") or entry.graphs for entry in node.attribute):
        raise _no_form(view, index, "has a subgraph")
    newer, older = _schema(node.op_type, opset), _schema(node.op_type, OPSET)
    if newer is None or (older is not None and older.since_version == newer.since_version):
        return  # onnx's checker names operators that do not exist
    convert = _CONVERSIONS.get(node.op_type) or NEWER_OPERATORS.get(node.op_type)
    if convert is not None:
        reason = convert(view, node, edit.replacing(index))
        if reason:
            raise _no_form(view, index, reason)
    elif older is None:
        raise _no_form(view, index, f"exists from opset {newer.since_version} on")
    elif len(node.input) > len(older.inputs) and not _is_variadic(older):
        raise _no_form(view, index, f"has {len(node.input)} inputs, of which opset {OPSET} knows {len(older.inputs)}")
    else:
        edit.replacing(index).copy()
    for written in edit.replacement(index):
        _remove_newer_attributes(view, index, written, opset)


def _remove_newer_attributes(view: GraphView, index: int, node: onnx.NodeProto, opset: int) -> None:
    """Removes attributes that opset 17 does not know and that have their default value."""
    newer, older = _schema(node.op_type, opset), _schema(node.op_type, OPSET)
    for entry in list(node.attribute):
        if newer is None or older is None or entry.name in older.attributes:
            continue
        known = newer.attributes.get(entry.name)
        value = onnx.helper.get_attribute_value(entry)
        is_default = (
            known is not None
            and known.default_value.name
            and (value == onnx.helper.get_attribute_value(known.default_value))
        )
        if not is_default and not (entry.name == "dilations" and set(value) == {1}):
            raise _no_form(view, index, f"has the attribute {entry.name} = {value!r}")
        node.attribute.remove(entry)


def _reduction(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the axes as an attribute."""
    axes = constant_integers(view, node, 1)
    if axes is None:
        return "has axes that are computed"
    if not axes and integer_attribute(node, "noop_with_empty_axes", 0):
        chain.add("Identity", [node.input[0]], output=node.output[0])
        return ""
    copy = chain.copy(**({"axes": axes} if axes else {}))
    del copy.input[1:]
    set_attribute(copy, "noop_with_empty_axes", 0)
    return ""


def _split(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the sizes of the parts, where only their number is given."""
    copy = chain.copy()
    parts = attribute(copy, "num_outputs")
    if parts is None:
        return ""
    shape = constant_shape(view, node.input[0])
    if shape is None:
        return "splits a tensor of unknown shape"
    size = shape[integer_attribute(node, "axis", 0) % len(shape)]
    largest = -(-size // len(node.output))
    sizes = [largest] * (len(node.output) - 1)
    copy.input[:] = [node.input[0], chain.constant(np.array([*sizes, size - sum(sizes)], np.int64), "sizes")]
    copy.attribute.remove(parts)
    return ""


def _pad(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the padding of all axes."""
    copy = chain.copy()
    if len(node.input) < 4 or not node.input[3]:
        del copy.input[3:]
        return "pads by wrapping around" if text_attribute(node, "mode", "constant") == "wrap" else ""
    axes, pads = constant_integers(view, node, 3), constant_integers(view, node, 1)
    shape = view.shapes.get(node.input[0])
    if axes is None or pads is None or shape is None:
        return "has axes that are computed"
    before, after = [0] * len(shape), [0] * len(shape)
    for axis, start, end in zip(axes, pads, pads[len(axes) :], strict=False):
        before[axis], after[axis] = start, end
    copy.input[1] = chain.constant(np.array([*before, *after], np.int64), "pads")
    del copy.input[3:]
    return ""


def _resize(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the factors or sizes of all axes."""
    copy, axes = chain.copy(), integers_attribute(node, "axes")
    if attribute(copy, "axes") is not None:
        copy.attribute.remove(attribute(copy, "axes"))
        shape = constant_shape(view, node.input[0])
        position = next((at for at in (3, 2) if at < len(node.input) and node.input[at]), 0)
        values = view.constants.get(node.input[position])
        if shape is None or values is None:
            return "resizes some axes by computed factors"
        if text_attribute(node, "coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            return "crops some axes"
        everywhere = np.array(shape if position == 3 else [1.0] * len(shape), values.dtype)
        everywhere[axes] = values
        copy.input[position] = chain.constant(everywhere, "sizes" if position == 3 else "scales")
    return ""


def _grid_sample(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the name of the interpolation as opset 16 has it."""
    mode = text_attribute(node, "mode", "linear")
    chain.copy(mode=_OLD_GRID_MODES.get(mode, mode))
    return ""


def _fourier(view: GraphView, node: onnx.NodeProto, chain: NodeChain) -> str:
    """Writes the axis as an attribute."""
    axes = constant_integers(view, node, 2)
    if axes is None:
        return "has an axis that is computed"
    if len(node.input) > 2 or attribute(node, "axis") is None:
        chain.copy(axis=(axes or [-2])[0] % len(view.shapes[node.input[0]]))
        del chain.nodes[-1].input[2:]
    else:
        chain.copy()
    return ""


Conversion = Callable[[GraphView, onnx.NodeProto, NodeChain], str]
"""Writes a node for opset 17; returns why it cannot be written, or ""."""

_CONVERSIONS: Mapping[str, Conversion] = {
    **dict.fromkeys(_REDUCTIONS, _reduction),
    "Split": _split,
    "Pad": _pad,
    "Resize": _resize,
    "GridSample": _grid_sample,
    "DFT": _fourier,
}


def _schema(operator: str, opset: int) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(operator, opset, "")
    except onnx.defs.SchemaError:
        return None


def _is_variadic(schema: onnx.defs.OpSchema) -> bool:
    inputs: Sequence[onnx.defs.OpSchema.FormalParameter] = schema.inputs
    return any(each.option == onnx.defs.OpSchema.FormalParameterOption.Variadic for each in inputs)


def _remove_notes(model: onnx.ModelProto) -> None:
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")


def _no_form(view: GraphView, index: int, reason: str) -> ExportError:
    operator = view.nodes[index].op_type
    return ExportError(
        f"the graph has no form at opset {OPSET}: {operator} {view.name(index)!r} {reason}",
        found=operator,
        wanted=OPSET,
        remedy="write that part with other operators",
    )
