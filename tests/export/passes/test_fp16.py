from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from sr_edge.errors import ExportError
from sr_edge.export.checks.rules import check_graph
from sr_edge.export.graph.inner_tensors import observe_magnitudes, with_outputs
from sr_edge.export.graph.inputs import random_inputs
from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.graph.patches import worst_case_patches
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.fp16 import to_fp16
from sr_edge.export.passes.fp32_islands import FORCED_RULES, find_islands
from sr_edge.export.passes.simplify import simplify
from sr_edge.export.passes.tracing import trace
from sr_edge.spec import TileSpec
from tests.expected_errors import raises

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16


def graph(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')


def islands(model: onnx.ModelProto) -> dict[str, str]:
    """Why each fp32 node is one, by the tensor it makes (the name that survives in ONNX's text form)."""
    view = view_graph(model)
    return {view.nodes[at].output[0]: why for at, why in find_islands(view).items()}


def types_of(model: onnx.ModelProto) -> Iterator[tuple[str, set[int]]]:
    """Every node but Cast with the float types among its inputs and outputs; the scales of Resize are left out."""
    view = view_graph(model)
    for node in view.nodes:
        tensors = [name for position, name in enumerate(node.input) if (node.op_type, position) != ("Resize", 2)]
        if node.op_type != "Cast":
            yield node.op_type, {view.types[name] for name in (*tensors, *node.output) if view.is_float(name)}


def test_the_graph_is_strongly_typed_with_half_weights(attention_graph: onnx.ModelProto) -> None:
    half = to_fp16(attention_graph).model
    onnx.checker.check_model(half, full_check=True)
    assert check_graph(half) == ()
    node_types = list(types_of(half))
    assert all(len(types) == 1 for _, types in node_types)
    assert {HALF} == {kind for operator, types in node_types if operator == "Conv" for kind in types}
    assert {FLOAT} == {kind for operator, types in node_types if operator in ("Softmax", "Sqrt") for kind in types}
    weights = [tensor for tensor in half.graph.initializer if tensor.name.endswith(".weight")]
    assert {tensor.data_type for tensor in weights if "token_norm" not in tensor.name} == {HALF}


def test_inputs_outputs_and_the_source_graph_stay_float32(attention_graph: onnx.ModelProto) -> None:
    before = attention_graph.SerializeToString(deterministic=True)
    half = to_fp16(attention_graph).model
    assert [(value.name, value.type.tensor_type.elem_type) for value in (*half.graph.input, *half.graph.output)] == [
        ("input", FLOAT),
        ("output", FLOAT),
    ]
    assert attention_graph.SerializeToString(deterministic=True) == before


def test_equal_graphs_give_equal_bytes(attention_graph: onnx.ModelProto) -> None:
    first, second = to_fp16(attention_graph).model, to_fp16(attention_graph).model
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def test_statistics_softmax_and_norms_are_islands_and_convs_are_not(attention_graph: onnx.ModelProto) -> None:
    in_fp32 = islands(attention_graph)
    view = view_graph(attention_graph)
    kinds = {view.nodes[view.producer[tensor]].op_type for tensor in in_fp32}
    assert {"ReduceMean", "Sub", "Pow", "Add", "Sqrt", "Div", "Softmax", "ReduceSum", "LayerNormalization"} <= kinds
    assert not {"Conv", "DepthToSpace"} & kinds


def test_no_cast_follows_a_cast_and_no_cast_is_idle(attention_graph: onnx.ModelProto) -> None:
    view = view_graph(to_fp16(attention_graph).model)
    casts = [at for at, node in enumerate(view.nodes) if node.op_type == "Cast"]
    for at in casts:
        (source,), (result,) = view.nodes[at].input, view.nodes[at].output
        assert view.types[source] != view.types[result]
        assert view.readers(at) or result in view.output_names
        assert all(view.nodes[reader].op_type != "Cast" for reader in view.readers(at))
    sources = [(view.nodes[at].input[0], view.types[view.nodes[at].output[0]]) for at in casts]
    assert len(set(sources)) == len(sources)


FOLDED_NORM = """g (float[1,4,3,3] x) => (float[1,2,3,3] y)
<float[1,4,1,1] mean_w = {0.25, 0.25, 0.25, 0.25}, float[2,4,1,1] w = {1,-1,1,-1,1,-1,-1,1}, float two = {2.0},
 float zero = {0.0}, float eps = {0.00001}, float one = {1.0}>
{ wx = Conv(x, w)  mean = Conv(x, mean_w)  square = Mul(x, x)  mean_square = Conv(square, mean_w)
  squared_mean = Pow(mean, two)  difference = Sub(mean_square, squared_mean)  variance = Max(difference, zero)
  stable = Add(variance, eps)  deviation = Sqrt(stable)  rstd = Div(one, deviation)  y = Mul(wx, rstd) }"""


def test_the_folded_layer_norm_spelled_as_convolutions_is_an_island() -> None:
    reasons = islands(graph(FOLDED_NORM))
    assert "wx" not in reasons
    assert set(reasons) == {
        "mean", "square", "mean_square", "squared_mean", "difference", "variance", "stable", "deviation", "rstd", "y",
    }  # fmt: skip
    assert reasons["mean"] == "averages"
    assert reasons["square"] == "squares_of_averages"
    assert reasons["variance"] == "statistics"


def test_sums_over_many_tokens_are_islands_but_softmax_rows_and_short_sums_are_not() -> None:
    text = """g (float[1,8,{n}] a, float[1,{n},8] b, float[1,8,{n}] c) => (float[1,8,8] y, float[1,8,8] z)
    {{ y = MatMul(a, b)  s = Softmax(c)  z = MatMul(s, b) }}"""
    assert islands(graph(text.format(n=2304))) == {"y": "token_sums", "s": "exponentials"}
    assert islands(graph(text.format(n=64))) == {"s": "exponentials"}


def test_what_only_moves_or_scales_between_islands_is_a_bridge() -> None:
    text = """g (float[1,6,4] x) => (float[1,6,4] y)
    <int64[2] size = {6, 4}, int64[3] back = {1, 6, 4}, float k = {2.0}>
    { e = Exp(x)  r = Reshape(e, size)  m = Mul(r, k)  t = Transpose<perm = [1, 0]>(m)  s = Softmax(t)
      o = Transpose<perm = [1, 0]>(s)  y = Reshape(o, back) }"""
    reasons = islands(graph(text))
    assert [tensor for tensor, why in reasons.items() if why == "bridge"] == ["r", "m", "t"]
    assert "o" not in reasons


def test_positions_and_vanishing_constants_are_islands() -> None:
    text = """g (float[8] x) => (int64[8] y, float[8] z) <float k = {1000.0}, float eps = {0.000000000001}>
    { scaled = Mul(x, k)  y = Cast<to = 7>(scaled)  z = Add(x, eps) }"""
    assert islands(graph(text)) == {"scaled": "indices", "y": "indices", "z": "unrepresentable_constants"}


CHAIN = "g (float[4] x) => (float[4] y) { a = Relu(x)  b = Neg(a)  c = Abs(b)  y = Relu(c) }"


@pytest.mark.parametrize("largest", [65504.0 / 3.9, 1e9, 6.2e-5, 1e-12])
def test_who_makes_and_who_reads_what_leaves_float16_on_pictures_stay_in_fp32(largest: float) -> None:
    view = view_graph(graph(CHAIN))
    reasons = find_islands(view, magnitudes={"a": 1.0, "b": largest, "c": 0.0, "y": 1.0})
    assert {view.nodes[at].output[0]: why for at, why in reasons.items()} == {"b": "out_of_range", "c": "out_of_range"}
    half = view_graph(to_fp16(graph(CHAIN), magnitudes={"b": largest}).model)
    assert (half.types["a"], half.types["b"], half.types["c"]) == (HALF, FLOAT, FLOAT)


@pytest.mark.parametrize("largest", [0.0, 3e-4, 1.0, 65504.0 / 4.1])
def test_what_float16_holds_with_a_margin_stays_half(largest: float) -> None:
    assert find_islands(view_graph(graph(CHAIN)), magnitudes={"b": largest}) == {}


def test_a_weight_that_float16_would_flush_is_an_island_and_a_small_bias_is_not() -> None:
    text = """g (float[1,1,4,4] x) => (float[1,1,4,4] y, float[1,1,4,4] z)
    <float[1,1,1,2] tiny = {{{w}, 0.00002}}, float[1,1,1,2] w = {{1, 2}}, float[1] bias = {{0.0001}}>
    {{ y = Conv<pads=[0,0,0,1]>(x, tiny)  z = Conv<pads=[0,0,0,1]>(x, w, bias) }}"""
    assert islands(graph(text.format(w=0.00005))) == {"y": "unrepresentable_constants"}
    assert islands(graph(text.format(w=0.0005))) == {}


def test_what_was_measured_overrules_a_mark() -> None:
    model = simplify(trace(Marked(), TileSpec(4, 4))).model
    view = view_graph(model)
    quotient = next(node.output[0] for node in view.nodes if node.op_type == "Div")
    reasons = {view.name(at): why for at, why in find_islands(view, magnitudes={quotient: 1e6}).items()}
    assert reasons["/fp16_bounded/Div"] == "out_of_range"
    assert reasons["/fp32_double/Mul"] == "marked"


def test_magnitudes_are_the_largest_over_all_pictures_and_in_every_tensor(
    attention_graph: onnx.ModelProto, tile: TileSpec
) -> None:
    patches = worst_case_patches(tile)
    magnitudes = observe_magnitudes(attention_graph, patches)
    view = view_graph(attention_graph)
    names = [name for node in view.nodes for name in node.output if view.types[name] == FLOAT]
    assert list(magnitudes) == [name for name in names if name not in view.constants]
    instrumented = with_outputs(attention_graph, list(magnitudes))
    runs = [run_onnxruntime(instrumented, {"input": patch}) for patch in patches]
    for name, largest in magnitudes.items():
        assert largest == pytest.approx(max(float(np.abs(run[name]).max()) for run in runs), rel=1e-5)


def test_a_tensor_that_is_infinite_in_float32_stays_in_float32() -> None:
    """A mask of minus infinity is one; what compares the pictures judges all others."""
    model = graph("g (float[1,3,2,2] x) => (float[1,3,2,2] y) { a = Log(x)  y = Relu(a) }")
    magnitudes = observe_magnitudes(model, [np.zeros((1, 3, 2, 2), np.float32)])
    assert magnitudes["a"] == np.inf
    assert set(find_islands(view_graph(model), magnitudes=magnitudes)) == {0, 1}


class Doubling(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return 2.0 * x


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.pow(2).mean(1, keepdim=True)


class Bounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fp32_inner = Doubling()

    def forward(self, x: Tensor) -> Tensor:
        return self.fp32_inner(x) / x.mean(1, keepdim=True)


class Marked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fp32_double = Doubling()
        self.fp16_bounded = Bounded()

    def forward(self, x: Tensor) -> Tensor:
        return self.fp16_bounded(self.fp32_double(x).relu()) * x


def test_marks_in_module_names_overrule_the_structure_and_survive_simplification() -> None:
    view = view_graph(simplify(trace(Marked(), TileSpec(4, 4))).model)
    reasons = {view.name(at): why for at, why in find_islands(view).items()}
    assert reasons == {"/fp32_double/Mul": "marked", "/fp16_bounded/fp32_inner/Mul": "marked"}


def test_the_scales_of_resize_stay_float32_and_uint8_casts_become_half() -> None:
    text = """g (uint8[1,3,4,4] x) => (float[1,3,8,8] y) <float[4] scales = {1, 1, 2, 2}>
    { f = Cast<to = 1>(x)  y = Resize<mode = "linear">(f, , scales) }"""
    half = to_fp16(graph(text)).model
    onnx.checker.check_model(half, full_check=True)
    assert [node.op_type for node in half.graph.node] == ["Cast", "Resize", "Cast"]
    assert {tensor.name: tensor.data_type for tensor in half.graph.initializer} == {"scales": FLOAT}
    inputs = random_inputs(half, 0)
    np.testing.assert_allclose(run_onnxruntime(half, inputs)["y"], run_onnxruntime(graph(text), inputs)["y"], rtol=1e-3)


QUANTIZED = """g (float[1,3,4,4] x) => (float[1,2,4,4] z)
<float s = {0.01}, int8 zero = {0}, float[2] ws = {0.01, 0.02}, int8[2] wz = {0, 0}, int8[2,3,1,1] w = {1,2,3,4,5,6}>
{ r = Relu(x)  q = QuantizeLinear(r, s, zero)  d = DequantizeLinear(q, s, zero)
  dw = DequantizeLinear<axis = 0>(w, ws, wz)  y = Conv(d, dw)  z = Relu(y) }"""


def test_int8_convolutions_keep_their_fp32_scales_and_the_rest_is_half() -> None:
    half = to_fp16(graph(QUANTIZED)).model
    onnx.checker.check_model(half, full_check=True)
    assert check_graph(half) == ()
    kinds = dict(types_of(half))
    assert kinds["Conv"] == {FLOAT}
    assert kinds["Relu"] == {HALF}
    inputs = random_inputs(half, 0)
    expected = run_onnxruntime(graph(QUANTIZED), inputs)["z"]
    np.testing.assert_allclose(run_onnxruntime(half, inputs)["z"], expected, atol=2e-3)


def test_a_graph_output_that_others_read_is_converted_once() -> None:
    text = "g (float[4] x) => (float[4] a, float[4] b) { a = Relu(x) b = Neg(a) }"
    half = to_fp16(graph(text)).model
    assert [node.op_type for node in half.graph.node] == ["Cast", "Relu", "Cast", "Neg", "Cast"]
    outputs = run_onnxruntime(half, {"x": np.array([-1, 0, 1, 2], np.float32)})
    assert outputs["a"].tolist() == [0, 0, 1, 2]
    assert outputs["b"].tolist() == [0, 0, -1, -2]


def test_a_second_conversion_is_refused(shuffle_graph: onnx.ModelProto) -> None:
    with raises(ExportError, found="fp16", wanted="fp32"):
        to_fp16(to_fp16(shuffle_graph).model)


def test_a_constant_beyond_half_is_an_island_unless_demanded_half() -> None:
    text = "g (float[2] x) => (float[2] y) <float[2] huge = {100000.0, 1.0}> { y = Add(x, huge) }"
    assert islands(graph(text)) == {"y": "unrepresentable_constants"}
    with raises(ExportError, found="huge", wanted=65504.0):
        to_fp16(graph(text), FORCED_RULES)


def test_an_unknown_operator_is_refused() -> None:
    text = "g (float[2] x) => (float[2] y) { y = custom.Op(x) }"
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "custom" : 1]> {text}')
    with raises(ExportError, found="custom.Op"):
        to_fp16(model)


def test_weights_keep_their_values_to_half_precision(shuffle_net: nn.Module, shuffle_graph: onnx.ModelProto) -> None:
    half = to_fp16(shuffle_graph).model
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in half.graph.initializer}
    for name, parameter in shuffle_net.named_parameters():
        np.testing.assert_array_equal(stored[name], parameter.detach().to(torch.float16).numpy())
