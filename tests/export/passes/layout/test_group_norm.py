"""GroupNorm written with Reshape and InstanceNormalization becomes means over axes that are equal to it."""

from __future__ import annotations

import random

import numpy as np
import onnx
import pytest

from sr_edge.export.graph.onnxruntime_run import run_onnxruntime
from sr_edge.export.passes.layout.group_norm import group_norm_without_reshape
from tests.export.passes.rewrites.equal_graphs import Values, model_of, operators_of, outputs_of, require_equal


def group_norm(
    shape: tuple[int, ...],
    groups: int,
    *,
    plain: bool = False,
    merged: tuple[int, ...] = (),
    outputs: tuple[str, ...] = ("y",),
    restored: tuple[int, ...] = (),
) -> tuple[onnx.ModelProto, Values]:
    """What exporters write for GroupNorm, with the scale and bias of each group and of each channel."""
    random_numbers = np.random.default_rng(len(shape) + groups)
    inputs: Values = {"x": random_numbers.standard_normal(shape) + 3}
    constants: Values = {
        "merged": np.array(merged or (shape[0], groups, -1), np.int64),
        "whole": np.array(restored or shape, np.int64),
        "scale": np.ones(groups) if plain else random_numbers.uniform(0.5, 2, groups),
        "bias": np.zeros(groups) if plain else random_numbers.standard_normal(groups),
        "factor": random_numbers.standard_normal([shape[1], *(1 for _ in shape[2:])]),
    }
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "merged"], ["a"], name="a/b:c"),
        onnx.helper.make_node("InstanceNormalization", ["a", "scale", "bias"], ["b"], name="norm é", epsilon=0.01),
        onnx.helper.make_node("Reshape", ["b", "whole"], ["c"], name="back"),
        onnx.helper.make_node("Abs" if restored else "Mul", ["c"] if restored else ["c", "factor"], ["y"], name="mul"),
    ]
    return model_of(nodes, inputs, constants, outputs=outputs), inputs


@pytest.mark.parametrize("seed", range(25))
def test_random_groups(seed: int) -> None:
    choice = random.Random(seed)
    groups, members = choice.choice((1, 1, 2, 3)), choice.randint(1, 3)
    spatial = [choice.randint(1, 5) for _ in range(choice.choice((1, 2, 2, 2, 3)))]
    shape = (choice.choice((1, 1, 2)), groups * members, *spatial)
    model, inputs = group_norm(shape, groups, plain=choice.random() < 0.5)
    result = group_norm_without_reshape(model)
    require_equal(result, model, inputs, 1e-10)
    assert not operators_of(result.model) & {"Reshape", "InstanceNormalization"}
    assert not group_norm_without_reshape(result.model).changed


def test_groups_that_keep_the_axes_of_the_image() -> None:
    model, inputs = group_norm((1, 4, 3, 5), 2, merged=(1, 2, 2, 3, 5))
    require_equal(group_norm_without_reshape(model), model, inputs, 1e-10)


@pytest.mark.parametrize("groups", [1, 2])
def test_means_of_many_elements_are_exact_where_a_single_sum_is_not(groups: int) -> None:
    random_numbers = np.random.default_rng(0)
    image = (random_numbers.standard_normal((1, 8, 160, 160)) * 0.05 + 3).astype(np.float32)
    model, _ = group_norm(image.shape, groups, plain=True)
    plain, exact = in_float32(model), outputs_of(model, {"x": image.astype(np.float64)})[0]
    scale = np.abs(exact).max()
    errors = [
        np.abs(run_onnxruntime(graph, {"x": image})["y"] - exact).max() / scale
        for graph in (plain, group_norm_without_reshape(plain).model)
    ]
    assert errors[1] < errors[0] / 4


def in_float32(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float64 graph in float32."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for value in (*changed.graph.input, *changed.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.DOUBLE:
            numbers = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, tensor.name))
    return changed


@pytest.mark.parametrize("outputs", [("y", "a"), ("c", "y")])
def test_the_input_and_the_result_may_be_outputs_of_the_graph(outputs: tuple[str, ...]) -> None:
    model, inputs = group_norm((1, 4, 3, 5), 2, outputs=outputs)
    require_equal(group_norm_without_reshape(model), model, inputs, 1e-10)


@pytest.mark.parametrize(
    ("shape", "groups", "options"),
    [
        ((1, 4, 3, 5), 2, {"outputs": ("y", "b")}),
        ((1, 4, 3, 5), 2, {"restored": (1, 2, 6, 5)}),
        ((1, 4, 3, 5), 3, {"merged": (1, 3, 20)}),
        ((2, 4, 3), 4, {"merged": (1, 4, 6)}),
    ],
    ids=["the normalized groups are an output", "another shape behind", "groups across channels", "batch in a group"],
)
def test_near_misses_are_left_alone(shape: tuple[int, ...], groups: int, options: dict[str, tuple[str, ...]]) -> None:
    model, _ = group_norm(shape, groups, **options)  # type: ignore[arg-type]
    assert not group_norm_without_reshape(model).changed
