"""Builds engines for the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sr_edge.runtimes.tensorrt.api import TensorRTLibrary
from sr_edge.runtimes.tensorrt.builder import BuiltEngine, build_engine
from sr_edge.runtimes.tensorrt.options import BuildOptions
from sr_edge.spec import Precision

FP32, BF16, FP16, INT8 = Precision
SM86 = "8.6"


def built(library: TensorRTLibrary, graph: Path, precision: Precision = FP32, **choices: Any) -> BuiltEngine:
    return build_engine(library, graph, BuildOptions(precision=precision, compute_capability=SM86, **choices))
