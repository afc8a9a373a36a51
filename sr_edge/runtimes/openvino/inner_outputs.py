"""Computes the inner tensors of an instrumented graph, whose outputs they are, in OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from sr_edge.runtimes.engine.vendor_errors import vendor_errors
from sr_edge.runtimes.openvino.runtime import precision_hint, shared_core
from sr_edge.spec import Precision


def run_outputs(
    graph: bytes, feed: Mapping[str, npt.NDArray[Any]], inference_precision: Precision
) -> dict[str, npt.NDArray[Any]]:
    """Runs an ONNX graph once and returns all its outputs.

    A tensor that is an output cannot be fused away: an engine with many outputs computes the same values as the engine
    of the original graph, but not always by the same kernels.

    Args:
        graph: a serialized ONNX model.
        feed: the inputs by name.
        inference_precision: precision of the float layers.

    Returns:
        Copies of the outputs by name.

    Raises:
        EngineError: OpenVINO cannot compile or run the graph.
    """
    core = shared_core()
    with vendor_errors("OpenVINO cannot compute the inner tensors of the graph", "compare in onnxruntime instead"):
        compiled = core.compile_model(
            core.read_model(graph, b""), "CPU", {"INFERENCE_PRECISION_HINT": precision_hint(inference_precision)}
        )
        request = compiled.create_infer_request()
        request.infer(dict(feed))
        return {name: request.get_tensor(port).data.copy() for port in compiled.outputs for name in port.get_names()}
