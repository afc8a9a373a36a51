"""Compares the layers of two models, and finds the first whose difference exceeds the tolerance.

The modules of a PyTorch network are not the nodes of a graph. Such a model is exported to a temporary folder, and
onnxruntime computes the graph; the export fails if its output differs from that of the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sr_edge.bench.compare.compared_models import OpenModel
from sr_edge.bench.compare.model_spec import REAL_FLOAT16, TORCH
from sr_edge.bench.protocol import no_progress
from sr_edge.errors import ExportError
from sr_edge.export.checks.float16 import run_float16
from sr_edge.export.checks.layer_diff import InstrumentedModel, LayerDifference, compare_layers
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.view import read_onnx
from sr_edge.files.unfinished import temporary_folder
from sr_edge.spec import Precision, StageProgress

TOLERANCES: Mapping[Precision, float] = {
    Precision.FP32: 1e-3,
    Precision.FP16: 1e-2,
    Precision.BF16: 5e-2,
    Precision.INT8: 2e-1,
}
"""Largest relative errors that rounding explains, by the lowest precision of the two models."""

_RUNTIMES_WITH_INNER_TENSORS = ("onnxruntime", "openvino", REAL_FLOAT16, TORCH)


@dataclass(frozen=True)
class LayerReport:
    """The differences of the layers that both graphs have, on one patch.

    Attributes:
        reason: why the layers were not compared; empty if they were.
        tolerance: the relative error above which a layer differs.
        first_apart: the first layer with a larger relative error; None without any.
        layers: all compared layers, in the order of the graph.
        left_out: number of layers of the reference that were not compared, by reason.
        exported: names of the PyTorch networks, whose layers are those of an export that onnxruntime computed.
    """

    reason: str = ""
    tolerance: float = 0.0
    first_apart: LayerDifference | None = None
    layers: tuple[LayerDifference, ...] = ()
    left_out: Mapping[str, int] | None = None
    exported: tuple[str, ...] = ()


def no_layers(reason: str) -> LayerReport:
    """The report on two models whose layers were not compared."""
    return LayerReport(reason=reason)


def report_layers(
    reference: OpenModel,
    candidate: OpenModel,
    patch: npt.NDArray[np.float32],
    tolerance: float | None = None,
    progress: StageProgress = no_progress,
) -> LayerReport:
    """Compares the layers of two models on one patch; where that is not possible, the report has the reason.

    Args:
        reference: the model that errors are relative to.
        candidate: the model to compare.
        patch: float32 (1, channels, height, width) in [0, 1].
        tolerance: the relative error above which a layer differs; None takes it from TOLERANCES.
        progress: called with (stage, steps done, steps in all).
    """
    for model in (reference, candidate):
        obstacle = _obstacle(model)
        if obstacle:
            return no_layers(obstacle)
    max_error = _tolerance(reference, candidate) if tolerance is None else tolerance
    controls = (reference.controls, candidate.controls)
    progress("comparing layers", 0, 1)
    try:
        with temporary_folder("layers") as folder:
            instrumented = (_instrumented(reference, folder), _instrumented(candidate, folder))
        comparison = compare_layers(*instrumented, patch, max_error, controls)
    except ExportError as error:
        return no_layers(str(error))
    progress("comparing layers", 1, 1)
    exported = tuple(model.properties.name for model in (reference, candidate) if model.resolved.runtime == TORCH)
    return LayerReport("", max_error, comparison.first_apart, comparison.layers, comparison.left_out, exported)


def _obstacle(compared: OpenModel) -> str:
    if compared.resolved.runtime not in _RUNTIMES_WITH_INNER_TENSORS:
        return (
            f"{compared.resolved.runtime} does not return inner tensors; choose one of "
            f"{', '.join(_RUNTIMES_WITH_INNER_TENSORS)} to compare layers"
        )
    if compared.resolved.request.device != "cpu":
        return (
            f"inner tensors are computed on the CPU only, and {compared.properties.name} runs on "
            f"{compared.resolved.request.device}"
        )
    if compared.resolved.runtime == TORCH and compared.properties.ran is not Precision.FP32:
        return (
            f"a graph does not reproduce {compared.properties.ran} in PyTorch; compare "
            f"{compared.properties.name} in fp32, or an exported file"
        )
    return ""


def _instrumented(compared: OpenModel, folder: Path) -> InstrumentedModel:
    """A model's graph, and a function that computes it in the same way; a PyTorch network is exported to `folder`."""
    if compared.resolved.runtime == TORCH:
        from sr_edge.bench.compare.torch_model import export_torch_model

        return InstrumentedModel(read_onnx(export_torch_model(compared.resolved.request, folder)), run_onnxruntime)
    model = read_onnx(compared.resolved.request.artifact)
    if compared.resolved.runtime == "onnxruntime":
        return InstrumentedModel(model, run_onnxruntime)
    if compared.resolved.runtime == REAL_FLOAT16:
        return InstrumentedModel(model, lambda graph, feed: run_float16(graph, feed).outputs)
    from sr_edge.runtimes.openvino.inner_outputs import run_outputs

    return InstrumentedModel(
        model, lambda graph, feed: run_outputs(graph.SerializeToString(), feed, compared.properties.float_precision_ran)
    )


def _tolerance(reference: OpenModel, candidate: OpenModel) -> float:
    requests = (reference.resolved.request, candidate.resolved.request)
    return max(TOLERANCES[kind] for request in requests for kind in (request.precision, request.inference_precision))
