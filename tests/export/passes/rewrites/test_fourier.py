"""DFT nodes become products with a constant matrix."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sr_edge.export.passes.rewrites.fourier import MAX_LENGTH, fourier_as_product, fourier_matrix
from tests.export.passes.rewrites.equal_graphs import Values, one_node, operators_of, require_equal

EXACT = 1e-12
REAL = np.random.default_rng(0).standard_normal((2, 3, 8, 5, 1))
COMPLEX = np.random.default_rng(1).standard_normal((2, 3, 8, 5, 2))


@pytest.mark.parametrize(
    ("axis", "inverse", "onesided", "values"),
    [
        case
        for case in itertools.product((1, 2, 3), (0, 1), (0, 1), (REAL, COMPLEX))
        if not (case[2] and (case[1] or case[3] is COMPLEX))  # one-sided is defined for real sequences alone
    ],
)
def test_every_axis_and_direction(axis: int, inverse: int, onesided: int, values: np.ndarray) -> None:
    model = one_node("DFT", {"x": values}, axis=axis, inverse=inverse, onesided=onesided)
    result = fourier_as_product(model)
    require_equal(result, model, {"x": values}, EXACT)
    assert operators_of(result.model) <= {"MatMul", "Reshape", "Transpose"}
    assert not fourier_as_product(result.model).changed


@pytest.mark.parametrize("length", [6, 8, 11])
def test_a_length_of_its_own_cuts_or_pads(length: int) -> None:
    constants = {"length": np.array(length, np.int64)}
    model = one_node("DFT", {"x": COMPLEX}, constants, axis=2)
    require_equal(fourier_as_product(model), model, {"x": COMPLEX}, EXACT)


@pytest.mark.parametrize("length", [7, 8])
def test_the_inverse_of_a_one_sided_transform_is_real(length: int) -> None:
    spectrum = np.random.default_rng(2).standard_normal((4, length // 2 + 1, 2))
    matrix = fourier_matrix(length, length // 2 + 1, 2, inverse=True, onesided=True)
    expected = np.fft.irfft(spectrum[..., 0] + 1j * spectrum[..., 1], length)
    np.testing.assert_allclose(spectrum.reshape(4, -1) @ matrix, expected, rtol=0.0, atol=EXACT)


@pytest.mark.parametrize(
    ("inputs", "constants"),
    [
        ({"x": np.zeros((1, MAX_LENGTH + 1, 1))}, {}),
        ({"x": np.zeros((1, 8, 1), np.float16)}, {}),
        ({"x": np.zeros((1, 8, 1)), "length": np.array(8, np.int64)}, {}),
    ],
    ids=["a long axis", "half precision", "a computed length"],
)
def test_others_are_left_alone(inputs: Values, constants: Values) -> None:
    model = one_node("DFT", inputs, constants, axis=1)
    result = fourier_as_product(model)
    assert not result.changed
    assert "the node" in result.reason
