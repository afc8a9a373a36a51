"""A graph for every rule that one TensorRT release breaks, and one beside it that passes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sr_edge.errors import ExportError, UnknownNameError
from sr_edge.export.graph import view_graph
from sr_edge.export.tensorrt_releases import TENSORRT_RELEASES, find_release
from sr_edge.export.tensorrt_rules import RULES, check_for_tensorrt, require_for_tensorrt

NAMES = [release.name for release in TENSORRT_RELEASES]
OLDEST, NEWEST = NAMES[0], NAMES[-1]
NINE = "1,1,1,1,1,1,1,2,3"


def graph(text: str, opset: int = 17) -> onnx.ModelProto:
    """A model of one graph in ONNX's text form."""
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> g {text}')


REFUSED = {  # name: operator, part of the reason, graph; refused by every release
    "operator": (
        "DynamicQuantizeLinear",
        "no such operator",
        "(float[2] a) => (uint8[2] y, float s, uint8 z) { y, s, z = DynamicQuantizeLinear(a) }",
    ),
    "double": ("Cast", "'y' is double", "(float[2] a) => (double[2] y) { y = Cast<to = 11>(a) }"),
    "integer matmul": (
        "MatMul",
        "'a' is int32",
        "(int32[2,3] a, int32[3,4] b) => (int32[2,4] y) { y = MatMul(a, b) }",
    ),
    "where": (
        "Where",
        "'a' is uint8",
        "(bool[2] c, uint8[2] a, uint8[2] b) => (uint8[2] y) { y = Where(c, a, b) }",
    ),
    "inner uint8": (
        "Cast",
        "only as an input or output",
        "(float[2] a) => (float[2] y) { b = Cast<to = 2>(a) y = Cast<to = 1>(b) }",
    ),
    "zero point": (
        "QuantizeLinear",
        "zero point other than 0",
        "(float[2] a) => (float[2] y) <float s = {0.5}, int8 z = {3}> "
        "{ b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z) }",
    ),
    "u8 spelling": (
        "QuantizeLinear",
        "zero point other than 0",
        "(float[2] a) => (float[2] y) <float s = {0.5}, uint8 z = {128}> "
        "{ b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z) }",
    ),
    "int32 bias": (
        "DequantizeLinear",
        "int32 bias",
        "(float[2] a) => (float[2] y) <int32[2] b = {1, 2}, float s = {0.5}> "
        "{ c = DequantizeLinear(b, s) y = Add(a, c) }",
    ),
    "mixed floats": (
        "Pow",
        "mixes fp16 and fp32",
        "(float16[2] a) => (float16[2] y) <float two = {2.0}> { y = Pow(a, two) }",
    ),
    "rank": ("Relu", "9 dimensions", f"(float[{NINE}] a) => (float[{NINE}] y) {{ y = Relu(a) }}"),
    "elements": (
        "Relu",
        "2,147,483,648 elements",
        "(float[2048,1024,1024] a) => (float[2048,1024,1024] y) { y = Relu(a) }",
    ),
    "top k": (
        "TopK",
        "k = 3840",
        "(float[5000] a) => (float[3840] y, int64[3840] i) <int64[1] k = {3840}> { y, i = TopK(a, k) }",
    ),
    "unsorted": (
        "TopK",
        "sorted values only",
        "(float[50] a) => (float[5] y, int64[5] i) <int64[1] k = {5}> { y, i = TopK<sorted = 0>(a, k) }",
    ),
    "axes": (
        "ReduceSum",
        "wants a constant",
        "(float[2,3] a, int64[1] axis) => (float[m,n] y) { y = ReduceSum(a, axis) }",
    ),
    "antialias": (
        "Resize",
        "antialias",
        "(float[1,3,8,8] a) => (float[1,3,4,4] y) <float[4] s = {1,1,0.5,0.5}> "
        '{ y = Resize<mode = "linear", antialias = 1>(a, , s) }',
    ),
    "resize way": (
        "Resize",
        "tf_crop_and_resize",
        "(float[1,3,8,8] a) => (float[1,3,4,4] y) <float[8] r = {0,0,0,0,1,1,1,1}, float[4] s = {1,1,0.5,0.5}> "
        '{ y = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">(a, r, s) }',
    ),
    "pooling sides": (
        "MaxPool",
        "pools 1 sides",
        "(float[1,3,8] a) => (float[1,3,7] y) { y = MaxPool<kernel_shape = [2]>(a) }",
    ),
    "dilated pooling": (
        "MaxPool",
        "dilated",
        "(float[1,3,8,8] a) => (float[1,3,6,6] y) { y = MaxPool<kernel_shape = [2,2], dilations = [2,2]>(a) }",
    ),
    "pooling indices": (
        "MaxPool",
        "no indices",
        "(float[1,3,8,8] a) => (float[1,3,7,7] y, int64[1,3,7,7] i) { y, i = MaxPool<kernel_shape = [2,2]>(a) }",
    ),
    "statistics": (
        "LayerNormalization",
        "first output",
        "(float[2,3] a) => (float[2,3] y, float[2,1] m) <float[3] s = {1,1,1}> { y, m = LayerNormalization(a, s) }",
    ),
    "scatter": (
        "ScatterND",
        "without a reduction",
        '(float[4] a, float[1] u) => (float[4] y) <int64[1,1] i = {2}> { y = ScatterND<reduction = "add">(a, i, u) }',
    ),
}

NEEDS_OPSET = {"antialias": 18}

