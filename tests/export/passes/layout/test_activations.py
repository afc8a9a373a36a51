"""PRelu and Mish in other operators are equal to the last bit or to rounding, and nothing else is changed."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from sr_edge.export.passes.layout.activations import mish_as_sigmoid, prelu_as_minimum
from tests.export.passes.rewrites.equal_graphs import Values, model_of, operators_of, require_equal

INPUTS: Values = {"x": np.random.default_rng(0).standard_normal([1, 3, 4, 5]) * 4}


def node(operator: str, inputs: list[str], output: str) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator} of/{output}:0")


@pytest.mark.parametrize("shape", [(3, 1, 1), (1,), (1, 3, 4, 5), (5,)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_prelu_is_equal_to_the_last_bit(shape: tuple[int, ...], dtype: type[np.floating]) -> None:
    inputs = {"x": INPUTS["x"].astype(dtype)}
    slope = np.random.default_rng(1).uniform(-1, 2, shape).astype(dtype)
    model = model_of([node("PRelu", ["x", "slope"], "y")], inputs, {"slope": slope})
    result = prelu_as_minimum(model)
    require_equal(result, model, inputs)
    assert "PRelu" not in operators_of(result.model)
    assert not prelu_as_minimum(result.model).changed


@pytest.mark.parametrize(("slope", "operator"), [(0.25, "LeakyRelu"), (0.1, "Min")])
def test_equal_slopes_are_a_leaky_relu_if_an_attribute_holds_them_exactly(slope: float, operator: str) -> None:
    """An attribute is a float32 number, which 0.1 in float64 is not."""
    model = model_of([node("PRelu", ["x", "slope"], "y")], INPUTS, {"slope": np.full((3, 1, 1), slope)})
    result = prelu_as_minimum(model)
    require_equal(result, model, INPUTS)
    assert operator in operators_of(result.model)


def test_prelu_with_a_slope_that_is_computed() -> None:
    nodes = [node("Neg", ["x"], "slope"), node("PRelu", ["x", "slope"], "y")]
    model = model_of(nodes, INPUTS)
    require_equal(prelu_as_minimum(model), model, INPUTS)


def test_prelu_in_half_precision_is_left_alone() -> None:
    inputs: Values = {"x": INPUTS["x"].astype(np.float16)}
    model = model_of([node("PRelu", ["x", "s"], "y")], inputs, {"s": np.array([0.5], np.float16)})
    assert not prelu_as_minimum(model).changed


def mish(*, outputs: tuple[str, ...] = ("y",), inputs: Values = INPUTS) -> onnx.ModelProto:
    nodes = [node("Softplus", ["x"], "soft"), node("Tanh", ["soft"], "factor"), node("Mul", ["x", "factor"], "y")]
    return model_of(nodes, inputs, outputs=outputs)


def test_mish_is_equal_up_to_rounding() -> None:
    values = np.concatenate([np.linspace(-30, 30, 4001), [-700.0, 700.0, 0.0]])
    inputs: Values = {"x": values}
    model = mish(inputs=inputs)
    result = mish_as_sigmoid(model)
    require_equal(result, model, inputs, 1e-13)
    assert not operators_of(result.model) & {"Softplus", "Tanh"}
    assert not mish_as_sigmoid(result.model).changed


def test_mish_has_no_value_above_two_between_input_and_output() -> None:
    """So that the graph can be converted to half precision."""
    values = np.linspace(-50, 50, 1001)
    sigmoid = 1 / (1 + np.exp(-values))
    numerator = sigmoid * (2 - sigmoid)
    model = mish(inputs={"x": values}, outputs=("y",))
    result = mish_as_sigmoid(model).model
    inner = [each.output[0] for each in result.graph.node if each.op_type != "Mul" or each.output[0] != "y"]
    assert np.max(np.abs([sigmoid, numerator, 2 - numerator, numerator / (2 - numerator)])) <= 2
    probe = onnx.ModelProto()
    probe.CopyFrom(result)
    probe.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in inner)
    outputs = onnx.reference.ReferenceEvaluator(probe).run(inner, {"x": values})
    assert max(float(np.abs(value).max()) for value in outputs) <= 2


@pytest.mark.parametrize("outputs", [("y", "soft")])
def test_softplus_that_something_else_reads_is_left_alone(outputs: tuple[str, ...]) -> None:
    assert not mish_as_sigmoid(mish(outputs=outputs)).changed


def test_softplus_alone_is_left_alone() -> None:
    model = model_of([node("Softplus", ["x"], "y")], INPUTS)
    result = mish_as_sigmoid(model)
    assert not result.changed
    assert "y:0" in result.reason


def test_a_factor_that_is_an_output_of_the_graph_keeps_its_name() -> None:
    model = mish(outputs=("y", "factor"))
    require_equal(mish_as_sigmoid(model), model, INPUTS, 1e-13)


def test_a_softplus_that_a_subgraph_reads_is_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2] x, bool cond) => (float[2] y) {
      soft = Softplus(x)
      factor = Tanh(soft)
      y = If(cond) <then_branch = a () => (float[2] p) { p = Mul(factor, soft) },
                    else_branch = b () => (float[2] q) { q = Abs(factor) }>
    }"""
    assert not mish_as_sigmoid(onnx.parser.parse_model(text)).changed
