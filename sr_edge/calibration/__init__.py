"""INT8: ranges measured on pictures, a placement policy, and Q/DQ graphs in two spellings."""

from sr_edge.calibration.cache import read_cache, write_cache
from sr_edge.calibration.calibration import Calibration, Provenance, TensorRange
from sr_edge.calibration.graph import graph_tile
from sr_edge.calibration.observers import OBSERVERS, Observer, observer_named
from sr_edge.calibration.patches import calibration_patches
from sr_edge.calibration.placement import Decision, PlacementPolicy
from sr_edge.calibration.post_training import calibrate, quantize_onnx

__all__ = [
    "OBSERVERS",
    "Calibration",
    "Decision",
    "Observer",
    "PlacementPolicy",
    "Provenance",
    "TensorRange",
    "calibrate",
    "calibration_patches",
    "graph_tile",
    "observer_named",
    "quantize_onnx",
    "read_cache",
    "write_cache",
]
