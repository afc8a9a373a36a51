"""Reshape, Transpose and Reshape become DepthToSpace or SpaceToDepth only where they are exactly that."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import onnx
import pytest

from sr_edge.export.passes.rewrites.pixel_rearrangement import rearranged_pixels
from tests.export.passes.rewrites.equal_graphs import model_of, operators_of, require_equal


def rearrangement(image: np.ndarray, split: list[int], order: list[int], shape: list[int]) -> onnx.ModelProto:
    nodes = [
        onnx.helper.make_node("Reshape", ["x", "split"], ["a"], name="split"),
        onnx.helper.make_node("Transpose", ["a"], ["b"], name="move", perm=order),
        onnx.helper.make_node("Reshape", ["b", "shape"], ["y"], name="join"),
    ]
    constants = {"split": np.array(split, np.int64), "shape": np.array(shape, np.int64)}
    return model_of(nodes, {"x": image}, constants)


CASES = {
    "pixel_shuffle": ((2, 8, 3, 5), [2, 2, 2, 2, 3, 5], [0, 1, 4, 2, 5, 3], [2, 2, 6, 10], "DepthToSpace"),
    "depth_to_space": ((2, 8, 3, 5), [2, 2, 2, 2, 3, 5], [0, 3, 4, 1, 5, 2], [2, 2, 6, 10], "DepthToSpace"),
    "space_to_depth": ((2, 3, 6, 4), [2, 3, 3, 2, 2, 2], [0, 3, 5, 1, 2, 4], [2, 12, 3, 2], "SpaceToDepth"),
    "unshuffle of a channel": ((2, 1, 6, 4), [2, 1, 3, 2, 2, 2], [0, 1, 3, 5, 2, 4], [2, 4, 3, 2], "SpaceToDepth"),
}


@pytest.mark.parametrize(("image", "split", "order", "shape", "operator"), list(CASES.values()), ids=list(CASES))
def test_what_is_one_operator(
    image: tuple[int, ...], split: list[int], order: list[int], shape: list[int], operator: str
) -> None:
    values = np.arange(np.prod(image), dtype=np.float64).reshape(image)
    model = rearrangement(values, split, order, shape)
    result = rearranged_pixels(model)
    require_equal(result, model, {"x": values})
    assert operators_of(result.model) == {operator}
    assert not rearranged_pixels(result.model).changed


def test_every_other_order_is_left_alone_or_equal() -> None:
    values = np.arange(2 * 4 * 4 * 4, dtype=np.float64).reshape(2, 4, 4, 4)
    changed = 0
    for order in permutations(range(1, 6)):
        for split, shape in (([2, 1, 2, 2, 4, 4], [2, 1, 8, 8]), ([2, 4, 2, 2, 2, 2], [2, 16, 2, 2])):
            model = rearrangement(values, split, [0, *order], shape)
            result = rearranged_pixels(model)
            if result.changed:
                changed += 1
                require_equal(result, model, {"x": values})
    assert changed == 2


def test_what_others_read_is_left_alone() -> None:
    image, split, order, shape, _ = CASES["pixel_shuffle"]
    model = rearrangement(np.zeros(image), split, order, shape)
    model.graph.node.append(onnx.helper.make_node("Neg", ["b"], ["z"], name="another reader"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.DOUBLE, None))
    assert not rearranged_pixels(model).changed
