"""Runs a graph in ONNX Runtime on calibration patches and returns any of its tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.calibration.graph.load import picture_input
from sr_edge.controls import Controls, control_values
from sr_edge.errors import CalibrationError
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.metadata import graph_controls
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime
from sr_edge.frames import Batch


class Feeds:
    """Converts float patches and control values to the inputs of a graph."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.controls = graph_controls(model)
        self._picture = picture_input(model)

    def of(self, batch: Batch, controls: Controls | None = None) -> dict[str, npt.NDArray[Any]]:
        """The inputs of the graph by name; a float NCHW batch is converted for a graph that takes uint8 NHWC."""
        return feed_of(self._picture.name, self._layout(batch), control_values(self.controls, controls))

    def _layout(self, batch: Batch) -> npt.NDArray[Any]:
        if self._picture.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            batch_nhwc: npt.NDArray[np.uint8] = np.rint(batch.transpose(0, 2, 3, 1) * 255.0).astype(np.uint8)
            return batch_nhwc
        return batch


class InstrumentedGraph:
    """A graph in ONNX Runtime that also returns inner tensors.

    Args:
        model: The graph.
        tensors: The names of the tensors to return; by default the outputs of the graph.
        feeds: Given for a graph that has further inputs beside the picture and the controls.
        optimize: If false, every node is computed as it is written, without fused kernels.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        tensors: Sequence[str] = (),
        *,
        feeds: Feeds | None = None,
        optimize: bool = True,
    ) -> None:
        self._feeds = feeds or Feeds(model)
        self._tensors = list(tensors) or [output.name for output in model.graph.output]
        self._session = open_onnxruntime(_with_outputs(model, self._tensors), optimize)

    def run(self, batch: Batch, controls: Controls | None = None) -> list[npt.NDArray[Any]]:
        """The tensors for one float NCHW batch."""
        return self.run_inputs(self._feeds.of(batch, controls))

    def run_inputs(self, feeds: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """The tensors for the inputs of the graph itself."""
        computed = [name for name in self._tensors if name not in feeds]
        values = {**feeds, **dict(zip(computed, self._session.run(computed, dict(feeds)), strict=False))}
        return [values[name] for name in self._tensors]


def float_picture(output: npt.NDArray[np.generic]) -> Batch:
    """The output of a graph as float32 NCHW; uint8 NHWC is transposed and divided by 255."""
    if output.dtype == np.uint8:
        picture: Batch = output.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255.0)
        return picture
    return np.asarray(output, np.float32)


def require_batches(model: onnx.ModelProto, batches: Sequence[Batch]) -> None:
    """Raises CalibrationError unless there are batches and all of them have the shape of the picture input."""
    if not batches:
        raise CalibrationError(
            "there are no calibration patches",
            found=0,
            wanted=1,
            remedy="pass a folder of pictures, a single picture or a video",
        )
    picture = picture_input(model)
    wanted = [d.dim_value or None for d in picture.type.tensor_type.shape.dim]
    if picture.type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        wanted = [wanted[axis] for axis in (0, 3, 1, 2)]
    for batch in batches:
        fits = len(batch.shape) == 4 and all(w in (None, s) for w, s in zip(wanted, batch.shape, strict=True))
        if not fits:
            raise CalibrationError(
                f"a calibration patch has shape {batch.shape}, but the graph takes {tuple(wanted)}",
                found=batch.shape,
                wanted=tuple(wanted),
                remedy="export the network with a batch size of 1 and the tile size of the patches",
            )


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    instrumented = onnx.ModelProto()
    instrumented.CopyFrom(model)
    present = {output.name for output in instrumented.graph.output}
    graph_inputs = {value.name for value in instrumented.graph.input}
    for name in names:
        if name not in present and name not in graph_inputs:
            instrumented.graph.output.append(onnx.ValueInfoProto(name=name))
    return instrumented
