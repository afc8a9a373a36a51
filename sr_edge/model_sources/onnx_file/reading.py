"""Reads an ONNX file that nobody vouches for: as data, within limits, and without leaving its folder."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx.inliner import inline_local_functions

from sr_edge.errors import ExportError, SrEdgeError
from sr_edge.export.graph.view import default_opset
from sr_edge.model_sources.onnx_file.external_data import MAX_BYTES, graphs_of, load_external_data
from sr_edge.printable import one_line

_STANDARD_DOMAINS = ("", "ai.onnx")
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
    model.graph.name = model.graph.name or path.stem  # runtimes need no name, but onnx's checker wants one
    load_external_data(model, path)
    _require_valid(model, path)
    model = _without_functions(model, path)
    _require_standard_operators(model, path)
    return model


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
            f"{path} is not a valid ONNX model: {one_line(str(error))}", found=path, remedy="export it again"
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
            f"{path} has functions that onnx cannot inline: {one_line(str(error))}",
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
