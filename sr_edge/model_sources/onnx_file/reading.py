"""Reads an ONNX file that nobody vouches for: as data, within limits, and without leaving its folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx.inliner import inline_local_functions

from sr_edge.errors import ExportError, SrEdgeError
from sr_edge.export.graph.vendor_errors import one_line
from sr_edge.export.graph.view import default_opset

MAX_BYTES = (1 << 31) - 1
"""The limit of protobuf, in which graphs are passed on; weights in other files count as well."""

_STANDARD_DOMAINS = ("", "ai.onnx")
_FOUR_BITS = (onnx.TensorProto.INT4, onnx.TensorProto.UINT4)
_COPY_AGAIN = "copy the file again"


def read_model(path: Path) -> onnx.ModelProto:
    """Reads an ONNX file with the weights that it stores in other files, all of which end up in the model.

    Functions of the file are inlined, so that its nodes are operators of the ONNX standard only.

    Raises:
        ExportError: The file is missing, too large, cut short, no valid ONNX model, refers to files outside its folder,
            or uses operators that are not part of the ONNX standard.
    """
    _require_file(path)
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except Exception as error:  # protobuf's implementations raise types of their own
        raise ExportError(
            f"{path} is not an ONNX file, or was cut short",
            found=path,
            wanted="an ONNX file",
            remedy=_COPY_AGAIN,
        ) from error
    if not model.graph.node or not model.graph.output:
        raise ExportError(
            f"{path} contains no ONNX graph with an output",
            found=path,
            wanted="an ONNX graph",
            remedy="export it again",
        )
    _load_external_data(model, path)
    _require_valid(model, path)
    model = _without_functions(model, path)
    _require_standard_operators(model, path)
    return model


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph, and the bodies of its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from graphs_of(body)


def tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """The initializers and constant attributes of a graph and of the bodies in it."""
    for body in graphs_of(graph):
        yield from body.initializer
        for node in body.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _require_file(path: Path) -> None:
    if not path.is_file():
        if path.exists():
            raise ExportError(
                f"{path} is a folder, but an ONNX model is a file", found=path, wanted="a file", remedy="give the file"
            )
        raise ExportError(f"{path} does not exist", found=path, wanted="an ONNX file", remedy="check the path")
    size = path.stat().st_size
    if size == 0:
        raise ExportError(f"{path} is empty", found=0, wanted="an ONNX file", remedy=_COPY_AGAIN)
    if size > MAX_BYTES:
        raise ExportError(
            f"{path} has {size:,} bytes, but an ONNX file has at most {MAX_BYTES:,}",
            found=size,
            wanted=MAX_BYTES,
            remedy="give a smaller network",
        )


def _load_external_data(model: onnx.ModelProto, path: Path) -> None:
    """Reads all weights from the files beside the model; no file outside its folder is opened."""
    tensors = [tensor for tensor in _all_tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
    needed = path.stat().st_size + sum(_byte_size(tensor, path) for tensor in tensors)
    if needed > MAX_BYTES:
        raise ExportError(
            f"{path} has {needed:,} bytes with its external data, but at most {MAX_BYTES:,} can be processed",
            found=needed,
            wanted=MAX_BYTES,
            remedy="give a smaller network",
        )
    for tensor in tensors:
        tensor.raw_data = _external_bytes(tensor, path)
        tensor.ClearField("external_data")
        tensor.data_location = onnx.TensorProto.DEFAULT


def _all_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from tensors_of(model.graph)
    for function in model.functions:
        yield from tensors_of(onnx.GraphProto(node=function.node))


def _byte_size(tensor: onnx.TensorProto, path: Path) -> int:
    elements = 1
    for dim in tensor.dims:
        elements *= max(dim, 0)
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError):
        raise ExportError(
            f"{path} has external data of an unknown type ({tensor.data_type})",
            found=tensor.data_type,
            wanted="a type of numbers",
            remedy="export it again",
        ) from None
    bits = 4 if tensor.data_type in _FOUR_BITS else 8 * itemsize
    return int(elements * bits + 7) // 8


def _external_bytes(tensor: onnx.TensorProto, path: Path) -> bytes:
    """The bytes of a tensor in a file beside the model; raises ExportError unless they are inside the folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", _byte_size(tensor, path)))
    except (ValueError, OSError):
        raise ExportError(
            f"{path} has a damaged reference to external data: {location!r}",
            found=entries,
            remedy="export it again",
        ) from None
    if not location or Path(location).is_absolute() or not file.is_relative_to(folder):
        raise ExportError(
            f"{path} is unsafe: it refers to {location!r} for its weights, which is not a file inside its folder",
            found=location,
            wanted="a file inside the folder of the model",
            remedy="obtain it again from a source that you trust",
        )
    if not file.is_file():
        raise ExportError(
            f"{path} stores its weights in {location}, which is missing",
            found=None,
            wanted=location,
            remedy="copy that file into the same folder",
        )
    size, needed = file.stat().st_size, _byte_size(tensor, path)
    if offset < 0 or length != needed:
        raise ExportError(
            f"{path} has a damaged reference to external data: {length:,} bytes from byte {offset:,} on for "
            f"{tensor.name!r}, which takes {needed:,}",
            found=(offset, length),
            wanted=needed,
            remedy="export it again",
        )
    if offset + length > size:
        raise ExportError(
            f"{location}, in which {path} stores its weights, was cut short: it has {size:,} bytes, but "
            f"{tensor.name!r} takes {needed:,} bytes from byte {offset:,} on",
            found=size,
            wanted=offset + needed,
            remedy="copy both files again",
        )
    with file.open("rb") as weights:
        weights.seek(offset)
        return bytes(weights.read(length))


