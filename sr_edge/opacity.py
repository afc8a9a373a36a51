"""Upscaling of pictures with an alpha channel, without fringes of the colours under transparent pixels.

The picture is upscaled three times: over black, over white, and opaque, with the visible colours spread under the
transparent pixels. Of those, the colours premultiplied by the opacity P and the opacity A of the result follow by least
squares:

    over black   P             = black
    over white   P + (1 - A)   = white
    opaque       P             = A * opaque

For interpolation without clipping, all three hold at once. At hard edges they contradict each other, because networks
are no linear filters and overshoots are clipped. There the last equation counts most, since a fringe in a foreign
colour is more visible than an edge that is a little sharper or softer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sr_edge.frames import Frame, Picture, Region, max_sample_value

_CONSTANT_WITHIN_PX = 5
"""Where alpha is constant up to this distance, the result has exactly that alpha; edges show no farther in networks."""

_OPAQUE_WEIGHT = 16
"""Weight of the last equation; the others have 1."""

_STRIP_ROWS = 64

_Float = npt.NDArray[np.float32]
_Array = npt.NDArray[Any]


def spread_visible_colours(pixels: Frame, alpha: Frame) -> Frame:
    """Replaces the colours of fully transparent pixels by those of the nearest visible area.

    They are means over squares of 2, 4, 8, ... pixels that contain a visible one, weighted by alpha.

    Args:
        pixels: uint8 or uint16 (height, width, 1 or 3).
        alpha: The same type, (height, width).

    Returns:
        A new frame, equal to `pixels` where alpha is above 0; without any visible pixel it is `pixels`.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    weights = alpha[..., None].astype(np.float64) / max_sample_value(alpha.dtype)
    filled = _filled(pixels * weights, weights)
    spread: Frame = np.where(visible[..., None], pixels, np.rint(filled)).astype(pixels.dtype)
    return spread


def with_visible_colours(picture: Picture) -> Picture:
    """The picture with the visible colours spread under its transparent pixels; without alpha it is returned itself."""
    if picture.alpha is None:
        return picture
    return replace(picture, pixels=spread_visible_colours(picture.pixels, picture.alpha))


def _filled(weighted: _Array, weights: _Array) -> _Array:
    """Weighted means, taken from the picture of half the size where the weight is 0."""
    height, width = weights.shape[:2]
    own: _Array = weighted / np.maximum(weights, np.finfo(np.float64).tiny)
    if (weights > 0).all() or max(height, width) == 1:
        return own
    coarse = _filled(_halved(weighted), _halved(weights)).repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    filled: _Array = np.where(weights > 0, own, coarse)
    return filled


def _halved(sums: _Array) -> _Array:
    """Sums of 2x2 pixels."""
    even: _Array = np.pad(sums, [(0, sums.shape[0] % 2), (0, sums.shape[1] % 2), (0, 0)])
    halved: _Array = even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]
    return halved


def count_passes(alpha: Frame) -> int:
    """How often `upscale_with_alpha` calls its upscaler."""
    return 1 if alpha.min() == alpha.max() else 3


