"""The magnification of a graph, measured by running it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sr_edge.calibration.graph.load import load_graph
from sr_edge.calibration.graph.probe import InstrumentedGraph, float_picture
from sr_edge.errors import CalibrationError
from sr_edge.spec import RGB, TileSpec


def graph_scale(path: Path, tile: TileSpec, channels: int = RGB) -> int:
    """The magnification of an ONNX file.

    Raises:
        CalibrationError: The output is not an image, or not an integer number of times as large as the input.
    """
    batch = np.zeros((1, channels, tile.height, tile.width), np.float32)
    output = float_picture(InstrumentedGraph(load_graph(path)).run(batch)[0])
    height, width = output.shape[-2:]
    if output.ndim != 4 or height % tile.height or width % tile.width or height // tile.height != width // tile.width:
        raise CalibrationError(
            f"{path} turns an input of shape {batch.shape} into an output of shape {output.shape}, which is not a "
            "picture that is a whole number of times as large",
            found=output.shape,
            wanted="a picture a whole number of times as large",
        )
    return int(height // tile.height)
