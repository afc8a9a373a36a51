"""All rewrites in order, on graphs of any opset and with what else graphs contain."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.export.passes.rewrites.pipeline import REWRITES, rewrite
from tests.export.passes.rewrites.equal_graphs import operators_of, outputs_of

IMAGE = {"x": np.random.default_rng(0).standard_normal((1, 8, 12, 3)).astype(np.float32)}
TEXT = """<ir_version: 8, opset_import: ["" : {opset}]> g (float[1,8,12,3] x) => (float[2,8,3] y, float[1,8,12,3] z)
  <int64[6] split = {{1, 4, 2, 6, 2, 3}}, int64[3] windows = {{24, 4, 3}}, int64[3] halves = {{2, 8, 18}},
   float[3,3] w = {{1, 2, 3, 4, 5, 6, 7, 8, 9}}> {{
    s = Reshape(x, split)
    t = Transpose<perm = [0, 1, 3, 2, 4, 5]>(s)
    c = Softmax<axis = -1>(t)
    r = Reshape(c, windows)
    e = Einsum<equation = "wtc,dc->wtd">(r, w)
    h = Reshape(e, halves)
    p = CumSum(h, axis)
    q = Slice(p, zero, three, two)
    y = Neg(q)
    z = Relu(x)
  }}"""


def model_of_opset(opset: int) -> onnx.ModelProto:
    model = onnx.parser.parse_model(TEXT.format(opset=opset))
    for name, value in (("zero", 0), ("three", 3), ("two", 2)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int64), "axis"))
    for node in model.graph.node:  # names that no parser takes
        node.output[:] = ["a/b:c" if name == "z" else name for name in node.output]
    model.graph.output[1].name = "a/b:c"
    return model


@pytest.mark.parametrize("opset", [13, 17, 18, 23])
def test_the_outputs_stay_and_a_second_run_changes_nothing(opset: int) -> None:
    model = model_of_opset(opset)
    results = rewrite(model)
    assert len(results) == len(REWRITES)
    assert all(result.reason for result in results)
    rewritten = results[-1].model
    onnx.checker.check_model(rewritten, full_check=True)
    assert {"Einsum", "CumSum"}.isdisjoint(operators_of(rewritten))
    for actual, expected in zip(outputs_of(rewritten, IMAGE), outputs_of(model, IMAGE), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert not any(result.changed for result in rewrite(rewritten))


def test_older_opsets_are_valid_afterwards() -> None:
    model = model_of_opset(12)
    rewritten = rewrite(model)[-1].model
    onnx.checker.check_model(rewritten, full_check=True)
    assert "Einsum" in operators_of(rewritten)
