"""Rules about a graph in general and about ONNX Runtime and OpenVINO, and what a target asked for changes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from torch import nn

from sr_edge.errors import ExportError, NotDeployable, NotStatic, UnknownNameError
from sr_edge.export.checks.findings import Finding, Severity, summarize
from sr_edge.export.checks.rules import RULES, check_graph, require_deployable
from sr_edge.export.checks.targets import TARGET_NAMES, readers_of
from sr_edge.export.graph.view import read_onnx
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import ActivationType, TileSpec
from tests.expected_errors import raises
from tests.export.checks.cases import RELU, RTX_CASES, TENSORRT_CASES, einsum, graph, top_k

ERROR, WARNING = Severity.ERROR, Severity.WARNING

BRANCH = """(bool c, float[2] a) => (float[2] y) {
    y = If(c) <then_branch = t () => (float[2] r) { r = Neg(a) }, else_branch = e () => (float[2] s) { s = Abs(a) }>
}"""
FREE = "(float[1,3,h,w] a) => (float[1,3,h,w] y) { y = Relu(a) }"
TRANSPOSE_6 = "(float[1,1,1,1,2,3] a) => (float[3,2,1,1,1,1] y) { y = Transpose(a) }"
TRANSPOSE_5 = "(float[1,1,1,2,3] a) => (float[3,2,1,1,1] y) { y = Transpose(a) }"
CUM_SUM = "(float[2,3] a) => (float[2,3] y) <int64 axis = {1}> { y = CumSum(a, axis) }"
RESHAPE = "(float[2,3] a, int64[1] size) => (float[n] y) { y = Reshape(a, size) }"
CONSTANT_RESHAPE = "(float[2,3] a) => (float[6] y) <int64[1] size = {6}> { y = Reshape(a, size) }"

GENERAL = [  # rule, operator, its severity in a static, a traced and a dynamic graph, a graph, a near miss
    ("random operator", "Bernoulli", (ERROR, ERROR, ERROR), "(float[2] a) => (float[2] y) { y = Bernoulli(a) }", RELU),
    (
        "dropout in training",
        "Dropout",
        (ERROR, ERROR, ERROR),
        "(float[6] a) => (float[6] y) <float r = {0.5}, bool t = {1}> { y = Dropout(a, r, t) }",
        "(float[6] a) => (float[6] y) <float r = {0.5}, bool t = {0}> { y = Dropout(a, r, t) }",
    ),
    ("control flow", "If", (ERROR, WARNING, WARNING), BRANCH, RELU),
    (
        "data-dependent shape",
        "NonZero",
        (ERROR, WARNING, None),
        "(float[2,3] a) => (int64[2,n] y) { y = NonZero(a) }",
        "(float[2,3] a) => (int64[2] y) { y = Shape(a) }",
    ),
    ("unknown shape", "Reshape", (ERROR, WARNING, None), RESHAPE, CONSTANT_RESHAPE),
    ("computed size", "Reshape", (WARNING, WARNING, None), RESHAPE, CONSTANT_RESHAPE),
    ("computed size", "Shape", (WARNING, WARNING, None), "(float[2,3] a) => (int64[2] y) { y = Shape(a) }", RELU),
    ("high rank", "Transpose", (WARNING, WARNING, WARNING), TRANSPOSE_6, TRANSPOSE_5),
    (
        "einsum",
        "Einsum",
        (WARNING, WARNING, WARNING),
        einsum("ij,kj->ik", "2,2"),
        "(float[2,3] a, float[3,2] b) => (float[2,2] y) { y = MatMul(a, b) }",
    ),
    ("cumulative sum", "CumSum", (WARNING, WARNING, WARNING), CUM_SUM, RELU),
]


def of_rule(findings: tuple[Finding, ...], rule: str, op: str) -> list[Finding]:
    return [finding for finding in findings if (finding.rule, finding.op) == (rule, op)]


def with_free_input(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph beside an input of free height and width."""
    free = onnx.helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, [1, 3, "h", "w"])
    model.graph.input.append(free)
    return model


