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


@pytest.mark.parametrize("seed", range(60))
def test_random_islands(seed: int) -> None:
    builder = Builder(seed)
    model = builder.model()
    for run in (channel_first, channel_first_products):
        result = run(model)
        if result.changed:
            require_equal(result, model, builder.inputs, 1e-10)
            assert moved_elements(result.model) < moved_elements(model)
            assert not run(result.model).changed
