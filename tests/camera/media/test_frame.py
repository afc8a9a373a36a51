"""Planes of every format: their shapes, odd sizes, parts of a frame, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sr_edge.camera.media.frame import Colour, ColourRange, PixelFormat, VideoFrame
from sr_edge.errors import FrameError
from tests.expected_errors import raises


def blank(pixel_format: PixelFormat, height: int, width: int) -> VideoFrame:
    return VideoFrame(
        tuple(np.zeros(layout.shape(height, width), pixel_format.dtype) for layout in pixel_format.layout), pixel_format
    )


@pytest.mark.parametrize("pixel_format", PixelFormat)
def test_every_format_holds_an_odd_size(pixel_format: PixelFormat) -> None:
    frame = blank(pixel_format, 181, 323)
    assert (frame.height, frame.width) == (181, 323)
    if pixel_format.chroma is not None:
        columns, rows = pixel_format.chroma.value
        assert frame.planes[1].shape[:2] == (-(-181 // rows), -(-323 // columns))


@pytest.mark.parametrize(
    ("pixel_format", "bits"), [("yuv420p", 8), ("p010le", 10), ("yuv422p10le", 10), ("gray10le", 10), ("rgb48le", 16)]
)
def test_bits(pixel_format: str, bits: int) -> None:
    assert PixelFormat(pixel_format).bits == bits
    assert PixelFormat(pixel_format).dtype.itemsize == (1 if bits == 8 else 2)


def test_planes_that_do_not_fit_are_refused() -> None:
    luma, chroma = np.zeros((4, 6), np.uint8), np.zeros((2, 2), np.uint8)
    found = [("uint8", (4, 6)), ("uint8", (2, 2)), ("uint8", (2, 2))]
    wanted = [("uint8", (4, 6)), ("uint8", (2, 3)), ("uint8", (2, 3))]
    with raises(FrameError, found=found, wanted=wanted):
        VideoFrame((luma, chroma, chroma), PixelFormat.I420)
    with raises(FrameError, found=[]):
        VideoFrame((), PixelFormat.RGB)
    with raises(FrameError, found=[("uint8", (0, 6, 3))], wanted="at least one row and one column"):
        VideoFrame((np.zeros((0, 6, 3), np.uint8),), PixelFormat.RGB)
    with raises(FrameError, found=[("uint16", (4, 6))], wanted=[("uint8", (4, 6))]):
        VideoFrame((luma.astype(np.uint16),), PixelFormat.GRAY)


def test_a_part_keeps_time_and_colour_and_shares_the_memory() -> None:
    planes = tuple(
        np.arange(np.prod(layout.shape(6, 8)), dtype=np.uint8).reshape(layout.shape(6, 8))
        for layout in PixelFormat.NV12.layout
    )
    frame = VideoFrame(planes, PixelFormat.NV12, Colour(ColourRange.FULL, 1, 1, 1), pts=7, sequence=3)
    part = frame.cropped(2, 4, 4, 2)
    assert np.array_equal(part.planes[0], planes[0][4:6, 2:6])
    assert np.array_equal(part.planes[1], planes[1][2:3, 1:3])
    assert np.shares_memory(part.planes[0], planes[0])
    assert (part.pts, part.sequence, part.colour) == (7, 3, frame.colour)


def test_a_part_up_to_an_odd_edge_is_whole() -> None:
    assert blank(PixelFormat.I420, 7, 9).cropped(4, 2, 5, 5).planes[1].shape == (3, 3)


@pytest.mark.parametrize(
    ("part", "advised"),
    [
        ((1, 0, 4, 4), (0, 0, 4, 4)),
        ((0, 1, 4, 4), (0, 0, 4, 4)),
        ((0, 0, 3, 4), (0, 0, 2, 4)),
        ((0, 0, 4, 3), (0, 0, 4, 2)),
    ],
)
def test_a_part_never_cuts_through_colour(part: tuple[int, int, int, int], advised: tuple[int, int, int, int]) -> None:
    with raises(FrameError, found=part, wanted=advised):
        blank(PixelFormat.I420, 8, 8).cropped(*part)
    assert blank(PixelFormat.I444, 8, 8).cropped(*part).width == part[2]


@pytest.mark.parametrize("part", [(0, 0, 1, 1), (1, 1, 1, 1), (5, 7, 3, 1), (8, 0, 1, 3), (7, 5, 2, 2)])
def test_the_part_that_is_advised_is_taken(part: tuple[int, int, int, int]) -> None:
    frame = blank(PixelFormat.I420, 9, 9)
    with raises(FrameError, found=part) as caught:
        frame.cropped(*part)
    assert isinstance(caught.value.wanted, tuple)
    left, top, width, height = caught.value.wanted
    frame.cropped(left, top, width, height)


@pytest.mark.parametrize("part", [(-2, 0, 4, 4), (0, 0, 10, 4), (6, 0, 4, 4), (0, 0, 0, 4)])
def test_a_part_outside_is_refused(part: tuple[int, int, int, int]) -> None:
    with raises(FrameError, found=part, wanted=(8, 8)):
        blank(PixelFormat.RGB, 8, 8).cropped(*part)


@pytest.mark.parametrize(("pts", "time"), [(21_000, "0.233 s"), (0, "0.000 s"), (None, "no timestamp")])
def test_a_frame_shows_its_size_format_and_time_and_no_pixels(pts: int | None, time: str) -> None:
    frame = replace(blank(PixelFormat.NV12, 1080, 1920), pts=pts, sequence=7)
    assert repr(frame) == f"<VideoFrame 7: 1920x1080 nv12, {time}>"
