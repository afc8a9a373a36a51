"""Runs a graph of any layout, type and batch size on pictures, with the conversions done in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from sr_edge.controls import Controls
from sr_edge.export.graph.inputs import feed_of
from sr_edge.export.graph.onnxruntime_run import open_onnxruntime, run_session
from sr_edge.frames import Batch
from sr_edge.model_sources.onnx_file.ports import Layout, Port
from sr_edge.spec import Control

Tensor = npt.NDArray[Any]


RUN_LIMIT_S = 120.0
"""Seconds for one run of a graph on a picture of at most one tile; a loop in a file of others may never end."""


@dataclass(frozen=True)
class PictureFormat:
    """How the input or the output of a graph stores pictures.

    Attributes:
        port: Name, type, layout and channels.
        value_range: The largest value of the pictures: 1 or 255.
        is_bgr: Whether blue is the first channel.
    """

    port: Port
    value_range: float = 1.0
    is_bgr: bool = False

    @property
    def channel_order(self) -> tuple[int, ...]:
        """The position of each channel in RGB or RGBA, empty where the channels are in that order."""
        return (2, 1, 0, 3)[: self.port.channels] if self.is_bgr and self.port.channels >= 3 else ()

    def encode(self, batch: Batch) -> Tensor:
        """Converts float32 (1, channels, height, width) in [0, 1], RGB, to an input array of the graph."""
        tensor: Tensor = self._swapped(batch) * np.float32(self.value_range)
        if self.port.layout is Layout.NHWC:
            tensor = tensor.transpose(0, 2, 3, 1)
        if self.port.dtype == "uint8":
            tensor = np.clip(np.rint(tensor), 0, 255)
        return np.ascontiguousarray(np.repeat(tensor, self.port.batch, axis=0).astype(_numpy_type(self.port.dtype)))

    def decode(self, tensor: Tensor) -> Batch:
        """Converts an output array of the graph to float32 (1, channels, height, width), in [0, 1], RGB."""
        picture = tensor[:1].astype(np.float32)
        if self.port.layout is Layout.NHWC:
            picture = picture.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(self._swapped(picture) / np.float32(self.value_range))

    def _swapped(self, batch: Batch) -> Batch:
        return batch[:, list(self.channel_order)] if self.channel_order else batch

    def in_float32(self) -> PictureFormat:
        """The same format with pictures of another floating-point type as float32, for a graph that was widened."""
        dtype = self.port.dtype if self.port.dtype == "uint8" else "float32"
        return replace(self, port=replace(self.port, dtype=dtype))


class PictureRunner:
    """A graph in ONNX Runtime on the CPU."""

    def __init__(self, model: onnx.ModelProto, controls: Sequence[Control] = (), optimize: bool = True) -> None:
        """Opens the graph.

        Args:
            model: The graph.
            controls: Its scalar inputs, which have their defaults unless a run sets them.
            optimize: False disables all optimizations of ONNX Runtime.

        Raises:
            ExportError: ONNX Runtime refuses the graph.
        """
        self._session = open_onnxruntime(model, optimize)
        self._controls = {control.name: control.default for control in controls}

    def run(self, image: str, tensor: Tensor, setting: Controls | None = None) -> dict[str, Tensor]:
        """All outputs that are tensors for one input array; raises ExportError if the graph cannot run on it."""
        outputs = run_session(self._session, feed_of(image, tensor, {**self._controls, **(setting or {})}), RUN_LIMIT_S)
        return {name: output for name, output in outputs.items() if isinstance(output, np.ndarray)}


@dataclass(frozen=True)
class PictureGraph:
    """A graph, and how it takes and returns pictures.

    Attributes:
        model: The graph.
        input: How it takes a picture.
        output: How it returns a picture.
        controls: Its scalar inputs.
    """

    model: onnx.ModelProto
    input: PictureFormat
    output: PictureFormat
    controls: Sequence[Control] = ()

    def run(self, batch: Batch) -> Batch:
        """Converts a picture, float32 (1, channels, height, width) in [0, 1], runs the graph, and converts its output.

        Raises:
            ExportError: ONNX Runtime cannot run the graph.
        """
        outputs = self._runner.run(self.input.port.name, self.input.encode(batch))
        return self.output.decode(outputs[self.output.port.name])

    @cached_property
    def _runner(self) -> PictureRunner:
        return PictureRunner(self.model, self.controls)


def _numpy_type(dtype: str) -> np.dtype[Any]:
    return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16) if dtype == "bfloat16" else dtype)
