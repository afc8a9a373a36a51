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


PASSES = ("graph", "fp16", "frame_io", "checks.rules", "metadata", "onnx_run", "digest")
HAND_OVERS = ("checks.targets", "served_graph", "serving", "triton", "trtexec")


@pytest.mark.parametrize("modules", [PASSES, HAND_OVERS])
def test_what_calibration_and_devices_use_needs_no_torch(modules: tuple[str, ...]) -> None:
    names = ", ".join(f"sr_edge.export.{name}" for name in modules)
    code = f"import sys; import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