@pytest.mark.parametrize(("rule", "op", "severities", "bad", "good"), GENERAL, ids=lambda value: str(value)[:20])
def test_severity_follows_what_the_graph_promises(
    rule: str, op: str, severities: tuple[Severity | None, ...], bad: str, good: str
) -> None:
    checked = (
        check_graph(graph(bad)),
        check_graph(graph(bad), static=False),
        check_graph(with_free_input(graph(bad)), static=False),
    )
    for findings, severity in zip(checked, severities, strict=True):
        broken = of_rule(findings, rule, op)
        assert {finding.severity for finding in broken} == ({severity} if severity else set())
        assert all(finding.node and finding.why and finding.remedy for finding in broken)
    assert of_rule(check_graph(graph(good)), rule, op) == []


def test_every_rule_is_tried() -> None:
    tried = {case.rule for case in (*TENSORRT_CASES, *RTX_CASES)} | {rule for rule, *_ in GENERAL}
    elsewhere = {"differing cumulative sums", "float64", "domain", "opset of ONNX Runtime", "operator of OpenVINO"}
    assert {rule.name for rule in RULES} == tried | elsewhere | {"signed INT8 behind Concat"}


def test_a_sound_graph_has_no_findings_for_anybody(attention_graph: onnx.ModelProto) -> None:
    assert check_graph(attention_graph, TARGET_NAMES) == ()


def test_shape_arithmetic_whose_shapes_are_known_is_a_warning(attention_net: nn.Module, tile: TileSpec) -> None:
    findings = check_graph(trace(attention_net, tile))
    assert {finding.op for finding in findings if finding.rule == "computed size"} >= {"Shape", "Reshape"}
    assert {finding.severity for finding in findings if finding.rule == "computed size"} == {WARNING}


def test_free_sides_are_an_error_unless_they_are_wanted(shuffle_net: nn.Module, tile: TileSpec) -> None:
    model = simplify(trace(shuffle_net, tile, dynamic=True)).model
    assert any(finding.node == "input" and finding.severity is ERROR for finding in check_graph(model))
    assert check_graph(model, static=False) == ()
    assert check_graph(graph(FREE), static=False) == ()


def test_a_target_that_was_not_asked_for_is_named_in_a_warning() -> None:
    findings = check_graph(graph(top_k(3841)))
    assert [finding.severity for finding in findings] == [WARNING]
    assert set(findings[0].targets) == {name for name in TARGET_NAMES if name.startswith("tensorrt")}
    assert require_deployable(graph(top_k(3841)), ["onnxruntime", "openvino"]) == findings


def test_a_target_that_was_asked_for_and_refuses_is_an_error() -> None:
    for target in ("tensorrt-10.3", "tensorrt-11.4", "tensorrt-rtx"):
        require_deployable(graph(top_k(3840)), [target])
        with raises(NotDeployable, found=(("TopK", "TopK#0"),), wanted=("openvino", target)) as caught:
            require_deployable(graph(top_k(3841)), ["openvino", target])
        assert target in caught.value.problem and "TopK" in caught.value.problem


@pytest.mark.parametrize("text", [RESHAPE, BRANCH], ids=["unknown shape", "control flow"])
def test_a_graph_that_only_breaks_its_promise_is_not_static(text: str) -> None:
    with raises(NotStatic, wanted="constant shapes"):
        require_deployable(graph(text))
    assert require_deployable(graph(text), static=False)


def test_randomness_is_no_question_of_the_form() -> None:
    with raises(NotDeployable, wanted=()) as caught:
        require_deployable(graph("(float[2] a) => (float[n] y) { b = Bernoulli(a) y = Unique(b) }"))
    assert caught.value.found == (("Bernoulli", "Bernoulli#0"), ("Unique", "Unique#1"))
    assert str(caught.value.remedy).startswith("for Bernoulli: ")


def test_a_graph_for_some_targets_is_not_held_against_the_others() -> None:
    unsigned = graph(
        "(float[2] a) => (float[2] y) <float s = {0.5}, uint8 z = {128}> "
        "{ b = QuantizeLinear(a, s, z) y = DequantizeLinear(b, s, z) }"
    )
    assert check_graph(unsigned)
    assert check_graph(unsigned, ["tensorrt-10.3", "openvino"], intended=readers_of(ActivationType.UINT8)) == ()


def test_an_unknown_target_is_refused() -> None:
    with raises(UnknownNameError, found="tensorrt-8.6", wanted=list(TARGET_NAMES)):
        check_graph(graph(RELU), ["tensorrt-8.6"])


