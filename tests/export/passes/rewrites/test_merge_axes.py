"""Axes that move together are merged, and the outputs stay equal to the last bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.graph.view import view_graph
from sr_edge.export.passes.rewrites.merge_axes import MAX_AXES, merge_axes
from tests.export.passes.rewrites.equal_graphs import Values, model_of, require_equal

Array = npt.NDArray[Any]


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator} of {output}", **attributes)


def shape(*sizes: int) -> Array:
    return np.array(sizes, np.int64)


def highest_rank(model: onnx.ModelProto) -> int:
    return max(len(sizes) for sizes in view_graph(model).shapes.values())


class Builder:
    """A chain of random nodes on tensors of six to eight axes, between two Reshape nodes."""

    def __init__(self, seed: int) -> None:
        self.random, self.values = random.Random(seed), np.random.default_rng(seed)
        rank = self.random.randint(6, 8)
        self.sizes = [1, *(self.random.choice((1, 2, 2, 3)) for _ in range(rank - 1))]
        self.inputs: Values = {"x": self.values.standard_normal([4, int(np.prod(self.sizes))])[:1]}
        self.constants: dict[str, Array] = {"split": shape(*self.sizes)}
        self.nodes = [node("Reshape", ["x", "split"], "t0")]
        self.last = "t0"

    def model(self) -> onnx.ModelProto:
        for _ in range(self.random.randint(1, 5)):
            step = self.random.choice(
                [self.transpose, self.transpose, self.multiply, self.normalize, self.softmax, self.product, self.cut,
                 self.reduce, self.join]
            )  # fmt: skip
            step()
        self.constants["flat"] = shape(-1)
        self.nodes.append(node("Reshape", [self.last, "flat"], "y"))
        return model_of(self.nodes, self.inputs, self.constants)

    def add(self, operator: str, extra: list[str], **attributes: Any) -> None:
        output = f"t{len(self.nodes)}"
        self.nodes.append(node(operator, [self.last, *extra], output, **attributes))
        self.last = output

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def axis(self) -> int:
        return self.random.randrange(len(self.sizes))

    def transpose(self) -> None:
        """Moves a run of axes, so that neighbours stay neighbours."""
        order = list(range(len(self.sizes)))
        start, end = sorted((self.axis(), self.axis()))
        run = order[start : end + 1]
        del order[start : end + 1]
        at = self.random.randint(0, len(order))
        order[at:at] = run
        self.add("Transpose", [], perm=order)
        self.sizes = [self.sizes[axis] for axis in order]

    def multiply(self) -> None:
        wide = [size if self.random.random() < 0.5 else 1 for size in self.sizes][self.random.randint(0, 5) :]
        self.add("Mul", [self.constant(self.values.standard_normal(wide))])

    def normalize(self) -> None:
        scale, bias = (self.constant(self.values.standard_normal(self.sizes[-1:])) for _ in range(2))
        self.add("LayerNormalization", [scale, bias], axis=-1)

    def softmax(self) -> None:
        self.add("Softmax", [], axis=self.axis() - len(self.sizes))

    def product(self) -> None:
        self.add("MatMul", [self.constant(self.values.standard_normal([self.sizes[-1], 4]))])
        self.sizes[-1] = 4

    def cut(self) -> None:
        axis = self.axis()
        bounds = [self.constant(shape(number)) for number in (0, max(1, self.sizes[axis] - 1), axis)]
        self.add("Slice", bounds)
        self.sizes[axis] = max(1, self.sizes[axis] - 1)

    def reduce(self) -> None:
        axis = self.axis()
        self.add("ReduceMax", [], axes=[axis])
        self.sizes[axis] = 1

    def join(self) -> None:
        axis = self.axis()
        self.add("Concat", [self.last], axis=axis)
        self.sizes[axis] *= 2


@pytest.mark.parametrize("seed", range(80))
def test_random_chains(seed: int) -> None:
    builder = Builder(seed)
    model = builder.model()
    result = merge_axes(model)
    if result.changed:
        # numpy sums a product of other shapes in another order, and nothing else.
        is_product = any(each.op_type == "MatMul" for each in model.graph.node)
        require_equal(result, model, builder.inputs, 1e-12 if is_product else 0.0)
        assert highest_rank(result.model) < highest_rank(model)
        assert not merge_axes(result.model).changed


def partition(*extra: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), middle: str = "windows") -> onnx.ModelProto:
    """Windows of 4x6 of an image, then `extra` nodes from "windows" on, then a Reshape of `middle`."""
    nodes = [
        node("Reshape", ["x", "split"], "blocks"),
        node("Transpose", ["blocks"], "windows", perm=[0, 1, 3, 2, 4, 5]),
        *extra,
        node("Reshape", [middle, "flat"], "y"),
    ]
    constants = {"split": shape(1, 2, 4, 2, 6, 3), "flat": shape(4, 24, 3)}
    return model_of(nodes, {"x": IMAGE}, constants, outputs=outputs)


IMAGE = np.random.default_rng(0).standard_normal((1, 8, 12, 3))


@pytest.mark.parametrize(
    "extra",
    [
        (),
        (node("Relu", ["windows"], "again"),),
        (node("Relu", ["blocks"], "positive"), node("Transpose", ["positive"], "again", perm=[0, 1, 3, 2, 4, 5])),
        (node("Transpose", ["windows"], "back", perm=[0, 1, 3, 2, 4, 5]), node("Neg", ["back"], "again")),
    ],
    ids=["partition", "one more operator", "several readers", "and back"],
)
def test_window_partitions_get_four_axes(extra: tuple[onnx.NodeProto, ...]) -> None:
    model = partition(*extra, middle="again" if extra else "windows")
    result = merge_axes(model)
    require_equal(result, model, {"x": IMAGE})
    assert highest_rank(result.model) == 4


@pytest.mark.parametrize(
    ("extra", "outputs"),
    [
        ((), ("y", "windows")),
        (
            (node("Transpose", ["windows"], "other", perm=[1, 0, 5, 4, 3, 2]), node("Tile", ["other", "six"], "t")),
            ("y",),
        ),
    ],
    ids=["an output in the middle", "an operator that is not known"],
)
def test_tensors_that_others_see_keep_their_axes(extra: tuple[onnx.NodeProto, ...], outputs: tuple[str, ...]) -> None:
    model = partition(*extra, outputs=outputs)
    if extra:
        model.graph.initializer.append(onnx.numpy_helper.from_array(shape(1, 1, 1, 1, 1, 1), "six"))
    result = merge_axes(model)
    assert not result.changed
    assert result.model is model


def test_blocks_that_are_gathered_get_five_axes() -> None:
    """torch's unfold: blocks of 3x3 by two Gather nodes, from an image whose shape an unknown operator pins."""
    image = np.random.default_rng(0).standard_normal((1, 2, 6, 7))
    nodes = [
        node("Tile", ["x", "once"], "image"),
        node("Gather", ["image", "rows"], "a", axis=2),
        node("Gather", ["a", "columns"], "b", axis=4),
        node("Transpose", ["b"], "c", perm=[0, 1, 2, 4, 3, 5]),
        node("Reshape", ["c", "flat"], "y"),
    ]
    places = np.arange(3)[:, None]
    constants = {
        "once": shape(1, 1, 1, 1),
        "rows": places + np.arange(4),
        "columns": places + np.arange(5),
        "flat": shape(1, 18, 20),
    }
    model = model_of(nodes, {"x": image}, constants)
    result = merge_axes(model)
    require_equal(result, model, {"x": image})
    assert highest_rank(result.model) == 5
    assert not merge_axes(result.model).changed


