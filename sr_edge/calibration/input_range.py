"""What a network calls white, told from what it does: its output, made small again, should look like its input.

A network that calls white 255 and is given 1 for white sees black pictures. It is calibrated without any error, on
ranges that it will never meet again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx

from sr_edge.calibration.graph import picture_input
from sr_edge.calibration.patch import Batch
from sr_edge.calibration.unsigned import INPUT_RANGES
from sr_edge.calibration.watched import InstrumentedGraph

CLEARLY_DB = 6.0
"""So much nearer must the output be to the input at another range: without biases a network is alike at all ranges."""

LIKE_DB = 15.0, 30.0
"""An output is no picture of its input below the first, and surely one above the second."""

PATCHES = 4


def range_warning(model: onnx.ModelProto, batches: Sequence[Batch], input_range: float) -> str:
    """What to warn of where the patches look better with another white; empty where `input_range` seems right.

    Args:
        model: the float graph.
        batches: patches in [0, 1].
        input_range: what the graph is told to call white.
    """
    if picture_input(model).type.tensor_type.elem_type == onnx.TensorProto.UINT8:
        return ""
    graph = InstrumentedGraph(model)
    found = {each: _likeness_db(graph, batches[:PATCHES], each) for each in (input_range, *INPUT_RANGES)}
    best = max(found, key=lambda each: found[each])
    least, enough = LIKE_DB
    if found[input_range] >= enough or found[best] < max(least, found[input_range] + CLEARLY_DB):
        return ""
    like, unlike = (f"{found[each]:.1f} dB from its input where white is {each:g}" for each in (best, input_range))
    return (
        f"this network seems to call white {best:g}, not {input_range:g}: its output, made small again, is {like}, and "
        f"{unlike}. If so, the INT8 ranges are wrong: calibrate again with --input-range {best:g}"
    )


def _likeness_db(graph: InstrumentedGraph, batches: Sequence[Batch], input_range: float) -> float:
    """PSNR of the output, averaged over the pixels that stand for one of the input; minus infinity for no picture."""
    errors = [
        _error(graph.run(batch * np.float32(input_range))[0] / np.float32(input_range), batch) for batch in batches
    ]
    return -10.0 * math.log10(max(float(np.mean(errors)), 1e-12)) if np.isfinite(errors).all() else -math.inf


def _error(output: Batch, batch: Batch) -> float:
    if output.ndim != 4 or output.shape[1] != batch.shape[1]:
        return math.inf
    (height, width), (rows, columns) = output.shape[2:], batch.shape[2:]
    if height % rows or width % columns:
        return math.inf
    small = output.reshape(1, -1, rows, height // rows, columns, width // columns).mean(axis=(3, 5))
    return float(np.mean(np.square(small.astype(np.float64) - batch)))
