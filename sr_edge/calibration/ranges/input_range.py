"""Checks the input range of a network: its output, reduced to the size of the input, should look like the input.

A network for 0 to 255 that gets patches in [0, 1] sees black images. Its calibration would succeed, with ranges that do
not occur in use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from sr_edge.calibration.graph.load import picture_input
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.ranges.unsigned import INPUT_RANGES
from sr_edge.frames import Batch

CLEARLY_DB = 6.0
"""By how much the output must be closer to the input at another range; without biases a network is the same at all."""

LIKE_DB = 15.0, 30.0
"""Below the first PSNR an output does not show its input, above the second one it certainly does."""

PATCHES = 4


def range_warning(model: onnx.ModelProto, batches: Sequence[Batch], input_range: float) -> str:
    """A warning if the output looks more like the input at another input range; empty if `input_range` seems right.

    Args:
        model: The float graph.
        batches: Patches in [0, 1].
        input_range: The input range that the calibration uses.
    """
    if picture_input(model).type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        return ""
    graph = InstrumentedGraph(model)
    likeness_db = {each: _likeness_db(graph, batches[:PATCHES], each) for each in (input_range, *INPUT_RANGES)}
    best = max(likeness_db, key=lambda each: likeness_db[each])
    least, enough = LIKE_DB
    if likeness_db[input_range] >= enough or likeness_db[best] < max(least, likeness_db[input_range] + CLEARLY_DB):
        return ""
    return (
        f"the input range of this network seems to be 0 to {best:g}, not 0 to {input_range:g}: its output, reduced to "
        f"the size of the input, has a PSNR of {likeness_db[best]:.1f} dB to the input with the former and "
        f"{likeness_db[input_range]:.1f} dB with the latter. If so, the INT8 ranges are wrong: calibrate again with "
        f"--input-range {best:g}"
    )


def _likeness_db(graph: InstrumentedGraph, batches: Sequence[Batch], input_range: float) -> float:
    """PSNR between the input and the output reduced to its size; minus infinity if the output is not such an image."""
    errors = [
        _error(graph.run(batch * np.float32(input_range))[0] / np.float32(input_range), batch) for batch in batches
    ]
    return -10.0 * math.log10(max(float(np.mean(errors)), 1e-12)) if np.isfinite(errors).all() else -math.inf


def _error(output: Batch, batch: Batch) -> float:
    if output.ndim != 4 or output.shape[1] != batch.shape[1]:
        return math.inf
    (height, width), (small_height, small_width) = output.shape[2:], batch.shape[2:]
    if height % small_height or width % small_width:
        return math.inf
    blocks = output.reshape(1, -1, small_height, height // small_height, small_width, width // small_width)
    small = blocks.mean(axis=(3, 5))
    return float(np.mean(np.square(small.astype(np.float64) - batch)))
