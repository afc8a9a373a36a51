"""Pictures with alpha: composited after upscaling, they look like the composited picture upscaled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from sr_edge.frames import Frame, batch_from_frame, frame_from_batch, max_sample_value
from sr_edge.models import load_model
from sr_edge.opacity import spread_visible_colours, upscale_with_alpha
from sr_edge.resize import resize_bicubic

SCALE = 2
SIZE = 48
DTYPES = [np.uint8, np.uint16]
RING = 8
"""Width of the edge of the sprite, over which its opacity falls from 1 to 0."""

WHITE, BLACK, GREEN = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.2, 0.7, 0.4)


@cache
def network() -> torch.nn.Module:
    return load_model("convnet-tiny", scale=SCALE).module.eval()


def by_network(frame_hwc: Frame) -> Frame:
    rgb = np.repeat(frame_hwc, 3, axis=2) if frame_hwc.shape[2] == 1 else frame_hwc
    with torch.inference_mode():
        upscaled = network()(torch.from_numpy(batch_from_frame(rgb))).numpy()
    frame = frame_from_batch(upscaled, frame_hwc.dtype)
    if frame_hwc.shape[2] == 3:
        return frame
    return np.rint(frame @ np.array([0.299, 0.587, 0.114]))[..., np.newaxis].astype(frame_hwc.dtype)


def by_bicubic(frame_hwc: Frame) -> Frame:
    return resize_bicubic(frame_hwc, SCALE)


def sprite(colour: tuple[float, ...], dtype: npt.DTypeLike, edge_px: float) -> tuple[Frame, Frame]:
    """A disc of one colour, with black under the fully transparent pixels."""
    largest = max_sample_value(dtype)
    rows, columns = np.indices((SIZE, SIZE))
    radius = np.hypot(rows - 23.5, columns - 22)
    alpha = np.rint(np.clip((18 - radius) / edge_px + 0.5, 0, 1) * largest).astype(dtype)
    pixels = np.rint(np.full((SIZE, SIZE, len(colour)), colour) * largest).astype(dtype)
    return pixels * (alpha > 0)[..., np.newaxis], alpha


def composited(pixels: Frame, alpha: Frame, background: tuple[float, ...]) -> Frame:
    opacity = alpha[..., np.newaxis] / max_sample_value(alpha.dtype)
    below = np.array(background) * max_sample_value(pixels.dtype)
    return np.rint(pixels * opacity + below * (1 - opacity)).astype(pixels.dtype)


def largest_error(
    upscale: Callable[[Frame], Frame], pixels: Frame, alpha: Frame, background: tuple[float, ...]
) -> float:
    """In levels of 8 bits."""
    colours, opacity = upscale_with_alpha(upscale, pixels, alpha, SCALE)
    expected = upscale(composited(pixels, alpha, background)).astype(float)
    return (
        float(np.abs(composited(colours, opacity, background) - expected).max()) * 255 / max_sample_value(pixels.dtype)
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("upscale", [by_bicubic, by_network])
@pytest.mark.parametrize("background", ["white", "black", "own"])
@pytest.mark.parametrize(
    "colour", [WHITE, BLACK, WHITE[:1], BLACK[:1]], ids=["white", "black", "gray-white", "gray-black"]
)
def test_a_sprite_looks_the_same_over_any_background(
    colour: tuple[float, ...], background: str, upscale: Callable[[Frame], Frame], dtype: npt.DTypeLike
) -> None:
    pixels, alpha = sprite(colour, dtype, RING)
    below = {"white": WHITE[: len(colour)], "black": BLACK[: len(colour)], "own": colour}[background]
    assert largest_error(upscale, pixels, alpha, below) <= 2.02


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edge_px", [0.01, 1])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_gray_sprite_with_a_hard_edge(level: float, edge_px: float, dtype: npt.DTypeLike) -> None:
    pixels, alpha = sprite((level,), dtype, edge_px)
    for background in (0.0, 1.0):
        assert largest_error(by_bicubic, pixels, alpha, (background,)) <= 1
        assert largest_error(by_network, pixels, alpha, (background,)) <= 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("edge_px", [0.01, 1, RING])
def test_a_sprite_over_its_own_colour_has_no_ring(edge_px: float, dtype: npt.DTypeLike) -> None:
    pixels, alpha = sprite(GREEN, dtype, edge_px)
    assert largest_error(by_bicubic, pixels, alpha, GREEN) <= 2
    assert largest_error(by_network, pixels, alpha, GREEN) <= 4


@pytest.mark.parametrize("dtype", DTYPES)
def test_interpolation_of_a_photograph_with_soft_edges(dtype: npt.DTypeLike) -> None:
    _, alpha = sprite(WHITE, dtype, RING)
    rows, columns = np.indices((SIZE, SIZE))[..., np.newaxis]
    texture = 0.5 + 0.4 * np.sin(rows / 3 + np.arange(3)) * np.cos(columns / 4)
    pixels = np.rint(texture * max_sample_value(dtype)).astype(dtype) * (alpha > 0)[..., np.newaxis]
    for background in (WHITE, BLACK, GREEN):
        assert largest_error(by_bicubic, pixels, alpha, background) <= 3


def test_hidden_colours_have_no_effect_on_a_hard_edge() -> None:
    pixels, alpha = sprite(WHITE, np.uint8, 0.01)
    assert largest_error(by_bicubic, pixels, alpha, WHITE) == 0
    hidden = np.where(alpha[..., np.newaxis] > 0, pixels, np.array([255, 0, 255], np.uint8))
    for of_hidden, of_black in zip(
        upscale_with_alpha(by_bicubic, hidden, alpha, SCALE),
        upscale_with_alpha(by_bicubic, pixels, alpha, SCALE),
        strict=True,
    ):
        np.testing.assert_array_equal(of_hidden, of_black)


@pytest.mark.parametrize("level", [0, 100, 255])
def test_constant_opacity_needs_one_pass(level: int) -> None:
    calls: list[Frame] = []

    def counting(frame_hwc: Frame) -> Frame:
        calls.append(frame_hwc)
        return by_bicubic(frame_hwc)

    pixels: Any = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype(np.uint8)
    colours, alpha = upscale_with_alpha(counting, pixels, np.full((9, 7), level, np.uint8), SCALE)
    assert len(calls) == 1
    assert (alpha == level).all()
    np.testing.assert_array_equal(colours, by_bicubic(pixels))


def test_visible_colours_are_spread_and_kept() -> None:
    pixels = np.zeros((5, 9, 3), np.uint8)
    alpha = np.zeros((5, 9), np.uint8)
    pixels[2, :3], alpha[2, :3] = (200, 10, 0), 255
    pixels[2, 6:], alpha[2, 6:] = (0, 0, 90), 7
    spread = spread_visible_colours(pixels, alpha)
    np.testing.assert_array_equal(spread[alpha > 0], pixels[alpha > 0])
    np.testing.assert_array_equal(spread[:4, :2], np.broadcast_to([200, 10, 0], (4, 2, 3)))
    np.testing.assert_array_equal(spread[:4, 8], np.broadcast_to([0, 0, 90], (4, 3)))
    clear = np.zeros_like(alpha)
    np.testing.assert_array_equal(spread_visible_colours(pixels, clear), pixels)