def upscale_with_alpha(
    upscale: Callable[[Frame], Frame], pixels: Frame, alpha: Frame, scale: int, region: Region | None = None
) -> tuple[Frame, Frame]:
    """Upscales colours and opacity together.

    Args:
        upscale: Upscales a frame of the type and channels of `pixels`, and returns the part that `region` chooses.
        pixels: uint8 or uint16 (height, width, 1 or 3).
        alpha: Straight opacity of the same type, (height, width).
        scale: Magnification of `upscale`.
        region: The part of the picture that `upscale` returns; None for all of it.

    Returns:
        The upscaled colours and the straight opacity, of the same type.
    """
    spread = spread_visible_colours(pixels, alpha)
    opaque = upscale(spread)
    if count_passes(alpha) == 1:
        return opaque, np.full(opaque.shape[:2], alpha.flat[0], alpha.dtype)
    over_black, over_white = (upscale(_composited(spread, alpha, background)) for background in (0, 1))
    constant = _constant_opacity(alpha)
    if region is not None:
        constant = region.cut(constant)
    colours, upscaled_alpha = np.empty_like(opaque), np.empty(opaque.shape[:2], alpha.dtype)
    for top in range(0, opaque.shape[0], _STRIP_ROWS * scale):
        rows = slice(top, top + _STRIP_ROWS * scale)
        known = constant[top // scale :][:_STRIP_ROWS].repeat(scale, 0).repeat(scale, 1)
        colours[rows], upscaled_alpha[rows] = _solved(over_black[rows], over_white[rows], opaque[rows], known)
    return colours, upscaled_alpha


def _composited(colours: Frame, alpha: Frame, background: int) -> Frame:
    """The colours over black (0) or white (1)."""
    largest = max_sample_value(colours.dtype)
    opacity = _shares(alpha)[..., None]
    composited: Frame = np.rint(colours * opacity + background * largest * (1 - opacity)).astype(colours.dtype)
    return composited


def _solved(over_black: Frame, over_white: Frame, opaque: Frame, known: _Float) -> tuple[Frame, Frame]:
    """Colours and opacity of the result; `known` is the opacity where it is given, and NaN elsewhere."""
    smallest = np.float32(0.5 / max_sample_value(opaque.dtype))
    black, white, full = (_shares(samples) for samples in (over_black, over_white, opaque))
    opacity = np.where(np.isnan(known), _least_squares_opacity(black, white, full), known)[..., None]
    premultiplied = (black + white - 1 + opacity * (1 + _OPAQUE_WEIGHT * full)) / (2 + _OPAQUE_WEIGHT)
    colours = np.where(opacity >= smallest, premultiplied / np.maximum(opacity, smallest), full)
    return _samples(colours, opaque.dtype), _samples(opacity[..., 0], opaque.dtype)


def _least_squares_opacity(black: _Float, white: _Float, opaque: _Float) -> _Float:
    """A of the three equations, after P is eliminated: for a given A it is P = constant + slope * A."""
    weights = (1, 1, _OPAQUE_WEIGHT)
    constant, slope = (black + white - 1) / sum(weights), (1 + _OPAQUE_WEIGHT * opaque) / sum(weights)
    slopes = (slope, slope - 1, slope - opaque)
    constants = (constant - black, constant - (white - 1), constant)
    product = sum(w * (of_a * of_1).sum(-1) for w, of_a, of_1 in zip(weights, slopes, constants, strict=True))
    square = sum(w * (of_a * of_a).sum(-1) for w, of_a in zip(weights, slopes, strict=True))
    opacity: _Float = np.clip(-product / square, 0, 1)
    return opacity


def _constant_opacity(alpha: Frame) -> _Float:
    """Alpha where it is constant up to the distance of _CONSTANT_WITHIN_PX, NaN elsewhere."""
    least, most = (_extreme(alpha, of) for of in (np.minimum, np.maximum))
    constant: _Float = np.where(least == most, _shares(alpha), np.float32(np.nan))
    return constant


def _extreme(plane: Frame, of: np.ufunc) -> Frame:
    """The least or greatest sample of the square around each pixel."""
    for axis in (0, 1):
        padding = [(_CONSTANT_WITHIN_PX * (axis == of_axis),) * 2 for of_axis in (0, 1)]
        padded = np.pad(plane, padding, mode="edge")
        size = plane.shape[axis]
        windows = [padded.take(range(first, first + size), axis) for first in range(2 * _CONSTANT_WITHIN_PX + 1)]
        plane = of.reduce(windows)
    return plane


def _shares(samples: Frame) -> _Float:
    shares: _Float = samples.astype(np.float32) / np.float32(max_sample_value(samples.dtype))
    return shares


def _samples(shares: _Float, dtype: npt.DTypeLike) -> Frame:
    largest = max_sample_value(dtype)
    return np.rint(np.clip(shares, 0, 1).astype(np.float64) * largest).astype(dtype)
