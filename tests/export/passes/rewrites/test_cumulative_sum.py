"""CumSum over a constant axis becomes a product with a constant triangle."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sr_edge.export.passes.rewrites.cumulative_sum import MAX_LENGTH, cumulative_sum_as_product
from tests.export.passes.rewrites.equal_graphs import one_node, operators_of, require_equal

EXACT = 1e-12
IMAGE = np.random.default_rng(0).standard_normal((2, 3, 4, 5))


@pytest.mark.parametrize(
    ("axis", "exclusive", "reverse"), list(itertools.product((0, 1, 2, 3, -1, -2, -4), (0, 1), (0, 1)))
)
def test_every_axis_and_direction(axis: int, exclusive: int, reverse: int) -> None:
    constants = {"axis": np.array(axis, np.int64)}
    model = one_node("CumSum", {"x": IMAGE}, constants, exclusive=exclusive, reverse=reverse)
    result = cumulative_sum_as_product(model)
    require_equal(result, model, {"x": IMAGE}, EXACT)
    assert operators_of(result.model) <= {"MatMul", "Reshape"}
    assert not cumulative_sum_as_product(result.model).changed


@pytest.mark.parametrize(
    ("inputs", "constants"),
    [
        ({"x": IMAGE.astype(np.int64)}, {"axis": np.array(1, np.int64)}),
        ({"x": np.zeros((1, MAX_LENGTH + 1))}, {"axis": np.array(1, np.int64)}),
        ({"x": IMAGE, "axis": np.array(1, np.int64)}, {}),
    ],
    ids=["whole numbers", "a long axis", "a computed axis"],
)
def test_others_are_left_alone(inputs: dict[str, np.ndarray], constants: dict[str, np.ndarray]) -> None:
    model = one_node("CumSum", inputs, constants)
    result = cumulative_sum_as_product(model)
    assert not result.changed
    assert "the node" in result.reason


def test_the_longest_axis_is_rewritten() -> None:
    inputs = {"x": np.random.default_rng(1).standard_normal((1, MAX_LENGTH))}
    model = one_node("CumSum", inputs, {"axis": np.array(1, np.int64)})
    require_equal(cumulative_sum_as_product(model), model, inputs, EXACT)
