"""Convolutions of parts of the channels compute what one convolution computed whose output was split."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.passes.layout.split_convolutions import split_outputs
from tests.export.passes.rewrites.equal_graphs import Values, model_of, operators_of, require_equal

Array = npt.NDArray[Any]


def node(operator: str, inputs: list[str], outputs: str | list[str], **attributes: Any) -> onnx.NodeProto:
    names = [outputs] if isinstance(outputs, str) else outputs
    return onnx.helper.make_node(operator, inputs, names, name=f"{operator}/{names[0]}: é", **attributes)


class Builder:
    """A convolution, operators that work on each channel by itself, and a split of the result."""

    def __init__(self, seed: int) -> None:
        self.random, self.values = random.Random(seed), np.random.default_rng(seed)
        self.width = self.random.randint(2, 6)
        self.inputs: Values = {"x": self.values.standard_normal([self.random.choice((1, 2)), 3, 4, 5])}
        self.constants: dict[str, Array] = {}
        weight = [self.normal(self.width, 3, 3, 3), *([self.normal(self.width)] if self.random.random() < 0.7 else [])]
        self.nodes = [node("Conv", ["x", *weight], "t0", pads=[1, 1, 1, 1])]
        self.last = "t0"

    def normal(self, *shape: int) -> str:
        return self.constant(self.values.standard_normal(shape))

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def add(self, operator: str, extra: list[str], **attributes: Any) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(node(operator, [self.last, *extra], output, **attributes))
        self.last = output

    def depthwise(self) -> None:
        bias = [self.normal(self.width)] if self.random.random() < 0.5 else []
        self.add("Conv", [self.normal(self.width, 1, 3, 3), *bias], group=self.width, pads=[1, 1, 1, 1])

    def scale(self) -> None:
        shape = self.random.choice([(self.width, 1, 1), (1,), (), (1, 1, 4, 5), (5,), (self.width, 4, 1)])
        self.add("Mul", [self.normal(*shape)])

    def activation(self) -> None:
        if self.random.random() < 0.3:
            self.add("PRelu", [self.normal(self.width, 1, 1)])
        elif self.random.random() < 0.3:
            self.add("Clip", [self.constant(np.array(-1.0)), self.constant(np.array(1.0))])
        else:
            self.add(self.random.choice(("Relu", "Sigmoid")), [])

    def model(self) -> onnx.ModelProto:
        for _ in range(self.random.randint(0, 4)):
            self.random.choice((self.depthwise, self.scale, self.activation))()
        cut = self.random.randint(1, self.width - 1)
        if self.random.random() < 0.5:
            sizes = self.constant(np.array([cut, self.width - cut], np.int64))
            self.nodes.append(node("Split", [self.last, sizes], ["p", "q"], axis=self.random.choice((1, -3))))
        else:
            for output, start, stop in (("p", 0, cut), ("q", cut, 2**40)):
                bounds = [self.constant(np.array([value], np.int64)) for value in (start, stop, 1)]
                self.nodes.append(node("Slice", [self.last, *bounds], output))
        self.nodes.append(node("Neg", ["q"], "y"))
        return model_of(self.nodes, self.inputs, self.constants, outputs=("y", "p"))


@pytest.mark.parametrize("seed", range(40))
def test_random_branches(seed: int) -> None:
    builder = Builder(seed)
    model = builder.model()
    result = split_outputs(model)
    require_equal(result, model, builder.inputs, 1e-11)
    assert not operators_of(result.model) & {"Split", "Slice"}
    assert not split_outputs(result.model).changed


def branch(
    *behind: onnx.NodeProto, outputs: tuple[str, ...] = ("p", "q"), group: int = 1, extra: Values | None = None
) -> tuple[onnx.ModelProto, Values]:
    inputs: Values = {"x": np.random.default_rng(0).standard_normal([1, 4, 4, 5])}
    constants: Values = {"w": np.random.default_rng(1).standard_normal([4, 4 // group, 1, 1]), **(extra or {})}
    return model_of([node("Conv", ["x", "w"], "t", group=group), *behind], inputs, constants, outputs=outputs), inputs


SPLIT = node("Split", ["t"], ["p", "q"], axis=1)


def test_a_weight_that_two_convolutions_share() -> None:
    more = [node("Split", ["t"], ["p", "q"], axis=1), node("Conv", ["x", "w"], "r")]
    model, inputs = branch(*more, outputs=("p", "q", "r"))
    require_equal(split_outputs(model), model, inputs, 1e-12)


def test_a_part_that_is_split_again() -> None:
    model, inputs = branch(SPLIT, node("Split", ["q"], ["r", "s"], axis=1), outputs=("p", "r", "s"))
    result = split_outputs(model)
    require_equal(result, model, inputs, 1e-12)
    assert Counter(each.op_type for each in result.model.graph.node) == {"Conv": 3}
    assert not split_outputs(result.model).changed


def slices(*bounds: tuple[int, int]) -> tuple[list[onnx.NodeProto], Values]:
    constants: dict[str, Array] = {"axis": np.array([1])}
    nodes = []
    for output, (start, stop) in zip("pq", bounds, strict=True):
        constants |= {f"{output}0": np.array([start]), f"{output}1": np.array([stop])}
        nodes.append(node("Slice", ["t", f"{output}0", f"{output}1", "axis"], output))
    return nodes, constants


@pytest.mark.parametrize(
    "make",
    [
        lambda: branch(SPLIT, outputs=("p", "q", "t")),
        lambda: branch(SPLIT, node("Neg", ["t"], "r"), outputs=("p", "q", "r")),
        lambda: branch(node("Split", ["t"], ["p", "q"], axis=2)),
        lambda: branch(SPLIT, group=2),
        lambda: branch(node("Softmax", ["t"], "u", axis=1), node("Split", ["u"], ["p", "q"], axis=1)),
        lambda: branch(node("Add", ["t", "x"], "u"), node("Split", ["u"], ["p", "q"], axis=1)),
        lambda: branch(*slices((0, 3), (2, 4))[0], extra=slices((0, 3), (2, 4))[1]),
    ],
    ids=["output", "other reader", "rows", "groups", "softmax", "sum", "overlapping slices"],
)
def test_near_misses_are_left_alone(make: Any) -> None:
    model, _ = make()
    assert not split_outputs(model).changed


def test_a_tensor_that_a_subgraph_reads_is_left_alone() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,2,2] x, bool cond) => (float[1,1,2,2] y)
      <float[2,2,1,1] w = {1, 2, 3, 4}, int64[2] sizes = {1, 1}> {
      t = Conv(x, w)
      p, q = Split<axis = 1>(t, sizes)
      y = If(cond) <then_branch = a () => (float[1,1,2,2] u) { u = Add(p, q) },
                    else_branch = b () => (float[1,1,2,2] v) { v = ReduceMean<axes = [1]>(t) }>
    }"""
    assert not split_outputs(onnx.parser.parse_model(text)).changed
