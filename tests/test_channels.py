"""Luma and chroma are those of PIL, and pictures of every kind become the channels of a network and return."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sr_edge.channels import (
    batch_for_network,
    frame_of,
    merge_luma,
    network_frame,
    picture_frame,
    picture_of,
    rounded_luma,
    split_luma,
    with_alpha,
)
from sr_edge.errors import FrameError
from sr_edge.frames import Picture, batch_from_frame
from sr_edge.resize import resize_bicubic
from tests.expected_errors import raises

SIZE = (70, 33)


def noise(channels: int, dtype: npt.DTypeLike = np.uint8) -> npt.NDArray[Any]:
    largest = np.iinfo(np.dtype(dtype)).max
    return np.random.default_rng(channels).integers(0, largest + 1, (*SIZE, channels)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_split_and_merged_rgb_is_the_same_to_the_bit(dtype: npt.DTypeLike) -> None:
    rgb = noise(3, dtype)
    assert np.array_equal(merge_luma(*split_luma(rgb), 1, np.empty_like(rgb)), rgb)


def test_luma_and_chroma_are_those_of_pil_which_cuts_the_fraction_off() -> None:
    rgb = noise(3)
    luma, chroma = split_luma(rgb)
    fractions = (
        255 * np.concatenate([luma, chroma], axis=-1)
        + [0, 128, 128]
        - np.asarray(Image.fromarray(rgb).convert("YCbCr"), np.float64)
    )
    assert fractions.min() > -0.1 and fractions.max() < 1.1
    assert np.array_equal(rounded_luma(luma)[..., 0], np.rint(255 * luma[..., 0]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_of_upscaled_colours_is_their_luma_rounded(dtype: npt.DTypeLike) -> None:
    rgb = noise(3, dtype)
    exact = rgb @ np.array([0.299, 0.587, 0.114])
    assert np.abs(picture_frame(rgb, 1)[..., 0] - exact).max() <= 0.51 + np.iinfo(np.dtype(dtype)).max / 2**17
    if dtype == np.uint8:
        assert np.array_equal(picture_frame(rgb, 1)[..., 0], np.asarray(Image.fromarray(rgb).convert("L")))


def test_merged_planes_are_those_of_pil() -> None:
    y, cb, cr = noise(3).transpose(2, 0, 1)
    chroma = (np.stack([cb, cr], axis=-1).astype(np.float32) - 128) / np.float32(255)
    merged = merge_luma(np.ascontiguousarray(y)[..., np.newaxis], chroma, 1, np.empty((*SIZE, 3), np.uint8))
    pil = np.asarray(Image.merge("YCbCr", [Image.fromarray(plane) for plane in (y, cb, cr)]).convert("RGB"))
    assert np.abs(merged.astype(int) - pil).max() <= 1


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("height", [63, 64, 66, 130])
def test_chroma_is_upscaled_in_bands_as_it_is_at_once(height: int, scale: int) -> None:
    chroma = np.random.default_rng(0).uniform(-0.2, 0.2, (height, 5, 2)).astype(np.float32)
    luma = np.full((scale * height, scale * 5, 1), 0.5, np.float32)
    out, at_once = (np.empty((*luma.shape[:2], 3), np.uint16) for _ in range(2))
    merge_luma(luma, chroma, scale, out)
    merge_luma(luma, resize_bicubic(chroma, scale), 1, at_once)
    assert np.abs(out.astype(int) - at_once).max() <= 1


def test_chroma_beyond_its_range_is_clipped_as_in_a_file() -> None:
    luma = np.full((*SIZE, 1), 0.5, np.float32)
    beyond, largest = (merge_luma(luma, np.full((*SIZE, 2), value, np.float32), 1, noise(3)) for value in (0.7, 0.5))
    assert np.array_equal(beyond, largest)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 4])
def test_rgb_and_gray_return_unchanged_from_networks_with_more_channels(channels: int, dtype: npt.DTypeLike) -> None:
    for picture in (noise(1, dtype), noise(3, dtype)):
        frame = network_frame(picture, channels)
        assert (frame.shape, frame.dtype) == ((*SIZE, channels), picture.dtype)
        assert channels == 3 or (frame[..., 3] == np.iinfo(picture.dtype).max).all()
        assert np.array_equal(picture_frame(frame, picture.shape[2]), picture)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_frames_that_have_the_channels_are_passed_through(channels: int) -> None:
    frame = noise(channels)
    assert network_frame(frame, channels) is frame
    assert np.array_equal(batch_for_network(frame, channels), batch_from_frame(frame))


@pytest.mark.parametrize("channels", [1, 3])
def test_alpha_is_refused_by_networks_that_do_not_take_it(channels: int) -> None:
    with raises(FrameError, found=4, wanted=channels):
        network_frame(noise(4), channels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_luma_of_a_patch_is_not_rounded(dtype: npt.DTypeLike) -> None:
    rgb = noise(3, dtype)
    exact = rgb.astype(np.float64) @ [0.299, 0.587, 0.114] / np.iinfo(rgb.dtype).max
    assert np.abs(batch_for_network(rgb, 1)[0, 0] - exact).max() < 1e-6
    assert np.array_equal(batch_for_network(with_alpha(rgb, None), 1), batch_for_network(rgb, 1))


def test_alpha_is_the_fourth_channel() -> None:
    rgba = noise(4)
    picture = picture_of(rgba)
    assert picture.alpha is not None and picture.pixels.shape == (*SIZE, 3)
    assert np.array_equal(frame_of(picture), rgba)
    gray = frame_of(Picture(noise(1), rgba[..., 3].copy()))
    assert np.array_equal(gray, with_alpha(np.repeat(noise(1), 3, axis=2), rgba[..., 3]))
    assert picture_of(noise(1)).alpha is None
