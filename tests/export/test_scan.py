from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from torch import nn

from sr_edge.errors import ExportError
from sr_edge.export.scan import STATIC_RULES, read_onnx, require_static, scan_graph
from sr_edge.export.tracing import trace
from sr_edge.spec import TileSpec


def graph(text: str) -> onnx.ModelProto:
    """A model of one graph in ONNX's text form."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


BAD = {
    "Einsum": 'g (float[2,3] a, float[3,4] b) => (float[2,4] y) { y = Einsum<equation = "ij,jk->ik">(a, b) }',
    "CumSum": "g (float[2,3] a) => (float[2,3] y) <int64 axis = {1}> { y = CumSum(a, axis) }",
    "NonZero": "g (float[2,3] a) => (int64[2,n] y) { y = NonZero(a) }",
    "Unique": "g (float[6] a) => (float[n] y) { y = Unique(a) }",
    "If": """g (bool c, float[2] a) => (float[2] y) {
        y = If(c) <then_branch = t () => (float[2] r) { r = Neg(a) }, else_branch = e () => (float[2] s) { s = Abs(a) }>
    }""",
    "Shape": "g (float[2,3] a) => (int64[2] y) { y = Shape(a) }",
    "Range": "g (int64 n) => (int64[m] y) <int64 first = {0}, int64 step = {1}> { y = Range(first, n, step) }",
    "Reshape": "g (float[2,3] a, int64[1] size) => (float[n] y) { y = Reshape(a, size) }",
    "Resize": 'g (float[1,3,4,4] a, float[4] s) => (float[1,3,h,w] y) { y = Resize<mode = "nearest">(a, , s) }',
    "Transpose": "g (float[1,1,1,1,2,3] a) => (float[3,2,1,1,1,1] y) { y = Transpose(a) }",
    "QuantizeLinear": """g (float[2] a) => (uint8[2] y) <float s = {0.5}, uint8 z = {128}> {
        y = QuantizeLinear(a, s, z) }""",
    "DequantizeLinear": "g (float[2] a) => (float[2] y) <int32[2] b = {1, 2}, float s = {0.5}> "
    "{ c = DequantizeLinear(b, s) y = Add(a, c) }",
    "Pow": "g (float16[2] a) => (float16[2] y) <float two = {2.0}> { y = Pow(a, two) }",
    "TopK": "g (float[5000] a) => (float[4000] y, int64[4000] i) <int64[1] k = {4000}> { y, i = TopK(a, k) }",
    "Cast": "g (float[2] a) => (double[2] y) { y = Cast<to = 11>(a) }",
    "Bernoulli": "g (float[2] a) => (float[2] y) { y = Bernoulli(a) }",
    "DynamicQuantizeLinear": "g (float[2] a) => (uint8[2] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(a) }",
}


@pytest.mark.parametrize("operator", BAD)
def test_every_forbidden_thing_is_found_at_its_node(operator: str) -> None:
    findings = scan_graph(graph(BAD[operator]))
    assert operator in {finding.op for finding in findings}
    assert all(finding.why and finding.remedy and finding.node for finding in findings)


def test_a_sound_graph_has_no_findings(attention_graph: onnx.ModelProto) -> None:
    assert scan_graph(attention_graph) == ()


def test_shape_arithmetic_of_an_unsimplified_trace_is_found(attention_net: nn.Module, tile: TileSpec) -> None:
    found = {finding.op for finding in scan_graph(trace(attention_net, tile))}
    assert {"Shape", "Reshape", "Slice"} <= found


def test_a_free_dimension_is_found(shuffle_net: nn.Module, tile: TileSpec) -> None:
    findings = scan_graph(trace(shuffle_net, tile, dynamic=True))
    assert any(finding.node == "input" and "height" in finding.why for finding in findings)


def test_six_dimensions_are_too_many() -> None:
    assert [finding.why for finding in scan_graph(graph(BAD["Transpose"]))] == ["a tensor of rank 6 is above 5"]


def test_the_openvino_spelling_passes_the_static_rules() -> None:
    assert scan_graph(graph(BAD["QuantizeLinear"]), rules=STATIC_RULES) == ()


def test_require_static_names_node_reason_and_remedy() -> None:
    with pytest.raises(ExportError, match=r"Einsum 'Einsum#0'.*transposes.*write it as a matmul"):
        require_static(graph(BAD["Einsum"]))


def test_contradicting_shapes_are_refused() -> None:
    with pytest.raises(ExportError, match="contradict"):
        scan_graph(graph("g (float[2,3] a, float[4,5] b) => (float[2,5] y) { y = MatMul(a, b) }"))


def test_unreadable_files_are_refused(tmp_path: Path, shuffle_graph: onnx.ModelProto) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(shuffle_graph, whole)
    assert scan_graph(whole) == ()
    garbage, empty = tmp_path / "garbage.onnx", tmp_path / "empty.onnx"
    garbage.write_bytes(b"\xff" * 64)
    empty.write_bytes(b"")
    for path in (garbage, empty, tmp_path / "absent.onnx"):
        with pytest.raises(ExportError, match=path.name):
            read_onnx(path)
