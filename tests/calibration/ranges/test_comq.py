"""Coordinate descent finds better INT8 weights than rounding each to the nearest, and never worse ones."""

from __future__ import annotations

import numpy as np

from sr_edge.calibration.data.patch import Float32Array
from sr_edge.calibration.ranges.comq import QuadraticError, coordinate_descent


def problem() -> tuple[QuadraticError, Float32Array, Float32Array, Float32Array]:
    """Correlated inputs, so that the rounding of one weight can compensate for that of another."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((400, 12)).astype(np.float32) + 2.0 * generator.standard_normal((400, 1)).astype(
        np.float32
    )
    weight = generator.standard_normal((12, 5)).astype(np.float32)
    scales = np.full(5, 0.4, np.float32)
    return QuadraticError.of(inputs, inputs @ weight, weight), inputs, weight, scales


def error_of(levels: Float32Array, inputs: Float32Array, weight: Float32Array, scales: Float32Array) -> float:
    return float(np.mean(np.square(inputs @ (levels * scales) - inputs @ weight)))


def test_it_beats_the_nearest_rounding() -> None:
    quadratic, inputs, weight, scales = problem()
    nearest = np.rint(weight / scales)
    levels = coordinate_descent(quadratic, nearest, scales, 20)
    assert error_of(levels, inputs, weight, scales) < 0.5 * error_of(nearest, inputs, weight, scales)


def test_every_sweep_lowers_the_error_until_nothing_moves() -> None:
    quadratic, inputs, weight, scales = problem()
    nearest = np.rint(weight / scales)
    errors = [
        error_of(coordinate_descent(quadratic, nearest, scales, n), inputs, weight, scales) for n in (0, 1, 20, 40)
    ]
    assert errors[0] == error_of(nearest, inputs, weight, scales)
    assert errors[0] > errors[1] >= errors[2] == errors[3]


def test_weights_stay_whole_and_within_int8() -> None:
    quadratic, _, weight, scales = problem()
    tiny = scales / 1000.0
    levels = coordinate_descent(quadratic, np.clip(np.rint(weight / tiny), -127, 127), tiny, 5)
    assert np.abs(levels).max() == 127.0
    np.testing.assert_array_equal(levels, np.rint(levels))


def test_inputs_that_are_always_zero_leave_the_weights_alone() -> None:
    _, _, weight, scales = problem()
    nearest = np.rint(weight / scales)
    silent = QuadraticError.of(np.zeros((400, 12), np.float32), np.zeros((400, 5), np.float32), weight)
    np.testing.assert_array_equal(coordinate_descent(silent, nearest, scales, 5), nearest)
