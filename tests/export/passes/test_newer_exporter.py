"""Networks that only torch's newer exporter expresses become graphs of opset 17 like all others.

Loading that exporter takes seconds, so that `make test-services` runs these tests.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export import Form, export_best_form, export_onnx
from sr_edge.export.graph.view import default_opset
from sr_edge.export.passes.newer_exporter import trace_by_newer_exporter
from sr_edge.export.passes.tracing import OPSET
from sr_edge.models import LoadedModel
from sr_edge.spec import ModelCard, TileSpec
from tests.expected_errors import raises
from tests.export.odd_networks import FoldingNetwork, HopelessNetwork, Upscaling, WindowSpectrumNetwork

pytestmark = pytest.mark.services

TILE = TileSpec(12, 16)


def loaded(network: type[nn.Module]) -> LoadedModel:
    torch.manual_seed(0)
    return LoadedModel(network().eval(), ModelCard(name="odd", scale=2, parameters=1))


@pytest.mark.parametrize("network", [WindowSpectrumNetwork, FoldingNetwork])
def test_what_the_older_exporter_cannot_express_is_exported(network: type[nn.Module], tmp_path: Path) -> None:
    targets = ("tensorrt-10.3", "tensorrt-rtx", "openvino", "onnxruntime")
    reports = [export_onnx(loaded(network), TILE, tmp_path / f"{name}.onnx", targets=targets) for name in "ab"]
    assert reports[0].metadata.form is Form.STATIC
    assert reports[0].parity.max_abs_error < 1e-5
    assert any("newer exporter" in remark for remark in reports[0].remarks)
    graph = onnx.load(reports[0].path)
    assert (default_opset(graph), graph.ir_version) == (OPSET, 8)
    assert {"DFT", "Col2Im"}.isdisjoint(node.op_type for node in graph.graph.node)
    assert reports[0].sha256 == reports[1].sha256


@pytest.mark.parametrize("export", [export_onnx, export_best_form])
def test_what_no_exporter_expresses_is_one_line_that_promises_no_other_form(
    export: Callable[..., object], tmp_path: Path
) -> None:
    with raises(ExportError, wanted=OPSET) as caught:  # and not NotStatic
        export(loaded(HopelessNetwork), TILE, tmp_path / "net.onnx")
    assert "\n" not in str(caught.value)
    assert "--form" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert list(tmp_path.iterdir()) == []


def test_a_graph_of_the_newer_exporter_has_the_same_border() -> None:
    graph = trace_by_newer_exporter(loaded(Upscaling).module, TILE).graph
    assert [value.name for value in (*graph.input, *graph.output)] == ["input", "output"]
