"""GELU leaves export in a form that runtimes fuse into one kernel."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
import pytest
import torch
from torch import nn

from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.export.twins.feed_forward import HalvedGelu
from sr_edge.export.twins.registry import to_static
from sr_edge.models.registry import build_network, find_architecture, model_names
from sr_edge.spec import TileSpec


def test_gelu_is_torchs_and_survives_in_front_of_a_convolution() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64)
    assert (HalvedGelu()(x) - nn.GELU()(x)).abs().max() <= 1e-15
    layers = nn.Sequential(nn.Conv2d(3, 8, 1), HalvedGelu(), nn.Conv2d(8, 3, 1))
    graph = simplify(trace(layers, TileSpec(8, 8))).model.graph
    assert [node.op_type for node in graph.node if node.op_type == "Mul"] == ["Mul", "Mul"]


@pytest.mark.parametrize("name", [name for name in model_names() if name.endswith("-tiny")])
def test_onnxruntime_fuses_every_gelu_of_every_static_form(name: str, tmp_path: Path) -> None:
    size_px = max(8, find_architecture(name)[0].multiple_px)
    graph = simplify(trace(to_static(build_network(name, 2), size_px, size_px), TileSpec(size_px, size_px))).model
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3  # it warns that such a file suits this machine only
    ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(tmp_path / "optimized.onnx").graph.node
    erfs = [node for node in graph.graph.node if node.op_type == "Erf"]
    assert len([node for node in optimized if node.op_type == "Gelu"]) == len(erfs)
