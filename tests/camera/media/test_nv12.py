"""Which frames run in a graph that converts NV12 itself."""

from __future__ import annotations

import numpy as np
import pytest

from sr_edge.camera.media.conversion import nv12_obstacle, nv12_planes, reformatted
from sr_edge.camera.media.frame import Colour, ColourRange, PixelFormat, VideoFrame
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.spec import TileSpec
from tests.nv12_frames import random_nv12

TILE = TileSpec(16, 24)
LIMITED = Nv12Colour.BT709_LIMITED


def obstacle(frame: VideoFrame, colour: Nv12Colour = LIMITED) -> str:
    return nv12_obstacle(frame, colour, TILE)


@pytest.mark.parametrize("colour", Nv12Colour)
def test_frames_of_the_graphs_colour_run_in_it(colour: Nv12Colour) -> None:
    frame = random_nv12(16, 24, colour)
    assert obstacle(frame, colour) == ""
    others = {other for other in Nv12Colour if obstacle(frame, other)}
    assert others == set(Nv12Colour) - {colour}


@pytest.mark.parametrize("pixel_format", sorted(set(PixelFormat) - {PixelFormat.NV12, PixelFormat.I420}))
def test_other_formats_do_not(pixel_format: PixelFormat) -> None:
    assert str(pixel_format) in obstacle(reformatted(random_nv12(16, 24), pixel_format))


@pytest.mark.parametrize("size", [(17, 24), (16, 25), (14, 24), (16, 22)])
def test_odd_and_small_sizes_do_not(size: tuple[int, int]) -> None:
    planes = tuple(np.zeros(layout.shape(*size), np.uint8) for layout in PixelFormat.NV12.layout)
    assert f"{size[1]}x{size[0]}" in obstacle(VideoFrame(planes, PixelFormat.NV12, random_nv12(2, 2).colour))


def test_a_missing_tag_means_what_players_assume() -> None:
    small = VideoFrame(random_nv12(16, 24).planes, PixelFormat.NV12)
    assert obstacle(small, Nv12Colour.BT601_LIMITED) == ""
    large = VideoFrame(random_nv12(720, 24).planes, PixelFormat.NV12)
    assert obstacle(large, LIMITED) == ""


def test_other_matrices_do_not() -> None:
    bt2020 = Colour(ColourRange.LIMITED, 9)
    assert "matrix 9" in obstacle(VideoFrame(random_nv12(16, 24).planes, PixelFormat.NV12, bt2020))


def test_separate_chroma_planes_are_interleaved() -> None:
    frame = random_nv12(16, 24)
    luma, chroma = frame.planes
    separate = VideoFrame((luma, chroma[..., 0].copy(), chroma[..., 1].copy()), PixelFormat.I420, frame.colour)
    assert obstacle(separate) == ""
    for given in (frame, separate):
        planes = nv12_planes(given)
        assert planes[0] is luma
        np.testing.assert_array_equal(planes[1], chroma)
