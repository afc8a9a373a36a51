"""The inner tensors of a graph: as outputs of an instrumented copy, or only their largest magnitudes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError
from sr_edge.export.graph.inputs import Tensors, feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.graph.view import GraphView, picture_channels, picture_inputs, view_graph
from sr_edge.frames import frame_from_batch
from sr_edge.spec import RGB, Control, TileSpec

UNKNOWN_BYTES = 16 << 20
"""The size assumed for a tensor of unknown shape."""

DYNAMIC_SIZE_PX = 48
"""Height and width of patches for a graph whose height and width are dynamic."""

_MAGNITUDE = "/magnitude"


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` whose outputs are these tensors only."""
    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    view = view_graph(model)
    del instrumented.graph.output[:]
    instrumented.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, view.types[name], view.shapes.get(name)) for name in tensors
    )
    return instrumented


def tensor_bytes(view: GraphView, tensor: str) -> int:
    """The size of a tensor in float32; UNKNOWN_BYTES where its shape is unknown or dynamic."""
    shape = view.shapes.get(tensor)
    static_dims = [dim for dim in shape or () if isinstance(dim, int)]
    return 4 * math.prod(static_dims) if shape is not None and len(static_dims) == len(shape) else UNKNOWN_BYTES


def observe_magnitudes(
    model: onnx.ModelProto, patches: Sequence[npt.NDArray[np.float32]], controls: Sequence[Control] = ()
) -> dict[str, float]:
    """The largest magnitude of every float32 tensor of the graph over all patches, by name.

    It is computed inside the graph (Abs, ReduceMax), so that no tensor must be kept in memory after its last reader. It
    is infinite for a mask of -inf. A graph with controls runs at their defaults and at their extremes
    (`checked_pairs`). NaN is not detected here but where the outputs are compared.

    Args:
        model: A float32 or INT8 graph of float or uint8 frames; it is not changed.
        patches: Float32 (1, channels, height, width) in [0, 1].
        controls: The scalar inputs of the graph.

    Raises:
        ExportError: The graph cannot be run.
    """
    view = view_graph(model)
    computed = [tensor for node in view.nodes for tensor in node.output if tensor]
    tensors = [
        name for name in computed if view.types.get(name) == onnx.TensorProto.FLOAT and name not in view.constants
    ]
    session = open_onnxruntime(_with_magnitudes(model, tensors))
    largest = dict.fromkeys(tensors, 0.0)
    for patch, setting in checked_pairs(patches, controls):
        magnitudes = run_session(session, feed_patch(model, patch, setting))
        for name in tensors:
            largest[name] = max(largest[name], float(magnitudes[name + _MAGNITUDE]))
    return largest


def worst_cases_of(model: onnx.ModelProto) -> tuple[npt.NDArray[np.float32], ...]:
    """`worst_case_patches` of the input shape of the graph; DYNAMIC_SIZE_PX and RGB where that is dynamic."""
    (image,) = picture_inputs(model)
    kind = image.type.tensor_type
    axes = (1, 2) if kind.elem_type == onnx.TensorProto.UINT8 else (2, 3)
    height, width = (kind.shape.dim[axis].dim_value or DYNAMIC_SIZE_PX for axis in axes)
    return worst_case_patches(TileSpec(height, width), picture_channels(image) or RGB)


def feed_patch(model: onnx.ModelProto, patch: npt.NDArray[np.float32], controls: Mapping[str, float]) -> Tensors:
    """The input feed for a float32 (1, channels, height, width) patch, which is converted for a graph of uint8 frames.

    Raises:
        ExportError: The graph does not have exactly one image input.
    """
    images = picture_inputs(model)
    if len(images) != 1:
        raise ExportError(
            f"the graph has {len(images)} image inputs, but its inner tensors can be observed with exactly one",
            found=len(images),
            wanted=1,
            remedy="pass a graph with one image as its input",
        )
    if images[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return feed_of(images[0].name, patch, controls)
    return feed_of(images[0].name, frame_from_batch(patch)[np.newaxis], controls)


def _with_magnitudes(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    graph = instrumented.graph
    del graph.output[:]
    for name in tensors:
        sizes, largest = f"{name}/sizes", name + _MAGNITUDE
        graph.node.append(onnx.helper.make_node("Abs", [name], [sizes]))
        graph.node.append(onnx.helper.make_node("ReduceMax", [sizes], [largest], keepdims=0))
        graph.output.append(onnx.helper.make_tensor_value_info(largest, onnx.TensorProto.FLOAT, ()))
    return instrumented
