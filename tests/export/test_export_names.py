"""The public names of sr_edge.export: exact, sorted, and light until used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import sr_edge.export


def test_every_public_name_loads_and_no_other() -> None:
    assert dir(sr_edge.export) == sorted(sr_edge.export.__all__)
    for name in sr_edge.export.__all__:
        assert getattr(sr_edge.export, name) is not None
    assert not hasattr(sr_edge.export, "nothing")


GRAPH_MODULES = (
    "sr_edge.export.graph.view",
    "sr_edge.export.passes.fp16",
    "sr_edge.export.passes.uint8_io",
    "sr_edge.export.passes.nv12_io",
    "sr_edge.export.checks.rules",
    "sr_edge.export.graph.metadata",
    "sr_edge.export.graph.onnxruntime_run",
    "sr_edge.export.graph.digest",
)
SERVING_MODULES = (
    "sr_edge.export.checks.targets",
    "sr_edge.serving.served_graph",
    "sr_edge.serving.layout",
    "sr_edge.serving.triton",
    "sr_edge.serving.trtexec",
)


@pytest.mark.parametrize("modules", [GRAPH_MODULES, SERVING_MODULES])
def test_what_calibration_and_devices_use_needs_no_torch(modules: tuple[str, ...]) -> None:
    code = f"import sys; import {', '.join(modules)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
