"""What a graph computes on the way: its inner tensors, made outputs, or only how large they get."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.controls import checked_pairs
from sr_edge.errors import ExportError
from sr_edge.export.graph import GraphView, picture_inputs, view_graph
from sr_edge.export.onnx_run import Tensors, feed_of, open_onnxruntime, run_session
from sr_edge.export.patches import worst_case_patches
from sr_edge.frames import frame_from_batch
from sr_edge.spec import Control, TileSpec

UNKNOWN_BYTES = 16 << 20
"""Assumed of a tensor whose shape is not known."""

FREE_SIDE_PX = 48

_MAGNITUDE = "/magnitude"


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """A copy of `model` that gives these tensors and nothing else."""
    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    view = view_graph(model)
    del instrumented.graph.output[:]
    instrumented.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, view.types[name], view.shapes.get(name)) for name in tensors
    )
    return instrumented


def tensor_bytes(view: GraphView, tensor: str) -> int:
    """Of a float32 tensor of its shape; UNKNOWN_BYTES where a side is free."""
    sides = view.shapes.get(tensor)
    known = [side for side in sides or () if isinstance(side, int)]
    return 4 * math.prod(known) if sides is not None and len(known) == len(sides) else UNKNOWN_BYTES


def observe_magnitudes(
    model: onnx.ModelProto, patches: Sequence[npt.NDArray[np.float32]], controls: Sequence[Control] = ()
) -> dict[str, float]:
    """The largest magnitude that every float32 tensor of the graph takes on the patches, by name; a mask's is infinite.

    Each is found inside the graph, so that no tensor outlives its readers. A graph with controls runs at their
    defaults and at their extremes (`checked_pairs`).

    Args:
        model: a float32 or INT8 graph, of float or uint8 frames; it is left alone.
        patches: float32 (1, 3, height, width) in [0, 1].
        controls: the graph's scalar inputs.

    Raises:
        ExportError: the graph cannot be run. (NaN is not looked for: what compares the pictures finds it.)
    """
    view = view_graph(model)
    made = [tensor for node in view.nodes for tensor in node.output if tensor]
    tensors = [name for name in made if view.types.get(name) == onnx.TensorProto.FLOAT and name not in view.constants]
    session = open_onnxruntime(_with_magnitudes(model, tensors))
    largest = dict.fromkeys(tensors, 0.0)
    for patch, setting in checked_pairs(patches, controls):
        found = run_session(session, feed_patch(model, patch, setting))
        for name in tensors:
            largest[name] = max(largest[name], float(found[name + _MAGNITUDE]))
    return largest


def worst_cases_of(model: onnx.ModelProto) -> tuple[npt.NDArray[np.float32], ...]:
    """`worst_case_patches` of the size that the graph takes; FREE_SIDE_PX where it takes any."""
    (picture,) = picture_inputs(model)
    kind = picture.type.tensor_type
    axes = (1, 2) if kind.elem_type == onnx.TensorProto.UINT8 else (2, 3)
    height, width = (kind.shape.dim[axis].dim_value or FREE_SIDE_PX for axis in axes)
    return worst_case_patches(TileSpec(height, width))


def feed_patch(model: onnx.ModelProto, patch: npt.NDArray[np.float32], controls: Mapping[str, float]) -> Tensors:
    """The graph's inputs for a float32 (1, 3, height, width) patch; a graph of uint8 frames gets it as such.

    Raises:
        ExportError: the graph takes not exactly one picture.
    """
    pictures = picture_inputs(model)
    if len(pictures) != 1:
        raise ExportError(
            f"the graph has {len(pictures)} picture inputs, but its inner tensors can be observed with exactly one",
            found=len(pictures),
            wanted=1,
            remedy="pass a graph with one picture as its input",
        )
    if pictures[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return feed_of(pictures[0].name, patch, controls)
    return feed_of(pictures[0].name, frame_from_batch(patch)[np.newaxis], controls)


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
