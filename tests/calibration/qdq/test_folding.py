"""Smoothing is folded into the producer where that is exact, is a Mul elsewhere, and never changes other readers."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.calibration import Calibration, Decision, PlacementPolicy, Provenance, TensorRange
from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.graph.probe import InstrumentedGraph
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.qdq.folding import CHANNELS, LAST, fold_division
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.cleanup import name_nodes
from sr_edge.spec import ActivationType
from tests.calibration.graphs import parsed

SHAPES = {
    "w1": (4, 3, 3, 3),
    "b1": (4,),
    "w2": (2, 4, 1, 1),
    "slope": (4, 1, 1),
    "gain": (4, 1, 1),
    "shift": (1, 4, 1, 1),
    "one": (1,),
    "row": (4,),
    "positive": (4,),
    "m": (4, 4),
    "m2": (4, 2),
    "wt": (4, 2, 3, 3),
}

FOLDED = {
    "conv": "t = Conv<pads = [1,1,1,1]>(x, w1, b1)  y = Conv(t, w2)",
    "conv without bias": "t = Conv<pads = [1,1,1,1]>(x, w1)  y = Conv(t, w2)",
    "relu": "a = Conv<pads = [1,1,1,1]>(x, w1, b1)  t = Relu(a)  y = Conv(t, w2)",
    "leaky relu": "a = Conv<pads = [1,1,1,1]>(x, w1, b1)  t = LeakyRelu<alpha = 0.2>(a)  y = Conv(t, w2)",
    "prelu": "a = Conv<pads = [1,1,1,1]>(x, w1, b1)  t = PRelu(a, slope)  y = Conv(t, w2)",
    "added constant": "a = Conv<pads = [1,1,1,1]>(x, w1)  t = Add(a, shift)  y = Conv(t, w2)",
    "one number added": "a = Conv<pads = [1,1,1,1]>(x, w1)  t = Sub(one, a)  y = Conv(t, w2)",
    "gain": "a = Conv<pads = [1,1,1,1]>(x, w1)  s = Sigmoid(a)  t = Mul(s, gain)  y = Conv(t, w2)",
    "norm": "a = Conv<pads = [1,1,1,1]>(x, w1)  t = InstanceNormalization(a, positive, row)  y = Conv(t, w2)",
}
LEFT = {
    "gelu-like": "a = Conv<pads = [1,1,1,1]>(x, w1)  t = Sigmoid(a)  y = Conv(t, w2)",
    "two sums": "a = Conv<pads = [1,1,1,1]>(x, w1)  b = Sigmoid(a)  t = Add(a, b)  y = Conv(t, w2)",
    "another reader": "t = Conv<pads = [1,1,1,1]>(x, w1)  c = Conv(t, w2)  top = ReduceMax(t)  y = Add(c, top)",
    "another reader before": (
        "a = Conv<pads = [1,1,1,1]>(x, w1)  t = Relu(a)  c = Conv(t, w2)  top = ReduceMax(a)  y = Add(c, top)"
    ),
    "the picture": "y = Conv<pads = [1,1,1,1]>(x, w1)",
}


def constants() -> dict[str, Float32Array]:
    generator = np.random.default_rng(0)
    made = {}
    for name, shape in SHAPES.items():
        values = generator.uniform(0.1, 1.0, shape)
        signs = 1.0 if name in ("positive", "slope") else generator.choice([-1.0, 1.0], shape)
        made[name] = (values * signs).astype(np.float32)
    return made


def model_of(body: str, picture: str = "float[1,3,8,8] x") -> onnx.ModelProto:
    model = parsed(body, constants(), picture)
    return name_nodes(model).model


def last_op(model: onnx.ModelProto) -> str:
    return [op.node for op in find_quantizable_ops(model) if not op.obstacle][-1]


def calibration_of(model: onnx.ModelProto, smoothing: tuple[float, ...], clip: float = 40.0) -> Calibration:
    """The last layer in INT8; coarse enough levels that an inexact fold would show."""
    chosen = last_op(model)
    ops = {op.node: op for op in find_quantizable_ops(model)}
    decisions = tuple(Decision(op.node, op.op_type, op.node == chosen, "") for op in ops.values())
    ranges = {ops[chosen].activation: TensorRange(-clip, clip, clip, smoothing, 0.5, "test")}
    return Calibration(Provenance("", (), "test"), PlacementPolicy(), ranges, decisions)


@pytest.mark.parametrize("name", FOLDED)
def test_a_fold_is_exact_and_adds_no_operator(name: str) -> None:
    model = model_of(FOLDED[name])
    calibration = calibration_of(model, (0.25, 0.5, 2.0, 4.0))  # powers of two: nothing is rounded
    quantized = insert_qdq(model, calibration, ActivationType.INT8).model
    added = [node.op_type for node in quantized.graph.node if node.name.endswith("_smoothed_Mul")]
    assert not added
    batch = np.random.default_rng(1).random((1, 3, 8, 8)).astype(np.float32)
    fake_quant = FakeQuantGraph(model, calibration).run(batch, calibration.int8_nodes)
    written = InstrumentedGraph(quantized, optimize=False).run(batch)[0]
    np.testing.assert_allclose(written, fake_quant, atol=1e-5)


@pytest.mark.parametrize("name", LEFT)
def test_what_would_change_something_else_is_left_and_gets_a_mul(name: str) -> None:
    model = model_of(LEFT[name])
    channels = 3 if name == "the picture" else 4
    calibration = calibration_of(model, (0.25, 0.5, 2.0, 4.0)[:channels])
    quantized = insert_qdq(model, calibration, ActivationType.INT8).model
    assert [node.op_type for node in quantized.graph.node if node.name.endswith("_smoothed_Mul")] == ["Mul"]
    batch = np.random.default_rng(1).random((1, 3, 8, 8)).astype(np.float32)
    fake_quant = FakeQuantGraph(model, calibration).run(batch, calibration.int8_nodes)
    np.testing.assert_allclose(InstrumentedGraph(quantized, optimize=False).run(batch)[0], fake_quant, atol=1e-5)


def test_a_transposed_convolution_of_one_group_folds_and_a_grouped_one_does_not() -> None:
    for group, weight in ((1, "wt"), (2, "wt")):
        body = f"a = Conv<pads = [1,1,1,1]>(x, w1)  t = ConvTranspose<group = {group}, pads = [1,1,1,1]>(a, {weight})"
        model = model_of(f"{body}  y = Relu(t)")
        view = view_graph(model)
        divisors = fold_division(view, "t", np.ones(2 * group, np.float32), CHANNELS, ["Relu_2"])
        assert (divisors is not None) is (group == 1)


def test_a_matrix_product_and_its_bias_fold_along_the_last_axis() -> None:
    body = "a = MatMul(x, m)  t = Add(a, row)  z = MatMul(t, m2)  y = Transpose<perm = [0,3,1,2]>(z)"
    graph = model_of(body, "float[1,8,8,4] x")
    view = view_graph(graph)
    divisors = fold_division(view, "t", np.full(4, 2.0, np.float32), LAST, ["MatMul_2"])
    assert divisors is not None
    assert set(divisors) == {("MatMul_0", 1), ("Add_1", 1)}
    assert fold_division(view, "t", np.full(4, 2.0, np.float32), CHANNELS, ["MatMul_2"]) is None
