"""From a PyTorch network to an ONNX file: static twins, checks, half precision, uint8 frames.

Names load on first use: the passes over ONNX graphs, which calibration needs, work without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.export.checks.findings import Finding, Severity
    from sr_edge.export.checks.float16 import Float16Check, Float16Run, check_float16, run_float16
    from sr_edge.export.checks.parity import Parity, compare_with_network
    from sr_edge.export.checks.rules import check_graph, require_deployable
    from sr_edge.export.checks.targets import TARGET_NAMES
    from sr_edge.export.derived import accelerate_onnx, derive_onnx
    from sr_edge.export.export import ExportReport, export_onnx
    from sr_edge.export.form_choice import export_best_form
    from sr_edge.export.graph.digest import graph_digest
    from sr_edge.export.graph.metadata import Form, GraphMetadata, read_metadata
    from sr_edge.export.passes.fp16 import to_fp16
    from sr_edge.export.passes.pass_result import PassResult
    from sr_edge.export.passes.uint8_io import wrap_uint8
    from sr_edge.export.twins.registry import REWRITES, to_static

_HOMES = {
    "ExportReport": "sr_edge.export.export",
    "Finding": "sr_edge.export.checks.findings",
    "Float16Check": "sr_edge.export.checks.float16",
    "Float16Run": "sr_edge.export.checks.float16",
    "Form": "sr_edge.export.graph.metadata",
    "GraphMetadata": "sr_edge.export.graph.metadata",
    "Parity": "sr_edge.export.checks.parity",
    "PassResult": "sr_edge.export.passes.pass_result",
    "REWRITES": "sr_edge.export.twins.registry",
    "Severity": "sr_edge.export.checks.findings",
    "TARGET_NAMES": "sr_edge.export.checks.targets",
    "accelerate_onnx": "sr_edge.export.derived",
    "check_float16": "sr_edge.export.checks.float16",
    "check_graph": "sr_edge.export.checks.rules",
    "compare_with_network": "sr_edge.export.checks.parity",
    "derive_onnx": "sr_edge.export.derived",
    "export_best_form": "sr_edge.export.form_choice",
    "export_onnx": "sr_edge.export.export",
    "graph_digest": "sr_edge.export.graph.digest",
    "read_metadata": "sr_edge.export.graph.metadata",
    "require_deployable": "sr_edge.export.checks.rules",
    "run_float16": "sr_edge.export.checks.float16",
    "to_fp16": "sr_edge.export.passes.fp16",
    "to_static": "sr_edge.export.twins.registry",
    "wrap_uint8": "sr_edge.export.passes.uint8_io",
}

__all__ = [
    "REWRITES",
    "TARGET_NAMES",
    "ExportReport",
    "Finding",
    "Float16Check",
    "Float16Run",
    "Form",
    "GraphMetadata",
    "Parity",
    "PassResult",
    "Severity",
    "accelerate_onnx",
    "check_float16",
    "check_graph",
    "compare_with_network",
    "derive_onnx",
    "export_best_form",
    "export_onnx",
    "graph_digest",
    "read_metadata",
    "require_deployable",
    "run_float16",
    "to_fp16",
    "to_static",
    "wrap_uint8",
]

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
