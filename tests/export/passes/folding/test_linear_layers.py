"""Linear layers between two nonlinearities are one convolution afterwards, and the outputs stay equal in float64."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.passes.folding.linear_layers import fold_linear_layers
from tests.export.passes.rewrites.equal_graphs import model_of, operators_of, outputs_of, require_equal

Array = npt.NDArray[Any]

TOLERANCE = 1e-10


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator}, (of) {output}", **attributes)


class Graph:
    """A graph on one feature map "x" in float64, built node by node."""

    def __init__(self, channels: int = 4, size: tuple[int, int] = (6, 7), seed: int = 0) -> None:
        self.values = np.random.default_rng(seed)
        self.inputs = {"x": self.values.standard_normal((1, channels, *size))}
        self.constants: dict[str, Array] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.channels = {"x": channels}

    def constant(self, *shape: int) -> str:
        name = f"constant, {len(self.constants)}"
        self.constants[name] = self.values.standard_normal(shape)
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"{operator}: {len(self.nodes)}"
        self.nodes.append(node(operator, inputs, output, **attributes))
        self.channels[output] = next(self.channels[name] for name in inputs if name in self.channels)
        return output

    def conv(self, source: str, outputs: int, kernel: int = 3, bias: bool = True, group: int = 1, **more: Any) -> str:
        weight = self.constant(outputs, self.channels[source] // group, kernel, kernel)
        inputs = [source, weight, *([self.constant(outputs)] if bias else [])]
        more.setdefault("pads", [kernel // 2] * 4)
        output = self.add("Conv", inputs, group=group, **more)
        self.channels[output] = outputs
        return output

    def norm(self, source: str) -> str:
        channels = self.channels[source]
        names = [self.constant(channels) for _ in range(4)]
        self.constants[names[3]] = np.abs(self.constants[names[3]]) + 0.5
        return self.add("BatchNormalization", [source, *names], epsilon=0.1)

    def model(self, last: str, outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
        self.nodes.append(node("Relu", [last], "y"))
        return model_of(self.nodes, self.inputs, self.constants, outputs=("y", *outputs))


def convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "Conv"]


def require_folded(graph: Graph, last: str, operators: set[str]) -> onnx.ModelProto:
    model = graph.model(last)
    result = fold_linear_layers(model)
    require_equal(result, model, graph.inputs, TOLERANCE)
    assert operators_of(result.model) == operators | {"Relu"}
    assert len(convolutions(result.model)) == 1
    assert not fold_linear_layers(result.model).changed
    return result.model


def require_left_alone(graph: Graph, last: str, outputs: tuple[str, ...] = ()) -> None:
    model = graph.model(last, outputs)
    result = fold_linear_layers(model)
    assert not result.changed
    assert result.model is model
    assert result.reason


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
def test_branches_with_norms(group: int, stride: int) -> None:
    """RepVGG (arXiv:2101.03697), of which the strided block has no identity."""
    graph = Graph()
    wide = graph.norm(graph.conv("x", 4, 3, False, group, strides=[stride, stride]))
    narrow = graph.norm(graph.conv("x", 4, 1, False, group, strides=[stride, stride]))
    last = graph.add("Add", [wide, narrow])
    folded = require_folded(graph, graph.add("Add", [last, graph.norm("x")]) if stride == 1 else last, {"Conv"})
    (weight,) = (tensor for tensor in folded.graph.initializer if tensor.name == convolutions(folded)[0].input[1])
    assert list(weight.dims) == [4, 4 // group, 3, 3]


@pytest.mark.parametrize("bias", [True, False])
def test_a_chain_and_its_border_map(bias: bool) -> None:
    graph = Graph()
    first = graph.conv("x", 8, 1, bias)
    last = graph.conv(graph.conv(first, 8, 3), 4, 1)
    require_folded(graph, graph.add("Add", [last, "x"]), {"Conv", "Add"} if bias else {"Conv"})


def padded_with_its_bias(graph: Graph, first: str, bias: Array) -> str:
    """Zero padding whose border then gets the bias, as ECB's and DBB's code does."""
    graph.constants["around"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    rows, columns = (size + 2 for size in graph.inputs["x"].shape[2:])
    padded = graph.add("Pad", [first, "around"])
    border = np.ones((rows, columns), bool)
    border[1:-1, 1:-1] = False
    places = np.argwhere(np.broadcast_to(border, (1, len(bias), rows, columns)))
    graph.constants["places"] = places
    graph.constants["at the border"] = bias[places[:, 1]]
    return graph.add("ScatterND", [padded, "places", "at the border"])


def test_padding_with_the_bias_leaves_no_border_map() -> None:
    graph = Graph()
    first = graph.conv("x", 8, 1)
    padded = padded_with_its_bias(graph, first, graph.constants["constant, 1"])
    chain = graph.conv(padded, 4, 3, pads=[0, 0, 0, 0])
    require_folded(graph, graph.add("Add", [chain, graph.conv("x", 4, 3)]), {"Conv"})


def test_other_values_at_the_border_leave_a_border_map() -> None:
    graph = Graph()
    padded = padded_with_its_bias(graph, graph.conv("x", 8, 1), np.arange(8.0))
    require_folded(graph, graph.conv(padded, 4, 3, pads=[0, 0, 0, 0]), {"Conv", "Add"})


def test_assignments_to_pixels_that_depend_on_the_input_are_left_alone() -> None:
    graph = Graph()
    first = graph.conv("x", 4, 3)
    graph.constants["places"] = np.array([[0, 0, 2, 2]])
    graph.constants["value"] = np.array([1.0])
    require_left_alone(graph, graph.add("ScatterND", [first, "places", "value"]))


def test_diverse_branches() -> None:
    """Averages, and branches whose outputs are concatenated, with constants all around."""
    graph = Graph()
    branch = graph.add(
        "AveragePool", [graph.conv("x", 4, 1, False)], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1
    )
    total = graph.add("Sub", [graph.conv("x", 4, 3), graph.add("Neg", [branch])])
    graph.constants["two"] = np.array([2.0])
    scaled = graph.add("Div", [graph.add("Mul", [graph.constant(4, 1, 1), total]), "two"])
    require_folded(graph, graph.add("Sub", [graph.constant(1, 4, 1, 1), graph.add("Identity", [scaled])]), {"Conv"})


def test_branches_of_one_size_that_are_concatenated() -> None:
    graph = Graph()
    last = graph.add("Concat", [graph.conv("x", 4, 3), graph.conv("x", 2, 3, False)], axis=1)
    require_folded(graph, last, {"Conv"})


def test_kernels_of_other_shapes() -> None:
    """ACNet (arXiv:1908.03930) adds a row and a column to a square kernel."""
    graph = Graph()
    last = graph.conv("x", 4, 3)
    for kernel, pads in (((1, 3), [0, 1, 0, 1]), ((3, 1), [1, 0, 1, 0])):
        weight = graph.constant(4, 4, *kernel)
        last = graph.add("Add", [graph.add("Conv", ["x", weight], pads=pads, kernel_shape=kernel), last])
    require_folded(graph, last, {"Conv"})


def test_dilations_stay() -> None:
    graph = Graph(size=(9, 9))
    last = graph.norm(graph.conv("x", 4, 3, dilations=[2, 2], pads=[2] * 4))
    folded = require_folded(graph, last, {"Conv"})
    assert onnx.helper.get_node_attr_value(convolutions(folded)[0], "dilations") == [2, 2]


def test_random_branches_and_chains() -> None:
    """The outputs stay, whatever is folded, and some of these graphs are folded."""
    changed = 0
    for seed in range(20):
        choose = random.Random(seed)
        graph = Graph(2 * choose.randint(1, 3), (choose.randint(3, 8), choose.randint(3, 8)), seed)
        last, *branches = (_random_branch(graph, choose) for _ in range(choose.randint(1, 4)))
        for branch in branches:
            last = graph.add(choose.choice(["Add", "Sub"]), [last, branch])
        model = graph.model(last)
        result = fold_linear_layers(model)
        changed += result.changed
        (expected,), (actual,) = outputs_of(model, graph.inputs), outputs_of(result.model, graph.inputs)
        np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e-9, err_msg=f"seed {seed}")
        assert not fold_linear_layers(result.model).changed, f"seed {seed}"
    assert changed > 10


def _random_branch(graph: Graph, choose: random.Random) -> str:
    """A chain of one to four linear layers that keeps channels and size."""
    channels, last = graph.channels["x"], "x"
    for _ in range(choose.randint(1, 4)):
        step = choose.choice(["conv", "conv", "depthwise", "norm", "scale", "shift", "pad", "pool"])
        wide = choose.choice([channels, 2 * channels])
        kernel = choose.choice([1, 1, 3, 5])
        if step == "conv":
            last = graph.conv(last, wide, kernel, choose.random() < 0.5)
        elif step == "depthwise":
            last = graph.conv(last, graph.channels[last], kernel, group=graph.channels[last])
        elif step == "norm":
            last = graph.norm(last)
        elif step == "scale":
            last = graph.add("Mul", [last, graph.constant(graph.channels[last], 1, 1)])
        elif step == "shift":
            last = graph.add("Add", [graph.constant(1, graph.channels[last], 1, graph.inputs["x"].shape[3]), last])
        elif step == "pad":
            graph.constants["around one"] = np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
            padded = graph.add("Pad", [last, "around one"])
            last = graph.conv(padded, wide, 3, pads=[0] * 4)
        else:
            last = graph.add("AveragePool", [last], kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1)
    return graph.conv(last, channels, 1)


def chain(graph: Graph, middle: str = "", kernels: tuple[int, int] = (1, 3)) -> str:
    first = graph.conv("x", 8, kernels[0])
    return graph.conv(graph.add(middle, [first]) if middle else first, 4, kernels[1])


@pytest.mark.parametrize("operator", ["Relu", "Sigmoid"])
def test_a_nonlinearity_between_is_left_alone(operator: str) -> None:
    graph = Graph()
    require_left_alone(graph, chain(graph, operator))


def test_padding_after_a_kernel_that_sees_neighbours_is_left_alone() -> None:
    graph = Graph()
    require_left_alone(graph, chain(graph, kernels=(3, 3)))


def test_the_same_without_padding_is_folded_only_if_it_is_cheaper() -> None:
    graph = Graph(size=(9, 9))
    first = graph.conv("x", 32, 3, pads=[0] * 4)
    require_folded(graph, graph.conv(first, 4, 3, pads=[0] * 4), {"Conv"})
    graph = Graph(size=(20, 20))
    first = graph.conv("x", 4, 3, pads=[0] * 4)
    require_left_alone(graph, graph.conv(first, 4, 3, pads=[0] * 4))


def test_a_bottleneck_is_left_alone() -> None:
    graph = Graph(channels=16)
    last = graph.conv(graph.conv(graph.conv("x", 2, 1, False), 2, 3, False), 16, 1, False)
    require_left_alone(graph, last)


def test_branches_of_different_strides_and_inputs_are_left_alone() -> None:
    graph = Graph(size=(6, 6))
    strided = graph.conv("x", 4, 3, strides=[2, 2])
    other = graph.conv(graph.add("Relu", ["x"]), 4, 3, strides=[2, 2])
    require_left_alone(graph, graph.add("Add", [strided, other]))
    graph = Graph(size=(6, 6))
    small = graph.conv("x", 4, 1, pads=[0] * 4, strides=[6, 6])
    require_left_alone(graph, graph.add("Add", [graph.conv("x", 4, 3), small]))


def test_shared_weights_are_left_alone() -> None:
    graph = Graph()
    first = graph.conv("x", 4, 1, False)
    last = graph.add("Relu", [graph.add("Mul", [first, graph.constant(4, 1, 1)])])
    shared = graph.add("Conv", [last, graph.nodes[0].input[1]], pads=[0] * 4)
    require_left_alone(graph, shared)


def test_several_readers_and_outputs_between_are_left_alone() -> None:
    graph = Graph()
    first = graph.conv("x", 8, 1)
    last = graph.conv(first, 4, 3)
    require_left_alone(graph, graph.add("Add", [last, graph.conv(graph.add("Relu", [first]), 4, 1)]))
    graph = Graph()
    first = graph.conv("x", 8, 1)
    require_left_alone(graph, graph.conv(first, 4, 3), outputs=(first,))


def test_tensors_that_a_subgraph_reads_are_left_alone() -> None:
    graph = Graph()
    first = graph.conv("x", 8, 1)
    last = graph.conv(first, 4, 3)
    branch = onnx.helper.make_graph([node("Neg", [first], "inner")], "branch", [], [onnx.ValueInfoProto(name="inner")])
    graph.constants["condition"] = np.array(True)
    graph.nodes.append(node("If", ["condition"], "chosen", then_branch=branch, else_branch=branch))
    model = graph.model(last)
    assert not fold_linear_layers(model).changed


def test_constants_that_are_computed_and_other_axes_are_left_alone() -> None:
    graph = Graph(channels=4, size=(4, 4))
    total = graph.add("ReduceMean", ["x"])
    require_left_alone(graph, graph.add("Mul", [graph.conv("x", 4, 3), total]))
    graph = Graph(channels=4, size=(4, 4))
    require_left_alone(graph, graph.add("Mul", [graph.conv("x", 4, 3), graph.constant(1, 1, 1, 4)]))
    graph = Graph(channels=4, size=(4, 4))
    require_left_alone(graph, graph.add("Concat", [graph.conv("x", 4, 3), graph.conv("x", 4, 3)], axis=2))
    graph = Graph(channels=4, size=(4, 4))
    require_left_alone(graph, graph.add("Add", [graph.conv("x", 4, 3), graph.constant(2, 4, 1, 1)]))


def test_int8_and_half_precision_graphs_are_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float16[1,2,4,4] x) => (float16[1,2,4,4] y)
      <float16[2,2,1,1] w = {1, 2, 3, 4}, float16[1] k = {2}> { a = Conv(x, w) y = Mul(a, k) }"""
    assert not fold_linear_layers(onnx.parser.parse_model(text)).changed
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,4,4] x) => (float[1,2,4,4] y)
      <int8[2,2,1,1] q = {1, 2, 3, 4}, float s = {0.5}, float k = {2}>
      { w = DequantizeLinear(q, s) a = Conv(x, w) y = Mul(a, k) }"""
    assert not fold_linear_layers(onnx.parser.parse_model(text)).changed


def test_old_opsets_and_unknown_sizes_are_left_alone() -> None:
    graph = Graph()
    model = graph.model(chain(graph))
    old = onnx.ModelProto()
    old.CopyFrom(model)
    old.opset_import[0].version = 11
    assert not fold_linear_layers(old).changed
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[3].ClearField("dim_value")
    assert not fold_linear_layers(model).changed


def rounded(tensors: Mapping[str, Array]) -> dict[str, Array]:
    return {name: value.astype(np.float32) for name, value in tensors.items()}


def test_float32_weights_are_rounded_once() -> None:
    graph = Graph(channels=16)
    last = graph.conv(graph.conv(graph.conv("x", 64, 1), 64, 3), 16, 1)
    graph.nodes.append(node("Relu", [last], "y"))
    exact = model_of(graph.nodes, graph.inputs, graph.constants)
    single = model_of(graph.nodes, rounded(graph.inputs), rounded(graph.constants))
    result = fold_linear_layers(single)
    assert result.changed
    inputs = rounded(graph.inputs)
    (expected,) = outputs_of(exact, graph.inputs)
    (actual,) = outputs_of(result.model, inputs)
    np.testing.assert_allclose(actual, expected, rtol=0.0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("value", [np.inf, np.nan, 1e300])
def test_weights_that_float32_has_not_are_left_alone(value: float) -> None:
    graph = Graph()
    first = graph.conv("x", 8, 1)
    graph.constants[graph.nodes[0].input[1]][0, 0, 0, 0] = value
    require_left_alone(graph, graph.conv(first, 4, 3))


def test_places_outside_of_the_tensor_are_left_alone() -> None:
    graph = Graph()
    graph.constants["places"], graph.constants["value"] = np.array([[0, 9, 0, 0]]), np.array([1.0])
    assigned = graph.add("ScatterND", [graph.conv("x", 8, 1), "places", "value"])
    require_left_alone(graph, graph.conv(assigned, 4, 1))
