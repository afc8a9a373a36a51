"""Loading the float graph: every node under a unique name, and its one picture input."""

from __future__ import annotations

from pathlib import Path

import onnx

from sr_edge.errors import CalibrationError
from sr_edge.export.graph import picture_inputs, scalar_inputs
from sr_edge.spec import TileSpec


def load_graph(path: Path) -> onnx.ModelProto:
    """The ONNX file with a unique name on every node.

    Raises:
        CalibrationError: the file is missing, or is no ONNX model.
    """
    if not path.is_file():
        raise CalibrationError(f"{path} is not a file; export a model first: sr-edge export MODEL -o {path}")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf raises its own types, which differ between its implementations
        raise CalibrationError(f"{path} is not a readable ONNX file ({error}); export it again") from error
    if not model.graph.node:
        raise CalibrationError(f"{path} holds no ONNX graph; export it again")
    name_nodes(model)
    return model


def name_nodes(model: onnx.ModelProto) -> None:
    """Gives every node that has no name, or another node's, a name made of its operator and position."""
    reserved = {node.name for node in model.graph.node}
    seen: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{index}"
            while node.name in reserved:
                node.name += "_"
            reserved.add(node.name)
        seen.add(node.name)


def picture_input(model: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The graph input that takes the picture: the one of rank 4; the others are scalar controls.

    Raises:
        CalibrationError: not exactly one input has rank 4.
    """
    pictures = picture_inputs(model)
    if len(pictures) != 1:
        names = ", ".join([*(picture.name for picture in pictures), *scalar_inputs(model)])
        raise CalibrationError(f"the graph needs one picture input of rank 4 and has {len(pictures)} (inputs: {names})")
    return pictures[0]


def graph_tile(path: Path, wanted: TileSpec | None = None) -> TileSpec:
    """The tile that an ONNX file takes; `wanted` says it for a graph of free height and width.

    Raises:
        CalibrationError: unreadable, or the file and `wanted` do not fit.
    """
    picture = picture_input(load_graph(path)).type.tensor_type
    axes = (1, 2) if picture.elem_type == onnx.TensorProto.UINT8 else (2, 3)
    height, width = (picture.shape.dim[axis].dim_value for axis in axes)
    if height and width:
        found = TileSpec(height, width)
        if wanted not in (None, found):
            raise CalibrationError(f"{path} takes tiles of {found}, not {wanted}; leave the tile out")
        return found
    if wanted is None:
        raise CalibrationError(f"{path} takes any height and width; say the patch size, for example a tile of 96x96")
    return wanted
