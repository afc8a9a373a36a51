"""Which runtimes work on this machine, and on which of its devices; tests of the others are skipped by name."""

from __future__ import annotations

import pytest

from sr_edge.errors import RuntimeUnavailable
from sr_edge.runtimes import availability, describe_machine
from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary, load_library


def require_runtime(name: str) -> None:
    """Skips unless the runtime's library and a device for it are here."""
    reported = availability(name)
    if not reported.works:
        pytest.skip(f"{name}: {reported.reason}")


def require_exact_int8() -> None:
    """Skips where the INT8 kernels for this CPU saturate, so that their results are not those that a graph defines."""
    if describe_machine().saturates_int8:
        pytest.skip("this CPU has no VNNI: the INT8 kernels of OpenVINO and ONNX Runtime saturate at 16 bits")


def home_device(runtime: str) -> str:
    """The device that a runtime always has where it works."""
    return "cuda" if runtime.startswith("tensorrt") else "cpu"


def require_compiler() -> TensorRTLibrary:
    """TensorRT-RTX, which builds engines without a GPU; skips where it is absent or cannot be loaded."""
    try:
        return load_library(Flavour.RTX)
    except (ImportError, RuntimeUnavailable) as error:
        pytest.skip(f"tensorrt-rtx: {error}")
