"""Tiling: equal tiles are copied exactly, different ones are blended linearly, and memory is bounded."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import EngineError, FrameError, TileError
from sr_edge.frames import Frame
from sr_edge.spec import TileSpec
from sr_edge.tiling import plan_tiles, upscale_frame, upscale_frame_in_flight
from tests.expected_errors import raises

TILE = TileSpec(16, 24)


def noise(dtype: npt.DTypeLike, *shape: int) -> npt.NDArray[Any]:
    return np.random.default_rng(0).integers(0, np.iinfo(np.dtype(dtype)).max + 1, shape).astype(dtype)


def nearest(scale: int) -> Callable[[Frame], Frame]:
    return lambda frame: np.repeat(np.repeat(frame, scale, axis=0), scale, axis=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("overlap_px", [0, 1, 4, 11, 15])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (15, 23), (16, 24), (17, 25), (5, 90), (70, 7), (53, 61)])
def test_a_local_network_gives_the_whole_picture_exactly(
    size: tuple[int, int], overlap_px: int, scale: int, channels: int, dtype: npt.DTypeLike
) -> None:
    frame = noise(dtype, *size, channels)
    upscaled = upscale_frame(frame, nearest(scale), tile=TILE, scale=scale, overlap_px=overlap_px)
    np.testing.assert_array_equal(upscaled, nearest(scale)(frame))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_that_differ_by_a_constant_blend_on_a_straight_line(dtype: npt.DTypeLike) -> None:
    overlap_px, scale = 8, 2
    peak = np.iinfo(np.dtype(dtype)).max
    levels = iter([peak // 5, 4 * peak // 5])

    def run(tile: Frame) -> Frame:
        return np.full((32, 48, 1), next(levels), dtype)

    width = 2 * TILE.width - overlap_px
    frame = np.zeros((TILE.height, width, 1), dtype)
    row = upscale_frame(frame, run, tile=TILE, scale=scale, overlap_px=overlap_px)[7, :, 0].astype(float)
    seam = np.arange((TILE.width - overlap_px) * scale, TILE.width * scale)
    line = peak / 5 + (np.arange(len(seam)) + 0.5) / len(seam) * 3 * peak / 5
    np.testing.assert_allclose(row[seam], line, atol=1)
    assert (row[: seam[0]] == peak // 5).all()
    assert (row[seam[-1] + 1 :] == 4 * peak // 5).all()


def test_where_four_tiles_meet_both_fades_apply_one_after_the_other() -> None:
    overlap_px = 8
    corners = np.array([[10, 200], [120, 40]], np.uint8)
    levels = iter(corners.ravel())

    def run(tile: Frame) -> Frame:
        return np.full(tile.shape, next(levels), np.uint8)

    frame = np.zeros((2 * TILE.height - overlap_px, 2 * TILE.width - overlap_px, 3), np.uint8)
    upscaled = upscale_frame(frame, run, tile=TILE, scale=1, overlap_px=overlap_px)
    down, across = (
        np.clip((np.arange(2 * edge - overlap_px) - (edge - overlap_px) + 0.5) / overlap_px, 0, 1)
        for edge in (TILE.height, TILE.width)
    )
    upper = corners[0, 0] * (1 - across) + corners[0, 1] * across
    lower = corners[1, 0] * (1 - across) + corners[1, 1] * across
    bilinear = np.outer(1 - down, upper) + np.outer(down, lower)
    np.testing.assert_allclose(upscaled[..., 0], bilinear, atol=1.5)


def test_a_picture_smaller_than_a_tile_is_extended_by_reflection_again_and_again() -> None:
    frame = noise(np.uint8, 3, 5, 3)
    seen: list[Frame] = []

    def run(tile: Frame) -> Frame:
        seen.append(tile)
        return tile

    upscale_frame(frame, run, tile=TILE, scale=1, overlap_px=8)
    assert len(seen) == 1
    reflected = np.pad(frame, ((0, TILE.height - 3), (0, TILE.width - 5), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(seen[0], reflected)


def test_every_tile_is_contiguous_and_of_the_one_size() -> None:
    def run(tile: Frame) -> Frame:
        assert tile.flags.c_contiguous
        assert tile.shape == (16, 24, 3)
        return tile

    upscale_frame(noise(np.uint8, 40, 60, 3), run, tile=TILE, scale=1, overlap_px=4)


@pytest.mark.parametrize("in_flight", [1, 2, 5, 100])
def test_tiles_in_flight_give_the_same_picture_and_never_exceed_their_number(in_flight: int) -> None:
    frame = noise(np.uint8, 40, 100, 3)
    flying: dict[int, Frame] = {}
    tickets = itertools.count()
    most = 0

    def submit(tile: Frame) -> int:
        nonlocal most
        ticket = next(tickets)
        flying[ticket] = nearest(2)(tile)
        most = max(most, len(flying))
        return ticket

    upscaled = upscale_frame_in_flight(frame, submit, flying.pop, in_flight=in_flight, tile=TILE, scale=2, overlap_px=4)
    np.testing.assert_array_equal(upscaled, nearest(2)(frame))
    assert most == min(in_flight, plan_tiles(40, 100, TILE, 4).tiles)
    assert flying == {}


def test_after_an_error_every_ticket_is_redeemed() -> None:
    flying: list[int] = []

    def submit(tile: Frame) -> int:
        flying.append(len(flying))
        return flying[-1]

    redeemed: list[int] = []

    def result(ticket: int) -> Frame:
        redeemed.append(ticket)
        raise EngineError("the tile failed", found=ticket)

    with raises(EngineError, found=0):
        upscale_frame_in_flight(
            noise(np.uint8, 40, 100, 3), submit, result, in_flight=3, tile=TILE, scale=2, overlap_px=4
        )
    assert redeemed == flying == [0, 1, 2]


def test_progress_counts_every_tile() -> None:
    seen: list[tuple[int, int]] = []
    frame = noise(np.uint8, 40, 100, 3)
    upscale_frame(
        frame, nearest(2), tile=TILE, scale=2, overlap_px=4, on_tile=lambda done, total: seen.append((done, total))
    )
    total = plan_tiles(40, 100, TILE, 4).tiles
    assert seen == [(done, total) for done in range(1, total + 1)]


def test_a_frame_that_is_one_tile_is_not_copied() -> None:
    upscaled = noise(np.uint8, 32, 48, 3)
    given = upscale_frame(noise(np.uint8, 16, 24, 3), lambda tile: upscaled, tile=TILE, scale=2, overlap_px=4)
    assert given is upscaled


def test_the_output_can_be_the_callers() -> None:
    frame = noise(np.uint8, 40, 50, 3)
    out = np.zeros((80, 100, 3), np.uint8)
    assert upscale_frame(frame, nearest(2), tile=TILE, scale=2, overlap_px=4, out=out) is out
    np.testing.assert_array_equal(out, nearest(2)(frame))
    with raises(FrameError, found=("uint8", (79, 100, 3)), wanted=("uint8", (80, 100, 3))):
        upscale_frame(frame, nearest(2), tile=TILE, scale=2, overlap_px=4, out=out[1:])


def test_memory_beside_the_frames_does_not_grow_with_the_number_of_tiles() -> None:
    def extra_bytes(height: int) -> int:
        frame = np.zeros((height, 48, 3), np.uint8)
        out = np.zeros((2 * height, 96, 3), np.uint8)
        tracemalloc.start()
        upscale_frame(frame, nearest(2), tile=TILE, scale=2, overlap_px=4, out=out)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    extra_bytes(48)
    few, many = extra_bytes(48), extra_bytes(4800)
    plan_bytes_per_row = 400  # the spans themselves: five numbers for each row of tiles
    assert many < few + plan_bytes_per_row * 4800 / (TILE.height - 4)


def test_a_network_of_another_scale_or_type_is_refused() -> None:
    frame = noise(np.uint8, 40, 50, 3)
    with raises(TileError, found=("uint8", (48, 72, 3)), wanted=("uint8", (32, 48, 3))):
        upscale_frame(frame, nearest(3), tile=TILE, scale=2, overlap_px=4)
    with raises(TileError, found=("uint16", (32, 48, 3)), wanted=("uint8", (32, 48, 3))):
        upscale_frame(frame, lambda tile: nearest(2)(tile).astype(np.uint16), tile=TILE, scale=2, overlap_px=4)


def test_what_is_no_frame_is_refused() -> None:
    with raises(FrameError, found=("uint8", (8, 8))):
        upscale_frame(np.zeros((8, 8), np.uint8), nearest(2), tile=TILE, scale=2, overlap_px=4)
