"""Constants that are applied between Reshape nodes, or one after the other."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from sr_edge.export.passes.attention.score_constants import constants_without_reshape, sums_of_constants
from tests.export.passes.attention.window_graphs import count
from tests.export.passes.rewrites.equal_graphs import model_of, require_equal

Array = npt.NDArray[np.float64]

SCORES = {"x": np.random.default_rng(0).standard_normal((4, 3, 5, 5))}
MASK = np.random.default_rng(1).standard_normal((1, 4, 1, 5, 5))


def masked(
    shape: tuple[int, ...] = (1, 4, 3, 5, 5),
    mask: Array = MASK,
    operator: str = "Add",
    back: tuple[int, ...] = (4, 3, 5, 5),
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "shape"], ["a"]),
        onnx.helper.make_node(operator, ["a", "mask"], ["b"]),
        onnx.helper.make_node("Reshape", ["b", "back"], ["y"]),
    ]
    return model_of(nodes, SCORES, {"shape": np.array(shape), "mask": mask, "back": np.array(back)}, outputs=outputs)


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Min"])
def test_a_mask_is_applied_in_four_axes(operator: str) -> None:
    model = masked(operator=operator)
    result = constants_without_reshape(model)
    require_equal(result, model, SCORES)
    assert [node.op_type for node in result.model.graph.node] == [operator]
    assert not constants_without_reshape(result.model).changed


@pytest.mark.parametrize(
    "model",
    [
        masked(outputs=("y", "b")),
        masked(back=(12, 5, 5)),
        masked((2, 2, 3, 5, 5), np.random.default_rng(2).standard_normal((2, 1, 1, 5, 5))),
        masked(mask=np.zeros((2, 4, 1, 5, 5)), back=(8, 3, 5, 5)),
        masked((2, 2, 3, 25), np.zeros((2, 2, 1, 25)), operator="Pow"),
    ],
    ids=["an output in the middle", "another shape", "part of an axis", "broadcast scores", "another operator"],
)
def test_near_misses_are_left_alone(model: onnx.ModelProto) -> None:
    assert not constants_without_reshape(model).changed


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(seed: int) -> None:
    choose = random.Random(seed)
    shape = [choose.choice((1, 2, 3)) for _ in range(choose.randint(1, 6))]
    mask = np.random.default_rng(seed).standard_normal([size if choose.random() < 0.6 else 1 for size in shape])
    before = [size for size in shape if size > 1 or choose.random() < 0.5] or [1]
    inputs = {"x": np.random.default_rng(seed).standard_normal(before)}
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "shape"], ["a"]),
        onnx.helper.make_node("Add", ["mask", "a"], ["b"]),
        onnx.helper.make_node("Reshape", ["b", "back"], ["y"]),
    ]
    model = model_of(nodes, inputs, {"shape": np.array(shape), "mask": mask, "back": np.array(before)})
    require_equal(constants_without_reshape(model), model, inputs)


def two_constants(first: Array, second: Array, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    nodes = [
        onnx.helper.make_node("Add", ["x", "first"], ["a"]),
        onnx.helper.make_node("Add", ["second", "a"], ["y"]),
    ]
    return model_of(nodes, SCORES, {"first": first, "second": second}, outputs=outputs)


def test_constants_are_added_as_their_sum() -> None:
    model = two_constants(np.full((4, 1, 5, 5), 0.1), np.full((1, 1, 5, 5), 0.2))
    result = sums_of_constants(model)
    require_equal(result, model, SCORES, tolerance=1e-12)
    assert count(result.model, "Add") == 1
    assert not sums_of_constants(result.model).changed


@pytest.mark.parametrize(
    "model",
    [
        two_constants(np.ones((1, 3, 5, 5)), np.ones((4, 1, 5, 5))),
        two_constants(np.ones((4, 3, 5, 5)), np.ones((1, 1, 1, 1)), outputs=("y", "a")),
        two_constants(np.ones((2, 1, 1, 1, 1)), np.ones((1, 1, 1, 1))),
    ],
    ids=["a larger sum", "an output in the middle", "broadcast scores"],
)
def test_other_sums_are_left_alone(model: onnx.ModelProto) -> None:
    assert not sums_of_constants(model).changed
