"""Runs the float graph over calibration patches in ONNX Runtime and observes the inputs of its layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.calibration.calibration import TensorRange
from sr_edge.calibration.graph import picture_input
from sr_edge.calibration.observers import Observer
from sr_edge.controls import Controls, checked_pairs, control_values
from sr_edge.errors import CalibrationError
from sr_edge.export.graph import Constant, GraphView, attribute, view_graph
from sr_edge.export.metadata import graph_controls
from sr_edge.export.onnx_run import feed_of, open_onnxruntime

Batch = npt.NDArray[np.float32]
"""Pictures in the graph's float layout: (1, channels, height, width) in [0, 1]."""

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all)."""

OBSERVED_BYTES = 256 << 20
"""Observed tensors are outputs of the graph and all live at once; more than this is split over several passes."""

_UNKNOWN_BYTES = 16 << 20


class WatchedGraph:
    """A graph in ONNX Runtime that gives inner tensors; none named means the graph's own outputs."""

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str] = ()) -> None:
        self._controls = graph_controls(model)
        self._picture = picture_input(model)
        self._tensors = list(tensors) or [output.name for output in model.graph.output]
        self._session = open_onnxruntime(_with_outputs(model, self._tensors))

    def run(self, batch: Batch, controls: Controls | None = None) -> list[npt.NDArray[Any]]:
        """The tensors for one batch. A uint8 NHWC graph takes the same float NCHW batch."""
        feeds = feed_of(self._picture.name, self._layout(batch), control_values(self._controls, controls))
        computed = [name for name in self._tensors if name not in feeds]
        found = feeds | dict(zip(computed, self._session.run(computed, feeds), strict=False))
        return [found[name] for name in self._tensors]

    def _layout(self, batch: Batch) -> npt.NDArray[Any]:
        if self._picture.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            batch_nhwc: npt.NDArray[np.uint8] = np.rint(batch.transpose(0, 2, 3, 1) * 255.0).astype(np.uint8)
            return batch_nhwc
        return batch


def collect_ranges(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    batches: Sequence[Batch],
    observer_type: type[Observer],
    progress: Progress | None = None,
) -> dict[str, TensorRange]:
    """The range of each named tensor over all batches, in a graph with controls also at their extremes.

    Channels that every reader multiplies by zero do not count (`read_channels`): whatever INT8 makes of them is
    multiplied by zero again. Static twins of LayerNorm pass the mean on as such a channel, of any size.

    Memory holds one batch's observed tensors (at most about OBSERVED_BYTES) and one observer per tensor.

    Raises:
        CalibrationError: there is no batch, its shape is not the graph's, or a tensor is not finite.
    """
    require_batches(model, batches)
    passes = list(_passes(model, list(dict.fromkeys(tensors)), batches[0].shape))
    runs = checked_pairs(batches, graph_controls(model))
    view = view_graph(model)
    ranges: dict[str, TensorRange] = {}
    for number, names in enumerate(passes):
        watched = [_Watched(name, observer_type(), read_channels(view, name)) for name in names]
        graph = WatchedGraph(model, names)
        for index, (batch, setting) in enumerate(runs):
            for tensor, values in zip(watched, graph.run(batch, setting), strict=True):
                tensor.observe(values)
            if progress is not None:
                progress(number * len(runs) + index + 1, len(passes) * len(runs))
        ranges.update((tensor.name, tensor.range()) for tensor in watched)
    return ranges


def require_batches(model: onnx.ModelProto, batches: Sequence[Batch]) -> None:
    """Raises CalibrationError unless there are batches and each fits the graph's picture input."""
    if not batches:
        raise CalibrationError("no calibration patches; give a folder of pictures, one picture or a video")
    picture = picture_input(model)
    wanted = [d.dim_value or None for d in picture.type.tensor_type.shape.dim]
    if picture.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        wanted = [wanted[axis] for axis in (0, 3, 1, 2)]
    for batch in batches:
        fits = len(batch.shape) == 4 and all(w in (None, s) for w, s in zip(wanted, batch.shape, strict=True))
        if not fits:
            raise CalibrationError(f"a calibration patch has shape {batch.shape}, the graph takes {tuple(wanted)}")


def read_channels(view: GraphView, tensor: str) -> npt.NDArray[np.bool_] | None:
    """(channels,) which channels some reader weighs by more than zero; None where all do, or a reader is no plain Conv.

    A tensor of zero weights only counts whole.
    """
    weights = [_plain_weight(view.nodes[at], tensor, view.constants) for at in view.consumers.get(tensor, ())]
    if not weights or any(weight is None for weight in weights) or tensor in view.output_names:
        return None
    used = np.any([np.any(weight, axis=(0, 2, 3)) for weight in weights if weight is not None], axis=0)
    return None if used.all() or not used.any() else used


def _plain_weight(node: onnx.NodeProto, tensor: str, constants: Mapping[str, Constant]) -> Constant | None:
    """The weight (out, in, kh, kw) by which `node`, a 2-D Conv of one group, multiplies `tensor`."""
    group = attribute(node, "group")
    if node.op_type != "Conv" or node.input[0] != tensor or (group is not None and group.i != 1):
        return None
    weight = constants.get(node.input[1])
    return weight if weight is not None and weight.ndim == 4 else None


class _Watched:
    def __init__(self, name: str, observer: Observer, channels: npt.NDArray[np.bool_] | None) -> None:
        self.name = name
        self._channels = channels
        self._observer = observer
        self._lowest, self._highest = math.inf, -math.inf

    def observe(self, values: npt.NDArray[np.float32]) -> None:
        if self._channels is not None:
            values = values[:, self._channels]
        lowest, highest = float(values.min()), float(values.max())
        if not (math.isfinite(lowest) and math.isfinite(highest)):
            raise CalibrationError(
                f"tensor {self.name} is not finite ({lowest} to {highest}) on a calibration patch; "
                "check the weights and that the pictures are in [0, 1]"
            )
        self._lowest, self._highest = min(self._lowest, lowest), max(self._highest, highest)
        self._observer.observe(values)

    def range(self) -> TensorRange:
        return TensorRange(self._lowest, self._highest, self._observer.clip())


def _passes(model: onnx.ModelProto, tensors: list[str], shape: tuple[int, ...]) -> Iterator[list[str]]:
    sizes = _tensor_bytes(model, shape)
    group: list[str] = []
    group_bytes = 0
    for name in tensors:
        size = sizes.get(name, _UNKNOWN_BYTES)
        if group and group_bytes + size > OBSERVED_BYTES:
            yield group
            group, group_bytes = [], 0
        group.append(name)
        group_bytes += size
    if group:
        yield group


def _tensor_bytes(model: onnx.ModelProto, shape: tuple[int, ...]) -> dict[str, int]:
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    picture = picture_input(sized).type.tensor_type
    if picture.elem_type == onnx.TensorProto.FLOAT:
        for dim, size in zip(picture.shape.dim, shape, strict=True):
            dim.dim_value = size
    found = {}
    for name, sides in view_graph(sized).shapes.items():
        known = [side for side in sides if isinstance(side, int)]
        if len(known) == len(sides):
            found[name] = 4 * math.prod(known)
    return found


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    present = {output.name for output in watched.graph.output}
    graph_inputs = {value.name for value in watched.graph.input}
    for name in names:
        if name not in present and name not in graph_inputs:
            watched.graph.output.append(onnx.ValueInfoProto(name=name))
    return watched
