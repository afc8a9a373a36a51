"""Bicubic resizing against small arrays computed by hand and the low-resolution Set5 files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import UsageError
from sr_edge.image_files import list_pictures, read_picture
from sr_edge.resize import crop_to_multiple, downscale_bicubic, resize_bicubic
from tests.expected_errors import raises


def test_enlarging_twice_weighs_four_neighbours_by_keys_cubic() -> None:
    row = np.zeros((1, 8), np.float64)
    row[0, 4] = 128
    # Distances 1.75, 1.25, 0.75, 0.25 and their mirror images, under 1.5 |x|^3 - 2.5 |x|^2 + 1 and its outer branch.
    response = np.array([-3, -9, 29, 111, 111, 29, -9, -3.0])
    enlarged = resize_bicubic(np.repeat(row, 8, axis=0), 2)
    np.testing.assert_allclose(enlarged[8, 5:13], response, atol=1e-12)
    assert enlarged.shape == (16, 16)
    assert np.count_nonzero(enlarged[8]) == len(response)


def test_reducing_stretches_the_kernel_so_that_the_finest_stripes_become_flat() -> None:
    stripes = np.tile(np.array([0.0, 1.0]), (16, 16))
    reduced = resize_bicubic(stripes, 1 / 2)
    np.testing.assert_allclose(reduced[:, 2:-2], 0.5, atol=0.03)


def test_the_border_is_mirrored_with_its_edge_repeated() -> None:
    ramp = np.arange(12.0).reshape(1, 12)
    mirrored = np.concatenate([ramp[:, ::-1], ramp, ramp[:, ::-1]], axis=1)
    for scale in (0.5, 1 / 3, 2, 3):
        alone = resize_bicubic(ramp, scale)
        inside = resize_bicubic(mirrored, scale)
        np.testing.assert_allclose(alone, inside[:, alone.shape[1] : 2 * alone.shape[1]], atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.25, 1 / 3, 0.7, 1, 1.5, 4])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (7, 3, 3), (4, 4, 1)])
def test_a_flat_picture_stays_flat_and_sizes_are_rounded_up(
    dtype: npt.DTypeLike, scale: float, shape: tuple[int, ...]
) -> None:
    resized = resize_bicubic(np.full(shape, 201, dtype), scale)
    sizes = [int(np.ceil(size * scale)) for size in shape[:2]]
    assert resized.shape == (*sizes, *shape[2:])
    assert resized.dtype == dtype
    np.testing.assert_allclose(resized, 201, rtol=1e-5 if dtype == np.float32 else 1e-12)


def test_scale_one_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    np.testing.assert_array_equal(resize_bicubic(picture, 1), picture)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_a_multiple_reduces_to_the_exact_quotient_at_any_size(factor: int) -> None:
    """1/3 is not an exact binary fraction, so 93 * 3 * (1/3) must not be rounded up to 94."""
    for size in range(1, 400):
        assert resize_bicubic(np.zeros((1, size * factor)), 1 / factor).shape[1] == size


def test_integers_overshoot_into_their_limits_and_do_not_wrap() -> None:
    edge = np.repeat(np.array([[0, 0, 0, 255, 255, 255]], np.uint8), 6, axis=0)
    enlarged = resize_bicubic(edge, 2)
    assert (np.diff(enlarged[5].astype(int)) >= 0).all()
    assert resize_bicubic(edge.astype(np.float32), 2).max() > 256


def test_channels_are_resized_each_for_itself() -> None:
    picture = np.random.default_rng(1).integers(0, 65536, (10, 12, 3)).astype(np.uint16)
    together = resize_bicubic(picture, 1.5)
    for channel in range(3):
        np.testing.assert_array_equal(together[..., channel], resize_bicubic(picture[..., channel], 1.5))


def test_cropping_is_a_view_and_refuses_to_leave_nothing() -> None:
    picture = np.zeros((7, 11, 3), np.uint8)
    cropped = crop_to_multiple(picture, 4)
    assert cropped.shape == (4, 8, 3)
    assert np.shares_memory(cropped, picture)
    with raises(UsageError, found=(7, 11), wanted=8):
        crop_to_multiple(picture, 8)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_an_impossible_scale_is_refused(scale: float) -> None:
    with raises(UsageError, found=scale):
        resize_bicubic(np.zeros((4, 4)), scale)


@pytest.mark.parametrize("picture", [np.zeros(4), np.zeros((4, 0)), np.zeros((4, 4), np.int64)])
def test_other_arrays_are_refused(picture: npt.NDArray[Any]) -> None:
    with raises(UsageError, found=(str(picture.dtype), picture.shape)):
        resize_bicubic(picture, 2)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_set5_reduced_equals_the_files_in_circulation_in_every_sample(shared_data: Path, factor: int) -> None:
    names = [path.name for path in list_pictures(shared_data / "test" / "set5" / "hr")]
    assert len(names) == 5
    for name in names:
        hr = read_picture(shared_data / "test" / "set5" / "hr" / name).pixels
        lr = read_picture(shared_data / "test" / "set5" / f"lr_x{factor}" / name).pixels
        np.testing.assert_array_equal(downscale_bicubic(hr, factor), lr)
