"""A network that a user gives as an ONNX file, in the place of a PyTorch module."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from sr_edge.spec import Control, TileSpec

Batch = npt.NDArray[np.float32]


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

    def run_original(self, batch: Batch, optimize: bool = True) -> Batch:
        """Upscales float32 (1, channels, h, w) in [0, 1] by the user's graph in ONNX Runtime.

        Args:
            batch: the image.
            optimize: False disables the optimizations of ONNX Runtime, so that it computes sums in another order.

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

    def forward(self, x: Tensor) -> Tensor:
        upscaled = [self.file.run_original(image[np.newaxis]) for image in x.detach().cpu().numpy()]
        return torch.from_numpy(np.concatenate(upscaled))
