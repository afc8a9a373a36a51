"""The layers of two sides of a comparison: whether they can be compared, and from which tolerance on they differ.

The modules of PyTorch are not the nodes of a graph. Such a side is exported into a folder that is gone afterwards, and
onnxruntime computes the graph; export fails where it gives other pictures than the network.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sr_edge.bench.protocol import Progress, no_progress
from sr_edge.bench.side_names import REAL_FLOAT16, TORCH
from sr_edge.bench.sides import OpenSide
from sr_edge.errors import ExportError
from sr_edge.export.checks.float16 import run_float16
from sr_edge.export.graph import read_onnx
from sr_edge.export.layers import LayerDifference, WatchedRun, compare_layers
from sr_edge.export.onnx_run import run_onnxruntime
from sr_edge.spec import Precision

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: 1e-3,
    Precision.FP16: 1e-2,
    Precision.BF16: 5e-2,
    Precision.INT8: 2e-1,
}
"""Relative errors that rounding explains, by the coarsest precision of the two sides: above, a layer is apart."""

_WATCHING = ("onnxruntime", "openvino", REAL_FLOAT16, TORCH)


@dataclass(frozen=True)
class LayerReport:
    """Every layer that both graphs have, in order, on one patch; `reason` says why there are none.

    `first_apart` is the first whose relative error is above `tolerance`, None where all are within. `left_out`
    counts layers of the first graph that were not compared, by reason. `exported` names the sides of PyTorch, whose
    layers are those of an export that onnxruntime computed.
    """

    reason: str = ""
    tolerance: float = 0.0
    first_apart: LayerDifference | None = None
    layers: tuple[LayerDifference, ...] = ()
    left_out: Mapping[str, int] | None = None
    exported: tuple[str, ...] = ()


def no_layers(reason: str) -> LayerReport:
    """The report of two sides whose layers were not compared."""
    return LayerReport(reason=reason)


def report_layers(
    first: OpenSide,
    second: OpenSide,
    patch: npt.NDArray[np.float32],
    tolerance: float | None = None,
    progress: Progress = no_progress,
) -> LayerReport:
    """Compares the layers of two sides on one patch; a pair that cannot be compared gets the reason.

    Args:
        first, second: open sides; the first is the measure of relative errors.
        patch: float32 (1, 3, height, width) in [0, 1].
        tolerance: the relative error above which a layer is apart; None takes it from TOLERANCES.
        progress: called with (stage, steps done, steps in all).
    """
    for side in (first, second):
        obstacle = _obstacle(side)
        if obstacle:
            return no_layers(obstacle)
    allowed = _tolerance(first, second) if tolerance is None else tolerance
    controls = (first.controls, second.controls)
    progress("comparing layers", 0, 1)
    try:
        with tempfile.TemporaryDirectory(prefix="sr-edge-layers-") as folder:
            watched = (_watched(first, Path(folder)), _watched(second, Path(folder)))
        found = compare_layers(*watched, patch, allowed, controls)
    except ExportError as error:
        return no_layers(str(error))
    progress("comparing layers", 1, 1)
    exported = tuple(side.facts.name for side in (first, second) if side.found.runtime == TORCH)
    return LayerReport("", allowed, found.first_apart, found.layers, found.left_out, exported)


def _obstacle(side: OpenSide) -> str:
    if side.found.runtime not in _WATCHING:
        return f"{side.found.runtime} gives no inner tensors; name one of {', '.join(_WATCHING)} to compare layers"
    if side.found.request.device != "cpu":
        return f"inner tensors are taken on the CPU only, and {side.facts.name} runs on {side.found.request.device}"
    if side.found.runtime == TORCH and side.facts.ran is not Precision.FP32:
        return f"PyTorch's own {side.facts.ran} is in no graph; compare {side.facts.name} in fp32, or an exported file"
    return ""


def _watched(side: OpenSide, folder: Path) -> WatchedRun:
    """The side's graph and what computes it as the side does; an export of a network of PyTorch passes `folder`."""
    if side.found.runtime == TORCH:
        from sr_edge.bench.torch_side import export_side

        return WatchedRun(read_onnx(export_side(side.found.request, folder)), run_onnxruntime)
    model = read_onnx(side.found.request.artifact)
    if side.found.runtime == "onnxruntime":
        return WatchedRun(model, run_onnxruntime)
    if side.found.runtime == REAL_FLOAT16:
        return WatchedRun(model, lambda graph, feed: run_float16(graph, feed).outputs)
    from sr_edge.runtimes.openvino_watch import run_outputs

    return WatchedRun(model, lambda graph, feed: run_outputs(graph.SerializeToString(), feed, side.facts.rest_ran))


def _tolerance(first: OpenSide, second: OpenSide) -> float:
    requests = (first.found.request, second.found.request)
    return max(TOLERANCES[kind] for request in requests for kind in (request.precision, request.float_precision))
