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

from sr_edge.bench.protocol import StageProgress, no_progress
from sr_edge.bench.side_names import REAL_FLOAT16, TORCH
from sr_edge.bench.sides import OpenModel
from sr_edge.errors import ExportError
from sr_edge.export.checks.float16 import run_float16
from sr_edge.export.graph import read_onnx
from sr_edge.export.layers import InstrumentedModel, LayerDifference, compare_layers
from sr_edge.export.onnx_run import run_onnxruntime
from sr_edge.spec import Precision

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: 1e-3,
    Precision.FP16: 1e-2,
    Precision.BF16: 5e-2,
    Precision.INT8: 2e-1,
}
"""Relative errors that rounding explains, by the coarsest precision of the two sides: above, a layer is apart."""

_RUNTIMES_WITH_INNER_TENSORS = ("onnxruntime", "openvino", REAL_FLOAT16, TORCH)


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
    reference: OpenModel,
    candidate: OpenModel,
    patch: npt.NDArray[np.float32],
    tolerance: float | None = None,
    progress: StageProgress = no_progress,
) -> LayerReport:
    """Compares the layers of two sides on one patch; a pair that cannot be compared gets the reason.

    Args:
        reference, candidate: open sides; the first is the measure of relative errors.
        patch: float32 (1, 3, height, width) in [0, 1].
        tolerance: the relative error above which a layer is apart; None takes it from TOLERANCES.
        progress: called with (stage, steps done, steps in all).
    """
    for compared in (reference, candidate):
        obstacle = _obstacle(compared)
        if obstacle:
            return no_layers(obstacle)
    allowed = _tolerance(reference, candidate) if tolerance is None else tolerance
    controls = (reference.controls, candidate.controls)
    progress("comparing layers", 0, 1)
    try:
        with tempfile.TemporaryDirectory(prefix="sr-edge-layers-") as folder:
            instrumented = (_instrumented(reference, Path(folder)), _instrumented(candidate, Path(folder)))
        resolved = compare_layers(*instrumented, patch, allowed, controls)
    except ExportError as error:
        return no_layers(str(error))
    progress("comparing layers", 1, 1)
    exported = tuple(
        compared.properties.name for compared in (reference, candidate) if compared.resolved.runtime == TORCH
    )
    return LayerReport("", allowed, resolved.first_apart, resolved.layers, resolved.left_out, exported)


def _obstacle(compared: OpenModel) -> str:
    if compared.resolved.runtime not in _RUNTIMES_WITH_INNER_TENSORS:
        return (
            f"{compared.resolved.runtime} gives no inner tensors; name one of "
            f"{', '.join(_RUNTIMES_WITH_INNER_TENSORS)} to compare layers"
        )
    if compared.resolved.request.device != "cpu":
        return (
            f"inner tensors are taken on the CPU only, and {compared.properties.name} runs on "
            f"{compared.resolved.request.device}"
        )
    if compared.resolved.runtime == TORCH and compared.properties.ran is not Precision.FP32:
        return (
            f"PyTorch's own {compared.properties.ran} is in no graph; compare "
            f"{compared.properties.name} in fp32, or an exported file"
        )
    return ""


def _instrumented(compared: OpenModel, folder: Path) -> InstrumentedModel:
    """The side's graph and what computes it as the side does; an export of a network of PyTorch passes `folder`."""
    if compared.resolved.runtime == TORCH:
        from sr_edge.bench.torch_side import export_torch_model

        return InstrumentedModel(read_onnx(export_torch_model(compared.resolved.request, folder)), run_onnxruntime)
    model = read_onnx(compared.resolved.request.artifact)
    if compared.resolved.runtime == "onnxruntime":
        return InstrumentedModel(model, run_onnxruntime)
    if compared.resolved.runtime == REAL_FLOAT16:
        return InstrumentedModel(model, lambda graph, feed: run_float16(graph, feed).outputs)
    from sr_edge.runtimes.openvino_watch import run_outputs

    return InstrumentedModel(
        model, lambda graph, feed: run_outputs(graph.SerializeToString(), feed, compared.properties.float_precision_ran)
    )


def _tolerance(reference: OpenModel, candidate: OpenModel) -> float:
    requests = (reference.resolved.request, candidate.resolved.request)
    return max(TOLERANCES[kind] for request in requests for kind in (request.precision, request.inference_precision))