def _require_valid(model: onnx.ModelProto, path: Path) -> None:
    """Raises ExportError for a model that onnx's checker refuses, before any library works on its contents."""
    opset, newest = default_opset(model), onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ExportError(
            f"{path} is written in opset {opset}, but the installed onnx {onnx.__version__} knows {newest} at most",
            found=opset,
            wanted=newest,
            remedy="update the package onnx, or export the network again in an older opset",
        )
    try:
        onnx.checker.check_model(_with_all_shapes(model))
    except Exception as error:  # the checker raises ValidationError, but also ValueError and RuntimeError
        custom = _custom_operator(model.graph)
        if custom is not None:
            raise _custom_operator_error(custom, path) from error
        raise ExportError(
            f"{path} is not a valid ONNX model: {one_line(error)}", found=path, remedy="export it again"
        ) from error


def _with_all_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a shape wherever the checker wants one: no runtime needs the shapes of outputs."""
    shaped = onnx.ModelProto()
    shaped.CopyFrom(model)
    for value in (*shaped.graph.input, *shaped.graph.output):
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    return shaped


def _without_functions(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    if not model.functions:
        return model
    try:
        return inline_local_functions(model)
    except Exception as error:  # a RuntimeError of onnx's C++ core
        raise ExportError(
            f"{path} has functions that onnx cannot inline: {one_line(error)}",
            found=tuple(function.name for function in model.functions),
            remedy="export it again without functions",
        ) from error


def _require_standard_operators(model: onnx.ModelProto, path: Path) -> None:
    custom = _custom_operator(model.graph)
    if custom is not None:
        raise _custom_operator_error(custom, path)


def _custom_operator(graph: onnx.GraphProto) -> str | None:
    return next(
        (
            f"{node.domain}::{node.op_type}"
            for body in graphs_of(graph)
            for node in body.node
            if node.domain not in _STANDARD_DOMAINS
        ),
        None,
    )


def _custom_operator_error(operator: str, path: Path) -> SrEdgeError:
    return ExportError(
        f"{path} contains the operator {operator}, which is not part of the ONNX standard",
        found=operator,
        wanted="operators of the ONNX standard",
        remedy="export the network again without custom operators, and do not save what a runtime has optimized",
    )
