"""TensorRT for RTX, from the package index."""

from __future__ import annotations

from sr_edge.runtimes.tensorrt_api import Flavour, load_library
from sr_edge.runtimes.tensorrt_runtime import TensorRtRuntime

_RUNTIME = TensorRtRuntime(load_library(Flavour.RTX))

availability = _RUNTIME.availability
obstacle = _RUNTIME.obstacle
choose_artifact = _RUNTIME.choose_artifact
open_request = _RUNTIME.open_request
