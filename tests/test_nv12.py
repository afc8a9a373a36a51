"""Tiles of NV12 frames, and their conversion compared with libswscale, which the converter of the camera uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sr_edge.camera.media.conversion import reformatted
from sr_edge.camera.media.frame import PixelFormat, VideoFrame
from sr_edge.errors import FrameError, TileError, UsageError
from sr_edge.export.graph.patches import PICTURES
from sr_edge.image_files import read_picture
from sr_edge.nv12.colour import Nv12Colour
from sr_edge.nv12.frames import MARGIN_PX, Nv12Frame, chroma_weights, nv12_shape, require_nv12_tile, rgb_from_nv12_tile
from sr_edge.spec import TileSpec
from tests.expected_errors import raises
from tests.nv12_frames import largest_difference, planes_of, random_nv12, rgb_of

TILE = TileSpec(24, 32)


def whole_rgb(frame: Nv12Frame, colour: Nv12Colour) -> np.ndarray:
    tile = TileSpec(*frame.shape[:2])
    return rgb_from_nv12_tile(frame.cut(0, 0, tile), colour)


@pytest.mark.parametrize("colour", Nv12Colour)
@pytest.mark.parametrize("size", [(64, 96), (38, 70)])
def test_random_samples_are_within_one_level_of_libswscale(colour: Nv12Colour, size: tuple[int, int]) -> None:
    frame = random_nv12(*size, colour)
    difference = np.abs(whole_rgb(planes_of(frame), colour).astype(int) - rgb_of(frame))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.05


@pytest.mark.parametrize("picture", sorted(PICTURES.iterdir()), ids=lambda path: path.stem)
def test_photographs_are_within_one_level_of_libswscale(picture: Path) -> None:
    pixels = read_picture(picture).pixels
    even = np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])
    frame = reformatted(VideoFrame((even,), PixelFormat.RGB), "nv12")
    assert largest_difference(whole_rgb(planes_of(frame), Nv12Colour.BT709_LIMITED), rgb_of(frame)) <= 1


@pytest.mark.parametrize("colour", Nv12Colour)
def test_black_and_white_have_no_colour(colour: Nv12Colour) -> None:
    black, white = (0, 255) if colour.is_full_range else (16, 235)
    for level, expected in ((black, 0), (white, 255)):
        frame = Nv12Frame(np.full((4, 4), level, np.uint8), np.full((2, 2, 2), 128, np.uint8))
        np.testing.assert_array_equal(whole_rgb(frame, colour), np.full((4, 4, 3), expected))


def test_the_weights_keep_constants() -> None:
    np.testing.assert_allclose(chroma_weights().sum(axis=1), 1.0)
    np.testing.assert_allclose(chroma_weights()[0], chroma_weights()[1, ::-1])


@pytest.mark.parametrize(("top", "left"), [(0, 0), (0, 8), (6, 2), (16, 32)])
def test_a_tile_has_the_colours_of_the_whole_frame(top: int, left: int) -> None:
    frame, colour = planes_of(random_nv12(40, 64)), Nv12Colour.BT601_FULL
    packed = frame.cut(top, left, TILE)
    assert packed.shape == nv12_shape(TILE)
    part = whole_rgb(frame, colour)[top : top + TILE.height, left : left + TILE.width]
    np.testing.assert_array_equal(rgb_from_nv12_tile(packed, colour), part)


def test_a_packed_tile_is_an_nv12_picture() -> None:
    frame = planes_of(random_nv12(40, 64))
    packed = frame.cut(8, 12, TILE)[..., 0]
    rows = TILE.height + 2 * MARGIN_PX
    np.testing.assert_array_equal(packed[:rows], frame.luma[4 : 4 + rows, 8 : 8 + packed.shape[1]])
    chroma = frame.chroma[2 : 2 + rows // 2, 4 : 4 + packed.shape[1] // 2]
    np.testing.assert_array_equal(packed[rows:].reshape(chroma.shape), chroma)


@pytest.mark.parametrize(
    ("luma", "chroma", "found"),
    [
        (np.zeros((5, 8), np.uint8), np.zeros((2, 4, 2), np.uint8), (5, 8)),
        (np.zeros((4, 7), np.uint8), np.zeros((2, 3, 2), np.uint8), (4, 7)),
        (np.zeros((0, 8), np.uint8), np.zeros((0, 4, 2), np.uint8), (0, 8)),
        (np.zeros((4, 8), np.uint16), np.zeros((2, 4, 2), np.uint16), "uint16"),
        (np.zeros((4, 8), np.uint8), np.zeros((2, 4, 2), np.uint16), "uint16"),
        (np.zeros((4, 8), np.uint8), np.zeros((4, 4, 2), np.uint8), (4, 4, 2)),  # 4:2:2
        (np.zeros((4, 8), np.uint8), np.zeros((2, 4), np.uint8), (2, 4)),
    ],
)
def test_planes_of_other_formats_are_refused(luma: np.ndarray, chroma: np.ndarray, found: object) -> None:
    with raises(FrameError, found=found):
        Nv12Frame(luma, chroma)


def test_a_frame_smaller_than_a_tile_is_refused() -> None:
    with raises(FrameError, found=(24, 30), wanted=(24, 32)):
        planes_of(random_nv12(24, 30)).require_tiles(TILE, 4)
    with raises(TileError, found=5):
        planes_of(random_nv12(24, 32)).require_tiles(TILE, 5)


def test_odd_tiles_other_channels_and_dynamic_sizes_are_refused() -> None:
    assert require_nv12_tile(TILE, 3) == TILE
    for tile in (TileSpec(23, 32), TileSpec(24, 31)):
        with raises(TileError, found=tile):
            require_nv12_tile(tile, 3)
    with raises(TileError, found=None):
        require_nv12_tile(None, 3)
    with raises(UsageError, found=1):
        require_nv12_tile(TILE, 1)
