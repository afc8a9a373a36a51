from __future__ import annotations

import os

import onnx
import onnxsim  # type: ignore[import-untyped]
import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.expected_errors import raises


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_shape_arithmetic_is_folded_away_and_a_second_run_changes_nothing(
    attention_net: nn.Module, attention_graph: onnx.ModelProto, tile: TileSpec
) -> None:
    assert "Shape" in operators(trace(attention_net, tile))
    assert "Shape" not in operators(attention_graph)
    assert operators(simplify(attention_graph).model) == operators(attention_graph)


def test_pixel_shuffle_is_one_depth_to_space(shuffle_graph: onnx.ModelProto) -> None:
    (shuffle,) = [node for node in shuffle_graph.graph.node if node.op_type == "DepthToSpace"]
    settings = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in shuffle.attribute}
    assert settings == {"blocksize": 2, "mode": b"CRD"}
    assert operators(shuffle_graph) == ["Conv", "Relu", "Conv", "DepthToSpace"]


def test_casts_of_a_half_graph_survive(attention_graph: onnx.ModelProto) -> None:
    half = to_fp16(attention_graph).model
    assert operators(simplify(half).model).count("Cast") == operators(half).count("Cast") > 0


def test_the_native_chatter_of_onnxsim_is_muted_and_ours_is_not(
    shuffle_graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def chatter(model: onnx.ModelProto, check_n: int) -> tuple[onnx.ModelProto, bool]:
        os.write(2, b"WARNING: failed to run an op, skip...")
        return model, True

    monkeypatch.setattr(onnxsim, "simplify", chatter)
    simplify(shuffle_graph)
    os.write(2, b"after")
    assert capfd.readouterr() == ("", "after")


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fft(x).real


def test_a_network_without_onnx_form_is_refused(tile: TileSpec) -> None:
    with raises(ExportError, wanted=17) as caught:
        trace(Complex(), tile)
    assert "fft" in str(caught.value.found)


def test_names_and_opset_of_a_trace(shuffle_net: nn.Module, tile: TileSpec) -> None:
    model = trace(shuffle_net, tile)
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["input", "output"]
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert {"first.weight", "last.bias"} <= {tensor.name for tensor in model.graph.initializer}
