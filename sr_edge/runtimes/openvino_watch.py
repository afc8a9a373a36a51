"""Inner tensors of a graph as OpenVINO computes them: the graph's outputs, whatever they are, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from sr_edge.runtimes.openvino import precision_hint, shared_core
from sr_edge.runtimes.vendor_errors import vendor_errors
from sr_edge.spec import Precision


def run_outputs(
    graph: bytes, feed: Mapping[str, npt.NDArray[Any]], inference_precision: Precision
) -> dict[str, npt.NDArray[Any]]:
    """All outputs by name of an ONNX graph, its float layers in `inference_precision`.

    A tensor that must be given out cannot be fused away: an engine with many outputs computes what the engine of
    the plain graph computes, but not always by the same kernels.

    Raises:
        EngineError: OpenVINO refuses the graph or cannot run it.
    """
    core = shared_core()
    with vendor_errors("OpenVINO cannot compute the inner tensors of the graph", "compare in onnxruntime instead"):
        compiled = core.compile_model(
            core.read_model(graph, b""), "CPU", {"INFERENCE_PRECISION_HINT": precision_hint(inference_precision)}
        )
        request = compiled.create_infer_request()
        request.infer(dict(feed))
        return {name: request.get_tensor(port).data.copy() for port in compiled.outputs for name in port.get_names()}
