"""NV12 input, as cameras and decoders produce it, and uint8 NHWC output, with the conversion inside the graph.

    uint8 (1, rows, columns, 1), a tile of `sr_edge.nv12` with its margin -> Cast -> Split into luma and chroma rows
    chroma -> Conv along the rows (U and V are interleaved, hence with stride 2: U and V of the left and right pixels)
           -> Min -> Conv along the columns and to red, green, blue of the four pixels that share a sample
    luma   -> without the margin -> Conv 2x2 with stride 2: the same for the luma of the four pixels
    their sum -> Clip -> Round -> x 1/255 -> DepthToSpace -> [the float graph] -> as in `sr_edge.export.passes.uint8_io`

The network gets the RGB levels that conversion on the host gives, hence the rounding. Everything is computed at the
size of the chroma plane, with convolutions and elementwise operators, which all runtimes execute with their fastest
kernels; ONNX's Resize has cubic interpolation, too, but cannot limit the result between its passes. TensorRT takes
uint8 only as the input of a Cast, so that the planes are split after it. The conversion is in fp32 whatever the
precision of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.export.graph.view import picture_inputs
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.export.passes.uint8_io import (
    MAX_UINT8,
    PREFIX,
    batch_to_frame,
    declare_frame,
    rename_tensors,
    single_image,
    with_shapes,
    wrap_uint8,
)
from sr_edge.nv12.colour import Nv12Colour, require_nv12_colour
from sr_edge.nv12.frames import (
    CHROMA_LIMIT,
    MARGIN_PX,
    chroma_weights,
    nv12_shape,
    require_nv12_tile,
    rgb_matrix,
)
from sr_edge.spec import FrameFormat, TileSpec

_PIXELS = 4
"""Pixels that share a chroma sample."""


def wrap_nv12(model: onnx.ModelProto, colour: Nv12Colour) -> PassResult:
    """Gives the network NV12 input (1, rows, columns, 1) and uint8 NHWC output, names kept; always changes the graph.

    Works on fp32, fp16 and INT8 graphs of constant size whose input and output are float32 RGB, NCHW. `model` is not
    modified.

    Args:
        model: The graph.
        colour: Matrix and range of the frames.

    Raises:
        ExportError: The graph does not have exactly one float32 NCHW image as its input and one as its output.
        UsageError: The images are not RGB.
        TileError: Their height or width is odd or not constant.
    """
    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    source, result = single_image(picture_inputs(wrapped), "input"), single_image(graph.output, "output")
    dims = source.type.tensor_type.shape.dim
    height, width = (dim.dim_value for dim in dims[2:])
    tile = require_nv12_tile(TileSpec(height, width) if height and width else None, dims[1].dim_value)
    inner_source, inner_result = f"{source.name}_nchw", f"{result.name}_nchw"
    rename_tensors(graph, {source.name: inner_source, result.name: inner_result})
    body = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*_nv12_to_batch(source.name, inner_source), *body, *batch_to_frame(inner_result, result.name)])
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.ascontiguousarray(value), f"{PREFIX}/{name}")
        for name, value in _constants(tile, colour).items()
    )
    declare_frame(source)
    for dim, size in zip(source.type.tensor_type.shape.dim, (1, *nv12_shape(tile)), strict=True):
        dim.dim_value = size
    declare_frame(result)
    reason = f"put NV12 frames ({colour}) before the float graph and uint8 frames after it"
    return PassResult(with_shapes(wrapped), True, reason)


def wrap_frames(model: onnx.ModelProto, io: FrameFormat, colour: Nv12Colour | None = None) -> onnx.ModelProto:
    """A graph of float frames with another frame format, or itself for float frames.

    Args:
        model: The graph, which is not modified.
        io: The format.
        colour: Matrix and range of NV12 frames.

    Raises:
        UsageError: There is a colour without NV12 frames, or none with them; or as `wrap_nv12`.
        ExportError, TileError: As `wrap_uint8` and `wrap_nv12`.
    """
    require_nv12_colour(io, colour)
    if colour is not None:
        return wrap_nv12(model, colour).model
    return wrap_uint8(model).model if io is FrameFormat.UINT8_NHWC else model


def _nv12_to_batch(frame: str, batch: str) -> list[onnx.NodeProto]:
    def node(operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> onnx.NodeProto:
        names = [tensor if tensor == frame else f"{PREFIX}/{tensor}" for tensor in inputs]
        made = [tensor if tensor == batch else f"{PREFIX}/{tensor}" for tensor in outputs]
        return onnx.helper.make_node(operator, names, made, name=f"{PREFIX}/input/{outputs[0]}", **attributes)  # type: ignore[arg-type]

    return [
        node("Cast", [frame], ["levels"], to=onnx.TensorProto.FLOAT),
        node("Split", ["levels", "plane_rows"], ["luma_rows", "chroma_rows"], axis=1),
        node("Reshape", ["chroma_rows", "chroma_shape"], ["chroma"]),
        node("Conv", ["chroma", "across"], ["chroma_across"], strides=[1, 2]),
        node("Min", ["chroma_across", "chroma_limit"], ["chroma_limited"]),
        node("Conv", ["chroma_limited", "down", "offset"], ["chroma_rgb"]),
        node("Reshape", ["luma_rows", "luma_shape"], ["luma_and_margin"]),
        node("Slice", ["luma_and_margin", "inner_start", "inner_end", "inner_axes"], ["luma"]),
        node("Conv", ["luma", "luma_weights"], ["luma_rgb"], strides=[2, 2]),
        node("Add", ["chroma_rgb", "luma_rgb"], ["unlimited"]),
        node("Clip", ["unlimited", "black", "white"], ["limited"]),
        node("Round", ["limited"], ["rounded"]),
        node("Mul", ["rounded", "inverse_white"], ["scaled"]),
        node("DepthToSpace", ["scaled"], [batch], blocksize=2, mode="CRD"),
    ]


def _constants(tile: TileSpec, colour: Nv12Colour) -> Mapping[str, npt.NDArray[np.float32] | npt.NDArray[np.int64]]:
    """The constants of the conversion, by their names after the prefix."""
    rows, columns = tile.height + 2 * MARGIN_PX, tile.width + 2 * MARGIN_PX
    weights, matrix = chroma_weights(), rgb_matrix(colour)
    phases, taps = weights.shape
    across = np.zeros((2, phases, 1, 1, taps, 2))  # (U or V, left or right, 1, 1, tap, U or V)
    # (colour, upper or lower, left or right, the two axes of the outputs of `across`, tap)
    down = np.zeros((3, phases, phases, 2, phases, taps))
    for component in range(2):
        across[component, :, 0, 0, :, component] = weights
        for phase in range(phases):
            down[:, :, phase, component, phase] = matrix[:, 1 + component, None, None] * weights
    luma = np.zeros((3, _PIXELS, _PIXELS))
    luma[:, range(_PIXELS), range(_PIXELS)] = matrix[:, :1]
    integers = {
        "plane_rows": [rows, rows // 2],
        "chroma_shape": [1, 1, rows // 2, columns],
        "luma_shape": [1, 1, rows, columns],
        "inner_start": [MARGIN_PX, MARGIN_PX],
        "inner_end": [rows - MARGIN_PX, columns - MARGIN_PX],
        "inner_axes": [2, 3],
    }
    floats = {
        "across": across.reshape(2 * phases, 1, 1, 2 * taps),
        "down": down.reshape(3 * _PIXELS, 2 * phases, taps, 1),
        "offset": np.repeat(matrix[:, 3], _PIXELS),
        "luma_weights": luma.reshape(3 * _PIXELS, 1, 2, 2),
        "chroma_limit": np.asarray(CHROMA_LIMIT),
        "inverse_white": np.asarray(1.0 / MAX_UINT8),
        "white": np.asarray(MAX_UINT8),
        "black": np.asarray(0.0),
    }
    return {name: np.asarray(value, np.int64) for name, value in integers.items()} | {
        name: value.astype(np.float32) for name, value in floats.items()
    }
