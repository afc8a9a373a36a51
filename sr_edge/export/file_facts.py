"""What an ONNX file is, read from the file: the network's card, its tile, its precision and its frames.

Files of our own say it themselves; of a file from elsewhere it is found out, the scale by running it once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph import picture_inputs, read_onnx, view_graph
from sr_edge.export.metadata import METADATA_KEY, graph_controls, read_metadata
from sr_edge.export.onnx_run import Tensor, feed_of, run_onnxruntime
from sr_edge.spec import FrameFormat, ModelCard, Precision, TileSpec

TRIED_SIDE_PX = 48
"""Of the black picture that a file of free height and width is run on."""

_FRAMES: dict[int, FrameFormat] = {
    onnx.TensorProto.FLOAT: FrameFormat.FLOAT_NCHW,
    onnx.TensorProto.UINT8: FrameFormat.UINT8_NHWC,
}


@dataclass(frozen=True)
class OnnxProperties:
    """`tile` is None for dynamic height and width; `float_precision` differs from `precision` in INT8 graphs only."""

    card: ModelCard
    tile: TileSpec | None
    precision: Precision
    float_precision: Precision
    io: FrameFormat


def read_onnx_properties(path: Path) -> OnnxProperties:
    """Reads the facts of the ONNX file at `path`.

    Raises:
        ExportError: unreadable, or not a network of one picture in and one picture out, `scale` times as large.
    """
    model = read_onnx(path)
    picture = _picture(model, path)
    io = _FRAMES[picture.type.tensor_type.elem_type]
    axes = (2, 3) if io is FrameFormat.FLOAT_NCHW else (1, 2)
    height, width = (picture.type.tensor_type.shape.dim[axis].dim_value for axis in axes)
    tile = TileSpec(height, width) if height and width else None
    ours = any(entry.key == METADATA_KEY for entry in model.metadata_props)
    card = read_metadata(model).card if ours else _found_card(model, path, picture.name, io, tile)
    return OnnxProperties(card, tile, *_precisions(model), io)


def _picture(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    pictures = picture_inputs(model)
    if len(pictures) != 1 or len(model.graph.output) != 1:
        raise ExportError(
            f"{path} has {len(pictures)} inputs of rank 4 and {len(model.graph.output)} outputs, whereas a "
            "super-resolution network has one picture as its input and one as its output",
            found=(len(pictures), len(model.graph.output)),
            wanted=(1, 1),
            remedy="pass the ONNX file of a super-resolution network",
        )
    for value in (pictures[0], model.graph.output[0]):
        kind = value.type.tensor_type.elem_type
        if kind not in _FRAMES:
            name = onnx.TensorProto.DataType.Name(kind)
            raise ExportError(
                f"tensor {value.name!r} of {path} is of type {name}, whereas pictures are FLOAT in [0, 1] or UINT8",
                found=name,
                wanted=tuple(onnx.TensorProto.DataType.Name(known) for known in _FRAMES),
                remedy="export the network with pictures of one of these types",
            )
    _require_one_rgb(pictures[0], path)
    return pictures[0]


def _require_one_rgb(picture: onnx.ValueInfoProto, path: Path) -> None:
    batch, *planes = (dim.dim_value for dim in picture.type.tensor_type.shape.dim)
    channels = planes[0] if picture.type.tensor_type.elem_type == onnx.TensorProto.FLOAT else planes[-1]
    if batch not in (0, 1) or channels not in (0, 3):
        raise ExportError(
            f"{path} takes a batch of {batch or 1} with {channels or 3} channel(s), but it has to take one RGB picture",
            found=(batch or 1, channels or 3),
            wanted=(1, 3),
            remedy="export the network for an input of shape (1, 3, height, width)",
        )


def _precisions(model: onnx.ModelProto) -> tuple[Precision, Precision]:
    """Of convolutions and matmuls, and of the rest."""
    has_halves = onnx.TensorProto.FLOAT16 in view_graph(model).types.values()
    float_precision = Precision.FP16 if has_halves else Precision.FP32
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return (Precision.INT8 if quantized else float_precision), float_precision


def _found_card(model: onnx.ModelProto, path: Path, picture: str, io: FrameFormat, tile: TileSpec | None) -> ModelCard:
    """The card of a file that brings none: its name and its scale."""
    graph_controls(model)  # refuses inputs that nothing tells the range of
    tried = tile or TileSpec(TRIED_SIDE_PX, TRIED_SIDE_PX)
    planes = (1, 3, tried.height, tried.width) if io is FrameFormat.FLOAT_NCHW else (1, tried.height, tried.width, 3)
    black: Tensor = np.zeros(planes, np.float32 if io is FrameFormat.FLOAT_NCHW else np.uint8)
    (output,) = run_onnxruntime(model, feed_of(picture, black, {})).values()
    sides = output.shape[2:] if io is FrameFormat.FLOAT_NCHW else output.shape[1:3]
    scale = sides[0] // tried.height if sides else 0
    if scale < 1 or tuple(sides) != (scale * tried.height, scale * tried.width):
        raise ExportError(
            f"{path} turns an input of shape {planes} into an output of shape {output.shape}, which is not the picture "
            "enlarged by a whole number",
            found=output.shape,
            wanted="height and width of the input times a whole number",
            remedy="pass the ONNX file of a super-resolution network",
        )
    return ModelCard(name=path.stem, scale=scale, parameters=0, static=tile is not None)
