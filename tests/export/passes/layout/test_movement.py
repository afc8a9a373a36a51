"""Movement that has no effect is removed or merged, and slice assignments become Concat, to the last bit."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest

from sr_edge.export.passes.layout.assignments import assignment_as_concat
from sr_edge.export.passes.layout.movement import movement_merged
from tests.export.passes.rewrites.equal_graphs import Values, model_of, operators_of, require_equal

INPUTS: Values = {"x": np.random.default_rng(0).standard_normal([2, 3, 4, 5])}


def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return onnx.helper.make_node(operator, inputs, [output], name=f"{operator}:/{output} é", **attributes)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(each.op_type for each in model.graph.node)


@pytest.mark.parametrize("seed", range(40))
def test_random_chains(seed: int) -> None:
    choice = random.Random(seed)
    tensors = ["x"]
    shapes: dict[str, tuple[int, ...]] = {"x": (2, 3, 4, 5)}
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}
    for at in range(choice.randint(2, 7)):
        source = choice.choice(tensors[-2:])
        shape = shapes[source]
        if choice.random() < 0.5:
            order = choice.sample(range(len(shape)), len(shape))
            nodes.append(node("Transpose", [source], f"t{at}", perm=order))
            shapes[f"t{at}"] = tuple(shape[axis] for axis in order)
        else:
            target = choice.choice([(2, 3, 4, 5), (6, 20), (120,), (5, 4, 3, 2), (2, 1, 3, 20)])
            constants[f"s{at}"] = np.array(target, np.int64)
            nodes.append(node("Reshape", [source, f"s{at}"], f"t{at}"))
            shapes[f"t{at}"] = target
        tensors.append(f"t{at}")
    outputs = [tensors[-1], *(name for name in tensors[1:-1] if choice.random() < 0.2)]
    model = model_of(nodes, INPUTS, constants, outputs=outputs)
    result = movement_merged(model)
    if result.changed:
        require_equal(result, model, INPUTS)
        assert len(result.model.graph.node) <= len(model.graph.node)
        assert not movement_merged(result.model).changed


def test_inverse_transposes_are_removed() -> None:
    nodes = [
        node("Transpose", ["x"], "a", perm=[0, 2, 3, 1]),
        node("Transpose", ["a"], "b", perm=[0, 3, 1, 2]),
        node("Neg", ["b"], "y"),
        node("Abs", ["a"], "z"),
    ]
    model = model_of(nodes, INPUTS, outputs=("y", "z"))
    result = movement_merged(model)
    require_equal(result, model, INPUTS)
    assert operators(result.model) == {"Transpose": 1, "Neg": 1, "Abs": 1}


def convolution(
    widths: list[int], *, value: float | None = None, mode: str = "constant", outputs: tuple[str, ...] = ("y",)
) -> onnx.ModelProto:
    constants: Values = {
        "widths": np.array(widths, np.int64),
        "value": np.array(value or 0.0),
        "w": np.random.default_rng(1).standard_normal([2, 3, 3, 3]),
    }
    pad = node("Pad", ["x", "widths", *([] if value is None else ["value"])], "p", mode=mode)
    return model_of([pad, node("Conv", ["p", "w"], "y", pads=[0, 1, 2, 0])], INPUTS, constants, outputs=outputs)


def test_zeros_become_padding_of_the_convolution() -> None:
    model = convolution([0, 0, 1, 2, 0, 0, 3, 0])
    result = movement_merged(model)
    require_equal(result, model, INPUTS, 1e-12)
    assert operators(result.model) == {"Conv": 1}
    assert list(result.model.graph.node[0].attribute[0].ints) == [1, 3, 5, 0]


def test_a_pad_of_zero_width_is_removed() -> None:
    nodes = [node("Pad", ["x", "widths"], "p", mode="reflect"), node("Neg", ["p"], "y")]
    model = model_of(nodes, INPUTS, {"widths": np.zeros(8, np.int64)})
    result = movement_merged(model)
    require_equal(result, model, INPUTS)
    assert operators_of(result.model) == {"Neg"}


@pytest.mark.parametrize(
    "model",
    [
        convolution([0, 0, 1, 1, 0, 0, 1, 1], value=0.5),
        convolution([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
        convolution([1, 0, 1, 1, 0, 0, 1, 1]),
        convolution([0, 0, -1, 1, 0, 0, 1, 1]),
        convolution([0, 0, 1, 1, 0, 0, 1, 1], outputs=("y", "p")),
    ],
    ids=["other value", "reflected", "batch", "cropped", "output"],
)
def test_other_pads_are_left_alone(model: onnx.ModelProto) -> None:
    assert not movement_merged(model).changed


def test_a_transposed_tensor_that_a_subgraph_reads_keeps_its_name() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[2,3] x, bool cond) => (float[2,3] y) {
      a = Transpose(x)
      b = Transpose(a)
      y = If(cond) <then_branch = p () => (float[2,3] u) { u = Neg(b) },
                    else_branch = q () => (float[2,3] v) { v = Abs(b) }>
    }"""
    model = onnx.parser.parse_model(text)
    inputs: Values = {"x": np.random.default_rng(0).standard_normal([2, 3]).astype(np.float32), "cond": np.array(True)}
    require_equal(movement_merged(model), model, inputs)


def assignment(shape: tuple[int, ...], axis: int, start: int, stop: int, depth: int) -> tuple[onnx.ModelProto, Values]:
    """`x[..., start:stop, ...] = v` with indices of the first `depth` axes."""
    ranges = [np.arange(start, stop) if at == axis else np.arange(size) for at, size in enumerate(shape[:depth])]
    indices = np.stack(np.meshgrid(*ranges, indexing="ij"), -1)
    values = np.random.default_rng(axis + start)
    part = [stop - start if at == axis else size for at, size in enumerate(shape)]
    inputs: Values = {"x": values.standard_normal(shape), "v": values.standard_normal(part)}
    return model_of([node("ScatterND", ["x", "i", "v"], "y")], inputs, {"i": indices.astype(np.int64)}), inputs


@pytest.mark.parametrize(
    ("axis", "start", "stop", "depth"),
    [(1, 0, 2, 2), (1, 1, 2, 2), (1, 2, 3, 2), (1, 0, 3, 2), (2, 1, 4, 3), (0, 0, 1, 1), (3, 2, 4, 4), (1, 0, 1, 4)],
)
def test_assignment_of_a_range(axis: int, start: int, stop: int, depth: int) -> None:
    model, inputs = assignment((2, 3, 4, 5), axis, start, stop, depth)
    result = assignment_as_concat(model)
    require_equal(result, model, inputs)
    assert "ScatterND" not in operators_of(result.model)


def scatter(indices: list[list[int]], **attributes: Any) -> onnx.ModelProto:
    inputs: Values = {"x": np.zeros((2, 3)), "v": np.ones((len(indices), *(3,) * (2 - len(indices[0]))))}
    return model_of([node("ScatterND", ["x", "i", "v"], "y", **attributes)], inputs, {"i": np.array(indices)})


@pytest.mark.parametrize(
    "model",
    [
        scatter([[1], [0]]),
        scatter([[0, 0], [0, 2]]),
        scatter([[0, 0], [1, 1]]),
        scatter([[0, 0], [0, 0]]),
        scatter([[0], [1]], reduction="add"),
    ],
    ids=["reversed", "gap", "diagonal", "twice", "sum"],
)
def test_other_assignments_are_left_alone(model: onnx.ModelProto) -> None:
    assert not assignment_as_concat(model).changed
