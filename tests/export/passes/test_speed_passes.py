"""The list of speed passes: all of them change nothing in a graph without what they look for."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.export.passes.speed_passes import SPEED_PASSES, SpeedPass
from tests.export.passes.rewrites.equal_graphs import Values, one_node


def test_names_are_unique() -> None:
    names = [speed_pass.name for speed_pass in SPEED_PASSES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("speed_pass", SPEED_PASSES, ids=lambda speed_pass: speed_pass.name)
@pytest.mark.parametrize("opset", [11, 17])
def test_a_graph_without_anything_to_change_is_returned_with_a_reason(speed_pass: SpeedPass, opset: int) -> None:
    inputs: Values = {"x": np.zeros((1, 3, 4, 5), np.float32)}
    model = one_node("Sigmoid", inputs, opset=opset)
    result = speed_pass.apply(model)
    assert result.model is model
    assert not result.changed
    assert result.reason
