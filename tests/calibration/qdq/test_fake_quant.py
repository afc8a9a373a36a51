"""The fake-quant graph equals the float graph without INT8 layers, and the written INT8 graph with all of them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.calibration import Calibration, Decision, PlacementPolicy, Provenance, TensorRange
from sr_edge.calibration.graph.candidates import find_quantizable_ops
from sr_edge.calibration.qdq.fake_quant import FakeQuantGraph
from sr_edge.calibration.qdq.writer import insert_qdq
from sr_edge.frames import Batch
from sr_edge.spec import ActivationType
from tests.calibration.graphs import Run, parsed, random_weight

CONV = {"w": random_weight(4, 3, 3, 3), "b": random_weight(4, seed=1)}
PRODUCT = {"m": random_weight(24, 6, seed=2), "added": random_weight(6, seed=3)}
GRAPHS = {
    "a conv": parsed("y = Conv <pads=[1,1,1,1]> (x, w, b)", CONV),
    "a conv without a bias": parsed("y = Conv <pads=[1,1,1,1]> (x, w)", CONV),
    "a product with an Add behind it": parsed("p = MatMul (x, m)  y = Add (p, added)", PRODUCT),
    "an Add on the left": parsed("p = MatMul (x, m)  y = Add (added, p)", PRODUCT),
    "names that sound like ours": parsed(
        "switch = Conv <pads=[1,1,1,1]> (x, w, b)  y = Relu (switch)", CONV, output="float[n,c,h,w] y"
    ),
}


@pytest.fixture(params=list(GRAPHS))
def model(request: pytest.FixtureRequest) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(GRAPHS[request.param])
    for index, node in enumerate(model.graph.node):
        node.name = f"layer{index}"
    return model


@pytest.fixture
def calibration(model: onnx.ModelProto) -> Calibration:
    (op,) = find_quantizable_ops(model)
    outputs = 6 if op.op_type == "MatMul" else 4
    return Calibration(
        Provenance("", (), "min-max"),
        PlacementPolicy(),
        {"x": TensorRange(0.0, 1.0, 1.0)},
        (Decision(op.node, op.op_type, True, ""),),
        {op.node: tuple(np.linspace(0.5, 1.0, outputs))},
    )


def test_off_it_is_the_float_graph(
    model: onnx.ModelProto, calibration: Calibration, batches: list[Batch], run_as_written: Run
) -> None:
    output = FakeQuantGraph(model, calibration).run(batches[0], ())
    np.testing.assert_allclose(output, run_as_written(model, batches[0]), rtol=1e-5, atol=1e-5)


def test_on_it_is_the_written_int8_graph(
    model: onnx.ModelProto, calibration: Calibration, batches: list[Batch], run_as_written: Run
) -> None:
    fake_quant = FakeQuantGraph(model, calibration).run(batches[0], calibration.int8_nodes)
    written = run_as_written(insert_qdq(model, calibration, ActivationType.INT8).model, batches[0])
    np.testing.assert_allclose(fake_quant, written, rtol=1e-5, atol=1e-5)
    assert np.abs(written - run_as_written(model, batches[0])).mean() > 0.3, "the bias was not corrected"
