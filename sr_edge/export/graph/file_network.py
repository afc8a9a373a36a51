"""A network that a user gives as an ONNX file, in the place of a PyTorch module."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from sr_edge.controls import Controls
from sr_edge.frames import Batch
from sr_edge.spec import Control, TileSpec


class NetworkFile(Protocol):
    """An ONNX file that was read, as `sr_edge.model_sources` provides it."""

    @property
    def path(self) -> Path:
        """The user's file."""
        ...

    @property
    def fixed_tile(self) -> TileSpec | None:
        """The only size that the file takes; None if height and width are dynamic."""
        ...

    def graph(self, tile: TileSpec) -> onnx.ModelProto:
        """The graph for one tile: float32 NCHW in [0, 1], batch 1, input "input", output "output", opset 17.

        Raises:
            SrEdgeError: the file has no such form, or does not take this tile.
        """
        ...

    @property
    def input_step(self) -> float:
        """The distance of neighbouring input values where the file takes rounded ones, 1/255 for uint8; otherwise 0."""
        ...

    @property
    def output_step(self) -> float:
        """The distance of neighbouring output values where the file rounds its output, 1/255 for uint8; otherwise 0."""
        ...

    def run(self, batch: Batch, setting: Controls, optimize: bool = True) -> Batch:
        """Upscales an image by the graph of the file in ONNX Runtime, as it is written, computed in float32.

        Args:
            batch: float32 (1, channels, height, width) in [0, 1].
            setting: values of the controls; one that is left out has its default.
            optimize: False disables the optimizations of ONNX Runtime, so that it sums in another order.

        Returns:
            Float32 (1, channels, scale * height, scale * width), with white as 1.

        Raises:
            SrEdgeError: ONNX Runtime cannot run the file on this image.
        """
        ...


class FileNetwork(nn.Module):
    """The network of an ONNX file as a module without parameters, whose every call runs the file in ONNX Runtime.

    It takes the place of a PyTorch network wherever that is only called: in probing, golden frames and comparisons.
    Export reads its graph from the file instead of tracing it.
    """

    def __init__(self, file: NetworkFile, controls: tuple[Control, ...] = ()) -> None:
        super().__init__()
        self.file = file
        self.controls = controls

    def forward(self, x: Tensor, *scalars: Tensor) -> Tensor:
        setting = {control.name: float(scalar) for control, scalar in zip(self.controls, scalars, strict=False)}
        upscaled = [self.file.run(image[np.newaxis], setting) for image in x.detach().cpu().numpy()]
        return torch.from_numpy(np.concatenate(upscaled))
