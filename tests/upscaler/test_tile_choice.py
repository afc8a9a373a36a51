"""Frames are cut into the tiles of least time, or of the fewest pixels where times were not measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from sr_edge.bundle import TileTime
from sr_edge.errors import TileError
from sr_edge.runtimes.engine.tile_session import TileSession
from sr_edge.runtimes.session import Session, SessionSpec
from sr_edge.spec import TileSpec
from sr_edge.upscaler import Upscaler
from sr_edge.upscaler.tile_choice import TileChoice, choose_tiles
from tests.expected_errors import raises
from tests.upscaler.test_reuse import SlottedSession, scene

SQUARE, WIDE = TileSpec(96, 96), TileSpec(180, 320)


def spec_of(*tiles: TileSpec, times: Sequence[float] = ()) -> SessionSpec:
    tile_times = tuple(TileTime(tile, ms) for tile, ms in zip(tiles, times, strict=False))
    return replace(SlottedSession().spec, tile=tiles[0], tiles=tiles, tile_times=tile_times)


@pytest.mark.parametrize(
    ("times", "chosen"), [((6.5, 20.0), WIDE), ((2.2, 20.0), SQUARE), ((2.4, 20.0), WIDE), ((), WIDE), ((1.0,), WIDE)]
)
def test_the_least_time_or_else_the_fewest_pixels(times: Sequence[float], chosen: TileSpec) -> None:
    choice = choose_tiles(spec_of(SQUARE, WIDE, times=times), 180, 320, 8)
    assert choice.plan.tile == chosen
    assert {option.plan.tile: option.plan.tiles for option in (choice.chosen, *choice.others)} == {SQUARE: 8, WIDE: 1}
    assert choice.chosen.time_ms == {WIDE: times[1], SQUARE: 8 * times[0]}[chosen] if len(times) == 2 else True


def test_other_frames_have_other_tiles() -> None:
    spec = spec_of(SQUARE, WIDE, times=(6.5, 20.0))
    assert choose_tiles(spec, 90, 90, 8).plan.tile == SQUARE
    assert choose_tiles(spec, 720, 1280, 8).plan.tile == WIDE


def test_one_tile_leaves_no_choice() -> None:
    choice = choose_tiles(SlottedSession().spec, 40, 40, 4)
    assert (choice.plan.tile, choice.others) == (TileSpec(16, 24), ())


def test_what_was_chosen_is_said_with_the_alternative() -> None:
    measured = str(choose_tiles(spec_of(SQUARE, WIDE, times=(6.5, 20.0)), 180, 320, 8))
    assert measured == "tile 180x320: 1 per frame of 320x180, 20 ms; 96x96 would need 8 tiles, 52 ms"
    assert "57,600 pixels" in str(choose_tiles(spec_of(SQUARE, WIDE), 180, 320, 8))


def test_a_tile_that_is_smaller_than_the_overlap_is_not_used() -> None:
    assert choose_tiles(spec_of(SQUARE, WIDE, times=(0.1, 20.0)), 180, 320, 100).plan.tile == WIDE
    with raises(TileError, found=200):
        choose_tiles(spec_of(SQUARE, WIDE), 180, 320, 200)


class Opened:
    """Opens fake sessions, and remembers them by their tile."""

    def __init__(self) -> None:
        self.sessions: dict[TileSpec, SlottedSession] = {}

    def __call__(self, tile: TileSpec) -> Session:
        assert tile not in self.sessions, "every session is opened once"
        session = SlottedSession()
        session.spec = replace(session.spec, tile=tile)
        self.sessions[tile] = session
        return cast(Session, session)


SMALL, LARGE = TileSpec(16, 24), TileSpec(40, 60)


@pytest.fixture
def opened() -> Opened:
    return Opened()


def session_of(opened: Opened, *times: float) -> TileSession:
    return TileSession([SMALL, LARGE], opened, [TileTime(*each) for each in zip((SMALL, LARGE), times, strict=False)])


def frame_of(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def test_the_engine_of_a_tile_is_opened_when_its_first_frame_arrives(opened: Opened) -> None:
    upscaler = Upscaler(session_of(opened))
    upscaler.upscale(frame_of(16, 24))
    assert list(opened.sessions) == [SMALL]
    upscaler.upscale(frame_of(40, 60))
    upscaler.upscale(frame_of(40, 60))
    assert {tile: session.computed for tile, session in opened.sessions.items()} == {SMALL: 1, LARGE: 2}


def test_all_engines_can_be_opened_at_once(opened: Opened) -> None:
    session_of(opened).open_all()
    assert list(opened.sessions) == [SMALL, LARGE]


def test_tickets_of_several_tiles_are_told_apart(opened: Opened) -> None:
    session = session_of(opened)
    small, large = np.full((16, 24, 3), 40, np.uint8), np.full((40, 60, 3), 80, np.uint8)
    tickets = [session.submit(frame) for frame in (large, small)]
    assert len(set(tickets)) == 2
    results = [cast(Any, session.result(ticket)) for ticket in reversed(tickets)]
    assert [(result.shape[:2], int(result.mean())) for result in results] == [((32, 48), 40), ((80, 120), 80)]


def test_the_tiles_of_a_region_are_those_of_the_whole_frame(opened: Opened) -> None:
    upscaler, frame = Upscaler(session_of(opened)), frame_of(40, 60)
    whole = upscaler.upscale(frame)
    np.testing.assert_array_equal(upscaler.upscale(frame, roi=(5, 6, 20, 10)), whole[12:32, 10:50])


def test_the_tiles_are_reported_once_for_frames_of_one_size(opened: Opened) -> None:
    said: list[TileChoice] = []
    upscaler = Upscaler(session_of(opened, 1.0, 4.0), on_tiles=said.append)
    for height, width in [(40, 60), (40, 60), (16, 24), (40, 60)]:
        upscaler.upscale(frame_of(height, width))
    assert [choice.plan.tile for choice in said] == [LARGE, SMALL, LARGE]


def test_each_size_of_frames_reuses_its_own_tiles(opened: Opened) -> None:
    """Two sizes alternate; the output is that of an upscaler without reuse, and the tiles of both sizes are kept."""
    exact, off = Upscaler(session_of(opened), reuse="exact"), Upscaler(session_of(Opened()))
    sizes = itertools.cycle([(40, 60), (16, 20)])
    for frames in zip(scene((40, 60), np.uint8, 1), scene((16, 20), np.uint8, 2), strict=True):
        for frame in frames:
            np.testing.assert_array_equal(exact.upscale(frame), off.upscale(frame))
            assert frame.shape[:2] == next(sizes)
    statistics = exact.reuse_statistics
    assert statistics.reused > 0
    assert statistics.memory_bytes == (40 * 60 + 16 * 24) * 3 * (1 + 4), "one large and one small tile with results"


def test_tiles_of_equal_samples_but_another_shape_are_computed(opened: Opened) -> None:
    """A frame of one value has the same bytes as a tile of 24x16 and as one of 16x24."""
    tall = TileSpec(24, 16)
    session = TileSession([SMALL, tall], opened)
    upscaler = Upscaler(session, reuse="exact")
    for height, width in [(16, 24), (24, 16)]:
        assert upscaler.upscale(np.full((height, width, 3), 7, np.uint8)).shape == (2 * height, 2 * width, 3)
    assert {tile: each.computed for tile, each in opened.sessions.items()} == {SMALL: 1, tall: 1}


def test_tiles_are_counted_in_advance_in_the_chosen_size(opened: Opened) -> None:
    upscaler, frame = Upscaler(session_of(opened), reuse="exact"), frame_of(40, 60)
    assert upscaler.count_changed(frame) == 1
    upscaler.upscale(frame)
    assert upscaler.count_changed(frame) == 0
    assert upscaler.count_changed(frame_of(16, 24)) == 1


def test_a_further_stream_reports_its_tiles_too(opened: Opened) -> None:
    said: list[TileChoice] = []
    upscaler = Upscaler(session_of(opened), reuse="exact", on_tiles=said.append)
    for stream in (upscaler, upscaler.with_own_reuse()):
        stream.upscale(frame_of(40, 60))
    assert [choice.plan.tile for choice in said] == [LARGE, LARGE]
    assert opened.sessions[LARGE].computed == 2


def test_a_closed_session_opens_nothing(opened: Opened) -> None:
    session = session_of(opened)
    session.close()
    session.run(frame_of(40, 60))
    assert list(opened.sessions) == [SMALL]
