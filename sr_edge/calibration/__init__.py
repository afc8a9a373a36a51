"""INT8: range search, layer selection within a loss budget, and Q/DQ graphs with INT8 or UINT8 activations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sr_edge.lazy_face import lazy_face

if TYPE_CHECKING:
    from sr_edge.calibration.calibrated_file import CalibratedFile, calibrate_file
    from sr_edge.calibration.config import CalibrationConfig
    from sr_edge.calibration.data.patch import HeldOut
    from sr_edge.calibration.data.patches import calibration_patches, held_out_pairs, held_out_patches
    from sr_edge.calibration.graph.load import graph_tile
    from sr_edge.calibration.graph.placement import Decision, PlacementPolicy
    from sr_edge.calibration.post_training import calibrate, quantize_onnx
    from sr_edge.calibration.ranges.observers import OBSERVERS, Observer, observer_named
    from sr_edge.calibration.result.cache import read_cache, write_cache
    from sr_edge.calibration.result.calibration import Calibration, Provenance, TensorRange
    from sr_edge.calibration.selection.gate import Budget
    from sr_edge.calibration.selection.pareto import write_curve
    from sr_edge.calibration.selection.report import CalibrationReport, LatencyMs, LayerRow
    from sr_edge.calibration.within_budget import calibrate_within

__all__ = [
    "OBSERVERS",
    "Budget",
    "CalibratedFile",
    "Calibration",
    "CalibrationConfig",
    "CalibrationReport",
    "Decision",
    "HeldOut",
    "LatencyMs",
    "LayerRow",
    "Observer",
    "PlacementPolicy",
    "Provenance",
    "TensorRange",
    "calibrate",
    "calibrate_file",
    "calibrate_within",
    "calibration_patches",
    "graph_tile",
    "held_out_pairs",
    "held_out_patches",
    "observer_named",
    "quantize_onnx",
    "read_cache",
    "write_cache",
    "write_curve",
]

_HOMES = {
    "Budget": "sr_edge.calibration.selection.gate",
    "CalibratedFile": "sr_edge.calibration.calibrated_file",
    "Calibration": "sr_edge.calibration.result.calibration",
    "CalibrationConfig": "sr_edge.calibration.config",
    "CalibrationReport": "sr_edge.calibration.selection.report",
    "Decision": "sr_edge.calibration.graph.placement",
    "HeldOut": "sr_edge.calibration.data.patch",
    "LatencyMs": "sr_edge.calibration.selection.report",
    "LayerRow": "sr_edge.calibration.selection.report",
    "OBSERVERS": "sr_edge.calibration.ranges.observers",
    "Observer": "sr_edge.calibration.ranges.observers",
    "PlacementPolicy": "sr_edge.calibration.graph.placement",
    "Provenance": "sr_edge.calibration.result.calibration",
    "TensorRange": "sr_edge.calibration.result.calibration",
    "calibrate": "sr_edge.calibration.post_training",
    "calibrate_file": "sr_edge.calibration.calibrated_file",
    "calibrate_within": "sr_edge.calibration.within_budget",
    "calibration_patches": "sr_edge.calibration.data.patches",
    "graph_tile": "sr_edge.calibration.graph.load",
    "held_out_pairs": "sr_edge.calibration.data.patches",
    "held_out_patches": "sr_edge.calibration.data.patches",
    "observer_named": "sr_edge.calibration.ranges.observers",
    "quantize_onnx": "sr_edge.calibration.post_training",
    "read_cache": "sr_edge.calibration.result.cache",
    "write_cache": "sr_edge.calibration.result.cache",
    "write_curve": "sr_edge.calibration.selection.pareto",
}

__getattr__, __dir__ = lazy_face(__name__, _HOMES)
