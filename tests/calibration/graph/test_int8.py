"""Per-channel INT8 weights: the nearest levels, per output channel, whatever the axis."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.calibration.graph.int8 import quantize_weight


@pytest.mark.parametrize(("shape", "axis"), [((8, 4, 3, 3), 0), ((4, 8, 2, 2), 1), ((16, 8), 1), ((8, 16), 0)])
def test_every_weight_is_within_half_a_level_and_every_channel_uses_its_range(
    shape: tuple[int, ...], axis: int
) -> None:
    weight = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    levels, scales = quantize_weight(weight, axis)
    assert levels.dtype == np.int8
    assert scales.shape == (shape[axis],)
    by_channel = np.moveaxis(levels, axis, 0).reshape(shape[axis], -1).astype(np.float32)
    original = np.moveaxis(weight, axis, 0).reshape(shape[axis], -1)
    assert np.abs(by_channel * scales[:, None] - original).max() <= 0.5001 * scales.max()
    np.testing.assert_array_equal(np.abs(by_channel).max(axis=1), 127)


def test_the_lowest_level_is_never_used() -> None:
    weight = np.array([[-1.0, 0.996], [-1.0, -0.999]], np.float32)
    assert quantize_weight(weight, 0)[0].min() == -127


def test_a_channel_of_zeros_stays_zero_with_a_usable_scale() -> None:
    weight = np.zeros((2, 3), np.float32)
    weight[0] = [1e-42, 0.0, 0.0]
    levels, scales = quantize_weight(weight, 0)
    assert not levels.any()
    np.testing.assert_array_equal(scales, 1.0)
