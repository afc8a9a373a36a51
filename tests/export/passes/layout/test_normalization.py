"""Means over the channels become convolutions that compute the same; other means stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sr_edge.export.passes.layout.normalization import channel_means_as_convolutions
from tests.export.passes.rewrites.equal_graphs import Values, one_node, operators_of, require_equal


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (1, 7, 3, 4), (2, 3, 1, 5), (1, 65, 2, 2)])
@pytest.mark.parametrize("axis", [1, -3])
def test_equal_up_to_rounding(shape: tuple[int, ...], axis: int) -> None:
    inputs: Values = {"x": np.random.default_rng(0).standard_normal(shape)}
    model = one_node("ReduceMean", inputs, axes=[axis], keepdims=1)
    result = channel_means_as_convolutions(model)
    require_equal(result, model, inputs, 1e-13)
    assert operators_of(result.model) == {"Conv"}


def test_axes_that_are_an_input() -> None:
    inputs: Values = {"x": np.random.default_rng(0).standard_normal([1, 5, 2, 3])}
    model = one_node("ReduceMean", inputs, {"axes": np.array([1], np.int64)}, opset=18)
    require_equal(channel_means_as_convolutions(model), model, inputs, 1e-13)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((1, 3, 4, 5), {"axes": [2, 3]}),
        ((1, 3, 4, 5), {"axes": [1, 2, 3]}),
        ((1, 3, 4, 5), {"axes": [1], "keepdims": 0}),
        ((1, 3, 4), {"axes": [1]}),
        ((1, 3, 1, 1), {"axes": [1]}),
        ((1, 3, 4, 5), {}),
    ],
)
def test_other_means_are_left_alone(shape: tuple[int, ...], options: dict[str, Any]) -> None:
    inputs: Values = {"x": np.zeros(shape)}
    assert not channel_means_as_convolutions(one_node("ReduceMean", inputs, **options)).changed


def test_half_precision_is_left_alone() -> None:
    inputs: Values = {"x": np.zeros((1, 3, 4, 5), np.float16)}
    assert not channel_means_as_convolutions(one_node("ReduceMean", inputs, axes=[1])).changed
