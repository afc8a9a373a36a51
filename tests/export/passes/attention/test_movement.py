"""Chains of operators that only move data become the fewest copies, with every element in the same place."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.passes.attention.movement import move_once
from tests.export.passes.attention.window_graphs import count
from tests.export.passes.rewrites.equal_graphs import Values, model_of, outputs_of, require_equal

Array = npt.NDArray[Any]


class Mover:
    """A random chain of operators that move the elements of "x", and are then read by a Neg."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.shape = [self.random.choice((1, 2, 4, 6)) for _ in range(3)] + [16]
        self.inputs: Values = {"x": np.random.default_rng(seed).standard_normal(self.shape)}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.last = "x"

    def model(self) -> onnx.ModelProto:
        steps = (self.reshape, self.transpose, self.roll, self.cut, self.take, self.split, self.repeat)
        for _ in range(self.random.randint(2, 7)):
            self.random.choice(steps)()
        self.nodes.append(onnx.helper.make_node("Neg", [self.last], ["y"]))
        return model_of(self.nodes, self.inputs, self.constants)

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, *numbers: int) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.array(numbers, np.int64)
        return name

    def axis(self) -> int:
        return self.random.randrange(len(self.shape))

    def reshape(self) -> None:
        elements, shape = int(np.prod(self.shape)), []
        for _ in range(self.random.randint(0, 4)):
            shape.append(self.random.choice([size for size in (1, 2, 3, 4, 8, 16) if elements % size == 0]))
            elements //= shape[-1]
        self.shape = [*shape, elements]
        self.last = self.add("Reshape", [self.last, self.constant(*self.shape)])

    def transpose(self) -> None:
        order = self.random.sample(range(len(self.shape)), len(self.shape))
        self.last = self.add("Transpose", [self.last], perm=order)
        self.shape = [self.shape[axis] for axis in order]

    def part(self, axis: int, begin: int, end: int) -> str:
        bounds = [self.constant(number) for number in (begin, end, axis, 1)]
        return self.add("Slice", [self.last, *bounds])

    def roll(self) -> None:
        axis = self.axis()
        if self.shape[axis] > 1:
            at = self.random.randint(1, self.shape[axis] - 1)
            parts = [self.part(axis, at, self.shape[axis]), self.part(axis, 0, at)]
            self.last = self.add("Concat", parts, axis=axis)

    def cut(self) -> None:
        axis = self.axis()
        begin = self.random.randrange(self.shape[axis])
        end = self.random.randint(begin + 1, self.shape[axis])
        self.last = self.part(axis, begin, end)
        self.shape[axis] = end - begin

    def take(self) -> None:
        axis = self.axis()
        if len(self.shape) > 1:
            name = f"c{len(self.constants)}"
            self.constants[name] = np.array(self.random.randrange(-self.shape[axis], self.shape[axis]), np.int64)
            self.last = self.add("Gather", [self.last, name], axis=axis)
            del self.shape[axis]

    def split(self) -> None:
        axis = self.axis()
        if self.shape[axis] % 2 == 0:
            half = self.shape[axis] // 2
            output = f"t{len(self.nodes)}"
            sizes = self.constant(half, half)
            self.nodes.append(onnx.helper.make_node("Split", [self.last, sizes], ["", output], name=output, axis=axis))
            self.nodes[-1].output[0] = f"{output} first"
            self.last = output
            self.shape[axis] = half

    def repeat(self) -> None:
        self.last = self.add("Concat", [self.last, self.last], axis=0)
        self.shape[0] *= 2


@pytest.mark.parametrize("seed", range(50))
def test_random_chains(seed: int) -> None:
    mover = Mover(seed)
    model = mover.model()
    result = move_once(model)
    if result.changed:
        require_equal(result, model, mover.inputs)
        assert not move_once(result.model).changed


def test_many_random_chains_are_changed() -> None:
    assert sum(move_once(Mover(seed).model()).changed for seed in range(50)) > 10


def shift_and_partition(step: int = 4, rank: int = 3) -> onnx.ModelProto:
    """A cyclic shift by `step` along axis 1 of (1, 8, 8, 8), a partition into windows of 4, and a Neg."""
    nodes = [
        onnx.helper.make_node("Slice", ["x", "step", "end", "one"], ["lower"]),
        onnx.helper.make_node("Slice", ["x", "zero", "step", "one"], ["upper"]),
        onnx.helper.make_node("Concat", ["lower", "upper"], ["rolled"], axis=1),
        onnx.helper.make_node("Reshape", ["rolled", "split"], ["blocks"]),
        onnx.helper.make_node("Transpose", ["blocks"], ["windows"], perm=[0, 2, 1, 3]),
        onnx.helper.make_node("Neg", ["windows"], ["y"]),
    ]
    constants = {
        "zero": np.array([0]), "one": np.array([1]), "end": np.array([8]), "step": np.array([step]),
        "split": np.array([2, 4, 2, 32]),
    }  # fmt: skip
    return model_of(nodes, IMAGE, constants)


