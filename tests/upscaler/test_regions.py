"""A part of a picture equals that part of the whole result exactly, and only its tiles are computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sr_edge.errors import FrameError, UsageError
from sr_edge.frames import Region
from sr_edge.spec import TileSpec
from sr_edge.upscaler import Upscaler
from tests.expected_errors import raises
from tests.upscaler.blurring import BlurringSession, noise

HEIGHT, WIDTH = 61, 83
REGIONS = [
    (0, 0, WIDTH, HEIGHT),
    (0, 0, 1, 1),
    (82, 60, 1, 1),
    (20, 14, 1, 1),
    (11, 13, 40, 20),
    (19, 0, 5, 61),
    (0, 11, 83, 6),
    (60, 40, 23, 21),
]


def part(upscaled: Any, region: tuple[int, int, int, int]) -> Any:
    x, y, width, height = region
    return upscaled[2 * y : 2 * (y + height), 2 * x : 2 * (x + width)]


@pytest.mark.parametrize("region", REGIONS, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("network_channels", [1, 3, 4])
def test_a_part_is_that_part_of_the_whole_result(
    network_channels: int, channels: int, dtype: type, region: tuple[int, int, int, int]
) -> None:
    upscaler = Upscaler(BlurringSession(network_channels))
    picture = noise(dtype, HEIGHT, WIDTH, channels)
    if channels == 4:
        picture[:30, :50, 3] = 0  # where opacity is constant, it is not taken from the network
    np.testing.assert_array_equal(upscaler(picture, roi=region), part(upscaler(picture), region))


@pytest.mark.parametrize("y", range(0, 56, 3))
def test_a_part_may_begin_anywhere_between_two_tiles(y: int) -> None:
    upscaler = Upscaler(BlurringSession())
    picture = noise(np.uint8, HEIGHT, WIDTH, 3)
    whole = upscaler(picture)
    for x in range(0, 78, 4):
        np.testing.assert_array_equal(upscaler(picture, roi=(x, y, 5, 5)), part(whole, (x, y, 5, 5)))


def test_luma_is_rounded_where_the_graph_takes_8_bits() -> None:
    upscaler = Upscaler(BlurringSession(1, has_uint8_graph=True))
    picture, region = noise(np.uint8, HEIGHT, WIDTH, 3), (30, 20, 17, 11)
    np.testing.assert_array_equal(upscaler(picture, roi=region), part(upscaler(picture), region))


def test_only_the_tiles_that_a_part_touches_are_computed() -> None:
    session = BlurringSession()
    done: list[tuple[int, int]] = []
    Upscaler(session)(noise(np.uint8, 200, 300, 3), roi=(3, 4, 5, 6), on_tile=lambda *count: done.append(count))
    assert session.tiles == 1
    assert done == [(1, 1)]


@pytest.mark.parametrize("size", [(5, 7), (16, 24)])
def test_a_picture_of_one_tile_or_less_has_parts_too(size: tuple[int, int]) -> None:
    upscaler = Upscaler(BlurringSession(tile=TileSpec(16, 24)))
    picture = noise(np.uint8, *size, 3)
    np.testing.assert_array_equal(upscaler(picture, roi=(1, 2, 4, 3)), part(upscaler(picture), (1, 2, 4, 3)))


def test_every_picture_of_a_batch_and_a_list_is_cut() -> None:
    upscaler = Upscaler(BlurringSession())
    batch = noise(np.uint8, 2, 40, 50, 3)
    cut = upscaler(batch, roi="8,9,10,11")
    np.testing.assert_array_equal(cut, upscaler(batch)[:, 18:40, 16:36])
    np.testing.assert_array_equal(np.stack(upscaler(list(batch), roi=Region(8, 9, 10, 11))), cut)


def test_a_part_goes_into_an_array_of_its_size() -> None:
    upscaler = Upscaler(BlurringSession())
    picture = noise(np.uint8, 40, 50, 3)
    out = np.empty((6, 8, 3), np.uint8)
    assert upscaler.upscale(picture, out, roi=(1, 2, 4, 3)) is out
    np.testing.assert_array_equal(out, upscaler.upscale(picture)[4:10, 2:10])
    with raises(FrameError):
        upscaler.upscale(picture, np.empty((40, 50, 3), np.uint8), roi=(1, 2, 4, 3))


@pytest.mark.parametrize(
    "region",
    [
        (0, 0, 0, 5),
        (-1, 0, 5, 5),
        (0, 0, 51, 40),
        (45, 0, 6, 5),
        (0, 39, 5, 2),
        (0, 0, 5),
        (0.5, 0, 5, 5),
        "0,0,5",
        "a,b,c,d",
        7,
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_part_that_is_none_of_the_picture_is_refused(region: Any, channels: int) -> None:
    session = BlurringSession(channels)
    with raises(UsageError, found=region):
        Upscaler(session)(noise(np.uint8, 40, 50, 3), roi=region)
    assert session.tiles == 0
