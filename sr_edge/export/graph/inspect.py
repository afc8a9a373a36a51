"""Reads the properties of an ONNX file: model card, tile, precision and frame format.

Files that sr-edge wrote have a model card in their metadata. For other files the scale is determined by running the
graph once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.metadata import METADATA_KEY, graph_controls, read_metadata
from sr_edge.export.graph.onnxruntime_run import Tensor, feed_of, run_onnxruntime
from sr_edge.export.graph.view import picture_channels, picture_inputs, read_onnx, view_graph
from sr_edge.spec import CHANNELS, FrameFormat, ModelCard, Precision, TileSpec, count_of_channels

RGB = 3
"""Channels of a graph whose number of channels is dynamic."""

PROBE_SIZE_PX = 48
"""Height and width of the black image on which a graph of dynamic height and width is run."""

_FRAMES: dict[int, FrameFormat] = {
    onnx.TensorProto.FLOAT: FrameFormat.FLOAT_NCHW,
    onnx.TensorProto.UINT8: FrameFormat.UINT8_NHWC,
}


@dataclass(frozen=True)
class OnnxProperties:
    """The properties of an ONNX file.

    Attributes:
        card: The model card, or one with name and scale only where the file has none.
        tile: Input size; None for dynamic height and width.
        precision: Precision of convolutions and matrix multiplications.
        float_precision: Precision of the other operators; differs from `precision` in INT8 graphs only.
        io: The frame format of input and output.
    """

    card: ModelCard
    tile: TileSpec | None
    precision: Precision
    float_precision: Precision
    io: FrameFormat


def read_onnx_properties(path: Path) -> OnnxProperties:
    """Reads the properties of the ONNX file at `path`.

    Raises:
        ExportError: The file is unreadable, or its graph does not turn one image into one that is an integer times as
            large.
    """
    model = read_onnx(path)
    image = _single_image(model, path)
    io = _FRAMES[image.type.tensor_type.elem_type]
    axes = (2, 3) if io is FrameFormat.FLOAT_NCHW else (1, 2)
    height, width = (image.type.tensor_type.shape.dim[axis].dim_value for axis in axes)
    tile = TileSpec(height, width) if height and width else None
    has_card = any(entry.key == METADATA_KEY for entry in model.metadata_props)
    card = read_metadata(model).card if has_card else _probed_card(model, path, image, io, tile)
    return OnnxProperties(card, tile, *_precisions(model), io)


def _single_image(model: onnx.ModelProto, path: Path) -> onnx.ValueInfoProto:
    images = picture_inputs(model)
    if len(images) != 1 or len(model.graph.output) != 1:
        raise ExportError(
            f"{path} has {len(images)} inputs of rank 4 and {len(model.graph.output)} outputs, whereas a "
            "super-resolution network has one image as its input and one as its output",
            found=(len(images), len(model.graph.output)),
            wanted=(1, 1),
            remedy="pass the ONNX file of a super-resolution network",
        )
    for value in (images[0], model.graph.output[0]):
        kind = value.type.tensor_type.elem_type
        if kind not in _FRAMES:
            name = onnx.TensorProto.DataType.Name(kind)
            raise ExportError(
                f"tensor {value.name!r} of {path} is of type {name}, whereas images are FLOAT in [0, 1] or UINT8",
                found=name,
                wanted=tuple(onnx.TensorProto.DataType.Name(known) for known in _FRAMES),
                remedy="export the network with images of one of these types",
            )
    _require_one_picture(images[0], path)
    return images[0]


def _require_one_picture(image: onnx.ValueInfoProto, path: Path) -> None:
    batch, channels = image.type.tensor_type.shape.dim[0].dim_value, picture_channels(image) or RGB
    if batch not in (0, 1) or channels not in CHANNELS:
        raise ExportError(
            f"{path} takes a batch of {batch or 1} with {count_of_channels(channels)}, but it has to take one image "
            "with 1, 3 or 4 channels",
            found=(batch or 1, channels),
            wanted=(1, CHANNELS),
            remedy="export the network for an input of shape (1, 1, 3 or 4, height, width)",
        )


def _precisions(model: onnx.ModelProto) -> tuple[Precision, Precision]:
    """The precision of convolutions and matrix multiplications, and that of the other operators."""
    has_float16 = onnx.TensorProto.FLOAT16 in view_graph(model).types.values()
    float_precision = Precision.FP16 if has_float16 else Precision.FP32
    quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
    return (Precision.INT8 if quantized else float_precision), float_precision


def _probed_card(
    model: onnx.ModelProto, path: Path, image: onnx.ValueInfoProto, io: FrameFormat, tile: TileSpec | None
) -> ModelCard:
    """A model card for a file without one: its name, and its scale from one run on a black image."""
    graph_controls(model)  # refuses scalar inputs without a known range
    probe = tile or TileSpec(PROBE_SIZE_PX, PROBE_SIZE_PX)
    channels, is_float = picture_channels(image) or RGB, io is FrameFormat.FLOAT_NCHW
    input_shape = (1, channels, probe.height, probe.width) if is_float else (1, probe.height, probe.width, channels)
    black: Tensor = np.zeros(input_shape, np.float32 if is_float else np.uint8)
    (output,) = run_onnxruntime(model, feed_of(image.name, black, {})).values()
    output_size = output.shape[2:] if is_float else output.shape[1:3]
    scale = output_size[0] // probe.height if output_size else 0
    if scale < 1 or tuple(output_size) != (scale * probe.height, scale * probe.width):
        raise ExportError(
            f"{path} turns an input of shape {input_shape} into an output of shape {output.shape}, which is not the "
            "input enlarged by an integer factor",
            found=output.shape,
            wanted="height and width of the input times an integer",
            remedy="pass the ONNX file of a super-resolution network",
        )
    return ModelCard(
        name=path.stem,
        scale=scale,
        parameters=0,
        static=tile is not None,
        input_channels=channels,
        output_channels=output.shape[1 if is_float else 3],
    )