IMAGE = {"x": np.random.default_rng(0).standard_normal((1, 8, 8, 8))}


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_a_shift_and_a_partition_are_one_gather(step: int) -> None:
    model = shift_and_partition(step)
    result = move_once(model)
    require_equal(result, model, IMAGE)
    assert (count(result.model, "Gather"), count(result.model, "Slice", "Concat", "Transpose")) == (1, 0)


def test_a_transpose_and_its_inverse_disappear() -> None:
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Reshape", ["a", "flat"], ["b"]),
        onnx.helper.make_node("Reshape", ["b", "whole"], ["c"]),
        onnx.helper.make_node("Transpose", ["c"], ["d"], perm=[0, 3, 1, 2]),
        onnx.helper.make_node("Neg", ["d"], ["y"]),
    ]
    model = model_of(nodes, IMAGE, {"flat": np.array([64, 8]), "whole": np.array([1, 8, 8, 8])})
    result = move_once(model)
    require_equal(result, model, IMAGE)
    assert [node.op_type for node in result.model.graph.node] == ["Neg"]


def test_a_tensor_that_the_graph_returns_keeps_its_name() -> None:
    nodes = [
        onnx.helper.make_node("Transpose", ["x"], ["a"], perm=[0, 2, 3, 1]),
        onnx.helper.make_node("Transpose", ["a"], ["y"], perm=[0, 3, 1, 2]),
    ]
    model = model_of(nodes, IMAGE)
    result = move_once(model)
    require_equal(result, model, IMAGE)
    assert count(result.model, "Transpose") == 0


NEAR_MISSES = {
    "one partition": [
        onnx.helper.make_node("Reshape", ["x", "split"], ["a"]),
        onnx.helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 1, 3]),
        onnx.helper.make_node("Neg", ["b"], ["y"]),
    ],
    "indices that are computed": [
        onnx.helper.make_node("Shape", ["x"], ["sizes"]),
        onnx.helper.make_node("Transpose", ["x"], ["a"], perm=[2, 0, 1, 3]),
        onnx.helper.make_node("Gather", ["a", "sizes"], ["b"], axis=3),
        onnx.helper.make_node("Neg", ["b"], ["y"]),
    ],
    "parts of two tensors": [
        onnx.helper.make_node("Neg", ["x"], ["other"]),
        onnx.helper.make_node("Concat", ["x", "other"], ["a"], axis=1),
        onnx.helper.make_node("Neg", ["a"], ["y"]),
    ],
    "runs of single elements": [
        onnx.helper.make_node("Slice", ["x", "three", "end", "last"], ["a"]),
        onnx.helper.make_node("Slice", ["x", "zero", "three", "last"], ["b"]),
        onnx.helper.make_node("Concat", ["a", "b"], ["c"], axis=3),
        onnx.helper.make_node("Neg", ["c"], ["y"]),
    ],
}


@pytest.mark.parametrize("nodes", NEAR_MISSES.values(), ids=NEAR_MISSES)
def test_what_is_moved_with_few_copies_is_left_alone(nodes: list[onnx.NodeProto]) -> None:
    constants = {
        "split": np.array([2, 4, 2, 32]), "zero": np.array([0]), "three": np.array([3]), "end": np.array([8]),
        "last": np.array([3]),
    }  # fmt: skip
    inputs = {name for node in nodes for name in node.input}
    image = {"x": IMAGE["x"] if "sizes" not in inputs else np.zeros((2, 9, 9, 10))}
    model = model_of(nodes, image, {name: value for name, value in constants.items() if name in inputs})
    result = move_once(model)
    assert not result.changed
    assert result.model is model


def test_what_a_subgraph_reads_stays() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,8,8] x, bool c) => (float[1,8,8,8] y) {
      a = Transpose<perm = [0, 2, 3, 1]>(x)
      b = Transpose<perm = [0, 3, 1, 2]>(a)
      y = If(c) <then_branch = p () => (float[1,8,8,8] q) { q = Neg(b) },
                 else_branch = r () => (float[1,8,8,8] s) { s = Abs(b) }>
    }"""
    model = onnx.parser.parse_model(text)
    result = move_once(model)
    inputs = {"x": IMAGE["x"].astype(np.float32), "c": np.array(True)}
    np.testing.assert_array_equal(outputs_of(result.model, inputs)[0], outputs_of(model, inputs)[0])
    onnx.checker.check_model(result.model, full_check=True)
