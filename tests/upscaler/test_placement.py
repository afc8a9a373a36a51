"""Tiles that are placed around small changed areas: fewer tiles, and the output of the grid within the bound."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.errors import UsageError
from sr_edge.frames import Batch, Region
from sr_edge.metrics import psnr_y_db
from sr_edge.reuse_table import BLOCK_PX, WORST_RATIO, PlacementLoss, PlacementTable, ReuseLoss, ReuseTable
from sr_edge.runtimes.session import Session
from sr_edge.spec import TileSpec
from sr_edge.tiling import plan_tiles
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.placement import PlacementRule, lay_over, outside
from sr_edge.upscaler.reuse import FrameReuse
from sr_edge.upscaler.reuse_options import ReuseOptions
from sr_edge.upscaler.tile_change import block_change
from tests.expected_errors import raises
from tests.upscaler.blurring import BlurringSession

Array = npt.NDArray[Any]

TILE, OVERLAP, MARGIN, SCALE = TileSpec(40, 48), 8, 8, 2
PLACEMENT = PlacementTable(40, 48, (PlacementLoss(MARGIN, 1, 0.001, 0.002, 0.5),))
TABLE = ReuseTable((ReuseLoss(2.0, 0.05, 0.1, 0.05, 2.0), ReuseLoss(4.0, 0.4, 0.9, 0.4, 4.0)), 35.0, 4, PLACEMENT)
BOUND_DB = 0.05
LIMIT = TABLE.limits(BOUND_DB).block
CORNER = (60, 72)
"""A point of a frame of 150x180 pixels in the middle of four tiles that overlap there."""


class PointSession(BlurringSession):
    """Repeats each pixel, so that the output of any tile is that of the grid, to the bit."""

    def _upscaled(self, batch: Batch) -> Batch:
        return batch.repeat(SCALE, axis=2).repeat(SCALE, axis=3)


def session_of(kind: type[BlurringSession], table: ReuseTable | None = TABLE, channels: int = 3) -> BlurringSession:
    session = kind(channels, TILE)
    session.spec = replace(session.spec, overlap_px=OVERLAP, reuse_table=table)
    return session


def upscaler_of(session: BlurringSession, reuse: Any = BOUND_DB) -> Upscaler:
    return Upscaler(cast(Session, session), reuse=reuse)


def background(seed: int = 0, size: tuple[int, int] = (150, 180), channels: int = 3) -> Array:
    """A smooth picture with levels from 50 to 150."""
    coarse = np.random.default_rng(seed).integers(50, 151, (size[0] // 10 + 2, size[1] // 10 + 2, channels))
    return np.asarray(np.kron(coarse, np.ones((10, 10, 1)))[: size[0], : size[1]]).astype(np.uint8)


def with_object(frame: Array, top: int, left: int, size: int = 12, levels: int = 80) -> Array:
    """The frame with a brighter square."""
    changed = frame.copy()
    changed[max(0, top) : top + size, max(0, left) : left + size] += np.array(levels).astype(frame.dtype)
    return changed


def walk(seed: int, size: tuple[int, int], dtype: npt.DTypeLike, channels: int = 3) -> Iterator[Array]:
    """A still scene with objects that move, rest, appear and vanish; now and then all of it changes."""
    random = np.random.default_rng(seed)
    step = 257 if np.dtype(dtype) == np.uint16 else 1
    scene = (background(seed, size, channels).astype(int) * step).astype(dtype)
    places = random.uniform(0, 1, (2, 2)) * (size[0] - 12, size[1] - 12)
    speeds = random.uniform(-6, 6, (2, 2))
    for index in range(24):
        if index == 15:
            scene = (background(seed + 100, size, channels).astype(int) * step).astype(dtype)
        frame = scene
        for number in range(2):
            if (index // 6 + number) % 3:
                top, left = (int(value) for value in places[number])
                frame = with_object(frame, top, left, 10, 40 * step)
        yield frame
        places = np.clip(places + speeds * random.integers(0, 2), 0, np.array(size) - 12)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 3), (np.uint8, 1)])
def test_random_clips_show_what_the_grid_shows(seed: int, dtype: npt.DTypeLike, channels: int) -> None:
    """Objects that exceed the limit in every block that they touch, and a network that looks at single pixels.

    The output is equal to the bit, and what is computed was counted before.
    """
    random = np.random.default_rng(seed)
    size = int(random.integers(25, 200)), int(random.integers(25, 220))
    session, plain = session_of(PointSession, channels=channels), session_of(PointSession, channels=channels)
    placing, off = upscaler_of(session), upscaler_of(plain, "off")
    for index, frame in enumerate(walk(seed, size, dtype, channels)):
        before, expected = session.tiles, placing.count_changed(frame, index / 10)
        counted: list[FrameReuse] = []
        upscaled = placing.upscale(frame, on_reuse=counted.append, time_s=index / 10)
        np.testing.assert_array_equal(upscaled, off.upscale(frame))
        assert session.tiles - before == expected == counted[0].computed
    statistics = placing.reuse_statistics
    assert statistics.tiles - statistics.reused == session.tiles
    assert statistics.placed > 0 or size[0] < TILE.height or size[1] < TILE.width


@pytest.mark.parametrize("seed", range(6))
def test_random_clips_stay_within_the_bound(seed: int) -> None:
    """Noise within the limit, and a network whose outputs depend on their neighbours.

    What may differ from full computation: the noise of one limit, and what a change shows over the margin, where the
    output of the placed tile fades in.
    """
    losses_db = []
    session, plain = session_of(BlurringSession), session_of(BlurringSession)
    placing, off = upscaler_of(session), upscaler_of(plain, "off")
    random = np.random.default_rng(seed)
    for index, clean in enumerate(walk(seed, (150, 180), np.uint8)):
        frame = (clean + random.integers(-1, 2, clean.shape)).astype(np.uint8)
        upscaled, expected = placing.upscale(frame, time_s=index / 10), off.upscale(frame)
        assert block_change(expected, upscaled, SCALE * BLOCK_PX) <= LIMIT + 1.0
        original = clean.repeat(SCALE, axis=0).repeat(SCALE, axis=1)
        losses_db.append(psnr_y_db(expected, original, 0) - psnr_y_db(upscaled, original, 0))
    assert np.mean(losses_db) <= BOUND_DB and max(losses_db) <= WORST_RATIO * BOUND_DB
    assert placing.reuse_statistics.placed > 0


def test_one_tile_is_computed_for_an_object_at_the_corner_of_four() -> None:
    tiles = {}
    for table in (TABLE, replace(TABLE, placement=None)):
        session = session_of(PointSession, table)
        upscaler, off = upscaler_of(session), upscaler_of(session_of(PointSession), "off")
        upscaler.upscale(background())
        before = session.tiles
        for shift in range(3):  # three frames, in which the object moves
            frame = with_object(background(), CORNER[0] + shift, CORNER[1] - shift)
            np.testing.assert_array_equal(upscaler.upscale(frame), off.upscale(frame))
        tiles[table.placement] = session.tiles - before
        assert upscaler.reuse_statistics.placed == (3 if table.placement else 0)
        assert upscaler.count_changed(frame) == 0, "an object that rests costs nothing"
        np.testing.assert_array_equal(upscaler.upscale(frame), off.upscale(frame))
        assert session.tiles - before == tiles[table.placement]
    assert tiles == {PLACEMENT: 3, None: 12}


def test_placed_tile_is_dropped_when_it_is_not_needed_any_more() -> None:
    session = session_of(PointSession)
    upscaler = upscaler_of(session)
    upscaler.upscale(background())
    alone = upscaler.reuse_statistics.memory_bytes
    upscaler.upscale(with_object(background(), *CORNER))
    assert upscaler.reuse_statistics.memory_bytes == alone + TILE.height * TILE.width * 3 * (1 + SCALE**2)
    upscaler.upscale(background())
    assert upscaler.reuse_statistics.memory_bytes == alone
    assert session.tiles == upscaler.reuse_statistics.tiles // 3 + 1


def test_without_memory_for_a_further_tile_the_grid_is_computed() -> None:
    session = session_of(PointSession)
    tiles = plan_tiles(150, 180, TILE, OVERLAP).tiles
    memory_bytes = tiles * TILE.height * TILE.width * 3 * (1 + SCALE**2)
    upscaler = upscaler_of(session, ReuseOptions("bound", BOUND_DB, memory_bytes))
    for frame in (background(), with_object(background(), *CORNER)):
        upscaler.upscale(frame)
        assert upscaler.reuse_statistics.memory_bytes <= memory_bytes
    assert session.tiles == tiles + 4
    assert upscaler.reuse_statistics.placed == 0


def test_frames_without_placed_tiles_leave_them_no_memory() -> None:
    upscaler = upscaler_of(session_of(PointSession))
    for frame in (background(), with_object(background(), *CORNER)):
        upscaler.upscale(frame)
    memory_bytes = upscaler.reuse_statistics.memory_bytes
    upscaler.upscale(with_object(background(), *CORNER), roi=(0, 0, 10, 10))
    assert upscaler.reuse_statistics.memory_bytes == memory_bytes - TILE.height * TILE.width * 3 * (1 + SCALE**2)


def test_exact_reuse_keeps_the_grid() -> None:
    session = session_of(PointSession)
    upscaler = upscaler_of(session, "exact")
    upscaler.upscale(background())
    before = session.tiles
    upscaler.upscale(with_object(background(), *CORNER))
    assert session.tiles - before == 4
    assert upscaler.reuse_statistics.placed == 0


def test_drift_adds_up_under_a_placed_tile_too() -> None:
    """A scene that becomes brighter by a level every other frame, with an object that moves at a corner."""
    session = session_of(PointSession)
    placing, off = upscaler_of(session), upscaler_of(session_of(PointSession), "off")
    start = background()
    for index in range(30):
        frame = with_object((start + index // 2).astype(np.uint8), CORNER[0] + index % 3, CORNER[1])
        error = np.abs(placing.upscale(frame, time_s=index / 10).astype(int) - off.upscale(frame)).max()
        assert error <= TABLE.limits(BOUND_DB).level
    assert placing.reuse_statistics.placed > 0
    assert session.tiles < placing.reuse_statistics.tiles


def test_placed_tile_is_refreshed_within_its_time() -> None:
    """The placed tile has its moment after one period.

    The first of the four tiles is refreshed while the object is two levels brighter, and needs the placed tile as soon
    as the object is darker again.
    """
    refresh_s = 4.0
    placing = upscaler_of(session_of(PointSession), ReuseOptions("bound", BOUND_DB, refresh_s=refresh_s))
    off = upscaler_of(session_of(PointSession), "off")
    placing.upscale(background(), time_s=0)
    for time_s, levels in ((0.1, 80), (1.0, 82), (1.05, 79), (2.0, 79)):
        frame = with_object(background(), *CORNER, levels=levels)
        upscaled = placing.upscale(frame, time_s=time_s)
    assert np.abs(upscaled.astype(int) - off.upscale(frame)).max() == 1, (
        "the placed tile is still that of the beginning"
    )
    np.testing.assert_array_equal(placing.upscale(frame, time_s=refresh_s + 0.1), off.upscale(frame))


def test_a_change_of_the_level_is_not_spared_by_a_placed_tile() -> None:
    """A part that becomes dimmer changes no block beyond the limit; a placed tile shows it in its core only."""
    rows = (ReuseLoss(2.0, 0.05, 0.1, 0.4, 2.0), ReuseLoss(4.0, 0.4, 0.9, 1.0, 4.0))
    table = replace(TABLE, losses=rows)
    placing, off = upscaler_of(session_of(PointSession, table)), upscaler_of(session_of(PointSession), "off")
    placing.upscale(background())
    plan = plan_tiles(150, 180, TILE, OVERLAP)
    dimmer = background()
    dimmer[plan.rows[1].start : plan.rows[3].start, plan.columns[1].start : plan.columns[3].start] -= 1
    frame = with_object(dimmer, *CORNER)
    error = placing.upscale(frame).astype(float) - off.upscale(frame)
    for row, column in plan.places():
        whole = Region(column.start, row.start, column.covered, row.covered)
        assert abs(whole.cut(error, SCALE).mean()) <= table.limits(BOUND_DB).level
    assert placing.reuse_statistics.placed == 1, "for two of the four tiles, which are not dimmer as a whole"


def test_regions_of_interest_are_those_of_the_frame() -> None:
    session = session_of(PointSession)
    placing, off = upscaler_of(session), upscaler_of(session_of(PointSession), "off")
    placing.upscale(background())
    for index in range(6):
        frame = with_object(background(), CORNER[0] + index, CORNER[1])
        for roi in (None, (50, 40, 60, 50), (0, 0, 20, 20)):
            np.testing.assert_array_equal(placing.upscale(frame, roi=roi), off.upscale(frame, roi=roi))


def test_threads_share_placed_tiles() -> None:
    session = session_of(PointSession)
    placing, off = upscaler_of(session), upscaler_of(session_of(PointSession), "off")
    frames = [with_object(background(), CORNER[0] + index % 4, CORNER[1]) for index in range(24)]
    expected = [off.upscale(frame) for frame in frames]
    placing.upscale(background())
    with ThreadPoolExecutor(4) as threads:
        for upscaled, right in zip(threads.map(placing.upscale, frames, timeout=60), expected, strict=True):
            np.testing.assert_array_equal(upscaled, right)


def test_tint_and_counts_leave_out_what_was_placed() -> None:
    upscaler = upscaler_of(session_of(PointSession))
    upscaler.upscale(background())
    counted: list[FrameReuse] = []
    upscaler.upscale(with_object(background(), *CORNER), on_reuse=counted.append)
    (reuse,) = counted
    assert (reuse.computed, len(reuse.placed), len(reuse.reused)) == (1, 1, reuse.tiles)
    assert reuse.statistics.reused == reuse.statistics.tiles // 2 - 1
    tinted = np.zeros((150, 180), bool)
    for part in reuse.reused_parts:
        part.cut(tinted)[...] = True
    (placed,) = reuse.placed
    assert not placed.cut(tinted).any()
    assert tinted.sum() == tinted.size - placed.height * placed.width


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (replace(TABLE, placement=None), "not measured"),
        (replace(TABLE, placement=replace(PLACEMENT, width=32)), "tiles of 40x32"),
        (replace(TABLE, placement=replace(PLACEMENT, losses=(PlacementLoss(8, 1, 0.04, 0.05, 3.0),))), "0.06 dB"),
        (replace(TABLE, placement=replace(PLACEMENT, losses=(PlacementLoss(8, 1, 0.01, 0.30, 3.0),))), "0.075 dB"),
    ],
)
def test_why_nothing_is_placed_is_said(table: ReuseTable, words: str) -> None:
    """Among the reasons: the outputs of the network depend on the origin by more than the bound."""
    session = session_of(PointSession, table)
    upscaler = upscaler_of(session)
    upscaler.upscale(background())
    upscaler.upscale(with_object(background(), *CORNER))
    statistics = upscaler.reuse_statistics
    assert statistics.placed == 0 and words in statistics.placement_obstacle
    assert session.tiles == statistics.tiles // 2 + 4


def test_first_row_within_the_bound_is_used() -> None:
    rows = (
        PlacementLoss(4, 1, 0.1, 0.2, 2.0),
        PlacementLoss(8, 1, 0.02, 0.05, 1.0),
        PlacementLoss(8, 8, 0.0, 0.0, 0.1),
    )
    table = replace(PLACEMENT, losses=rows)
    assert [table.within(bound_db) for bound_db in (0.001, 0.05, 0.5)] == [rows[2], rows[1], rows[0]]


@pytest.mark.parametrize("row", [PlacementLoss(20, 1, 0.0, 0.0, 0.0), PlacementLoss(8, 1, -1.0, 0.0, 0.0), None])
def test_tables_that_mean_nothing_are_refused(row: PlacementLoss | None) -> None:
    rows = () if row is None else (row,)
    with raises(UsageError, found=rows):
        PlacementTable(40, 48, rows)


@pytest.mark.parametrize("seed", range(30))
def test_core_has_the_changed_area_and_origins_are_aligned(seed: int) -> None:
    random = np.random.default_rng(seed)
    align_px = int(random.choice([1, 2, 4, 8]))
    height, width = (int(value) for value in random.integers(30, 260, 2))
    plan = plan_tiles(height, width, TILE, OVERLAP)
    rule = PlacementRule(TILE, MARGIN, align_px)
    for _ in range(40):
        left, top = int(random.integers(0, width)), int(random.integers(0, height))
        box = Region(left, top, *(int(random.integers(1, 1 + min(40, edge))) for edge in (width - left, height - top)))
        area = rule.around(box, plan)
        if area is None:
            continue
        core = rule.core(area, plan)
        area.require_within(height, width)
        assert core.left <= box.left and core.top <= box.top
        assert core.left + core.width >= box.left + box.width and core.top + core.height >= box.top + box.height
        below = (span for span in plan.rows if span.first < area.top + area.height and span.end > area.top)
        assert all((span.start - area.top) % align_px == 0 for span in below)


@pytest.mark.parametrize(("width", "is_placed"), [(640, False), (656, True)])
def test_windows_must_lie_alike_in_all_tiles_below(width: int, is_placed: bool) -> None:
    """Tiles of 96 pixels begin at 77 and 155 in a row of 640, and at 80 and 160 in one of 656."""
    plan = plan_tiles(96, width, TileSpec(96, 96), 16)
    area = PlacementRule(TileSpec(96, 96), 8, align_px=8).around(Region(158, 40, 16, 16), plan)
    assert (area is not None) == is_placed
    assert PlacementRule(TileSpec(96, 96), 8).around(Region(158, 40, 16, 16), plan) == Region(118, 0, 96, 96)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_output_fades_in_from_the_edges_inside_the_frame(dtype: npt.DTypeLike) -> None:
    rule = PlacementRule(TILE, MARGIN)
    high, low = (np.full((2 * 100, 2 * 120, 3), value).astype(dtype) for value in (200, 100))
    area = Region(0, 20, 48, 40)
    frame = low.copy()
    lay_over(frame, high[: 2 * 40, : 2 * 48], area, rule, 2)
    shown = (frame[..., 0].astype(float) - 100) / 100
    assert (area.cut(shown, 2)[2 * 8 : -2 * 8, : -2 * 8] == 1).all(), "its core, which extends to the edge of the frame"
    assert (np.diff(shown[40:56, 10]) > 0).all() and (np.diff(shown[60, 80:96]) < 0).all()
    area.cut(shown, 2)[...] = 0
    assert not shown.any(), "nothing else changes"
    expected = frame.copy()
    lay_over(frame, area.cut(frame, 2).copy(), area, rule, 2)
    np.testing.assert_array_equal(frame, expected)


def test_parts_outside_of_holes_cover_all_but_them() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        regions = [
            Region(*(int(value) for value in (*random.integers(0, 30, 2), *random.integers(1, 30, 2))))
            for _ in range(4)
        ]
        covered, expected = np.zeros((60, 60), int), np.zeros((60, 60), int)
        regions[0].cut(expected)[...] = 1
        for hole in regions[1:]:
            hole.cut(expected)[...] = 0
        for part in outside(regions[0], regions[1:]):
            part.cut(covered)[...] += 1
        np.testing.assert_array_equal(covered, expected)