def test_a_summary_has_one_line_for_each_rule_and_counts() -> None:
    text = (
        "(float[2,3] a) => (float[2,3] y) <int64 axis = {1}> "
        "{ b = CumSum(a, axis) c = Relu(b) d = CumSum(c, axis) y = CumSum(d, axis) }"
    )
    (line,) = summarize(check_graph(graph(text)))
    assert line.startswith("3 nodes (CumSum), the first")
    assert summarize(()) == ()


def test_old_opsets_are_not_for_onnxruntime() -> None:
    assert any(finding.targets == ("onnxruntime",) for finding in check_graph(graph(RELU, opset=6)))
    assert not any("onnxruntime" in finding.targets for finding in check_graph(graph(RELU, opset=7)))


def behind_concat(between: str, element: str = "int8", zero: int = 0) -> onnx.ModelProto:
    """Concat, then `between` from c to d, then a quantized value."""
    return graph(
        "(float[1,2,4,4] a) => (float[1,4,4,4] y) "
        f"<float s = {{0.5}}, {element} z = {{{zero}}}, float two = {{2.0}}, int64[4] same = {{1,4,4,4}}> "
        f"{{ c = Concat<axis = 1>(a, a) {between} q = QuantizeLinear(d, s, z) y = DequantizeLinear(q, s, z) }}"
    )


@pytest.mark.parametrize("between", ["d = Mul(c, two)", "e = Add(c, two) d = Mul(two, e)"])
def test_signed_values_behind_a_concat_are_not_for_openvino(between: str) -> None:
    signed = behind_concat(between)
    assert of_rule(check_graph(signed, ["openvino"]), "signed INT8 behind Concat", "QuantizeLinear")
    with raises(NotDeployable, wanted=("openvino",)):
        require_deployable(signed, ["openvino"])
    require_deployable(signed, ["onnxruntime", "tensorrt-10.3"])
    require_deployable(behind_concat(between, "uint8", 128), ["openvino"])


@pytest.mark.parametrize("between", ["d = LeakyRelu(c)", "d = Reshape(c, same)", "d = Transpose<perm = [0,1,3,2]>(c)"])
def test_other_operators_behind_a_concat_are_right_in_openvino(between: str) -> None:
    require_deployable(behind_concat(between), ["openvino"])


def test_a_concat_of_signed_quantized_values_is_not_for_openvino() -> None:
    text = (
        "(float[1,2,4,4] a) => (float[1,4,4,4] y) <float s = {0.5}, int8 z = {0}> "
        "{ q = QuantizeLinear(a, s, z) d = DequantizeLinear(q, s, z) y = Concat<axis = 1>(d, a) }"
    )
    with raises(NotDeployable, wanted=("openvino",)):
        require_deployable(graph(text), ["openvino"])


def test_deformable_convolutions_are_not_for_openvino() -> None:
    (case,) = (case for case in RTX_CASES if case.op == "DeformConv")
    with raises(NotDeployable, wanted=("openvino",)):
        require_deployable(case.bad_graph, ["openvino"])
    require_deployable(case.bad_graph, ["onnxruntime"])


def test_a_file_is_checked_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    onnx.save(graph(CUM_SUM), path)
    before = path.read_bytes()
    assert check_graph(path) == check_graph(graph(CUM_SUM))
    assert path.read_bytes() == before


def test_contradicting_shapes_are_refused() -> None:
    with raises(ExportError) as caught:
        check_graph(graph("(float[2,3] a, float[4,5] b) => (float[2,5] y) { y = MatMul(a, b) }"))
    assert isinstance(caught.value.__cause__, onnx.shape_inference.InferenceError)
    assert "MatMul" in caught.value.problem


def test_unreadable_files_are_refused(tmp_path: Path, shuffle_graph: onnx.ModelProto) -> None:
    whole = tmp_path / "whole.onnx"
    onnx.save(shuffle_graph, whole)
    assert check_graph(whole) == ()
    garbage, empty = tmp_path / "garbage.onnx", tmp_path / "empty.onnx"
    garbage.write_bytes(b"\xff" * 64)
    empty.write_bytes(b"")
    for path in (garbage, empty, tmp_path / "absent.onnx"):
        with raises(ExportError, found=path):
            read_onnx(path)
