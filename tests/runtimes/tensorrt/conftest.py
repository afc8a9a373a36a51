from __future__ import annotations

import pytest

from sr_edge.runtimes.tensorrt.api import Flavour, TensorRTLibrary, load_library


@pytest.fixture(scope="module")
def rtx() -> TensorRTLibrary:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed (extra rtx)", exc_type=ImportError)
    return load_library(Flavour.RTX)
