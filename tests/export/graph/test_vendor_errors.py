"""A network that torch cannot export is one short line, and nothing of the exporter's graph is printed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import sr_edge
from sr_edge.errors import ExportError, TileError
from sr_edge.export.graph.vendor_errors import MAX_REASON_LENGTH, exporter_reason
from sr_edge.export.passes.native_output import captured_native_output
from sr_edge.export.passes.tracing import OPSET, trace
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.export.odd_networks import (
    BrokenNetwork,
    CustomFunctionNetwork,
    DynamicKernelNetwork,
    FourierNetwork,
    Nested,
    PoolingNetwork,
)

FAILING: dict[type[nn.Module], tuple[str, ...]] = {  # network: what its reason must tell
    PoolingNetwork: ("adaptive_max_pool2d", "in body.0 (PoolingNetwork)"),
    CustomFunctionNetwork: ("fft_fft2",),
    FourierNetwork: ("fft_fft2", "in body.0 (FourierNetwork)"),
    DynamicKernelNetwork: ("kernel of unknown shape", "in body.0 (DynamicKernelNetwork)"),
    BrokenNetwork: ("KeyError", "no such window"),
}


@pytest.mark.parametrize("network", FAILING, ids=lambda network: network.__name__)
def test_a_failed_export_is_one_line_that_names_operator_and_module(
    network: type[nn.Module], tile: TileSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    with raises(ExportError, wanted=OPSET) as caught:
        trace(Nested(network()), tile)
    reason = caught.value.found
    assert isinstance(reason, str) and len(reason) <= MAX_REASON_LENGTH
    assert "%" not in reason
    for word in FAILING[network]:
        assert word in reason
    assert reason in caught.value.problem and len(str(caught.value)) < MAX_REASON_LENGTH + 150
    assert caught.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")


def test_our_own_errors_and_a_lack_of_memory_stay_what_they_are(tile: TileSpec) -> None:
    for error in (TileError("not that tile"), MemoryError()):

        class Refusing(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                raise error  # noqa: B023  # called before the next error

        with pytest.raises(type(error)):
            trace(Refusing(), tile)


@pytest.mark.parametrize("text", ["", "graph(%0 : Float(1)):\n  return (%0)", "a" * 500, "one\ntwo"])
def test_a_reason_is_one_short_line_and_never_empty(text: str) -> None:
    for error in (RuntimeError(text), ValueError(text)):
        reason = exporter_reason(error, printed="")
        assert 0 < len(reason) <= MAX_REASON_LENGTH
        assert "\n" not in reason and "graph(" not in reason


def test_what_c_code_has_buffered_is_captured_and_the_rest_is_not(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(1, b"before ")
    with captured_native_output() as output:
        os.write(1, b"out ")
        os.write(2, b"err")
    os.write(1, b"after")
    assert output.text == "out err"
    assert capfd.readouterr() == ("before after", "")


def test_it_works_where_stdout_is_closed() -> None:
    code = (
        "import os; os.close(1)\n"
        "from sr_edge.export.passes.native_output import captured_native_output\n"
        "with captured_native_output() as output: os.write(2, b'x')\n"
        "assert output.text == 'x'"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(sr_edge.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
