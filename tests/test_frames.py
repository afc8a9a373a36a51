"""Pictures in memory, and the conversion between frames and batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import FrameError
from sr_edge.frames import Picture, batch_from_frame, frame_from_batch, rgb_frame
from tests.expected_errors import raises


def noise(dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(np.dtype(dtype)).max + 1, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_batch_is_the_frame_over_its_white_level_channels_first(dtype: npt.DTypeLike, channels: int) -> None:
    frame = noise(dtype, 5, 7, channels)
    batch = batch_from_frame(frame)
    assert batch.flags.c_contiguous
    assert batch.dtype == np.float32
    expected = frame.astype(np.float32).transpose(2, 0, 1)[None] / np.float32(np.iinfo(np.dtype(dtype)).max)
    np.testing.assert_array_equal(batch, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_sample_survives_the_way_to_a_batch_and_back(dtype: npt.DTypeLike, channels: int) -> None:
    levels = np.arange(np.iinfo(np.dtype(dtype)).max + 1).astype(dtype)
    frame = np.repeat(levels.reshape(-1, 16, 1), channels, axis=2)
    back = frame_from_batch(batch_from_frame(frame), dtype)
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, frame)


def test_a_view_with_strides_gives_the_batch_of_its_copy() -> None:
    frame = noise(np.uint8, 8, 9, 3)
    np.testing.assert_array_equal(batch_from_frame(frame[1:6, ::2]), batch_from_frame(frame[1:6, ::2].copy()))


def test_out_of_range_values_are_clipped_and_others_rounded_to_the_nearest() -> None:
    values = np.array([-0.5, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.5], np.float32)
    frame = frame_from_batch(np.tile(values, (1, 3, 1, 1)))
    np.testing.assert_array_equal(frame[0, :, 0], [0, 0, 1, 255, 255])


def test_ties_go_to_the_even_level() -> None:
    halves = np.array([[[[16383.75 / 32767.5, 0.0]]]], np.float32)  # 0.5 exactly: 127.5 levels
    np.testing.assert_array_equal(frame_from_batch(halves)[0, :, 0], [128, 0])


def test_nan_is_refused_instead_of_becoming_black() -> None:
    batch = np.zeros((1, 3, 2, 2), np.float32)
    batch[0, 1, 0, 1] = np.nan
    with raises(FrameError, found="NaN"):
        frame_from_batch(batch)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 4, 4), (1, 2, 4, 4), (1, 3, 0, 4)])
def test_a_batch_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with raises(FrameError, found=shape):
        frame_from_batch(np.zeros(shape, np.float32))


@pytest.mark.parametrize("pixels", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((4, 0, 3), np.uint8)])
def test_a_picture_of_other_arrays_is_refused(pixels: npt.NDArray[Any]) -> None:
    with raises(FrameError, found=(str(pixels.dtype), pixels.shape)):
        Picture(pixels)


@pytest.mark.parametrize("alpha", [noise(np.uint8, 4, 5), noise(np.uint16, 4, 4)])
def test_alpha_must_match_the_pixels(alpha: npt.NDArray[Any]) -> None:
    with raises(FrameError, found=(str(alpha.dtype), alpha.shape), wanted=("uint8", (4, 4))):
        Picture(noise(np.uint8, 4, 4, 3), alpha)


def test_rgb_frame_brings_any_picture_to_8_bit_rgb() -> None:
    gray = Picture(np.array([[[0], [128 * 257], [257 * 255]]], np.uint16), np.zeros((1, 3), np.uint16))
    np.testing.assert_array_equal(rgb_frame(gray), [[[0] * 3, [128] * 3, [255] * 3]])
    colour = noise(np.uint8, 3, 4, 3)
    np.testing.assert_array_equal(rgb_frame(Picture(colour)), colour)


def test_a_picture_is_shown_by_its_size_and_kind() -> None:
    pixels = np.zeros((4, 6, 3), np.uint16)
    assert repr(Picture(pixels)) == "<Picture 6x4 RGB, 16 bits>"
    alpha = np.zeros((4, 6), np.uint8)
    assert repr(Picture(alpha[..., np.newaxis], alpha)) == "<Picture 6x4 gray with alpha, 8 bits>"
