"""uint8 NHWC input and output, as cameras produce and displays take it, with the conversion inside the graph.

    uint8 (1, h, w, channels) -> Cast -> x 1/255 -> NCHW -> [the float graph]
        -> x 255 -> clip 0 ... 255 -> round -> NHWC -> Cast -> uint8 (1, h, w, channels)

Rounding is ONNX Round, half to even. numpy's rint does the same, so conversion on the host gives equal bits; all
runtimes here and TensorRT (kROUND) have it as one elementwise operator, whereas floor(x + 0.5) takes two and rounds
twice in fp16. The conversion is computed in fp32 whatever the precision of the graph. TensorRT takes uint8 only as the
input or output of a Cast, so the transposes work on float tensors. The input is multiplied by 1/255 instead of divided
by 255, as compilers do it anyway.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx

from sr_edge.errors import ExportError
from sr_edge.export.graph.view import picture_inputs
from sr_edge.export.passes.pass_result import PassResult
from sr_edge.spec import CHANNELS

MAX_UINT8 = 255.0
PREFIX = "frame_io"


def wrap_uint8(model: onnx.ModelProto) -> PassResult:
    """Gives the network uint8 (1, height, width, channels) input and output, names kept; always changes the graph.

    Works on fp32, fp16 and INT8 graphs, static or dynamic, whose input and output are float32 (1, channels, h, w);
    inputs of another rank, the controls, stay as they are. `model` is not modified.

    Raises:
        ExportError: the graph does not have exactly one float32 NCHW image as its input and one as its output.
    """
    wrapped = onnx.ModelProto()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    source, result = single_image(picture_inputs(wrapped), "input"), single_image(graph.output, "output")
    inner_source, inner_result = f"{source.name}_nchw", f"{result.name}_nchw"
    rename_tensors(graph, {source.name: inner_source, result.name: inner_result})
    body = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*_frame_to_batch(source.name, inner_source), *body, *batch_to_frame(inner_result, result.name)])
    graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(value, np.float32), f"{PREFIX}/{name}")
        for name, value in (("inverse_white", 1.0 / MAX_UINT8), ("white", MAX_UINT8), ("black", 0.0))
    )
    for image in (source, result):
        declare_frame(image)
    return PassResult(with_shapes(wrapped), True, "put uint8 frames around the float graph")


def with_shapes(wrapped: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with the shapes of all tensors."""
    wrapped.graph.ClearField("value_info")
    return onnx.shape_inference.infer_shapes(wrapped, check_type=True, strict_mode=True)


def _frame_to_batch(frame: str, batch: str) -> list[onnx.NodeProto]:
    return _chain(frame, batch, "input", [
        ("Cast", [], {"to": onnx.TensorProto.FLOAT}),
        ("Mul", ["inverse_white"], {}),
        ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ])  # fmt: skip


def batch_to_frame(batch: str, frame: str) -> list[onnx.NodeProto]:
    """From the float output `batch` to the uint8 frame `frame`; reads the constants "white" and "black"."""
    return _chain(batch, frame, "output", [
        ("Mul", ["white"], {}),
        ("Clip", ["black", "white"], {}),
        ("Round", [], {}),
        ("Transpose", [], {"perm": [0, 2, 3, 1]}),
        ("Cast", [], {"to": onnx.TensorProto.UINT8}),
    ])  # fmt: skip


def _chain(
    first: str, last: str, end: str, steps: list[tuple[str, list[str], dict[str, int | list[int]]]]
) -> list[onnx.NodeProto]:
    """A chain of nodes from tensor `first` to tensor `last`; each step has an operator, constants and attributes."""
    nodes = []
    tensor = first
    for position, (operator, constants, attributes) in enumerate(steps):
        name = f"{PREFIX}/{end}/{operator}"
        made = last if position == len(steps) - 1 else f"{name}_output"
        inputs = [tensor, *(f"{PREFIX}/{constant}" for constant in constants)]
        node = onnx.helper.make_node(operator, inputs, [made], name=name)
        node.attribute.extend(onnx.helper.make_attribute(key, value) for key, value in attributes.items())
        nodes.append(node)
        tensor = made
    return nodes


def single_image(values: Sequence[onnx.ValueInfoProto], end: str) -> onnx.ValueInfoProto:
    """The only image at one end of a graph; raises ExportError unless it is float32 NCHW."""
    if len(values) != 1:
        raise ExportError(
            f"the graph has {len(values)} {end} images, but uint8 frames need exactly one",
            found=len(values),
            wanted=1,
            remedy="wrap a graph with one image as its input and one as its output",
        )
    kind = values[0].type.tensor_type
    dims = kind.shape.dim
    if kind.elem_type != onnx.TensorProto.FLOAT or len(dims) != 4 or dims[1].dim_value not in CHANNELS:
        type_name = onnx.TensorProto.DataType.Name(kind.elem_type)
        shape = tuple(dim.dim_value or dim.dim_param for dim in dims)
        raise ExportError(
            f"the graph's {end} {values[0].name!r} is {type_name} of shape {shape}, not a float32 (1, channels, h, w) "
            "image with 1, 3 or 4 channels",
            found=(type_name, shape),
            wanted=("FLOAT", (1, CHANNELS, "h", "w")),
            remedy="wrap a graph of float frames",
        )
    return values[0]


def declare_frame(image: onnx.ValueInfoProto) -> None:
    """Declares the value as uint8 NHWC instead of float NCHW."""
    kind = image.type.tensor_type
    kind.elem_type = onnx.TensorProto.UINT8
    batch, channels, height, width = list(kind.shape.dim)
    dims = [
        onnx.TensorShapeProto.Dimension.FromString(dim.SerializeToString()) for dim in (batch, height, width, channels)
    ]
    kind.shape.ClearField("dim")
    kind.shape.dim.extend(dims)


def rename_tensors(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Renames inputs and outputs of the nodes."""
    for node in graph.node:
        node.input[:] = [names.get(tensor, tensor) for tensor in node.input]
        node.output[:] = [names.get(tensor, tensor) for tensor in node.output]
