"""Statistics are recognized by what the graph does with them, under whatever name, alike for float16 and for INT8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.export.graph.statistics import is_average, is_root_or_reciprocal
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.fp32_islands import find_islands
from tests.calibration.graphs import parsed, random_weight

LAYERS = {
    "a projection": "y = Conv(x, w)",
    "a projection to scores": (
        "q = Conv(x, w)  r = Reshape(q, heads)  t = Transpose<perm = [0,2,1]>(r)  s = MatMul(r, t)  y = Softmax(s)"
    ),
    "a gate of pixels": "a = Conv(x, w)  g = Sigmoid(a)  y = Mul(x, g)",
    "the numerator": "a = Conv(x, w)  s = Sqrt(x)  y = Div(a, s)",
    "a mean over channels that is subtracted from": "c = ReduceMean<axes = [1]>(x)  d = Sub(x, c)  y = Conv(d, w)",
    "channels picked one by one": "y = Conv(x, permutation)",
    "one channel copied to many": "c = Slice(x, zero, one)  y = Conv(c, copies)",
    "half a statistic": "a = Conv(x, w)  s = Sqrt(a)  y = Mul(a, s)",
}
STATISTICS = {
    "a sum over channels": ("y = Conv(x, sum)", "sum or mean"),
    "sums of two groups of channels": ("y = Conv(x, groups)", "sum or mean"),
    "a mean whose weights were rounded": ("y = Conv(x, rounded)", "sum or mean"),
    "a denominator": ("a = Conv(x, w)  y = Div(x, a)", "denominator"),
    "a guarded denominator": ("a = Conv(x, w)  b = Abs(a)  c = Add(b, two)  y = Div(x, c)", "denominator"),
    "a divided sum under a root": ("a = Conv(x, w)  m = Div(a, two)  s = Sqrt(m)  y = Mul(x, s)", "root"),
    "under a root of a power": ("a = Conv(x, w)  s = Pow(a, three_halves)  y = Mul(x, s)", "root"),
    "a denominator's numerator": ("a = Conv(x, w)  q = Div(a, x)  y = Div(x, q)", "denominator"),
    "a limited denominator": ("a = Conv(x, w)  b = Min(a, two)  y = Div(x, b)", "denominator"),
    "under a root": ("a = Conv(x, w)  s = Sqrt(a)  y = Mul(x, s)", "root"),
    "a reciprocal": ("a = Conv(x, w)  s = Reciprocal(a)  y = Mul(x, s)", "denominator"),
    "channel attention": (
        "p = GlobalAveragePool(x)  a = Conv(p, w)  g = Sigmoid(a)  y = Mul(x, g)",
        "pooled over the whole image",
    ),
    "channel attention by contrast": (
        "p = ReduceMean<axes = [2,3]>(x)  d = Sub(x, p)  e = Mul(d, d)  v = ReduceMean<axes = [2,3]>(e)  s = Sqrt(v)  "
        "z = Add(s, p)  a = Conv(z, w)  g = Sigmoid(a)  y = Mul(x, g)",
        "pooled over the whole image",
    ),
}


CONSTANTS: dict[str, npt.ArrayLike] = {
    "w": random_weight(4, 4, 1, 1),
    "sum": np.ones((1, 4, 1, 1), np.float32),
    "permutation": np.eye(4, dtype=np.float32)[[1, 0, 3, 2], :, np.newaxis, np.newaxis],
    "groups": np.kron(np.eye(2), np.ones((1, 2))).astype(np.float32)[:, :, np.newaxis, np.newaxis],
    "rounded": np.array([0.25, 0.25 + 3e-8, 0.25, 0.25 - 3e-8], np.float32).reshape(1, 4, 1, 1),
    "copies": np.ones((4, 1, 1, 1), np.float32),
    "zero": np.array([0, 0, 0, 0], np.int64),
    "one": np.array([1, 1, 8, 8], np.int64),
    "two": np.float32(2.0),
    "three_halves": np.float32(1.5),
    "heads": np.array([1, 4, 64], np.int64),
}


def obstacle_of(body: str) -> str:
    model = parsed(body, CONSTANTS, "float[1,4,8,8] x")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return find_quantizable_ops(model)[0].obstacle


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_like_any_other_may_be_int8(name: str) -> None:
    assert obstacle_of(LAYERS[name]) == ""


@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_stays_float_and_says_why(name: str) -> None:
    body, why = STATISTICS[name]
    assert why in obstacle_of(body)


@pytest.mark.parametrize(
    ("body", "is_averaged"),
    [
        ("y = Conv(x, sum)", True),
        ("y = Conv(x, groups)", True),
        ("y = Conv(x, rounded)", True),
        ("y = Conv(x, w)", False),
        ("y = Conv(x, permutation)", False),
        ("y = ReduceMean<axes = [1]>(x)", True),
        ("t = Reshape(x, tokens)  y = MatMul(t, column)", True),
        ("t = Reshape(x, column_of_tokens)  y = MatMul(t, row)", False),
        ("t = Reshape(x, flat_tokens)  y = Gemm<transB = 1>(t, row)", True),
        ("y = ConvTranspose(x, copies)", True),
        ("y = ConvTranspose<group = 4>(x, copies)", False),
    ],
)
def test_half_precision_and_int8_take_the_same_layers_for_averages(body: str, is_averaged: bool) -> None:
    more: dict[str, npt.ArrayLike] = {
        "tokens": np.array([1, 64, 4], np.int64),
        "column_of_tokens": np.array([1, 256, 1], np.int64),
        "flat_tokens": np.array([64, 4], np.int64),
        "column": np.full((4, 1), 0.25, np.float32),
        "row": np.full((1, 4), 0.25, np.float32),
    }
    model = parsed(body, {**CONSTANTS, **more}, "float[1,4,8,8] x")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    view = view_graph(model)
    last = len(view.nodes) - 1
    assert is_average(view, last) == is_averaged
    assert (last in find_islands(view)) == is_averaged
    ops = find_quantizable_ops(model)
    assert not ops or ("sum or mean" in ops[0].obstacle) == is_averaged


@pytest.mark.parametrize(
    ("exponent", "magnifies"), [(2.0, False), (0.0, False), (0.5, True), (1.5, True), (-1.0, True), (-2.0, True)]
)
def test_powers_that_are_negative_or_fractional_are_roots_or_reciprocals(exponent: float, magnifies: bool) -> None:
    view = view_graph(parsed("y = Pow(x, e)", {"e": np.float32(exponent)}, "float[1,4,8,8] x"))
    assert is_root_or_reciprocal(view, view.nodes[0]) == magnifies
