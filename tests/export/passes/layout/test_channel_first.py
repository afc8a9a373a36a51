"""Channels-last islands become channel-first ones that compute the same, and everything else is left alone."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.layout.channel_first import channel_first, channel_first_products
from sr_edge.export.passes.rewrites.edit import constant_shape
from tests.export.passes.rewrites.equal_graphs import Values, model_of, require_equal

Array = npt.NDArray[Any]

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
HEIGHT, WIDTH, CHANNELS = 3, 4, 5


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator}: {output}", **attributes)


def random_values(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


INPUT: Values = {"x": random_values(1, CHANNELS, HEIGHT, WIDTH)}
WEIGHT: Values = {"w": random_values(CHANNELS, CHANNELS, seed=1), "b": random_values(CHANNELS, seed=2)}


def island(
    *inner: onnx.NodeProto, constants: Values = WEIGHT, outputs: tuple[str, ...] = ("y",), last: str = "last"
) -> onnx.ModelProto:
    """A Transpose of the input to "first", the nodes, and a Transpose of `last` to "y"."""
    nodes = [
        node("Transpose", ["x"], "first", perm=TO_LAST),
        *inner,
        node("Transpose", [last], "y", perm=TO_FIRST),
    ]
    return model_of(nodes, INPUT, constants, outputs=outputs)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(each.op_type for each in model.graph.node)


def moved_elements(model: onnx.ModelProto) -> int:
    """How many elements the Transpose nodes move in memory."""
    view = view_graph(model)
    return sum(math.prod(constant_shape(view, each.input[0]) or ()) for _, each in view.of_types(["Transpose"]))


class Builder:
    """Random nodes on channels-last tensors of two ranks, whose results are random tensors of the graph."""

    def __init__(self, seed: int) -> None:
        self.random, self.values = random.Random(seed), np.random.default_rng(seed)
        self.batch = self.random.choice((1, 1, 2))
        self.channels, self.height, self.width = (self.random.randint(1, 4) for _ in range(3))
        self.inputs: Values = {"x": self.values.standard_normal([self.batch, self.channels, self.height, self.width])}
        self.constants: dict[str, Array] = {}
        self.nodes = [node("Transpose", ["x"], "t0", perm=TO_LAST)]
        self.shapes: dict[str, list[int]] = {"t0": [self.batch, self.height, self.width, self.channels]}

    def model(self) -> onnx.ModelProto:
        steps = [
            self.product, self.product, self.gemm, self.normalize, self.unary, self.add_constant, self.add_tensor,
            self.reshape, self.mean, self.softmax, self.join, self.cut, self.split,
        ]  # fmt: skip
        for _ in range(self.random.randint(2, 9)):
            self.random.choice(steps)()
        outputs = [name for name in self.shapes if self.random.random() < 0.15]
        for number in range(self.random.randint(1, 2)):
            outputs.append(self.back(f"y{number}"))
        return model_of(self.nodes, self.inputs, self.constants, outputs=list(dict.fromkeys(outputs)))

    def back(self, name: str) -> str:
        tensor = self.tensor()
        channels = self.shapes[tensor][-1]
        pixels = int(np.prod(self.shapes[tensor])) // channels
        if pixels != self.batch * self.height * self.width or self.random.random() < 0.1:
            return tensor
        if len(self.shapes[tensor]) != 4:
            shape = [self.batch, self.height, self.width, channels]
            tensor = self.add("Reshape", [tensor, self.constant(np.array(shape, np.int64))], shape)
        self.nodes.append(node("Transpose", [tensor], name, perm=TO_FIRST))
        return name

    def tensor(self) -> str:
        return self.random.choice(list(self.shapes)[-3:])

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def add(self, operator: str, inputs: list[str], shape: list[int], **attributes: Any) -> str:
        name = f"t{len(self.shapes)}"
        self.nodes.append(node(operator, inputs, name, **attributes))
        self.shapes[name] = shape
        return name

    def normal(self, *shape: int) -> str:
        return self.constant(self.values.standard_normal(shape))

    def product(self) -> None:
        tensor, width = self.tensor(), self.random.randint(1, 4)
        shape = self.shapes[tensor]
        product = self.add("MatMul", [tensor, self.normal(shape[-1], width)], [*shape[:-1], width])
        if self.random.random() < 0.5:
            self.add("Add", [self.normal(width), product], self.shapes[product])

    def gemm(self) -> None:
        tensor, width = self.tensor(), self.random.randint(1, 4)
        shape = self.shapes[tensor]
        flat = [int(np.prod(shape[:-1])), shape[-1]]
        rows = self.add("Reshape", [tensor, self.constant(np.array(flat, np.int64))], flat)
        inputs = [rows, self.normal(width, shape[-1])]
        if self.random.random() < 0.7:
            inputs.append(self.normal(self.random.choice((1, width))))
        product = self.add("Gemm", inputs, [flat[0], width], transB=1, alpha=0.5, beta=2.0)
        self.add("Reshape", [product, self.constant(np.array([*shape[:-1], width]))], [*shape[:-1], width])

    def normalize(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        factors = [self.normal(shape[-1]) for _ in range(self.random.randint(1, 2))]
        self.add("LayerNormalization", [tensor, *factors], shape, epsilon=0.01)

    def unary(self) -> None:
        tensor = self.tensor()
        self.add(self.random.choice(("Sigmoid", "Neg", "Abs")), [tensor], self.shapes[tensor])

    def add_constant(self) -> None:
        tensor = self.tensor()
        shape = [size if self.random.random() < 0.5 else 1 for size in self.shapes[tensor]]
        self.add(self.random.choice(("Add", "Mul")), [tensor, self.normal(*shape)], self.shapes[tensor])

    def add_tensor(self) -> None:
        tensor = self.tensor()
        others = [name for name, shape in self.shapes.items() if shape == self.shapes[tensor]]
        self.add("Add", [tensor, self.random.choice(others)], self.shapes[tensor])

    def reshape(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        target = self.random.choice([[shape[0], -1, shape[-1]], [-1, shape[-1]], [1, *shape], [shape[0], -1]])
        value = np.empty(shape).reshape(target)
        self.add("Reshape", [tensor, self.constant(np.array(value.shape, np.int64))], list(value.shape))

    def mean(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        axis = self.random.randrange(len(shape))
        small = [1 if at == axis else size for at, size in enumerate(shape)]
        mean = self.add("ReduceMean", [tensor], small, axes=[axis])
        self.add("Sub", [tensor, mean], shape)

    def softmax(self) -> None:
        tensor = self.tensor()
        self.add("Softmax", [tensor], self.shapes[tensor], axis=-1)

    def join(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        self.add("Concat", [tensor, tensor], [*shape[:-1], 2 * shape[-1]], axis=len(shape) - 1)

    def cut(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        bounds = [self.constant(np.array([value], np.int64)) for value in (0, max(1, shape[-1] - 1), -1)]
        self.add("Slice", [tensor, *bounds], [*shape[:-1], max(1, shape[-1] - 1)])

    def split(self) -> None:
        tensor = self.tensor()
        shape = self.shapes[tensor]
        if shape[-1] % 2:
            return
        half = [*shape[:-1], shape[-1] // 2]
        names = [f"t{len(self.shapes)}", f"t{len(self.shapes) + 1}"]
        self.nodes.append(onnx.helper.make_node("Split", [tensor], names, name="s", axis=len(shape) - 1))
        self.shapes |= dict.fromkeys(names, half)


@pytest.mark.parametrize("seed", range(40))
def test_random_islands(seed: int) -> None:
    builder = Builder(seed)
    model = builder.model()
    for run in (channel_first, channel_first_products):
        result = run(model)
        if result.changed:
            require_equal(result, model, builder.inputs, 1e-10)
            assert moved_elements(result.model) < moved_elements(model)
            assert not run(result.model).changed


def test_everything_between_two_transposes_is_converted() -> None:
    """A block as in transformers: LayerNormalization, a product, GELU, a product, and the sum with the input."""
    model = island(
        node("LayerNormalization", ["first", "b", "b"], "normal"),
        node("MatMul", ["normal", "w"], "wide"),
        node("Add", ["wide", "b"], "biased"),
        node("Sigmoid", ["biased"], "gate"),
        node("Mul", ["gate", "biased"], "active"),
        node("MatMul", ["active", "w"], "narrow"),
        node("Add", ["narrow", "first"], "last"),
    )
    result = channel_first(model)
    require_equal(result, model, INPUT, 1e-11)
    assert not operators(result.model).keys() & {"Transpose", "MatMul", "LayerNormalization", "Reshape"}
    assert operators(result.model)["Conv"] == 2
    assert not channel_first_products(model).changed


def test_pixels_in_one_axis() -> None:
    """As vision transformers write it: Reshape to (batch, channels, pixels), Transpose, and back."""
    constants: Values = {
        **WEIGHT,
        "flat": np.array([1, CHANNELS, -1], np.int64),
        "image": np.array([1, CHANNELS, HEIGHT, WIDTH], np.int64),
        "position": random_values(1, HEIGHT * WIDTH, CHANNELS, seed=3),
        "kernel": random_values(CHANNELS, CHANNELS, 1, 1, seed=4),
    }
    nodes = [
        node("Conv", ["x", "kernel"], "features"),
        node("Reshape", ["features", "flat"], "a"),
        node("Transpose", ["a"], "t", perm=[0, 2, 1]),
        node("Add", ["t", "position"], "p"),
        node("MatMul", ["p", "w"], "q"),
        node("Transpose", ["q"], "u", perm=[0, 2, 1]),
        node("Reshape", ["u", "image"], "v"),
        node("Conv", ["v", "kernel"], "y"),
    ]
    model = model_of(nodes, INPUT, constants)
    result = channel_first_products(model)
    require_equal(result, model, INPUT, 1e-11)
    assert operators(result.model) == {"Conv": 3, "Add": 1}


def test_a_weight_that_two_products_share_is_stored_once() -> None:
    model = island(node("MatMul", ["first", "w"], "a"), node("MatMul", ["a", "w"], "last"))
    result = channel_first_products(model)
    require_equal(result, model, INPUT, 1e-11)
    assert len(result.model.graph.initializer) == 1


def test_a_tensor_inside_that_is_an_output_gets_a_transpose_back() -> None:
    model = island(node("MatMul", ["first", "w"], "a"), node("Neg", ["a"], "last"), outputs=("y", "a"))
    result = channel_first_products(model)
    require_equal(result, model, INPUT, 1e-11)
    assert operators(result.model) == {"Conv": 1, "Neg": 1, "Transpose": 1}


def test_an_output_of_two_transposes_keeps_both_names() -> None:
    model = island(
        node("MatMul", ["first", "w"], "last"), node("Transpose", ["last"], "z", perm=TO_FIRST), outputs=("y", "z")
    )
    result = channel_first_products(model)
    require_equal(result, model, INPUT, 1e-11)
    assert [output.name for output in result.model.graph.output] == ["y", "z"]


def test_an_island_with_as_many_borders_as_transposes_is_left_alone() -> None:
    """A sum over the rows of all pixels, which no channel-first tensor has, needs the channels last."""
    weight: Values = {"w": random_values(WIDTH * CHANNELS, 2), "flat": np.array([HEIGHT, WIDTH * CHANNELS], np.int64)}
    nodes = [
        node("Transpose", ["x"], "first", perm=TO_LAST),
        node("Neg", ["first"], "n"),
        node("Reshape", ["n", "flat"], "rows"),
        node("MatMul", ["rows", "w"], "y"),
    ]
    assert not channel_first(model_of(nodes, INPUT, weight)).changed


@pytest.mark.parametrize(
    "inner",
    [
        [node("Softplus", ["first"], "t"), node("Einsum", ["t", "w"], "last", equation="bhwc,cd->bhwd")],
        [node("MatMul", ["first", "computed"], "last")],
    ],
    ids=["einsum", "computed weight"],
)
def test_near_misses_are_left_alone(inner: list[onnx.NodeProto]) -> None:
    computed = node("Neg", ["w"], "computed")
    model = island(computed, *inner)
    result = channel_first(model)
    assert not result.changed
    assert result.model is model


def test_an_operator_in_the_middle_that_needs_channels_last_keeps_the_rest() -> None:
    """Each half has as many borders as Transposes, so that only a graph with more to save is changed."""
    model = island(
        node("MatMul", ["first", "w"], "a"),
        node("Einsum", ["a", "w"], "u", equation="bhwc,cd->bhwd"),
        node("MatMul", ["u", "w"], "last"),
    )
    assert not channel_first(model).changed


def test_a_normalization_over_more_than_the_channels_is_left_alone() -> None:
    constants: Values = {"s": random_values(WIDTH, CHANNELS)}
    model = island(node("LayerNormalization", ["first", "s"], "last", axis=-2), constants=constants)
    assert not channel_first(model).changed


def test_half_precision_and_quantized_products_are_left_alone() -> None:
    half: Values = {"x": INPUT["x"].astype(np.float16)}
    nodes = [
        node("Transpose", ["x"], "first", perm=TO_LAST),
        node("MatMul", ["first", "w"], "last"),
        node("Transpose", ["last"], "y", perm=TO_FIRST),
    ]
    assert not channel_first(model_of(nodes, half, {"w": WEIGHT["w"].astype(np.float16)})).changed
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,3,4] x) => (float[1,2,3,4] y)
      <int8[2,2] q = {1, 2, 3, 4}, float s = {0.5}, int8 z = {0}> {
      w = DequantizeLinear(q, s, z)
      a = Transpose<perm = [0, 2, 3, 1]>(x)
      b = MatMul(a, w)
      y = Transpose<perm = [0, 3, 1, 2]>(b)
    }"""
    assert not channel_first(onnx.parser.parse_model(text)).changed


def test_a_subgraph_that_reads_a_tensor_of_the_island() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[1,2,3,4] x, bool cond) => (float[1,3,4,2] y, float[1,2,3,4] z) <float[2,2] w = {1, 2, 3, 4}> {
      a = Transpose<perm = [0, 2, 3, 1]>(x)
      b = MatMul(a, w)
      z = Transpose<perm = [0, 3, 1, 2]>(b)
      y = If(cond) <then_branch = p () => (float[1,3,4,2] u) { u = Neg(b) },
                    else_branch = q () => (float[1,3,4,2] v) { v = Abs(b) }>
    }"""
    model = onnx.parser.parse_model(text)
    inputs: Values = {"x": random_values(1, 2, 3, 4).astype(np.float32), "cond": np.array(True)}
    require_equal(channel_first_products(model), model, inputs, 1e-6)


def test_sizes_that_are_not_constant_are_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,H,W] x) => (float[1,2,H,W] y)
      <float[2,2] w = {1, 2, 3, 4}> {
      a = Transpose<perm = [0, 2, 3, 1]>(x)
      b = MatMul(a, w)
      y = Transpose<perm = [0, 3, 1, 2]>(b)
    }"""
    assert not channel_first(onnx.parser.parse_model(text)).changed
