"""Colour is held against the formulas of H.273, and frames come back from FFmpeg's as they went."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.camera.media.conversion import (
    av_from_frame,
    frame_from_av,
    frame_from_rgb,
    reformatted,
    resized,
    rgb_from_frame,
)
from sr_edge.camera.media.frame import UNSPECIFIED, Chroma, Colour, ColourRange, PixelFormat, VideoFrame
from sr_edge.errors import FrameError
from sr_edge.frames import Frame
from tests.expected_errors import raises

KR_KB = {1: (0.2126, 0.0722), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}
YUV = [pixel_format for pixel_format in PixelFormat if pixel_format.chroma is not None]


def soft_colours(height: int = 48, width: int = 64, bits: int = 8) -> Frame:
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(columns / 17 + rows / 23), np.sin(columns / 29 - rows / 13), np.cos(columns / 19 + rows / 31)]
    share = np.stack(waves, -1) * 0.4 + 0.5
    return np.rint(share * 255).astype(np.uint8) if bits == 8 else np.rint(share * 65535).astype(np.uint16)


def like(pixel_format: PixelFormat, colour: Colour | None = None) -> VideoFrame:
    planes = tuple(np.zeros(layout.shape(2, 2), pixel_format.dtype) for layout in pixel_format.layout)
    return VideoFrame(planes, pixel_format, colour or Colour(), pts=9, time_base=Fraction(1, 25), sequence=4)


def luma_by_formula(rgb: Frame, matrix: int, full: bool, bits: int) -> npt.NDArray[np.float64]:
    kr, kb = KR_KB[matrix]
    r, g, b = np.moveaxis(rgb / np.iinfo(rgb.dtype).max, -1, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    return luma * (2**bits - 1) if full else (16 + 219 * luma) * 2 ** (bits - 8)


@pytest.mark.parametrize("span", [ColourRange.LIMITED, ColourRange.FULL], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", KR_KB)
@pytest.mark.parametrize("pixel_format", YUV)
def test_rgb_becomes_yuv_by_the_formula_and_comes_back(
    pixel_format: PixelFormat, matrix: int, span: ColourRange
) -> None:
    rgb = soft_colours(bits=pixel_format.bits)
    frame = frame_from_rgb(rgb, like(pixel_format, Colour(span, matrix)))
    luma = frame.planes[0].astype(np.float64) / (64 if pixel_format is PixelFormat.P010 else 1)
    wanted = luma_by_formula(rgb, matrix, span is ColourRange.FULL, pixel_format.bits)
    assert np.abs(luma - wanted).max() < 0.6
    back = rgb_from_frame(frame)
    assert back.dtype == rgb.dtype
    levels = np.abs(back.astype(int) - rgb.astype(int)) / (1 if pixel_format.bits == 8 else 257)
    # Colour that pixels share is smoothed; without sharing, only rounding is left.
    assert levels.max() <= (2 if pixel_format.chroma is Chroma.C444 else 6)
    assert levels.mean() < 1.0


@pytest.mark.parametrize("pixel_format", [pixel_format for pixel_format in YUV if pixel_format.bits == 8])
def test_pixels_share_the_mean_of_their_colours(pixel_format: PixelFormat) -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (180, 320, 3), np.uint8)
    frame = frame_from_rgb(rgb, like(pixel_format, Colour(ColourRange.LIMITED, 1)))
    blue, red = np.moveaxis(frame.planes[1], -1, 0) if pixel_format is PixelFormat.NV12 else frame.planes[1:]
    kr, kb = KR_KB[1]
    r, g, b = np.moveaxis(rgb / 255, -1, 0)
    luma = kr * r + (1 - kr - kb) * g + kb * b
    assert pixel_format.chroma is not None
    columns, rows = pixel_format.chroma.value
    for plane, colour in ((blue, (b - luma) / (2 - 2 * kb)), (red, (r - luma) / (2 - 2 * kr))):
        mean = colour.reshape(180 // rows, rows, 320 // columns, columns).mean(axis=(1, 3))
        away = plane - (128 + 224 * mean)
        assert np.abs(away).max() < 0.65
        assert abs(away.mean()) < 0.03


def test_white_and_black_of_ten_bits_are_exact() -> None:
    ends = np.array([[[0, 0, 0], [65535, 65535, 65535]] * 4] * 4, np.uint16)
    frame = frame_from_rgb(ends, like(PixelFormat.I444_10, Colour(ColourRange.LIMITED, 1)))
    assert set(np.unique(frame.planes[0])) == {64, 940}
    assert set(np.unique(frame.planes[1])) == {512}
    assert np.array_equal(rgb_from_frame(frame), ends)


def test_time_and_colour_travel_with_the_pixels() -> None:
    colour = Colour(ColourRange.FULL, 9, 9, 16)
    frame = frame_from_rgb(soft_colours(bits=16), like(PixelFormat.P010, colour))
    assert (frame.pts, frame.time_base, frame.sequence, frame.colour) == (9, Fraction(1, 25), 4, colour)


@pytest.mark.parametrize(("rows", "matrix"), [(360, 6), (720, 1)])
def test_a_matrix_nobody_told_is_named_before_the_size_changes_what_players_guess(rows: int, matrix: int) -> None:
    planes = tuple(np.full(layout.shape(rows, 64), 90, np.uint8) for layout in PixelFormat.I420.layout)
    frame = VideoFrame(planes, PixelFormat.I420)
    assert frame.colour.matrix == UNSPECIFIED
    assert resized(frame, 128, 2 * rows).colour.matrix == matrix
    assert frame_from_rgb(np.zeros((2 * rows, 128, 3), np.uint8), frame).colour.matrix == matrix


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_resizing_keeps_levels_and_format(pixel_format: PixelFormat) -> None:
    middle = 1 << (15 if pixel_format is PixelFormat.P010 else pixel_format.bits - 1)
    planes = tuple(np.full(layout.shape(18, 32), middle, pixel_format.dtype) for layout in pixel_format.layout)
    large = resized(VideoFrame(planes, pixel_format, Colour(ColourRange.LIMITED, 1)), 64, 36)
    assert large.format is pixel_format
    assert (large.width, large.height) == (64, 36)
    one_code = 1 << (6 if pixel_format is PixelFormat.P010 else 8 if pixel_format.bits == 16 else 0)
    for plane in large.planes:
        assert np.abs(plane.astype(int) - middle).max() <= one_code


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_a_frame_goes_to_ffmpeg_and_back_unchanged(pixel_format: PixelFormat) -> None:
    generator = np.random.default_rng(7)
    planes = tuple(
        generator.integers(0, 1 << pixel_format.bits, layout.shape(31, 45)).astype(pixel_format.dtype)
        for layout in pixel_format.layout
    )
    frame = VideoFrame(planes, pixel_format, Colour(ColourRange.FULL, 1, 9, 16), 5, Fraction(1, 30), 0, 2)
    back = frame_from_av(av_from_frame(frame), sequence=2, captured_ns=0)
    assert all(np.array_equal(old, new) for old, new in zip(planes, back.planes, strict=True))
    assert (back.format, back.colour, back.pts, back.time_base) == (pixel_format, frame.colour, 5, Fraction(1, 30))


def test_old_names_of_full_range_say_so() -> None:
    assert frame_from_av(av.VideoFrame(8, 8, "yuvj420p")).colour.range is ColourRange.FULL


def test_packed_samples_are_spread_not_changed() -> None:
    packed = np.random.default_rng(3).integers(0, 256, (6, 8, 2), np.uint8)
    picture = av.VideoFrame.from_ndarray(packed, "yuyv422")
    frame = frame_from_av(picture)
    assert frame.format is PixelFormat.I422
    assert np.array_equal(frame.planes[0], packed[..., 0])
    assert np.array_equal(frame.planes[1], packed[:, 0::2, 1])
    assert np.array_equal(frame.planes[2], packed[:, 1::2, 1])


@pytest.mark.parametrize("order", ["bgr24", "bgra", "gbrp"])
def test_rgb_in_another_order_is_rgb(order: str) -> None:
    rgb = soft_colours().astype(np.uint8)
    frame = frame_from_av(av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=order))
    assert frame.format is PixelFormat.RGB
    assert np.array_equal(frame.planes[0], rgb)


def test_an_unknown_pixel_format_is_named() -> None:
    with raises(FrameError, found="bayer_rggb8", wanted=[pixel_format.value for pixel_format in PixelFormat]):
        frame_from_av(av.VideoFrame(8, 8, "bayer_rggb8"))


def test_an_unknown_matrix_is_named() -> None:
    frame = frame_from_rgb(soft_colours(), like(PixelFormat.I420, Colour(ColourRange.LIMITED, 1)))
    odd = frame.with_planes(frame.planes, colour=Colour(matrix=14))
    with raises(FrameError, found=14):
        rgb_from_frame(odd)


@pytest.mark.parametrize("pixel_format", [PixelFormat.NV12, PixelFormat.I420, PixelFormat.P010, PixelFormat.RGB])
def test_reformatting_shows_the_same_colours(pixel_format: PixelFormat) -> None:
    frame = frame_from_rgb(soft_colours(), like(PixelFormat.I444, Colour(ColourRange.FULL, 1)))
    changed = reformatted(frame, pixel_format)
    assert changed.format is pixel_format
    shown = rgb_from_frame(changed) / np.iinfo(changed.format.dtype).max
    assert np.abs(shown - soft_colours() / 255).mean() < 1.2 / 255


def test_two_layouts_of_the_same_samples_are_the_same() -> None:
    frame = frame_from_rgb(soft_colours(), like(PixelFormat.NV12, Colour(ColourRange.LIMITED, 1)))
    planar = reformatted(frame, PixelFormat.I420)
    assert np.array_equal(planar.planes[2], frame.planes[1][..., 1])
    assert np.array_equal(reformatted(planar, PixelFormat.NV12).planes[1], frame.planes[1])


def test_reformatting_to_the_same_is_nothing() -> None:
    frame = like(PixelFormat.NV12)
    assert reformatted(frame, PixelFormat.NV12) is frame