def test_axes_that_part_are_left_alone() -> None:
    order = [5, 3, 1, 4, 2, 0]
    nodes = [
        node("Reshape", ["x", "split"], "a"),
        node("Transpose", ["a"], "b", perm=order),
        node("Reshape", ["b", "flat"], "y"),
    ]
    constants = {"split": shape(2, 2, 2, 3, 2, 2), "flat": shape(-1)}
    model = model_of(nodes, {"x": np.zeros((96,))}, constants)
    assert not merge_axes(model).changed


def test_what_a_subgraph_reads_keeps_its_axes() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,8,12,3] x, bool c) => (float[N] y)
      <int64[6] split = {1, 2, 4, 2, 6, 3}, int64[1] flat = {-1}> {
      a = Reshape(x, split)
      b = Transpose<perm = [0, 1, 3, 2, 4, 5]>(a)
      d = If(c) <then_branch = p () => (float[1,2,2,4,6,3] q) { q = Neg(b) },
                 else_branch = r () => (float[1,2,2,4,6,3] s) { s = Abs(b) }>
      y = Reshape(d, flat)
    }"""
    model = onnx.parser.parse_model(text)
    assert not merge_axes(model).changed


def test_the_limit_is_five_axes() -> None:
    nodes = [
        node("Reshape", ["x", "split"], "a"),
        node("Transpose", ["a"], "b", perm=[0, 2, 1, 3, 4]),
        node("Reshape", ["b", "flat"], "y"),
    ]
    model = model_of(nodes, {"x": np.zeros((96,))}, {"split": shape(2, 2, 2, 3, 4), "flat": shape(-1)})
    assert MAX_AXES == 5
    assert not merge_axes(model).changed
