"""Loads the float graph, names its nodes, and finds its picture input."""

from __future__ import annotations

from pathlib import Path

import onnx

from sr_edge.errors import CalibrationError, ExportError
from sr_edge.export.graph.view import (
    FLOAT_TYPES,
    GraphView,
    picture_channels,
    picture_inputs,
    scalar_inputs,
    view_graph,
)
from sr_edge.export.passes.cleanup import bypass_identities, name_nodes, raise_opset
from sr_edge.spec import CHANNELS, NETWORKS_WANTED, RGB, TileSpec, count_of_channels

FIRST_OPSET_PER_CHANNEL = 13


def load_graph(path: Path) -> onnx.ModelProto:
    """Loads an ONNX file for calibration.

    Every node gets a unique name, Identity nodes of constants are bypassed, and the opset is raised to 13, the first
    one with per-channel quantization.

    Raises:
        CalibrationError: The file is missing, is not an ONNX model that onnx can convert to opset 13, or has several
            outputs.
    """
    model = _read(path)
    _require_one_output(model, path)
    model = _with_opset_for_int8(model, path)
    return name_nodes(bypass_identities(model).model).model


def reads_as_it_is(path: Path) -> bool:
    """Whether an ONNX file has the form that calibration reads: one picture in and one out, all floats in float32.

    The picture is float32 NCHW or uint8 NHWC, of batch 1. A graph with control flow is read after its simplification.

    Raises:
        CalibrationError: The file is missing, or is not an ONNX model.
    """
    model = _read(path)
    pictures = picture_inputs(model)
    has_branches = any(entry.HasField("g") for node in model.graph.node for entry in node.attribute)
    if len(pictures) != 1 or len(model.graph.output) != 1 or has_branches:
        return False
    kind = pictures[0].type.tensor_type
    is_picture = kind.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8)
    if not is_picture or picture_channels(pictures[0]) not in CHANNELS:
        return False
    try:
        types = set(view_graph(model).types.values())
    except ExportError:
        return False
    return kind.shape.dim[0].dim_value in (0, 1) and types & FLOAT_TYPES == {onnx.TensorProto.FLOAT}


def _read(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise CalibrationError(
            f"{path} is not a file",
            found=path,
            wanted="an ONNX file",
            remedy=f"export a model first: sr-edge export MODEL -o {path}",
        )
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own types, which differ between its implementations
        raise CalibrationError(
            f"{path} is not a readable ONNX file ({_in_one_line(error)})",
            found=path,
            wanted="a readable ONNX file",
            remedy="export it again",
        ) from error
    if not model.graph.node:
        raise CalibrationError(
            f"{path} contains no ONNX graph", found=path, wanted="an ONNX graph", remedy="export it again"
        )
    return model


def _require_one_output(model: onnx.ModelProto, path: Path) -> None:
    """The loss is measured on one output image, so losses in other outputs would not be noticed."""
    names = [output.name for output in model.graph.output]
    if len(names) > 1:
        inputs = [value.name for value in model.graph.input]
        raise CalibrationError(
            f"{path} has {len(names)} outputs ({', '.join(names)}), but calibration measures the loss on exactly one",
            found=tuple(names),
            wanted=1,
            remedy="keep only the picture: "
            f"onnx.utils.extract_model({str(path)!r}, 'one.onnx', {inputs}, [{names[0]!r}])",
        )


def _with_opset_for_int8(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """Older exporters wrote opset 9 or 11, in which quantization has no scale per channel."""
    try:
        return raise_opset(model, FIRST_OPSET_PER_CHANNEL).model
    except ExportError as error:
        raise CalibrationError(
            f"{path} is written in opset {error.found}, but per-channel INT8 needs {FIRST_OPSET_PER_CHANNEL}: "
            f"{error.problem}",
            found=error.found,
            wanted=FIRST_OPSET_PER_CHANNEL,
            remedy="export it again at opset 17",
        ) from error


def _in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def picture_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The graph input of rank 4, which takes the picture; all other inputs are scalar controls.

    Raises:
        CalibrationError: The number of inputs of rank 4 is not one.
    """
    pictures = picture_inputs(model)
    if len(pictures) != 1:
        names = ", ".join([*(picture.name for picture in pictures), *scalar_inputs(model)])
        raise CalibrationError(
            f"the graph must have exactly one picture input of rank 4, but has {len(pictures)} (inputs: {names})",
            found=len(pictures),
            wanted=1,
            remedy="export a network that takes one picture",
        )
    return pictures[0]


def graph_tile(path: Path, wanted: TileSpec | str | None = None) -> TileSpec:
    """The tile size of an ONNX file.

    Args:
        path: The ONNX file.
        wanted: The tile size for a graph of dynamic height and width.

    Raises:
        CalibrationError: The file cannot be read, its size is not `wanted`, or it is dynamic and `wanted` is None.
    """
    wanted = None if wanted is None else TileSpec.of(wanted)
    static_size = _static_size(path)
    if static_size is not None:
        if wanted not in (None, static_size):
            raise CalibrationError(
                f"{path} takes tiles of {static_size}, not {wanted}",
                found=wanted,
                wanted=static_size,
                remedy=f"leave out the tile size, or pass {static_size}",
            )
        return static_size
    if wanted is None:
        raise CalibrationError(
            f"{path} takes any height and width, so the size of the patches has to be given",
            wanted="a tile size",
            remedy="pass a tile size, for example 96x96",
        )
    return wanted


def is_dynamic(path: Path) -> bool:
    """Whether an ONNX file takes any height and width; raises CalibrationError if it cannot be read."""
    return _static_size(path) is None


def _static_size(path: Path) -> TileSpec | None:
    picture = picture_input(load_graph(path)).type.tensor_type
    axes = (1, 2) if picture.elem_type == onnx.TensorProto.UINT8 else (2, 3)
    height, width = (picture.shape.dim[axis].dim_value for axis in axes)
    return TileSpec(height, width) if height and width else None


def graph_channels(path: Path) -> int:
    """The number of input channels of an ONNX file, one of CHANNELS; 3 for RGB where it is dynamic.

    Raises:
        CalibrationError: The file cannot be read, or has another number of channels.
    """
    channels = picture_channels(picture_input(load_graph(path)))
    if channels not in (0, *CHANNELS):
        raise CalibrationError(
            f"{path} takes pictures with {count_of_channels(channels)}",
            found=channels,
            wanted=CHANNELS,
            remedy=NETWORKS_WANTED,
        )
    return channels or RGB


def sized_view(model: onnx.ModelProto, shape: tuple[int, ...]) -> GraphView:
    """The view of a copy of `model` whose picture input has the NCHW `shape`, so that all shapes can be inferred."""
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    picture = picture_input(sized).type.tensor_type
    if picture.elem_type == onnx.TensorProto.UINT8:
        shape = tuple(shape[axis] for axis in (0, 2, 3, 1))
    for dim, size in zip(picture.shape.dim, shape, strict=True):
        dim.dim_value = size
    for output in sized.graph.output:  # a declared size that belongs to another input size would be a contradiction
        output.type.tensor_type.ClearField("shape")
    return view_graph(sized)
