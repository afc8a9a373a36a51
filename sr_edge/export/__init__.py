"""From a PyTorch network to an ONNX file: static twins, checks, half precision, uint8 frames.

Names load on first use: the passes over ONNX graphs, which calibration needs, work without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sr_edge.export.checks.findings import Finding, Severity
    from sr_edge.export.checks.float16 import Float16Check, Float16Run, check_float16, run_float16
    from sr_edge.export.checks.parity import Parity, compare_with_torch
    from sr_edge.export.checks.rules import check_graph, require_deployable
    from sr_edge.export.checks.targets import TARGET_NAMES
    from sr_edge.export.digest import graph_digest
    from sr_edge.export.form_choice import export_best_form
    from sr_edge.export.fp16 import to_fp16
    from sr_edge.export.frame_io import wrap_uint8
    from sr_edge.export.metadata import Form, GraphMetadata, read_metadata
    from sr_edge.export.onnx_file import ExportReport, derive_onnx, export_onnx
    from sr_edge.export.pass_result import PassResult
    from sr_edge.export.static import REWRITES, to_static
    from sr_edge.export.tile_choice import TileChoice, TileCost, candidate_tiles, choose_tile

_HOME = {
    "ExportReport": "onnx_file",
    "Finding": "checks.findings",
    "Float16Check": "checks.float16",
    "Float16Run": "checks.float16",
    "Form": "metadata",
    "GraphMetadata": "metadata",
    "Parity": "checks.parity",
    "PassResult": "pass_result",
    "REWRITES": "static",
    "Severity": "checks.findings",
    "TARGET_NAMES": "checks.targets",
    "TileChoice": "tile_choice",
    "TileCost": "tile_choice",
    "candidate_tiles": "tile_choice",
    "check_float16": "checks.float16",
    "check_graph": "checks.rules",
    "choose_tile": "tile_choice",
    "compare_with_torch": "checks.parity",
    "derive_onnx": "onnx_file",
    "export_best_form": "form_choice",
    "export_onnx": "onnx_file",
    "graph_digest": "digest",
    "read_metadata": "metadata",
    "require_deployable": "checks.rules",
    "run_float16": "checks.float16",
    "to_fp16": "fp16",
    "to_static": "static",
    "wrap_uint8": "frame_io",
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
    "TileChoice",
    "TileCost",
    "candidate_tiles",
    "check_float16",
    "check_graph",
    "choose_tile",
    "compare_with_torch",
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


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sr_edge.export' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sr_edge.export.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
