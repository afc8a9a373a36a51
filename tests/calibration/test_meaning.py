"""Statistics are recognised by how the graph uses them, whatever their names."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.calibration.sites import find_quantizable_ops
from tests.calibration.graphs import parsed, random_weight

LAYERS = {
    "a projection": "y = Conv(x, w)",
    "a projection to scores": (
        "q = Conv(x, w)  r = Reshape(q, heads)  t = Transpose<perm = [0,2,1]>(r)  s = MatMul(r, t)  y = Softmax(s)"
    ),
    "a gate of pixels": "a = Conv(x, w)  g = Sigmoid(a)  y = Mul(x, g)",
    "the numerator": "a = Conv(x, w)  s = Sqrt(x)  y = Div(a, s)",
    "a mean over channels that is subtracted from": "c = ReduceMean<axes = [1]>(x)  d = Sub(x, c)  y = Conv(d, w)",
    "half a statistic": "a = Conv(x, w)  s = Sqrt(a)  y = Mul(a, s)",
}
STATISTICS = {
    "a sum over channels": ("y = Conv(x, sum)", "sum or mean"),
    "a denominator": ("a = Conv(x, w)  y = Div(x, a)", "denominator"),
    "a guarded denominator": ("a = Conv(x, w)  b = Abs(a)  c = Add(b, two)  y = Div(x, c)", "denominator"),
    "under a root": ("a = Conv(x, w)  s = Sqrt(a)  y = Mul(x, s)", "root"),
    "a reciprocal": ("a = Conv(x, w)  s = Reciprocal(a)  y = Mul(x, s)", "denominator"),
    "channel attention": (
        "p = GlobalAveragePool(x)  a = Conv(p, w)  g = Sigmoid(a)  y = Mul(x, g)",
        "pooled over the whole picture",
    ),
    "channel attention by contrast": (
        "p = ReduceMean<axes = [2,3]>(x)  d = Sub(x, p)  e = Mul(d, d)  v = ReduceMean<axes = [2,3]>(e)  s = Sqrt(v)  "
        "z = Add(s, p)  a = Conv(z, w)  g = Sigmoid(a)  y = Mul(x, g)",
        "pooled over the whole picture",
    ),
}


CONSTANTS = {
    "w": random_weight(4, 4, 1, 1),
    "sum": np.ones((1, 4, 1, 1), np.float32),
    "two": np.float32(2.0),
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