LATER = {  # operator: the newest release of the table that refuses it, opset, part of the reason, graph
    "BlackmanWindow": ("tensorrt-10.3", 17, "no such", "(int64 n) => (float[m] y) { y = BlackmanWindow(n) }"),
    "Unsqueeze": (
        "tensorrt-10.3",
        17,
        "wants a constant",
        "(float[2] a, int64[1] axis) => (float[m,n] y) { y = Unsqueeze(a, axis) }",
    ),
    "Pad": (
        "tensorrt-10.3",
        18,
        "takes no axes",
        "(float[1,4] a) => (float[1,6] y) <int64[2] p = {1,1}, int64[1] x = {1}> { y = Pad(a, p, , x) }",
    ),
    "Einsum": (
        "tensorrt-10.3",
        17,
        "no ellipsis",
        '(float[2,3] a, float[2,3] b) => (float[2] y) { y = Einsum<equation = "...i,...i->...">(a, b) }',
    ),
    "Pow": (
        "tensorrt-10.3",
        17,
        "float powers",
        "(int32[2] a) => (int32[2] y) <int32 two = {2}> { y = Pow(a, two) }",
    ),
    "RMSNormalization": (
        "tensorrt-10.13",
        23,
        "no such",
        "(float[2,3] a) => (float[2,3] y) <float[3] s = {1,1,1}> { y = RMSNormalization(a, s) }",
    ),
    "Swish": ("tensorrt-10.16", 24, "no such", "(float[2] a) => (float[2] y) { y = Swish(a) }"),
    "GridSample": (
        "tensorrt-11.0",
        20,
        "4 dimensions only",
        "(float[1,2,4,4,4] a, float[1,4,4,4,3] p) => (float[1,2,4,4,4] y) { y = GridSample(a, p) }",
    ),
    "model": ("tensorrt-10.3", 21, "opset 21", "(float[2] a) => (float[2] y) { y = Relu(a) }"),
}

TAKEN = (
    "(float[1,3,8,8] a) => (float[1,3,16,16] y) <float[4] s = {1,1,2,2}> "
    '{ y = Resize<mode = "cubic", coordinate_transformation_mode = "half_pixel">(a, , s) }',
    "(float[5000] a) => (float[3839] y, int64[3839] i) <int64[1] k = {3839}> { y, i = TopK(a, k) }",
    "(uint8[1,4,4,3] a) => (uint8[1,4,4,3] y) { b = Cast<to = 1>(a) y = Cast<to = 2>(b) }",
    "(float[2] a) => (float[2] y) <float s = {0.5}, int8 z = {0}> "
    "{ b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z) }",
    '(float[2,3] a, float[3,4] b) => (float[2,4] y) { y = Einsum<equation = "ij,jk->ik">(a, b) }',
    "(int64[9] a, bool[9] c) => (int64[9] y) <int64[9] b = {0,1,2,3,4,5,6,7,8}> { y = Where(c, a, b) }",
)


@pytest.mark.parametrize("release", NAMES)
@pytest.mark.parametrize("name", REFUSED)
def test_what_no_release_takes_is_found_at_its_node(name: str, release: str) -> None:
    operator, reason, text = REFUSED[name]
    findings = check_for_tensorrt(graph(text, NEEDS_OPSET.get(name, 17)), release)
    found = [finding for finding in findings if finding.op == operator and reason in finding.why]
    assert found, findings
    assert all(finding.node and finding.remedy for finding in findings)


@pytest.mark.parametrize("operator", LATER)
def test_what_came_later_is_refused_before_and_taken_after(operator: str) -> None:
    last_refusal, opset, reason, text = LATER[operator]
    model = graph(text, opset)
    refused = NAMES[: NAMES.index(last_refusal) + 1]
    for name in NAMES:
        about = [finding for finding in check_for_tensorrt(model, name) if finding.op == operator]
        assert any(reason in finding.why for finding in about) == (name in refused), (name, about)


@pytest.mark.parametrize("release", NAMES)
@pytest.mark.parametrize("text", TAKEN)
def test_what_every_release_takes_has_no_findings(text: str, release: str) -> None:
    assert check_for_tensorrt(graph(text), release) == ()


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    models = [graph(text, NEEDS_OPSET.get(name, 17)) for name, (_, _, text) in REFUSED.items()]
    models += [graph(text, opset) for _, opset, _, text in LATER.values()]

    views = [view_graph(model) for model in models]
    idle = [rule.__name__ for rule in RULES if not any(list(rule(view, find_release(OLDEST))) for view in views)]
    assert idle == []


def test_a_plugin_of_another_domain_is_named() -> None:
    model = graph("(float[2] a) => (float[2] y) { y = Relu(a) }")
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2]))
    (finding,) = check_for_tensorrt(model, NEWEST)
    assert "com.example" in finding.why


def test_the_error_names_release_node_reason_and_remedy() -> None:
    text = REFUSED["top k"][2]
    with pytest.raises(ExportError, match=r"TensorRT 10\.3 would refuse the graph: TopK 'TopK#0': k = 3840.*counting"):
        require_for_tensorrt(graph(text), OLDEST)
    require_for_tensorrt(graph(TAKEN[0]), OLDEST)


def test_an_existing_file_is_checked_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    onnx.save(graph(TAKEN[0]), path)
    before = path.read_bytes()
    assert check_for_tensorrt(path, NEWEST) == ()
    assert path.read_bytes() == before


def test_an_unknown_release_names_those_of_the_table() -> None:
    with pytest.raises(UnknownNameError, match=r"tensorrt-10\.3, tensorrt-10\.13, .*tensorrt-11\.4"):
        check_for_tensorrt(graph(TAKEN[0]), "tensorrt-8.6")
